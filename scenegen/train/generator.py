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
from typing import Generic, Protocol, TypeVar, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int8, Integer, UInt8
from safetensors import safe_open
from scipy import ndimage
from torch import Tensor

from scenegen.errors import InputError
from scenegen.generator import ObjectView
from scenegen.geometry.field import cube_edge, metric_crop_from_latent, nearest_depth
from scenegen.geometry.fill import nearest_known
from scenegen.perception import embedded as perception
from scenegen.perception.network import Trunk
from scenegen.pixal3d.compact import (
    CompactGenerator,
    CompactSettings,
    Evidence,
    evidence,
    packed,
)
from scenegen.pixal3d.embedded import ImageTrunk, load_generator
from scenegen.pixal3d.visibility import CHANNELS, TRUNCATION
from scenegen.train.imagenet import imagenet_file, load_imagenet
from scenegen.train.meshes import MeshFolder, mesh_folder
from scenegen.train.solids import cached_solid, resampled, resampled_colors
from scenegen.train.views import view
from scenegen.weights.file import write_weights

logger = logging.getLogger(__name__)

SHARD = 128
"""Samples a file."""
SEEDS = 1_000_000
"""Between the first seeds of two files: more than a file can use up."""
HELD_OUT = 25
"""One mesh in so many is kept from training, to judge by."""
KINDS = ((0.35, 0.0, 0.0), (0.2, 0.005, 0.06), (0.45, 0.08, 0.22))
"""Share of the samples with exact depth and mask, with those of a good sensor or network, and of a weak one; and for each the
least and most error of the depth across an object, as a share of its width."""
FLAT = perception.RELIEF_ERROR
"""Such an error from which on an estimate says little about an object's relief: what the embedded network has."""
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
    scalars: Float[np.ndarray, "n 6"]
    distance: Int8[np.ndarray, "n r r r"]
    """Signed distance, `TRUNCATION` at 127."""
    colour: UInt8[np.ndarray, "n k k k 3"]

    def __len__(self) -> int:
        return len(self.image)


def one_sample(meshes: MeshFolder, solids: Path, seed: int, settings: CompactSettings) -> dict[str, np.ndarray]:
    """A random view of a random mesh, as `Samples` holds it."""
    rng = np.random.default_rng(seed)
    seen = view(meshes, seed)
    kind = rng.choice(len(KINDS), p=[share for share, _, _ in KINDS])
    _, least, most = KINDS[kind]
    shown = seen.view if kind == 0 else degraded(seen.view, float(rng.uniform(least, most)), rng)
    edge = cube_edge(shown)
    known = evidence(shown, edge, settings)
    # An estimate may be nearer or farther as a whole: the object is learned with its nearest part where that is estimated.
    moved = np.diag([*3 * (nearest_depth(shown) / nearest_depth(seen.view),), 1.0])
    latent_from_mesh = np.linalg.inv(metric_crop_from_latent(shown, edge)) @ moved @ seen.crop_from_mesh
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


