"""Samples for the compact generator (`scenegen.pixal3d.compact`): what a view shows, as it would be estimated, and the truth."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int8, Integer, UInt8
from torch import Tensor

from scenegen.errors import InputError
from scenegen.geometry.field import cube_edge, metric_crop_from_latent, nearest_depth
from scenegen.geometry.fill import nearest_known, outline_distance
from scenegen.geometry.generator import ObjectView, OtherView
from scenegen.pixal3d.compact import RELIEF_ERROR, CompactSettings, Evidence, evidence, open_tokens, packed
from scenegen.pixal3d.visibility import CHANNELS, TRUNCATION
from scenegen.train.meshes import MeshFolder
from scenegen.train.solids import cached_solid, resampled, resampled_colors
from scenegen.train.views import View
from scenegen.train.views import views as views_of

logger = logging.getLogger(__name__)

SHARD = 128
"""Samples per file."""
SEEDS = 1_000_000
"""Distance between the first seeds of two files: more than a file can use up."""
HELD_OUT = 25
"""One mesh in this many is held out of training, for validation."""
EXACT = 0.3
"""Share of the samples with exact depth and mask."""
ERRORS = ((0.35, 0.004, 0.07), (0.65, 0.07, 0.22))
"""Of the others, the share as good as a good sensor or network, and the share as weak as a weak one; for each, the least and the
largest error of the depth across an object, as a share of its width."""
FLAT = 0.17
"""An estimate with at least this error says little about an object's relief: a flat one has about as much."""
ROTATION_ERROR_DEG, PLACE_ERROR = 1.5, 0.01
"""Standard deviations of the errors of further views' cameras where depth is as weak as a flat one: about each axis, and along
each as a share of the distance."""
ALONE = 0.5
"""Share of the samples with one view, which most jobs have, where there are several."""
QUANTUM = 127.0


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples as small integers, in the memory of one device."""

    image: UInt8[Tensor, "n v 3 s s"]
    """Those of a sample with fewer views than others are followed by empty ones, with shares of 0."""
    visibility: Int8[Tensor, "n r r r 7"]
    centres: Float[Tensor, "n v t 2"]
    parts: Float[Tensor, "n v m 2"]
    shares: Float[Tensor, "n v t"]
    scalars: Float[Tensor, "n 6"]
    distance: Int8[Tensor, "n r r r"]
    """Signed distance, `TRUNCATION` at 127."""
    colour: UInt8[Tensor, "n k k k 3"]

    def __len__(self) -> int:
        return len(self.image)


def stacked(samples: Sequence[Mapping[str, np.ndarray]]) -> Samples:
    """Samples that `samples_of` made, at least one, as `Samples`."""
    return Samples(**{name: torch.from_numpy(np.stack([one[name] for one in samples])) for name in samples[0]})


def samples_of(
    meshes: MeshFolder, solids: Path, seed: int, settings: CompactSettings, conditions: int = 1, views: int = 1
) -> list[dict[str, np.ndarray]]:
    """`conditions` samples of one random object of `meshes`, as rows of `Samples`, each with new estimates.

    Each sample is given one to `views` of the object's views, half of them one, with any of them as the main one.

    Args:
        meshes: the meshes to show.
        solids: a folder for signed distances.
        seed: random seed.
        settings: settings of the network that the samples are for.
        conditions: at least 1.
        views: largest number of views of a sample.

    Raises:
        InputError: if the view or an estimate shows too little.
    """
    rng = np.random.default_rng(seed)
    seen = views_of(meshes, seed, views)
    # Exact at most once: a second time would be the same.
    exact = rng.random() < EXACT * conditions
    made = []
    for number in range(conditions):
        chosen = [seen[0]]
        if len(seen) > 1:
            count = 1 if rng.random() < ALONE else 2 + rng.integers(len(seen) - 1)
            chosen = [seen[k] for k in rng.permutation(len(seen))[:count]]
        error = 0.0
        if number or not exact:
            _, least, most = ERRORS[rng.choice(len(ERRORS), p=[share for share, _, _ in ERRORS])]
            error = float(rng.uniform(least, most))
        made.append(_sample(chosen[0], estimated(chosen, error, rng), meshes, solids, settings, views))
    return made


def estimated(seen: Sequence[View], error: float, rng: np.random.Generator) -> ObjectView:
    """The first view with the others, as estimators of depth, masks and cameras would give them.

    Args:
        seen: views of one object.
        error: error of the depth across the object, as a share of its width; 0 for exact views.
        rng: source of random numbers.
    """
    main, *others = seen
    mesh_from_main = np.linalg.inv(main.crop_from_mesh)
    shown = degraded(main.view, error, rng) if error else main.view
    placed = []
    for other in others:
        pose = other.crop_from_mesh @ mesh_from_main
        if error:
            pose = _misplaced(pose, min(error / FLAT, 1.0), nearest_depth(other.view), rng)
        placed.append(OtherView(degraded(other.view, error, rng) if error else other.view, pose))
    return replace(shown, others=tuple(placed))


def _misplaced(
    pose: Float[np.ndarray, "4 4"], weak: float, distance: float, rng: np.random.Generator
) -> Float[np.ndarray, "4 4"]:
    """The pose of a camera at `distance` metres from its object, as it would be estimated; larger `weak` means larger errors."""
    error = np.eye(4)
    error[:3, :3] = cv2.Rodrigues(rng.normal(0, np.radians(ROTATION_ERROR_DEG) * weak, 3))[0]
    error[:3, 3] = rng.normal(0, PLACE_ERROR * weak * distance, 3)
    # About the object, or a slight turn would lose it.
    about = np.eye(4)
    about[2, 3] = distance
    return about @ error @ np.linalg.inv(about) @ pose


def _sample(
    seen: View, shown: ObjectView, meshes: MeshFolder, solids: Path, settings: CompactSettings, views: int
) -> dict[str, np.ndarray]:
    """What `shown` shows of what is seen, with room for `views`."""
    edge = cube_edge(shown)
    known = evidence(shown, edge, settings)
    if not open_tokens(known.visibility, known.scalars[:, RELIEF_ERROR], settings.patch).any():
        raise InputError("mask, depth and background leave no room for the object.")
    # An estimate may be nearer or farther as a whole, so the truth is scaled until its nearest part is at the estimated depth.
    # The cameras of several views leave no such freedom.
    nearer = 1.0 if shown.others else nearest_depth(shown) / nearest_depth(seen.view)
    moved = np.diag([*3 * (nearer,), 1.0])
    latent_from_mesh = np.linalg.inv(metric_crop_from_latent(shown, edge)) @ moved @ seen.crop_from_mesh
    mesh = meshes[seen.mesh]
    if mesh.unstretched is not None:
        latent_from_mesh = latent_from_mesh @ np.diag([*mesh.stretch, 1.0])
        mesh = mesh.unstretched
    solid = cached_solid(mesh, solids)
    distance = resampled(solid, latent_from_mesh, settings.cells, TRUNCATION)
    colour = resampled_colors(solid, latent_from_mesh, settings.tokens * settings.colour_patch)

    def with_room(values: np.ndarray) -> np.ndarray:
        return np.pad(values, ((0, views - len(values)), *((0, 0) for _ in values.shape[1:])))

    return {
        "image": with_room(np.round(known.image[0].numpy() * 255).astype(np.uint8)),
        "visibility": np.round(known.visibility[0].numpy() * QUANTUM).astype(np.int8),
        "centres": with_room(known.centres[0].numpy().astype(np.float16)),
        "parts": with_room(known.parts[0].numpy().astype(np.float16)),
        "shares": with_room(known.shares[0].numpy().astype(np.float16)),
        "scalars": known.scalars[0].numpy(),
        "distance": np.round(distance / TRUNCATION * QUANTUM).astype(np.int8),
        "colour": colour,
    }


def parted(meshes: MeshFolder) -> tuple[MeshFolder, MeshFolder]:
    """The meshes to train on and those held out, chosen by their files' names, so that added files move none."""
    chosen = [int(hashlib.sha256(item.path.name.encode()).hexdigest(), 16) % HELD_OUT == 0 for item in meshes.files]
    learned, judged = (
        tuple(item for item, held in zip(meshes.files, chosen, strict=True) if held is part) for part in (False, True)
    )
    return MeshFolder(learned), MeshFolder(judged)


