"""One metre for cameras and depth maps: the unit of the cameras from the depth maps, and each depth map corrected by the points
that two photos share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Integer

from scenegen.camera import project, transform, unproject
from scenegen.ids import UNKNOWN, shows_object
from scenegen.records import Intrinsics
from scenegen.views.features import SeenFrom, Tie, at_pixels, shared_by

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
SPAN, STEPS, FINER = 3.0, 121, 11
"""Of the logarithm of the scale that is searched for where photos share no points, and the steps around the best of them."""
TOLD = 0.5
"""A scale is judged by the points that other photos then show: by at least this share of the most that they show at any scale."""
OFF = 0.2
"""Logarithm of depths from which on a point lies somewhere else than the other photo shows."""
INERTIA = 0.02
"""What a factor of e in the unit costs, in shares of points that are off: of a bare floor, all scales show the same."""
CLEARLY, HIDING = 6 * MEASURED, 0.1
"""How far before what another photo shows a point of measured depth contradicts it, and the share that may: those at outlines
do."""


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


def metres_per_unit(
    depths: Sequence[DepthOf], ties: Sequence[Tie], views: Sequence[SeenFrom], metric: bool = False
) -> float:
    """How many metres one unit of the cameras is, as the depth maps have it: the weighted median of what each says.

    Where the photos share too few points, the factor at which the depth maps agree best when one is seen from the other.

    Args:
        depths: of each photo.
        ties: the points that the photos share.
        views: the photos and their cameras.
        metric: whether the unit is the metre unless measured depth contradicts it, as that of given cameras.
    """
    metric = metric and all(depth.uncertainty <= MEASURED for depth in depths)
    logs, weights = [], []
    for index, depth in enumerate(depths):
        ratios = _log_ratios(index, depth, ties)[0]
        if len(ratios) >= ENOUGH:
            logs.append(float(np.median(ratios)))
            weights.append(min(len(ratios), 100) / max(depth.uncertainty, SURE) ** 2)
    if not logs:
        return _by_overlap(depths, views, metric)
    order = np.argsort(logs)
    total = np.cumsum(np.array(weights)[order])
    found = float(logs[order[np.searchsorted(total, total[-1] / 2)]])
    return 1.0 if metric and abs(found) < IS_METRE else float(np.exp(found))


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
    # What is around the objects says little of how far they are.
    telling = (depth.z > 0) & (shows_object(depth.ids) if shows_object(depth.ids).any() else True)
    share = float(corrected[telling].mean())
    uncertainty = float(np.sqrt(share * spread**2 + (1 - share) * depth.uncertainty**2))
    return Agreed((depth.z * np.exp(-correction)).astype(np.float32), min(uncertainty, depth.uncertainty))


def _log_ratios(
    index: int, depth: DepthOf, ties: Sequence[Tie]
) -> tuple[Float64[np.ndarray, "n"], Float64[np.ndarray, "n 2"]]:
    """Logarithms of the depth map over the depth of the shared points, and where they are seen."""
    at, true = shared_by(index, ties)
    found = at_pixels(depth.z, at)
    known = found > 0
    return np.log(found[known] / true[known]), at[known]


def _by_overlap(depths: Sequence[DepthOf], views: Sequence[SeenFrom], metric: bool) -> float:
    """The unit at which what one depth map shows lies where another one shows it; 1 if nothing tells.

    Objects tell, if there are any: a floor lies on itself wherever the cameras stand.

    Args:
        depths: of each photo.
        views: their cameras.
        metric: whether it is 1 unless points of one photo would hide what another one shows.
    """
    pairs = [_Pair.of(a, b, depths, views) for a in range(len(views)) for b in range(len(views)) if a != b]
    scales = np.linspace(-SPAN, SPAN, STEPS)
    errors = [_errors(pairs, scale) for scale in scales]
    counts = np.array([len(each) for each in errors])
    enough = max(ENOUGH, TOLD * counts.max())
    same = STEPS // 2
    kept = metric and counts[same] >= enough and np.mean(errors[same] < -CLEARLY) <= HIDING
    if kept or counts.max() < enough:
        return 1.0
    costs = [_cost(each, scale, enough) for each, scale in zip(errors, scales, strict=True)]
    near = scales[int(np.argmin(costs))] + np.linspace(-1, 1, FINER) * (scales[1] - scales[0])
    costs = [_cost(_errors(pairs, scale), scale, enough) for scale in near]
    return float(np.exp(near[int(np.argmin(costs))]))


def _cost(errors: Float64[np.ndarray, "n"], scale: float, enough: float) -> float:
    """Share of points that are off at the logarithm of a scale; infinite if too few are seen."""
    if len(errors) < enough:
        return float("inf")
    return float(np.minimum(np.abs(errors) / OFF, 1).mean()) + INERTIA * abs(scale)


@dataclass(frozen=True, eq=False)
class _Pair:
    """Points of one photo, and another one that may show them."""

    points: Float64[np.ndarray, "n 3"]
    """In the frame of the first camera."""
    second_from_first: Float64[np.ndarray, "4 4"]
    z: Float32[np.ndarray, "h w"]
    camera: Intrinsics
    """Of the second."""

    @staticmethod
    def of(a: int, b: int, depths: Sequence[DepthOf], views: Sequence[SeenFrom]) -> _Pair:
        known = depths[a].z.ravel() > 0
        on_objects = known & shows_object(depths[a].ids).ravel()
        telling = np.flatnonzero(on_objects if on_objects.any() else known)
        chosen = telling[np.linspace(0, len(telling) - 1, min(SAMPLES, len(telling))).astype(int)]
        return _Pair(
            unproject(views[a].intrinsics, depths[a].z.astype(np.float64)).reshape(-1, 3)[chosen],
            np.linalg.inv(views[b].world_from_camera) @ views[a].world_from_camera,
            depths[b].z,
            views[b].intrinsics,
        )


def _errors(pairs: Sequence[_Pair], scale: float) -> Float64[np.ndarray, "n"]:
    """Logarithms of the depths of points over what the other photo shows where it sees them, its place stretched by a factor.

    A point that it does not see says nothing: a scale is not better because more points are in view.
    """
    found = []
    for pair in pairs:
        moved = pair.second_from_first.copy()
        moved[:3, 3] *= np.exp(scale)
        there = transform(moved, pair.points)
        there = there[there[:, 2] > 1e-6]
        pixels = project(pair.camera, there) if len(there) else np.zeros((0, 2))
        inside = (pixels >= 0).all(axis=1) & (pixels < [pair.camera.width, pair.camera.height]).all(axis=1)
        shown = at_pixels(pair.z, pixels[inside])
        found.append(np.log(there[inside, 2][shown > 0] / shown[shown > 0]))
    return np.concatenate(found)
