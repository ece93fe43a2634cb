"""The compact generator: Pixal3D's structure stage at a size that a laptop runs, conditioned on depth as well.

Back-projection, the flow transformer and the sampler are those of the released model. Three things are smaller or other:

- The latent is the field itself: a truncated signed distance and a colour on a grid over the cube, cut in patches, one a token
  (as Li and He 2025, arXiv 2511.13720, do with pixels), so that no decoder is needed.
- The image network is an ImageNet-trained convolutional trunk.
- Each token also gets what mask, depth and background say about its cells (`visibility`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from scenegen.camera import project
from scenegen.generator import ObjectView
from scenegen.geometry.field import Field, cell_centres, metric_crop_from_latent, placed
from scenegen.pixal3d.flow import StructureFlow
from scenegen.pixal3d.projection import sample as bilinear
from scenegen.pixal3d.sampler import TIME_SCALE, SamplerSettings, Step, sample
from scenegen.pixal3d.visibility import CHANNELS, visibility

IMAGE_SIZE = 128
"""Side of the picture the trunk sees."""
SCALARS = 5
"""Up (3), tangent of half the field of view, share of the picture the object covers."""
POOLED = 4
"""Global tokens along a side of the picture."""
TRUNCATION = 0.125
"""Distances are cut off at this share of the cube's edge."""


@dataclass(frozen=True, kw_only=True)
class CompactSettings:
    """Sizes of the network, and how it is sampled."""

    tokens: int = 8
    """Along an edge of the cube."""
    patch: int = 4
    """Cells of the signed distance along an edge of a token."""
    colour_patch: int = 2
    """Cells of the colour along an edge of a token."""
    model_channels: int = 256
    num_blocks: int = 8
    num_heads: int = 4
    cond_channels: int = 128
    trunk_channels: tuple[int, ...] = (24, 40, 112)
    sampler: SamplerSettings = SamplerSettings(
        steps=10, guidance_strength=1.5, guidance_rescale=0.0, guidance_interval=(0.0, 1.0), rescale_t=2.0
    )

    @property
    def cells(self) -> int:
        """Cells of the signed distance along an edge of the cube."""
        return self.tokens * self.patch

    @property
    def latent_channels(self) -> int:
        """Numbers a token."""
        return self.patch**3 + 3 * self.colour_patch**3

    @property
    def projected_channels(self) -> int:
        """Numbers each token is told: visibility of its cells, image features at its centre, colours in it."""
        return CHANNELS * self.patch**3 + sum(self.trunk_channels) + 3 * self.colour_patch**3


@dataclass(frozen=True)
class Evidence:
    """What is known of `b` objects, as the network takes it."""

    image: Float[Tensor, "b 3 s s"]
    """sRGB in [0, 1], on black."""
    visibility: Float[Tensor, "b r r r 6"]
    centres: Float[Tensor, "b n 2"]
    """Where the tokens' centres lie on the picture, in [-1, 1] across it; z fastest."""
    parts: Float[Tensor, "b m 2"]
    """The same of the colour cells."""
    scalars: Float[Tensor, "b 5"]

    def to(self, device: torch.device | str) -> Evidence:
        """On another device."""
        return Evidence(*(part.to(device) for part in vars(self).values()))

    @staticmethod
    def stacked(items: Sequence[Evidence]) -> Evidence:
        """Several as one."""
        return Evidence(*(torch.cat(parts) for parts in zip(*(vars(item).values() for item in items), strict=True)))


def evidence(view: ObjectView, edge: float, settings: CompactSettings) -> Evidence:
    """What `view` says about the cube of `edge` metres."""
    size = view.image.shape[0]
    masked = view.image.astype(np.float32) / 255 * view.mask[..., None]
    image = torch.from_numpy(masked).permute(2, 0, 1)[None]
    image = torch.nn.functional.interpolate(image, (IMAGE_SIZE, IMAGE_SIZE), mode="area" if size > IMAGE_SIZE else "bilinear")
    matrix = metric_crop_from_latent(view, edge)

    def pixels(resolution: int) -> Float32[Tensor, "1 n 2"]:
        points = placed(cell_centres(resolution).reshape(-1, 3), matrix)
        return torch.from_numpy((project(view.crop.intrinsics, points) / size * 2 - 1).astype(np.float32))[None]

    scalars = np.array([*view.up, size / 2 / view.crop.intrinsics.fx, view.mask.mean()], dtype=np.float32)
    return Evidence(
        image=image,
        visibility=torch.from_numpy(visibility(view, edge, settings.cells))[None],
        centres=pixels(settings.tokens),
        parts=pixels(settings.tokens * settings.colour_patch),
        scalars=torch.from_numpy(scalars)[None],
    )


