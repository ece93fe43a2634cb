"""Training of the compact generator (`scenegen.pixal3d.compact`): samples prepared once, then rectified flow on them."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int8, UInt8
from torch import Tensor

from scenegen.errors import InputError
from scenegen.generator import ObjectView
from scenegen.geometry.field import cube_edge, metric_crop_from_latent
from scenegen.pixal3d.compact import (
    TRUNCATION,
    CompactGenerator,
    CompactSettings,
    Evidence,
    evidence,
    packed,
)
from scenegen.train.meshes import MeshFolder, mesh_folder
from scenegen.train.solids import cached_solid, resampled, resampled_colors
from scenegen.train.views import view

logger = logging.getLogger(__name__)

SHARD = 128
"""Samples a file."""
CLEAN = 0.4
"""Share of the samples whose depth and mask stay exact: the others learn to live with estimates."""
UNCONDITIONAL = 0.1
"""Share of the items that learn to go without their condition."""
AVERAGE_OVER = 2000
"""Steps the averaged weights look back, at most."""
QUANTUM = 127.0


@dataclass(frozen=True)
class Samples:
    """Prepared samples as small integers, in memory."""

    image: UInt8[np.ndarray, "n 3 s s"]
    visibility: Int8[np.ndarray, "n r r r 6"]
    centres: Float[np.ndarray, "n t 2"]
    parts: Float[np.ndarray, "n m 2"]
    scalars: Float[np.ndarray, "n 5"]
    distance: Int8[np.ndarray, "n r r r"]
    """Signed distance, `TRUNCATION` at 127."""
    colour: UInt8[np.ndarray, "n k k k 3"]

    def __len__(self) -> int:
        return len(self.image)

    def batch(self, rows: np.ndarray, settings: CompactSettings) -> tuple[Evidence, Float[Tensor, "b c g g g"]]:
        """The condition and the clean latent of some samples."""

        def tensor(values: np.ndarray, unit: float) -> Tensor:
            return torch.from_numpy(values[rows].astype(np.float32)) / unit

        known = Evidence(
            image=tensor(self.image, 255),
            visibility=tensor(self.visibility, QUANTUM),
            centres=tensor(self.centres, 1),
            parts=tensor(self.parts, 1),
            scalars=tensor(self.scalars, 1),
        )
        distance = tensor(self.distance, QUANTUM)[:, None] * TRUNCATION
        return known, packed(distance, tensor(self.colour, 255).movedim(-1, 1), settings)


def one_sample(meshes: MeshFolder, solids: Path, seed: int, settings: CompactSettings) -> dict[str, np.ndarray]:
    """A random view of a random mesh, as `Samples` holds it."""
    rng = np.random.default_rng(seed)
    seen = view(meshes, seed)
    shown = seen.view if rng.random() < CLEAN else degraded(seen.view, rng)
    edge = cube_edge(shown)
    known = evidence(shown, edge, settings)
    latent_from_mesh = np.linalg.inv(metric_crop_from_latent(shown, edge)) @ seen.crop_from_mesh
    solid = cached_solid(meshes[seen.mesh], solids)
    distance = resampled(solid, latent_from_mesh, settings.cells, TRUNCATION)
    colour = resampled_colors(solid, latent_from_mesh, settings.tokens * settings.colour_patch)
    return {
        "image": np.round(known.image[0].numpy() * 255).astype(np.uint8),
        "visibility": np.round(known.visibility[0].numpy() * QUANTUM).astype(np.int8),
        "centres": known.centres[0].numpy().astype(np.float16),
        "parts": known.parts[0].numpy().astype(np.float16),
        "scalars": known.scalars[0].numpy(),
        "distance": np.round(distance / TRUNCATION * QUANTUM).astype(np.int8),
        "colour": colour,
    }


def degraded(shown: ObjectView, rng: np.random.Generator) -> ObjectView:
    """The view as estimators would give it: depth with smooth errors, a mask off by a pixel or two."""
    size = shown.mask.shape[0]

    def smooth(cells: int, amplitude: float) -> np.ndarray:
        return cv2.resize(
            rng.normal(0, amplitude, (cells, cells)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
        )

    error = np.exp(smooth(4, rng.uniform(0, 0.02)) + smooth(12, rng.uniform(0, 0.006)))
    blur = int(rng.integers(0, 3))
    depth = shown.depth * error
    if blur:
        depth = np.where(depth > 0, cv2.blur(depth.astype(np.float32), (2 * blur + 1, 2 * blur + 1)), 0)
    mask = shown.mask
    reach = int(rng.integers(-1, 2)) * max(1, size // 128)
    if reach:
        kernel = np.ones((2 * abs(reach) + 1,) * 2, np.uint8)
        moved = cv2.dilate(mask, kernel) if reach > 0 else cv2.erode(mask, kernel)
        if (moved > 0.5).sum() > 0.5 * (mask > 0.5).sum():
            mask = moved
    candidate = replace(shown, depth=depth.astype(np.float32), mask=mask)
    usable = ((candidate.mask > 0.5) & (candidate.depth > 0)).any()
    return candidate if usable else shown


def prepare(
    folder: Path, cache: Path, samples: int, settings: CompactSettings, split: str = "train", processes: int = 1
) -> None:
    """Makes samples until `cache` holds `samples` of them, in files that are there whole or not at all."""
    cache.mkdir(parents=True, exist_ok=True)
    wanted = [number for number in range(math.ceil(samples / SHARD)) if not _shard_path(cache, number).is_file()]
    with ProcessPoolExecutor(processes) as pool:
        for number in (
            pool.map(_make_shard, *zip(*((folder, cache, number, settings) for number in wanted), strict=True))
            if wanted
            else ()
        ):
            logger.info("shard %d of %d is there", number, math.ceil(samples / SHARD))


def _make_shard(folder: Path, split: str, cache: Path, number: int, settings: CompactSettings) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    meshes = mesh_folder(folder, (split,))
    made: list[dict[str, np.ndarray]] = []
    for attempt in count(number * 1_000_000):
        try:
            made.append(one_sample(meshes, cache.parent / "solids", attempt, settings))
        except InputError as error:
            logger.debug("sample %d: %s", attempt, error)
        if len(made) == SHARD:
            break
    path = _shard_path(cache, number)
    whole = path.with_suffix(f".{os.getpid()}.tmp")
    with whole.open("wb") as file:
        np.savez(file, allow_pickle=False, **{name: np.stack([item[name] for item in made]) for name in made[0]})
    whole.replace(path)


def _shard_path(cache: Path, number: int) -> Path:
    return cache / f"samples-{number:05d}.npz"


def load_samples(cache: Path) -> Samples:
    """Everything prepared in `cache`.

    Raises:
        InputError: where that is nothing.
    """
    paths = sorted(cache.glob("samples-*.npz"))
    if not paths:
        raise InputError(f"`cache` {cache} holds no samples; prepare some first.")
    parts: list[dict[str, np.ndarray]] = []
    for path in paths:
        with np.load(path, allow_pickle=False) as data:
            parts.append({name: data[name] for name in data.files})
    return Samples(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def batches(length: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Rows, every one once an epoch, without end."""
    while True:
        order = rng.permutation(length)
        for start in range(0, length - size + 1, size):
            yield order[start : start + size]


