"""Training of the compact generator (`scenegen.pixal3d.compact`): samples prepared once, then rectified flow on them."""

from __future__ import annotations

import hashlib
import logging
import math
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int8, Integer, UInt8
from safetensors import safe_open
from torch import Tensor

from scenegen.errors import InputError
from scenegen.generator import ObjectView
from scenegen.geometry.field import cube_edge, metric_crop_from_latent
from scenegen.perception.network import Trunk
from scenegen.pixal3d.compact import (
    CompactGenerator,
    CompactSettings,
    Evidence,
    evidence,
    packed,
)
from scenegen.pixal3d.embedded import ImageTrunk, save_generator
from scenegen.pixal3d.visibility import TRUNCATION
from scenegen.train.imagenet import imagenet_file, load_imagenet
from scenegen.train.meshes import MeshFolder, mesh_folder
from scenegen.train.solids import cached_solid, resampled, resampled_colors
from scenegen.train.views import view

logger = logging.getLogger(__name__)

SHARD = 128
"""Samples a file."""
SEEDS = 1_000_000
"""Between the first seeds of two files: more than a file can use up."""
HELD_OUT = 25
"""One mesh in so many is kept from training, to judge by."""
CLEAN = 0.4
"""Share of the samples whose depth and mask stay exact: the others learn to live with estimates."""
UNCONDITIONAL = 0.1
"""Share of the items that learn to go without their condition."""
AVERAGE_OVER = 200
"""Steps the averaged weights look back, at most."""
WARM_STEPS = 60
CHECK_MINUTES = 6.0
"""Between checkpoints."""
QUANTUM = 127.0


@dataclass(frozen=True)
class Samples:
    """Prepared samples as small integers, in memory."""

    image: UInt8[np.ndarray, "n 3 s s"]
    visibility: Int8[np.ndarray, "n r r r 7"]
    centres: Float[np.ndarray, "n t 2"]
    parts: Float[np.ndarray, "n m 2"]
    scalars: Float[np.ndarray, "n 5"]
    distance: Int8[np.ndarray, "n r r r"]
    """Signed distance, `TRUNCATION` at 127."""
    colour: UInt8[np.ndarray, "n k k k 3"]

    def __len__(self) -> int:
        return len(self.image)


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


def parted(meshes: MeshFolder) -> tuple[MeshFolder, MeshFolder]:
    """The meshes to learn from and those to judge by, drawn by their files' names, so that more files move none."""
    chosen = [int(hashlib.sha256(item.path.name.encode()).hexdigest(), 16) % HELD_OUT == 0 for item in meshes.files]
    learned, judged = (
        tuple(item for item, held in zip(meshes.files, chosen, strict=True) if held is part) for part in (False, True)
    )
    return MeshFolder(learned), MeshFolder(judged)


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