class CompactGenerator(nn.Module):
    """Trunk, condition and flow.

    Args:
        trunk: from pictures [b, 3, s, s] in [0, 1] to feature maps, fine to coarse, of `trunk_channels`.
        settings: sizes.
    """

    def __init__(self, trunk: nn.Module, settings: CompactSettings) -> None:
        super().__init__()
        self.settings = settings
        self.trunk = trunk.requires_grad_(False).eval()
        self.pooled = nn.Linear(settings.trunk_channels[-1], settings.cond_channels)
        self.scalars = nn.Linear(SCALARS, settings.cond_channels)
        self.flow = StructureFlow(
            resolution=settings.tokens,
            in_channels=settings.latent_channels,
            out_channels=settings.latent_channels,
            model_channels=settings.model_channels,
            cond_channels=settings.cond_channels,
            proj_in_channels=settings.projected_channels,
            num_blocks=settings.num_blocks,
            num_heads=settings.num_heads,
        )

    def condition(self, known: Evidence) -> tuple[Float[Tensor, "b g c"], Float[Tensor, "b n p"]]:
        """Global tokens, and what each token is told."""
        with torch.no_grad():
            maps = self.trunk(known.image)
        pooled = nn.functional.adaptive_avg_pool2d(maps[-1], POOLED).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.pooled(pooled), self.scalars(known.scalars)[:, None]], dim=1)
        lifted = [
            torch.cat([bilinear(level[item], known.centres[item]) for level in maps], dim=1)
            for item in range(len(known.image))
        ]
        colours = torch.stack(
            [bilinear(image, parts) for image, parts in zip(known.image, known.parts, strict=True)]
        )
        side = self.settings.tokens * self.settings.colour_patch
        colour_grid = colours.transpose(1, 2).unflatten(2, (side, side, side))
        return tokens, torch.cat(
            [
                tokens_of(known.visibility.movedim(-1, 1), self.settings.patch).flatten(2).transpose(1, 2),
                torch.stack(lifted),
                tokens_of(colour_grid, self.settings.colour_patch).flatten(2).transpose(1, 2),
            ],
            dim=2,
        )

    def loss(
        self, known: Evidence, latent: Float[Tensor, "b c r r r"], t: Float[Tensor, "b"], noise: Tensor, kept: Tensor
    ) -> Float[Tensor, "b"]:
        """Mean squared error of the velocity of each item (rectified flow: Liu et al. 2022, arXiv 2209.03003).

        Args:
            known: the condition.
            latent: clean.
            t: times in [0, 1].
            noise: standard normal, of the latent's shape.
            kept: 1 where an item keeps its condition, 0 where it learns to go without, for guidance.
        """
        tokens, projected = self.condition(known)
        at = t.reshape(-1, 1, 1, 1, 1)
        velocity = self.flow(
            (1 - at) * latent + at * noise,
            TIME_SCALE * t,
            tokens * kept.reshape(-1, 1, 1),
            projected * kept.reshape(-1, 1, 1),
        )
        return (velocity.float() - (noise - latent)).square().flatten(1).mean(dim=1)

    @torch.inference_mode()
    def generate(
        self, known: Evidence, seed: int, on_step: Callable[[Step], None] | None = None
    ) -> tuple[Field, Float32[np.ndarray, "k k k 3"]]:
        """Draws one object: its field, and its colours (sRGB in [0, 1]) on a coarser grid of the same cube."""
        noise = torch.randn(
            (1, self.settings.latent_channels, *3 * (self.settings.tokens,)), generator=torch.Generator().manual_seed(seed)
        ).to(known.image.device)
        tokens, projected = self.condition(known)
        latent = sample(
            lambda x, t, conditional: self.flow(x, t, tokens * conditional, projected * conditional),
            noise,
            self.settings.sampler,
            on_step=on_step,
        )
        return unpacked(latent, self.settings)


def packed(
    distance: Float[Tensor, "b 1 r r r"], colour: Float[Tensor, "b 3 k k k"], settings: CompactSettings
) -> Float[Tensor, "b c g g g"]:
    """The latent of a signed distance (in cube edges) and colours (0..1); about -1 to 1."""
    scaled = (distance / TRUNCATION).clamp(-1, 1)
    return torch.cat(
        [tokens_of(scaled, settings.patch), tokens_of(colour * 2 - 1, settings.colour_patch)], dim=1
    )


def unpacked(
    latent: Float[Tensor, "1 c g g g"], settings: CompactSettings
) -> tuple[Field, Float32[np.ndarray, "k k k 3"]]:
    """The inverse of `packed`, of one object."""
    scaled, colour = latent.float().cpu().split([settings.patch**3, 3 * settings.colour_patch**3], dim=1)
    distance = cells_of(scaled, settings.patch)[0, 0].clamp(-1, 1) * TRUNCATION
    colours = (cells_of(colour, settings.colour_patch)[0].movedim(0, -1) + 1) / 2
    return Field(distance.numpy()), colours.clamp(0, 1).numpy()


def tokens_of(grid: Float[Tensor, "b c x y z"], patch: int) -> Float[Tensor, "b cp x2 y2 z2"]:
    """Cuts a grid in patches, whose cells become channels."""
    b, c, side = *grid.shape[:2], grid.shape[2] // patch
    apart = grid.reshape(b, c, side, patch, side, patch, side, patch)
    return apart.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * patch**3, side, side, side)


def cells_of(tokens: Float[Tensor, "b cp x y z"], patch: int) -> Float[Tensor, "b c x2 y2 z2"]:
    """The inverse of `tokens_of`."""
    b, side = tokens.shape[0], tokens.shape[2]
    apart = tokens.reshape(b, -1, patch, patch, patch, side, side, side)
    return apart.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, apart.shape[1], *3 * (side * patch,))