def train(
    generator: CompactGenerator,
    samples: Samples,
    held_out: Samples,
    checkpoint: Path,
    *,
    minutes: float,
    batch: int = 16,
    rate: float = 1e-3,
    horizon: int = 6000,
    device: str = "cpu",
) -> float:
    """Trains for `minutes`, from where `checkpoint` stands if it is there. Returns the held-out loss of the averaged weights.

    Args:
        generator: filled with the averaged weights at the end.
        samples: to learn from.
        held_out: to judge by.
        checkpoint: weights, averaged weights, optimiser and step; written every few minutes.
        minutes: of wall time.
        batch: items a step.
        rate: largest learning rate.
        horizon: steps after which the rate has fallen to a twentieth (cosine).
        device: torch's name of it.
    """
    settings = generator.settings
    generator.to(device).train()
    learned = {name: value for name, value in generator.named_parameters() if value.requires_grad}
    averaged = {name: value.detach().clone() for name, value in learned.items()}
    optimiser = torch.optim.AdamW(learned.values(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    step = 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        for name, value in learned.items():
            value.data.copy_(state["weights"][name])
        averaged = {name: state["averaged"][name] for name in averaged}
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]
    rng = np.random.default_rng(step)
    end, saved = time.monotonic() + 60 * minutes, time.monotonic()
    losses: list[float] = []
    for rows in batches(len(samples), batch, rng):
        if time.monotonic() > end:
            break
        progress = min(step / horizon, 1)
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 100) * (0.05 + 0.95 * (1 + math.cos(math.pi * progress)) / 2)
        known, latent = samples.batch(rows, settings)
        loss = _loss(generator, known.to(device), latent.to(device), rng).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned.values(), 1.0)
        optimiser.step()
        keep = min(1 - 1 / AVERAGE_OVER, step / (step + 10))
        for name, value in learned.items():
            averaged[name].lerp_(value.detach(), 1 - keep)
        step += 1
        losses.append(float(loss))
        if step % 50 == 0:
            logger.info("step %d: loss %.4f over the last %d", step, np.mean(losses[-50:]), min(50, len(losses)))
        if time.monotonic() - saved > 180:
            _save(checkpoint, learned, averaged, optimiser, step)
            saved = time.monotonic()
    _save(checkpoint, learned, averaged, optimiser, step)
    for name, value in learned.items():
        value.data.copy_(averaged[name])
    return held_out_loss(generator.eval(), held_out, batch, device)


@torch.inference_mode()
def held_out_loss(generator: CompactGenerator, held_out: Samples, batch: int, device: str) -> float:
    """Mean loss over all held-out samples, with the same noise and times every time."""
    rng = np.random.default_rng(0)
    losses = []
    for start in range(0, len(held_out), batch):
        known, latent = held_out.batch(np.arange(start, min(start + batch, len(held_out))), generator.settings)
        losses.append(_loss(generator, known.to(device), latent.to(device), rng, unconditional=0.0))
    return float(torch.cat(losses).mean())


def _loss(
    generator: CompactGenerator,
    known: Evidence,
    latent: Float[Tensor, "b c g g g"],
    rng: np.random.Generator,
    unconditional: float = UNCONDITIONAL,
) -> Float[Tensor, "b"]:
    """With times that favour the noisy end, where the shape is decided (logit-normal: Esser et al. 2024, arXiv 2403.03206)."""
    items = len(latent)
    t = torch.from_numpy(1 / (1 + np.exp(-rng.normal(0.6, 1.0, items)))).float().to(latent.device)
    noise = torch.from_numpy(rng.standard_normal(latent.shape, dtype=np.float32)).to(latent.device)
    kept = torch.from_numpy((rng.random(items) >= unconditional).astype(np.float32)).to(latent.device)
    with torch.autocast(latent.device.type, torch.bfloat16):
        return generator.loss(known, latent, t, noise, kept)


def _save(
    path: Path,
    learned: dict[str, torch.nn.Parameter],
    averaged: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    step: int,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "weights": {name: value.detach() for name, value in learned.items()},
        "averaged": averaged,
        "optimiser": optimiser.state_dict(),
        "step": step,
    }
    whole = path.with_suffix(".tmp")
    torch.save(state, whole)
    whole.replace(path)
