"""Two generators that differ in one thing: each voxel is given what its own pixel shows, or the average over the picture.

Both are rectified-flow transformers over the dense grid of tokens of `scenegen.pixal3d.compact`, for the signed distance alone.
Both attend to the same image tokens; sines encode where these lie on the picture and where the voxels lie in the cube. There is
no visibility, no prior, and no token is left out, since those are back-projected too. The two have the same number of weights
and do the same operations.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional

from scenegen.geometry.field import Field, cell_centres
from scenegen.pixal3d.compact import (
    IMAGE_SIZE,
    SCALARS,
    CompactSettings,
    Evidence,
    cells_of,
    flow_from_zero,
    looked_up,
    two_layers,
)
from scenegen.pixal3d.projection import dense_coords
from scenegen.pixal3d.sampler import TIME_SCALE, SamplerSettings, sample, velocity_from_clean
from scenegen.pixal3d.visibility import TRUNCATION
from scenegen.train.generator import CHECK_MINUTES, Training, batch_loss, rate_share, seeded
from scenegen.train.samples import Samples, batch_of

logger = logging.getLogger(__name__)

Conditioning = Literal["back-projection", "cross-attention"]
TWINS: tuple[Conditioning, ...] = ("cross-attention", "back-projection")
SETTINGS = CompactSettings(
    model_channels=192,
    num_blocks=4,
    num_heads=4,
    cond_channels=128,
    lifted_channels=192,
    sampler=SamplerSettings(
        steps=8, guidance_strength=1.5, guidance_rescale=0.0, guidance_interval=(0.0, 1.0), rescale_t=2.0
    ),
)
IMAGE_TOKENS = 16
"""Image tokens along a side of the picture."""
OCTAVES = 5
"""Octaves of the sines that encode positions; the finest makes half a turn from one image token to the next."""


@dataclass(frozen=True, eq=False)
class Condition:
    """What the flow is given about `b` objects, for `n` voxels each."""

    tokens: Float[Tensor, "b g c"]
    """Image tokens, and one token of the scalars."""
    lifted: Float[Tensor, "b n l"]
    """What each voxel is given."""

    def kept(self, kept: Float[Tensor, "b"]) -> Condition:
        """The condition, emptied for the items whose `kept` is 0."""
        return Condition(self.tokens * kept[:, None, None], self.lifted * kept[:, None, None])


class Twin(nn.Module):
    """A generator of signed distances.

    Args:
        trunk: as in `CompactGenerator`. It is not trained.
        settings: sizes.
        conditioning: what enters each voxel: "back-projection", the features at its own pixel; "cross-attention", their mean
            over the picture, through the same layers, so that only the attention to the image tokens can tell what is where.
    """

    def __init__(self, trunk: nn.Module, settings: CompactSettings, conditioning: Conditioning) -> None:
        super().__init__()
        self.settings = settings
        self.conditioning = conditioning
        self.trunk = trunk.requires_grad_(False).eval()
        grid = dense_coords(settings.tokens)
        self.register_buffer("grid", grid.int(), persistent=False)
        axis = (torch.arange(IMAGE_TOKENS) + 0.5) / IMAGE_TOKENS * 2 - 1
        self.register_buffer("on_picture", sines(torch.cartesian_prod(axis, axis)), persistent=False)
        centres = torch.from_numpy(cell_centres(settings.tokens)).flatten(0, 2)
        self.register_buffer("in_cube", sines(centres * 2), persistent=False)
        blank = torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)
        with torch.no_grad():
            shown = picture_tokens(self.trunk(blank), blank).shape[-1] + self.on_picture.shape[-1]
        self.picture = two_layers(shown, settings.cond_channels)
        self.scalars = nn.Linear(SCALARS, settings.cond_channels)
        projected = sum(settings.trunk_channels) + 3 * settings.colour_patch**3
        self.lift = two_layers(projected, settings.lifted_channels)
        # A voxel's position enters with the noise, so that the first block's queries already know it.
        cells = settings.patch**3
        self.flow = flow_from_zero(settings, cells + self.in_cube.shape[-1], cells)

    def seen(self, maps: Sequence[Float[Tensor, "b _c _h _w"]], known: Evidence) -> Float[Tensor, "b n c"]:
        """What the picture shows for each voxel, z fastest. The twins differ in this alone."""
        image = known.image[:, 0]
        if self.conditioning == "cross-attention":
            maps, image = [averaged(level) for level in maps], averaged(image)
        return looked_up([level[:, None] for level in maps], image[:, None], known, self.settings)

    def condition(self, known: Evidence) -> Condition:
        """The condition of the flow, from what is known."""
        with torch.no_grad():
            maps = self.trunk(known.image[:, 0])
        shown = picture_tokens(maps, known.image[:, 0])
        tokens = self.picture(torch.cat([shown, self.on_picture.expand(len(shown), -1, -1)], dim=2))
        return Condition(
            tokens=torch.cat([tokens, self.scalars(known.scalars)[:, None]], dim=1),
            lifted=self.lift(self.seen(maps, known)),
        )

    def clean(self, x: Float[Tensor, "m c"], t: Float[Tensor, "b"], given: Condition) -> Float[Tensor, "m c"]:
        """The network's estimate of the clean latent behind the noisy tokens `x` at the times `t`.

        The tokens of all items are concatenated.
        """
        items, voxels = len(t), len(self.grid)
        owner = torch.arange(items, dtype=torch.int32).repeat_interleave(voxels)[:, None]
        return self.flow(
            x,
            torch.cat([owner, self.grid.repeat(items, 1)], dim=1),
            TIME_SCALE * t,
            given.tokens,
            given.lifted.flatten(0, 1),
            self.in_cube.repeat(items, 1),
        ).float()

    def loss(
        self, known: Evidence, latent: Float[Tensor, "b c g g g"], t: Float[Tensor, "b"], noise: Tensor, kept: Tensor
    ) -> Float[Tensor, "b"]:
        """Mean squared error of each item's clean signed distance; arguments as in `CompactGenerator.loss`."""
        given = self.condition(known).kept(kept)
        truth, drawn = (grid[:, : self.settings.patch**3].flatten(2).transpose(1, 2) for grid in (latent, noise))
        at = t[:, None, None]
        mixed = (1 - at) * truth + at * drawn
        made = self.clean(mixed.flatten(0, 1), t, given).unflatten(0, mixed.shape[:2])
        return (made - truth).square().mean(dim=(1, 2))

    @torch.inference_mode()
    def generate(self, known: Evidence, seed: int) -> Field:
        """Draws one object.

        Raises:
            WeightsError: if the network's output is not finite.
        """
        settings, sampler = self.settings, self.settings.sampler
        given = self.condition(known)
        without = given.kept(torch.zeros(1))
        noise = torch.randn((len(self.grid), settings.patch**3), generator=torch.Generator().manual_seed(seed))

        def velocity(x: Tensor, moment: Tensor, conditional: bool) -> Tensor:
            clean = self.clean(x, moment / TIME_SCALE, given if conditional else without)
            return velocity_from_clean(x, clean, float(moment[0]) / TIME_SCALE, sampler.sigma_min)

        latent = sample(velocity, noise, sampler, lengths=[len(noise)])
        cells = cells_of(latent.T.unflatten(1, 3 * (settings.tokens,))[None], settings.patch)
        return Field((cells[0, 0].clamp(-1, 1) * TRUNCATION).numpy())


