"""One metre for cameras and depth maps: the unit of the cameras from the depth maps, and each depth map corrected by the points
that two photos share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Integer

from scenegen.camera import project, transform, unproject
from scenegen.ids import UNKNOWN
from scenegen.views.features import SeenFrom, Tie, at_pixels

ENOUGH = 12
"""Shared points of a photo, or of an object in it, from which on they tell its distance."""
MOST_CORRECTED = np.log(1.6)
"""Largest correction of one object's depth beside that of its photo: beyond it the points are not the object's."""
MEASURED = 0.02
"""Relative error up to which a depth map is surer than its corrections."""
IS_METRE = 0.03
"""A measured depth this close to the unit of given cameras says that it is the metre."""
SURE = 0.03
"""Least relative error that is taken for a corrected depth: what is between the shared points is not measured."""
SAMPLES = 2000
SPAN, STEPS = 3.0, 121
"""Of the logarithm of the scale that is searched for where photos share no points."""


@dataclass(frozen=True, eq=False)
class DepthOf:
    """The depth map of a photo, as it was found for this photo alone."""

    z: Float32[np.ndarray, "h w"]
    """Metres, 0 where unknown."""
    ids: Integer[np.ndarray, "h w"]
    uncertainty: float


@dataclass(frozen=True, eq=False)
class Agreed:
    """The depth map of a photo in the metres of all."""

    z: Float32[np.ndarray, "h w"]
    uncertainty: float


def metres_per_unit(depths: Sequence[DepthOf], ties: Sequence[Tie], views: Sequence[SeenFrom]) -> float:
    """How many metres one unit of the cameras is, as the depth maps have it: the weighted median of what each says.

    Where the photos share too few points, the factor at which the depth maps agree best when one is seen from the other.
    """
    logs, weights = [], []
    for index, depth in enumerate(depths):
        ratios = _log_ratios(index, depth, ties)[0]
        if len(ratios) >= ENOUGH:
            logs.append(float(np.median(ratios)))
            weights.append(min(len(ratios), 100) / max(depth.uncertainty, SURE) ** 2)
    if not logs:
        return _by_overlap(depths, views)
    order = np.argsort(logs)
    total = np.cumsum(np.array(weights)[order])
    return float(np.exp(logs[order[np.searchsorted(total, total[-1] / 2)]]))


def agreed(index: int, depth: DepthOf, ties: Sequence[Tie], unit: float) -> Agreed:
    """The depth map of photo `index` corrected by the points that it shares: as a whole, and each object by its own points.

    A measured depth map stays as it is.

    Args:
        index: of the photo.
        depth: its depth map.
        ties: of all photos, in the unit of the cameras.
        unit: metres per unit.
    """
    if depth.uncertainty <= MEASURED:
        return Agreed(depth.z, depth.uncertainty)
    ratios, pixels = _log_ratios(index, depth, ties)
    if len(ratios) < ENOUGH:
        return Agreed(depth.z, depth.uncertainty)
    ratios = ratios - np.log(unit)  # how much too far
    whole = float(np.median(ratios))
    owners = at_pixels(depth.ids, pixels)
    correction = np.full(depth.z.shape, whole, np.float32)
    corrected = np.zeros(depth.z.shape, bool)
    for number in np.unique(owners):
        mine = ratios[owners == number]
        if number == UNKNOWN or len(mine) < ENOUGH:
            continue
        here = depth.ids == number
        correction[here] = whole + np.clip(np.median(mine) - whole, -MOST_CORRECTED, MOST_CORRECTED)
        corrected |= here
    left = ratios - at_pixels(correction, pixels)
    spread = max(1.4826 * float(np.median(np.abs(left))), SURE)
    share = float(corrected[depth.z > 0].mean())
    uncertainty = float(np.sqrt(share * spread**2 + (1 - share) * depth.uncertainty**2))
    return Agreed((depth.z * np.exp(-correction)).astype(np.float32), min(uncertainty, depth.uncertainty))


def _log_ratios(
    index: int, depth: DepthOf, ties: Sequence[Tie]
) -> tuple[Float64[np.ndarray, "n"], Float64[np.ndarray, "n 2"]]:
    """Logarithms of the depth map over the depth of the shared points, and where they are seen."""
    pixels, told = [np.zeros((0, 2))], [np.zeros(0)]
    for tie in ties:
        for side, view in enumerate((tie.first, tie.second)):
            if view == index:
                pixels.append(tie.pixels[side])
                told.append(tie.depths[side])
    at, true = np.concatenate(pixels), np.concatenate(told)
    found = at_pixels(depth.z, at)
    known = found > 0
    return np.log(found[known] / true[known]), at[known]


def _by_overlap(depths: Sequence[DepthOf], views: Sequence[SeenFrom]) -> float:
    """The unit at which what one depth map shows lies where another one shows it; 1 if nothing tells."""
    scales = np.linspace(-SPAN, SPAN, STEPS)
    misses = np.zeros(STEPS)
    for a, b in ((a, b) for a in range(len(views)) for b in range(len(views)) if a != b):
        known = np.flatnonzero(depths[a].z.ravel() > 0)
        chosen = known[np.linspace(0, len(known) - 1, min(SAMPLES, len(known))).astype(int)]
        points = unproject(views[a].intrinsics, depths[a].z.astype(np.float64)).reshape(-1, 3)[chosen]
        b_from_a = np.linalg.inv(views[b].world_from_camera) @ views[a].world_from_camera
        for step, scale in enumerate(scales):
            there = transform(_stretched(b_from_a, float(np.exp(scale))), points)
            misses[step] += _miss(there, depths[b].z, views[b])
    best = int(misses.argmin())
    return 1.0 if misses.min() == misses.max() else float(np.exp(scales[best]))


def _stretched(matrix: Float64[np.ndarray, "4 4"], scale: float) -> Float64[np.ndarray, "4 4"]:
    moved = matrix.copy()
    moved[:3, 3] *= scale
    return moved


def _miss(points: Float[np.ndarray, "n 3"], z: Float32[np.ndarray, "h w"], view: SeenFrom) -> float:
    """Mean capped distance, in logarithms of depth, of points (camera frame) from a depth map; what is not seen counts fully."""
    off = np.ones(len(points))
    ahead = points[:, 2] > 1e-6
    pixels = np.full((len(points), 2), -1.0)
    pixels[ahead] = project(view.intrinsics, points[ahead])
    inside = ahead & (pixels >= 0).all(axis=1) & (pixels < [view.intrinsics.width, view.intrinsics.height]).all(axis=1)
    found = at_pixels(z, pixels[inside])
    known = found > 0
    errors = np.abs(np.log(points[inside, 2][known] / found[known]))
    off[np.flatnonzero(inside)[known]] = np.minimum(errors / 0.2, 1)
    return float(off.mean())