def prepare(meshes: MeshFolder, cache: Path, samples: int, settings: CompactSettings, processes: int = 1) -> None:
    """Makes samples until `cache` holds `samples` of them, rounded up to whole files, which are there whole or not at all.

    Args:
        meshes: to show.
        cache: a folder of its own for each folder of meshes; signed distances are kept beside it.
        samples: at least.
        settings: of the network they are for.
        processes: at a time.
    """
    cache.mkdir(parents=True, exist_ok=True)
    files = -(-samples // SHARD)
    wanted = [number for number in range(files) if not _shard_path(cache, number).is_file()]
    make = partial(_make_shard, meshes, cache, settings=settings)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for number in pool.map(make, wanted):
            logger.info("samples: file %d of %d is there", number + 1, files)


def _make_shard(meshes: MeshFolder, cache: Path, number: int, settings: CompactSettings) -> int:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    made: list[dict[str, np.ndarray]] = []
    for seed in count(number * SEEDS):
        try:
            made.append(one_sample(meshes, cache.parent / "solids", seed, settings))
        except InputError as error:
            logger.debug("sample %d: %s", seed, error)
        if len(made) == SHARD:
            break
    path = _shard_path(cache, number)
    whole = path.with_suffix(f".{os.getpid()}.tmp")
    with whole.open("wb") as file:
        np.savez(file, allow_pickle=False, **{name: np.stack([item[name] for item in made]) for name in made[0]})
    whole.replace(path)
    return number


def _shard_path(cache: Path, number: int) -> Path:
    return cache / f"samples-{number:05d}.npz"


def load_samples(paths: Sequence[Path]) -> Samples:
    """The samples of some files of `prepare`."""
    parts: list[dict[str, np.ndarray]] = []
    for path in paths:
        with np.load(path, allow_pickle=False) as data:
            parts.append({name: data[name] for name in data.files})
    return Samples(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def prepared(cache: Path) -> list[Path]:
    """The files of samples that `cache` holds.

    Raises:
        InputError: where there are none.
    """
    paths = sorted(cache.glob("samples-*.npz"))
    if not paths:
        raise InputError(f"`cache` {cache} holds no samples; prepare some first.")
    return paths


@dataclass(frozen=True)
class Batch:
    """Samples as the network takes them."""

    known: Evidence
    latent: Float[Tensor, "b c g g g"]


def batch_of(samples: Samples, rows: Integer[np.ndarray, "b"], mirrored: bool, settings: CompactSettings) -> Batch:
    """Some samples, or their mirror images (left and right exchanged)."""

    def tensor(values: np.ndarray, unit: float, across: int | None = None) -> Tensor:
        """`across`: the axis of x."""
        chosen = torch.from_numpy(values[rows].astype(np.float32)) / unit
        return chosen.flip(across) if mirrored and across is not None else chosen

    def places(values: np.ndarray, resolution: int) -> Tensor:
        grid = tensor(values, 1).unflatten(1, (resolution, -1))  # x is outermost
        return ((grid.flip(1) * torch.tensor([-1.0, 1.0])) if mirrored else grid).flatten(1, 2)

    scalars = tensor(samples.scalars, 1)
    if mirrored:
        scalars[:, 0] *= -1
    known = Evidence(
        image=tensor(samples.image, 255, across=3),
        visibility=tensor(samples.visibility, QUANTUM, across=1),
        centres=places(samples.centres, settings.tokens),
        parts=places(samples.parts, settings.tokens * settings.colour_patch),
        scalars=scalars,
    )
    distance = tensor(samples.distance, QUANTUM, across=1)[:, None] * TRUNCATION
    colour = tensor(samples.colour, 255, across=1).movedim(-1, 1)
    return Batch(known, packed(distance, colour, settings))


@dataclass
class Training:
    """The state of a training: what it is resumed from."""

    generator: CompactGenerator
    minutes: float = 0.0
    """Trained so far."""
    step: int = 0

    def __post_init__(self) -> None:
        self.learned = {name: value for name, value in self.generator.named_parameters() if value.requires_grad}
        self.averaged = {name: value.detach().clone() for name, value in self.learned.items()}
        # Muon for the matrices inside (Jordan et al. 2024), whose updates it makes as large as AdamW's.
        inner = [value for name, value in self.learned.items() if ".blocks." in name and value.ndim == 2]
        outer = [value for name, value in self.learned.items() if not (".blocks." in name and value.ndim == 2)]
        self.optimisers = (
            torch.optim.Muon(inner, lr=1.0, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(outer, lr=1.0, betas=(0.9, 0.98), weight_decay=0.01),
        )

    def update(self, loss: Tensor, rate: float) -> None:
        """One step down `loss`."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.learned.values(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        share = max(1 / AVERAGE_OVER, 1 / (1 + self.step / 4))
        for name, value in self.learned.items():
            self.averaged[name].lerp_(value.detach(), share)

    def save(self, path: Path) -> None:
        """Writes `path`, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "weights": {name: value.detach() for name, value in self.learned.items()},
            "averaged": self.averaged,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "minutes": self.minutes,
            "step": self.step,
        }
        whole = path.with_suffix(".tmp")
        torch.save(state, whole)
        whole.replace(path)

    def load(self, path: Path) -> None:
        """Goes on from `path`."""
        state = torch.load(path, weights_only=True)
        for name, value in self.learned.items():
            value.data.copy_(state["weights"][name])
        self.averaged = {name: state["averaged"][name] for name in self.averaged}
        for optimiser, held in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(held)
        self.minutes, self.step = state["minutes"], state["step"]

    @contextmanager
    def judged(self) -> Iterator[CompactGenerator]:
        """The network with the averaged weights, for a while."""
        current = {name: value.detach().clone() for name, value in self.learned.items()}
        for name, value in self.learned.items():
            value.data.copy_(self.averaged[name])
        try:
            yield self.generator.eval()
        finally:
            for name, value in self.learned.items():
                value.data.copy_(current[name])
            self.generator.train()


def train(
    *,
    meshes: Path,
    out: Path,
    cache: Path,
    minutes: float,
    samples: int = 4096,
    judged: int = 128,
    batch: int = 8,
    rate: float = 1.5e-3,
    threads: int = 2,
    seed: int = 0,
) -> None:
    """Train the compact generator.

    Samples are prepared first, unless the cache holds them. The image trunk keeps its ImageNet weights.

    Parameters
    ----------
    meshes
        A folder of GLB files; see `scenegen.train.meshes`.
    out
        The safetensors file for the best weights (half precision); the state to resume from lies beside it.
    cache
        A folder for samples and signed distances.
    minutes
        How long, over all resumed runs together; 0 only prepares samples.
    samples
        To prepare before the training begins. More that appear in the cache meanwhile are used as well.
    judged
        Samples of meshes that are not trained on, by which the best weights are chosen.
    batch
        Samples a step.
    rate
        Largest learning rate; it falls along a cosine over `minutes`.
    threads
        Of torch, and processes that prepare.
    seed
        Of weights, order, noise and times.
    """
    settings = CompactSettings()
    learned, held_out = parted(mesh_folder(meshes))
    prepare(held_out, cache / "judged", judged, settings, threads)
    prepare(learned, cache / "learned", samples, settings, threads)
    if not minutes > 0:
        return
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    training = Training(CompactGenerator(imagenet_trunk(), settings))
    checkpoint = out.with_suffix(".pt")
    if checkpoint.is_file():
        training.load(checkpoint)
        logger.info("going on at step %d, after %.1f minutes", training.step, training.minutes)
    judges = load_samples(prepared(cache / "judged")[: -(-judged // SHARD)])
    best = math.inf
    if out.is_file():
        with safe_open(out, "pt") as file:
            best = float(file.metadata()["judged_loss"])
    began, earlier, checked = time.monotonic(), training.minutes, training.minutes
    losses: list[float] = []
    for chosen in _batches(cache / "learned", batch, np.random.default_rng([seed, training.step]), settings):
        training.minutes = earlier + (time.monotonic() - began) / 60
        done = training.minutes >= minutes
        if done or training.minutes - checked > CHECK_MINUTES:
            checked = training.minutes
            training.save(checkpoint)
            with training.judged() as generator:
                found = judged_loss(generator, judges, batch)
                logger.info("step %d, %.0f minutes: judged %.4f", training.step, training.minutes, found)
                if found < best:
                    best = found
                    save_generator(generator, out, {"judged_loss": f"{found:.6f}", "step": str(training.step)})
        if done:
            break
        progress = training.minutes / minutes
        ramp = min(1, (training.step + 1) / WARM_STEPS)
        loss = _loss(training.generator, chosen, np.random.default_rng([seed, training.step, 1])).mean()
        training.update(loss, rate * ramp * (0.03 + 0.97 * (1 + math.cos(math.pi * progress)) / 2))
        losses.append(loss.item())
        if training.step % 25 == 0:
            logger.info("step %d: %.4f", training.step, np.mean(losses[-25:]))


def imagenet_trunk() -> ImageTrunk:
    """The image trunk with its ImageNet weights."""
    whole = Trunk()
    load_imagenet(whole, imagenet_file())
    return ImageTrunk(whole)


def _batches(cache: Path, size: int, rng: np.random.Generator, settings: CompactSettings) -> Iterator[Batch]:
    """Every sample once an epoch, without end; half of them mirrored. What has appeared in `cache` is taken each epoch."""
    files: list[Path] = []
    samples = None
    while True:
        if (now := prepared(cache)) != files or samples is None:
            files, samples = now, load_samples(now)
            logger.info("%d samples to learn from", len(samples))
        order = rng.permutation(len(samples))
        for start in range(0, len(order) - size + 1, size):
            yield batch_of(samples, order[start : start + size], bool(rng.random() < 0.5), settings)


@torch.inference_mode()
def judged_loss(generator: CompactGenerator, samples: Samples, batch: int) -> float:
    """Mean loss over all samples, with the same noise and times every time."""
    rng = np.random.default_rng(0)
    losses = [
        _loss(generator, batch_of(samples, rows, False, generator.settings), rng, unconditional=0.0)
        for rows in np.array_split(np.arange(len(samples)), -(-len(samples) // batch))
    ]
    return float(torch.cat(losses).mean())


def _loss(
    generator: CompactGenerator, batch: Batch, rng: np.random.Generator, unconditional: float = UNCONDITIONAL
) -> Float[Tensor, "b"]:
    """With times that favour the noisy end, where the shape is decided (logit-normal: Esser et al. 2024, arXiv 2403.03206)."""
    items = len(batch.latent)
    t = torch.from_numpy(1 / (1 + np.exp(-rng.normal(1.0, 1.2, items)))).float()
    noise = torch.from_numpy(rng.standard_normal(batch.latent.shape, dtype=np.float32))
    kept = torch.from_numpy((rng.random(items) >= unconditional).astype(np.float32))
    with torch.autocast("cpu", torch.bfloat16):
        return generator.loss(batch.known, batch.latent, t, noise, kept)
