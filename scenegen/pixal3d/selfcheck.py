"""Checks that an object lies on the pixels it came from, and generates it again if it does not.

A wrong scale or field of view gives a mesh that looks whole and is in the wrong place; only its silhouette tells.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scenegen.errors import InputError, UsageError
from scenegen.messages.remarks import note
from scenegen.pixal3d.projection import distance_from_fov, focal_pixels
from scenegen.pixal3d.silhouette import silhouette
from scenegen.records import Intrinsics
from scenegen.scene.scoring import intersection_over_union

logger = logging.getLogger(__name__)

LEAST_IOU = 0.85
LARGEST_SIZE_ERROR = 0.05
SEEDS = 2
"""Seeds tried before the field of view is doubted."""
SEED_STEP, SEED_COUNT = 1_000_003, 2**53
"""Step between these seeds, far from the next ones a user may try; seeds stay below the largest integer that JSON keeps."""
FOV_FACTORS = (0.8, 1.25, 0.6, 1.6)
"""Fields of view tried after that, as multiples of the given one."""
ATTEMPTS = SEEDS + len(FOV_FACTORS)
"""Largest number of attempts at one object."""

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Surface:
    """A mesh in the latent frame: cube [-0.5, 0.5]^3, x right, y up, z towards the camera. It is checked on its device."""

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]


@dataclass(frozen=True)
class Quality:
    """How well a generated object agrees with its mask."""

    silhouette_iou: float
    size_ratio: float
    """Larger side of the silhouette's box over that of the mask's."""

    @property
    def rank(self) -> tuple[bool, float]:
        """Sort key of attempts: larger is better."""
        return self.good, self.silhouette_iou

    @property
    def good(self) -> bool:
        """Whether it passes the check."""
        return self.silhouette_iou >= LEAST_IOU and abs(self.size_ratio - 1) <= LARGEST_SIZE_ERROR


@dataclass(frozen=True)
class Attempt(Generic[Made]):
    """One attempt and its result."""

    seed: int
    fov: float
    """Horizontal field of view, in radians."""
    made: Made
    quality: Quality


def measure(
    surface: Surface, mask: Bool[np.ndarray, "s s"], fov: float, hidden: Bool[np.ndarray, "s s"] | None = None
) -> Quality:
    """The surface's silhouette against `mask`, through the camera it was generated with.

    Args:
        surface: in the latent frame.
        mask: the object in the square picture it was generated from.
        fov: horizontal field of view of that picture, in radians.
        hidden: pixels where the object may be without being seen; they are not counted.
    """
    # Latent to camera: y and z change sign, and the cube's centre lies ahead.
    camera_from_latent = np.diag([1.0, -1.0, -1.0, 1.0])
    camera_from_latent[2, 3] = distance_from_fov(fov)
    return measure_through(surface, mask, fov, camera_from_latent, hidden)


def measure_through(
    surface: Surface,
    mask: Bool[np.ndarray, "s s"],
    fov: float,
    camera_from_latent: Float[np.ndarray, "4 4"],
    hidden: Bool[np.ndarray, "s s"] | None = None,
) -> Quality:
    """`measure` through any camera (OpenCV: x right, y down, z forward), its principal point in the middle."""
    wanted = _extent(mask)
    if not len(surface.faces) or not wanted:
        return Quality(0.0, 0.0)
    size, focal = mask.shape[0], focal_pixels(fov, mask.shape[0])
    camera = Intrinsics(width=size, height=size, fx=focal, fy=focal, cx=size / 2, cy=size / 2)
    pose = torch.as_tensor(camera_from_latent, dtype=surface.vertices.dtype, device=surface.vertices.device)
    found = silhouette(surface.vertices @ pose[:3, :3].T + pose[:3, 3], surface.faces, camera).cpu().numpy()
    if hidden is not None:
        found &= mask | ~hidden
    ratio = _extent(found) / wanted
    return Quality(round(intersection_over_union(found, mask), 4), round(ratio, 4))


def generate_checked(
    make: Callable[[int, float], Made],
    surface_of: Callable[[Made], Surface],
    mask: Bool[np.ndarray, "s s"],
    fov: float,
    seed: int,
    attempts: int = ATTEMPTS,
    hidden: Bool[np.ndarray, "s s"] | None = None,
) -> tuple[Attempt[Made], tuple[str, ...]]:
    """The first attempt that passes the check, or else the best one.

    Other seeds are tried first, then other fields of view. Only the best attempt is kept meanwhile.

    Args:
        make: generates something from a seed and a field of view in radians. An attempt fails if this raises `InputError`.
        surface_of: the surface of what `make` made.
        mask: the object in the square picture.
        fov: the expected field of view, in radians.
        seed: the first seed.
        attempts: largest number of attempts, 1 to `ATTEMPTS`.
        hidden: pixels where the object may be without being seen; they are not counted.

    Returns:
        - the attempt.
        - **warnings**: what was tried, if the first attempt did not pass.

    Raises:
        UsageError: for another number of attempts.
        InputError: the last one, if every attempt failed.
    """
    if not 1 <= attempts <= ATTEMPTS:
        raise UsageError(f"`attempts` is {attempts}; allowed: 1 to {ATTEMPTS}.")
    best: Attempt[Made] | None = None
    failure: InputError | None = None
    tried = 0
    for next_seed, next_fov in islice(_plan(seed, fov), attempts):
        tried += 1
        try:
            made = make(next_seed, next_fov)
        except InputError as error:
            logger.info("seed %d, field of view %.1f degrees: %s", next_seed, np.degrees(next_fov), error)
            failure = error
            continue
        attempt = Attempt(next_seed, next_fov, made, measure(surface_of(made), mask, next_fov, hidden))
        logger.info(
            "seed %d, field of view %.1f degrees: silhouette IoU %.3f, size ratio %.3f",
            next_seed,
            np.degrees(next_fov),
            attempt.quality.silhouette_iou,
            attempt.quality.size_ratio,
        )
        if best is None or attempt.quality.rank > best.quality.rank:
            best = attempt
        del made, attempt  # a decoded surface may take gigabytes
        if best.quality.good:
            break
    if best is None:
        assert failure is not None
        raise failure
    if tried == 1 and best.quality.good:
        return best, ()
    good = best.quality.good
    outcome = "passes" if good else "is the best, but does not pass"
    remark = (
        f"{tried} attempts were made; the one with seed {best.seed} and a field of view of {np.degrees(best.fov):.1f} "
        f"degrees {outcome}: silhouette IoU {best.quality.silhouette_iou:.3f} (at least {LEAST_IOU}), size ratio "
        f"{best.quality.size_ratio:.3f} (within {LARGEST_SIZE_ERROR:.0%})."
    )
    return best, (note(remark) if good else f"{remark} Try another seed: scenegen regenerate.",)


def _plan(seed: int, fov: float) -> Iterator[tuple[int, float]]:
    for offset in range(SEEDS):
        yield (seed + offset * SEED_STEP) % SEED_COUNT, fov
    for factor in FOV_FACTORS:
        if fov * factor < np.pi * 0.9:
            yield seed, fov * factor


def _extent(mask: Bool[np.ndarray, "s s"]) -> int:
    rows, columns = np.nonzero(mask)
    return int(max(np.ptp(rows), np.ptp(columns))) + 1 if len(rows) else 0