def degraded(shown: ObjectView, error: float, rng: np.random.Generator) -> ObjectView:
    """The view as estimators would give it.

    These errors were measured on the embedded network: an object's relief is flattened to a fraction, tilted, and bent; its
    outline is off by some pixels, or a part is missing; the background comes nearer or recedes; the up vector leans.

    Args:
        shown: the exact view.
        error: error of the depth across the object, as a share of its width.
        rng: source of random numbers.
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
    log_depth = np.log(np.where(shown.depth > 0, shown.depth, 1.0))
    middle = np.median(log_depth[inside])
    # The parts of other things that the mask includes have a depth of their own.
    log_depth = np.clip(log_depth, middle - 1.5 * width, middle + 1.5 * width)
    kept = np.clip(rng.normal(1 - 0.75 * weak, 0.35 * weak), 0, 1)
    relief = nearest_known(kept * (log_depth - middle), inside | ((mask > 0.5) & (shown.depth > 0)))
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
    """`mask` as an estimator draws it; larger `weak` means larger errors.

    Its outline wanders with `noise`; a part on one side is missing, or a round bit inside; a bit of what is beside it, and of
    the background, is included.
    """
    inside = mask > 0.5
    side = np.arange(mask.shape[0])
    reach = (0.004 + 0.01 * weak) * mask.shape[0]
    moved = outline_distance(inside) + reach * (noise + rng.normal())
    rows, columns = np.nonzero(inside)

    def bit(most: float) -> Float[np.ndarray, "s s"]:
        """Distance into a disc around a pixel of the object; its radius is a share of the object's width."""
        middle = rng.integers(len(rows))
        radius = rng.uniform(0.3, 1) * most * np.sqrt(len(rows))
        return radius - np.hypot(side - columns[middle], side[:, None] - rows[middle])

    if rng.random() < 0.2 * weak:
        angle = rng.uniform(0, 2 * np.pi)
        along = np.cos(angle) * side + np.sin(angle) * side[:, None]
        moved = np.minimum(moved, np.percentile(along[rows, columns], rng.uniform(75, 97)) - along)
    if rng.random() < 0.2 * weak:
        moved = np.minimum(moved, -bit(0.25))
    if rng.random() < 0.25 * weak:
        moved = np.maximum(moved, bit(0.5))
    found = np.clip(moved + 0.5, 0, 1).astype(np.float32)
    return found if np.count_nonzero(found > 0.5) > 0.5 * len(rows) else mask