def picture_tokens(
    maps: Sequence[Float[Tensor, "b _c _h _w"]], image: Float[Tensor, "b 3 s s"]
) -> Float[Tensor, "b n c"]:
    """Feature maps and picture, complete, as `IMAGE_TOKENS` x `IMAGE_TOKENS` tokens, u fastest; finer pixels become channels."""
    parts = []
    for level in (*maps, image):
        finer = level.shape[-1] // IMAGE_TOKENS
        if finer:
            parts.append(functional.pixel_unshuffle(level.float(), finer))
        else:
            parts.append(functional.interpolate(level.float(), 2 * (IMAGE_TOKENS,), mode="bilinear"))
    return torch.cat(parts, dim=1).flatten(2).transpose(1, 2)


def averaged(level: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The level's mean over the picture, at every pixel."""
    return level.mean(dim=(2, 3), keepdim=True).expand_as(level)


def sines(points: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
    """Sines and cosines of `points` in [-1, 1]: a quarter turn from 0 to 1, doubled `OCTAVES` - 1 times."""
    angles = (points[..., None] * (math.pi / 2 * 2.0 ** torch.arange(OCTAVES))).flatten(1)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def batch_rows(samples: int, size: int, step: int, seed: int) -> Integer[np.ndarray, "b"]:
    """The samples of a step, each once per epoch. They depend only on the arguments, so all twins get the same."""
    each = samples // size
    order = np.random.default_rng([seed, step // each, 2]).permutation(samples)
    return order[step % each * size :][:size]


def train_twin(
    trunk: nn.Module,
    conditioning: Conditioning,
    samples: Samples,
    checkpoint: Path,
    *,
    steps: int,
    settings: CompactSettings = SETTINGS,
    batch: int = 8,
    rate: float = 1.5e-3,
    seed: int = 0,
) -> Training[Twin]:
    """A twin after `steps` steps, resumed from `checkpoint` if it exists, and written to it.

    Args:
        trunk: as in `Twin`.
        conditioning: which twin.
        samples: samples to train on.
        checkpoint: the state to resume from.
        steps: optimiser steps of all runs together.
        settings: sizes.
        batch: samples per step, at most as many as there are.
        rate: largest learning rate; it falls along a cosine over `steps`.
        seed: random seed of weights, order, noise and times.
    """
    torch.manual_seed(seed)
    training = Training(Twin(trunk, settings, conditioning))
    if checkpoint.is_file():
        training.load(checkpoint)
        logger.info("%s: resuming at step %d, after %.1f minutes", conditioning, training.step, training.minutes)
    began, earlier, saved = time.monotonic(), training.minutes, training.minutes
    losses: list[float] = []
    while training.step < steps:
        step = training.step
        rng = seeded(torch.device("cpu"), seed, step, 1)
        rows = torch.from_numpy(batch_rows(len(samples), batch, step, seed))
        chosen = batch_of(samples, rows, bool(torch.rand(1, generator=rng) < 0.5), settings)
        loss = batch_loss(training.generator, chosen, rng).mean()
        training.update(loss, rate * rate_share(step, step / steps))
        training.minutes = earlier + (time.monotonic() - began) / 60
        losses.append(loss.item())
        if training.step % 100 == 0:
            logger.info(
                "%s: step %d, %.1f minutes: %.4f", conditioning, training.step, training.minutes, np.mean(losses[-100:])
            )
        if training.step == steps or training.minutes - saved > CHECK_MINUTES:
            saved = training.minutes
            training.save(checkpoint)
    return training