def degraded(shown: ObjectView, error: float, rng: np.random.Generator) -> ObjectView:
    """The view as estimators would give it.

    Measured on the embedded network: an object's relief is flattened to a fraction, tilted, and bent; its outline is off by
    some pixels, or a part is missing; the background comes nearer or recedes; up leans.

    Args:
        shown: exact.
        error: of the depth across the object, as a share of its width.
        rng: draws all that.
    """
    size = shown.mask.shape[0]
    weak = min(error / FLAT, 1.0)
    inside = (shown.mask > 0.5) & (shown.depth > 0)
    width = np.sqrt(np.count_nonzero(inside)) / shown.crop.intrinsics.fx  # over the depth

    def smooth(cells: int, deviation: float) -> Float32[np.ndarray, "s s"]:
        return cv2.resize(
            rng.normal(0, deviation, (cells, cells)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
        )

    mask = _misjudged(shown.mask, weak, smooth(10, 1.0), rng)
    log_depth = np.log(np.where(inside, shown.depth, 1.0))
    middle = np.median(log_depth[inside])
    kept = np.clip(rng.normal(1 - 0.75 * weak, 0.35 * weak), 0, 1)
    relief = nearest_known(kept * (log_depth - middle), inside)
    relief = cv2.GaussianBlur(relief.astype(np.float32), (0, 0), (0.2 + weak * rng.uniform(1, 5)) * size / 128)
    across = np.linspace(-0.5, 0.5, size)
    tilt = rng.normal(0, 0.3 * weak, 2) @ np.stack(np.meshgrid(across, across)).reshape(2, -1)
    relief += width * (tilt.reshape(size, size) + smooth(4, 0.3 * error) + smooth(12, 0.1 * error))
    around = np.exp(rng.normal(0, 0.5 * error) + smooth(3, 0.2 * error))
    depth = np.where(mask > 0.5, np.exp(middle + relief), np.where(inside, shown.limit, shown.depth) * around)
    lean = cv2.Rodrigues(rng.normal(0, np.radians(4) * weak, 3))[0]
    return replace(
        shown,
        mask=mask,
        depth=depth.astype(np.float32),
        limit=(shown.limit * np.exp(width * rng.normal(0, 0.7 * error))).astype(np.float32),
        up=(lean @ shown.up).astype(np.float32),
        relief_error=error,
    )


def _misjudged(
    mask: Float32[np.ndarray, "s s"], weak: float, noise: Float32[np.ndarray, "s s"], rng: np.random.Generator
) -> Float32[np.ndarray, "s s"]:
    """`mask` with an outline that wanders along `noise`, or without a part on one side; the weaker, the more."""
    inside = mask > 0.5
    reach = (0.004 + 0.01 * weak) * mask.shape[0]
    distance = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    moved = distance - 0.5 * np.sign(distance) + reach * (noise + rng.normal())
    if rng.random() < 0.2 * weak:
        rows, columns = np.nonzero(inside)
        angle = rng.uniform(0, 2 * np.pi)
        along = np.cos(angle) * np.arange(mask.shape[0]) + np.sin(angle) * np.arange(mask.shape[0])[:, None]
        moved = np.minimum(moved, np.percentile(along[rows, columns], rng.uniform(75, 97)) - along)
    found = np.clip(moved + 0.5, 0, 1).astype(np.float32)
    return found if np.count_nonzero(found > 0.5) > 0.5 * np.count_nonzero(inside) else mask


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


def load_samples(paths: Sequence[Path], visibility: bool = True) -> Samples:
    """The samples of some files of `prepare`. Without `visibility`, which is most of them, it is zeros that take no memory."""
    parts: list[dict[str, np.ndarray]] = []
    for path in paths:
        with np.load(path, allow_pickle=False) as data:
            parts.append({name: data[name] for name in data.files if visibility or name != "visibility"})
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    unseen = np.broadcast_to(np.int8(0), (*whole["distance"].shape, CHANNELS))
    return Samples(**{"visibility": unseen, **whole})


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


@runtime_checkable
class Generator(Protocol):
    """What is trained."""

    def loss(
        self, known: Evidence, latent: Float[Tensor, "b c g g g"], t: Float[Tensor, "b"], noise: Tensor, kept: Tensor
    ) -> Float[Tensor, "b"]:
        """As of `CompactGenerator`."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Those inside the flow's blocks have `.blocks.` in their names."""
        ...

    def train(self) -> object:
        """For training."""
        ...

    def eval(self) -> object:
        """For use."""
        ...


Trained = TypeVar("Trained", bound=Generator)


@dataclass
class Training(Generic[Trained]):
    """The state of a training: what it is resumed from."""

    generator: Trained
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
    def judged(self) -> Iterator[Trained]:
        """The network with the averaged weights, for a while."""
        current = {name: value.detach().clone() for name, value in self.learned.items()}
        for name, value in self.learned.items():
            value.data.copy_(self.averaged[name])
        try:
            self.generator.eval()
            yield self.generator
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
    start: Path | None = None,
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
    start
        Weights of an earlier training to begin with; without them only the trunk has learned anything.
    """
    settings = CompactSettings()
    learned, held_out = parted(mesh_folder(meshes))
    prepare(held_out, cache / "judged", judged, settings, threads)
    prepare(learned, cache / "learned", samples, settings, threads)
    if not minutes > 0:
        return
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    fresh = CompactGenerator(imagenet_trunk(), settings) if start is None else load_generator(start).train()
    training = Training(fresh)
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
                    write_weights(
                        generator, generator.settings, out, judged_loss=f"{found:.6f}", step=str(training.step)
                    )
        if done:
            break
        loss = batch_loss(training.generator, chosen, np.random.default_rng([seed, training.step, 1])).mean()
        training.update(loss, rate * rate_share(training.step, training.minutes / minutes))
        losses.append(loss.item())
        if training.step % 25 == 0:
            logger.info("step %d: %.4f", training.step, np.mean(losses[-25:]))


def rate_share(step: int, progress: float) -> float:
    """Share of the largest learning rate after `step` steps, `progress` (0..1) through the training: a cosine, after a ramp."""
    return min(1, (step + 1) / WARM_STEPS) * (0.03 + 0.97 * (1 + math.cos(math.pi * progress)) / 2)


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
        batch_loss(generator, batch_of(samples, rows, False, generator.settings), rng, unconditional=0.0)
        for rows in np.array_split(np.arange(len(samples)), -(-len(samples) // batch))
    ]
    return float(torch.cat(losses).mean())


def batch_loss(
    generator: Generator, batch: Batch, rng: np.random.Generator, unconditional: float = UNCONDITIONAL
) -> Float[Tensor, "b"]:
    """Of each sample.

    Times favour the noisy end, where the shape is decided (logit-normal: Esser et al. 2024, arXiv 2403.03206).
    """
    items = len(batch.latent)
    t = torch.from_numpy(1 / (1 + np.exp(-rng.normal(1.5, 1.2, items)))).float()
    noise = torch.from_numpy(rng.standard_normal(batch.latent.shape, dtype=np.float32))
    kept = torch.from_numpy((rng.random(items) >= unconditional).astype(np.float32))
    with torch.autocast("cpu", torch.bfloat16):
        return generator.loss(batch.known, batch.latent, t, noise, kept)