def prepare(meshes: MeshFolder, cache: Path, samples: int, settings: CompactSettings, processes: int = 1) -> None:
    """Makes samples until `cache` holds `samples` of them, rounded up to whole files, which are there whole or not at all.

    Args:
        meshes: the meshes to show.
        cache: a folder of its own for each folder of meshes; signed distances are kept beside it.
        samples: least number of samples.
        settings: settings of the network that the samples are for.
        processes: number of processes.
    """
    cache.mkdir(parents=True, exist_ok=True)
    files = -(-samples // SHARD)
    wanted = [number for number in range(files) if not _shard_path(cache, number).is_file()]
    make = partial(_make_shard, meshes, cache, settings=settings)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for number in pool.map(make, wanted):
            logger.info("samples: file %d of %d is ready", number + 1, files)


def _make_shard(meshes: MeshFolder, cache: Path, number: int, settings: CompactSettings) -> int:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    made: list[dict[str, np.ndarray]] = []
    for seed in count(number * SEEDS):
        try:
            made += samples_of(meshes, cache.parent / "solids", seed, settings)
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
    """The samples of files that `prepare` wrote. `visibility` takes most of the memory; if False, it is zeros that take none."""
    parts: list[dict[str, np.ndarray]] = []
    for path in paths:
        with np.load(path, allow_pickle=False) as data:
            parts.append({name: data[name] for name in data.files if visibility or name != "visibility"})
    whole = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    unseen = torch.zeros(1, dtype=torch.int8).expand(*whole["distance"].shape, CHANNELS)
    return Samples(**{"visibility": unseen, **whole})


def prepared(cache: Path) -> list[Path]:
    """The files of samples that `cache` holds.

    Raises:
        InputError: if there are none.
    """
    paths = sorted(cache.glob("samples-*.npz"))
    if not paths:
        raise InputError(f"`cache` {cache} has no samples; prepare some first.")
    return paths


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples as the network takes them."""

    known: Evidence
    latent: Float[Tensor, "b c g g g"]


def batch_of(samples: Samples, rows: Integer[Tensor, "b"], mirrored: bool, settings: CompactSettings) -> Batch:
    """Some samples, or their mirror images (left and right exchanged), on the samples' device."""

    def tensor(values: Tensor, unit: float, across: int | None = None) -> Tensor:
        """`across`: the axis of x."""
        chosen = values[rows].float() / unit
        return chosen.flip(across) if mirrored and across is not None else chosen

    def by_place(values: Tensor, resolution: int) -> Tensor:
        grid = tensor(values, 1).unflatten(2, (resolution, -1))  # x is outermost
        return (grid.flip(2) if mirrored else grid).flatten(2, 3)

    def places(values: Tensor, resolution: int) -> Tensor:
        return by_place(values, resolution) * values.new_tensor([-1.0 if mirrored else 1.0, 1.0])

    scalars = tensor(samples.scalars, 1)
    if mirrored:
        scalars[:, 0] *= -1
    known = Evidence(
        image=tensor(samples.image, 255, across=4),
        visibility=tensor(samples.visibility, QUANTUM, across=1),
        centres=places(samples.centres, settings.tokens),
        parts=places(samples.parts, settings.tokens * settings.colour_patch),
        shares=by_place(samples.shares, settings.tokens),
        scalars=scalars,
    )
    distance = tensor(samples.distance, QUANTUM, across=1)[:, None] * TRUNCATION
    colour = tensor(samples.colour, 255, across=1).movedim(-1, 1)
    return Batch(known, packed(distance, colour, settings))
