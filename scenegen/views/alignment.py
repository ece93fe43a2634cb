"""How far away each object is, from where several photos show it: nearer or farther, its surface would lie beside it in the
other photos.

An estimated depth map may have each object, and what is around it, a tenth or a third too near or too far, each photo in its
own way. Where two cameras look at an object tells its distance much better, so that is what the depth maps are brought to,
object by object. They only say what the unit of the cameras is, all objects together.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float64
from scipy import ndimage

from scenegen.camera import project, rays, transform, unproject
from scenegen.geometry.fill import nearest_known
from scenegen.geometry.refine import IN_FRONT
from scenegen.ids import BACKGROUND, shows_object
from scenegen.views.agreement import ENOUGH, MOST_CORRECTED
from scenegen.views.features import Tie, at_pixels, shared_by
from scenegen.views.matching import EXACT, Masks, Member

SPAN, STEPS = 3.0, 61
"""In standard deviations of the depth: how much nearer and farther is tried, and in how many steps."""
SAMPLES = 800
"""Pixels of an object."""
MIN_ANGLE = np.radians(10)
"""Between two photos' directions to an object from which on they tell how far it is."""
SEEN_BEFORE_MIDDLE = 0.3
"""How far the middle of an object lies behind what is seen of it, as a share of its width: of a ball 0.35, of a plate less."""
RIM = 2
"""Pixels around an object in which something nearer is looked for."""
COVERED = 0.3
"""Share of an end of what is seen of an object beside which something nearer lies, from which on that end is not the object's."""
SMOOTHED = 0.03
"""Share of the longer side of the photo over which what is between two objects goes from moving with one to the other."""
CORRECTED = 0.03
"""Least uncertainty of a corrected depth: what is between the objects is not measured."""
TRUST = 12
"""Power of the share of an object's surface that lies on it in another photo: a tenth beside it counts a quarter."""


def aligned(
    views: Sequence[Masks], names: Mapping[int, Mapping[int, int]], ties: Sequence[Tie]
) -> tuple[list[Masks], float]:
    """The views with each object at the distance at which all photos show it, and what is around it moved with it; and by what
    factor the cameras were moved apart.

    That factor keeps the objects, in the median, as far away as the depth maps say. Depth that is surer than `EXACT` stays as
    it is, and with it the cameras.

    Args:
        views: at least one.
        names: the id in the scene of every object of every photo, from `same_objects`.
        ties: the points that the photos share.
    """
    told = _told(views, names, ties)
    unit = 0.0
    if told and all(view.uncertainty > EXACT for view in views):
        unit = float(np.median([*told.values()]))
    stretch = np.array([[1.0, 1, 1, np.exp(unit)]] * 3 + [[1.0] * 4])
    apart = [replace(view, world_from_camera=view.world_from_camera * stretch) for view in views]
    return [
        _aligned(
            index,
            apart,
            names,
            {number: log - unit for (view, number), log in told.items() if view == index},
            _floor_points(apart[index], index, ties, unit),
        )
        for index in range(len(views))
    ], float(np.exp(unit))


def _told(views: Sequence[Masks], names: Mapping[int, Mapping[int, int]], ties: Sequence[Tie]) -> dict[Member, float]:
    """By how much, as a logarithm, the depth map of a photo has an object too far, as the cameras have it: the median of what
    the middles of its masks in every two photos say, and the points on it that the photos share."""
    middles = {
        (index, own): middle
        for index, view in enumerate(views)
        for own in names[index]
        if (middle := _middle(view, own)) is not None
    }
    logs: dict[Member, list[float]] = {}
    for a, b in itertools.combinations(middles, 2):
        if a[0] != b[0] and names[a[0]][a[1]] == names[b[0]][b[1]]:
            for member, log in zip((a, b), _depth_over_parallax(middles[a], middles[b]) or (), strict=False):
                logs.setdefault(member, []).append(log)
    for index, view in enumerate(views):
        pixels, ratios = _ratios(view, index, ties)
        owners = at_pixels(view.ids, pixels)
        for own in names[index]:
            if np.count_nonzero(owners == own) >= ENOUGH:
                logs.setdefault((index, own), []).append(float(np.median(ratios[owners == own])))
    return {member: float(np.median(each)) for member, each in logs.items()}


def _ratios(
    view: Masks, index: int, ties: Sequence[Tie]
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, "n"]]:
    """Where a photo sees the shared points, and the logarithms of its depth map over their depth there."""
    pixels, depths = shared_by(index, ties)
    found = at_pixels(view.z, pixels)
    return pixels[found > 0], np.log(found[found > 0] / depths[found > 0])


def _floor_points(
    view: Masks, index: int, ties: Sequence[Tie], unit: float
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, "n"]]:
    """The same of the background, without what lies too far off to be the same points; nothing if it is too few."""
    pixels, ratios = _ratios(view, index, ties)
    kept = (at_pixels(view.ids, pixels) == BACKGROUND) & (np.abs(ratios - unit) < MOST_CORRECTED)
    kept &= np.count_nonzero(kept) >= ENOUGH
    return pixels[kept], ratios[kept] - unit


@dataclass(frozen=True, eq=False)
class _Middle:
    """Where a camera looks at the middle of what it shows of an object."""

    world_from_camera: Float64[np.ndarray, "4 4"]
    ray: Float64[np.ndarray, "3"]
    """Of z-depth 1, in the camera's frame."""
    distance: float
    """z-depth, as the depth map has it."""
    whole: tuple[bool, bool]
    """Whether neither end of it is cut, across and down the photo: by its border, or by something nearer."""

    def line(self) -> Float64[np.ndarray, "3"]:
        """Its ray in the frame of all."""
        return self.world_from_camera[:3, :3] @ self.ray

    def tells(self, other: _Middle) -> bool:
        """Whether it lies right along the line on which a nearer or farther object would lie for the other camera."""
        x, y, z = self.world_from_camera[:3, :3].T @ (other.world_from_camera - self.world_from_camera)[:3, 3]
        across, down = abs(np.array([x, y]) - z * self.ray[:2])
        return self.whole[0 if across > down else 1]


def _middle(view: Masks, number: int) -> _Middle | None:
    """None if no depth of the object is known."""
    points = _points(view, number)
    if not len(points):
        return None
    mask = np.pad(view.ids == number, RIM)
    rows, columns = np.nonzero(mask)
    ends = np.s_[rows.min() - RIM : rows.max() + RIM + 1, columns.min() - RIM : columns.max() + RIM + 1]
    # Beyond the photo's border it goes on.
    z, others = np.pad(view.z, RIM, constant_values=0), np.pad(shows_object(view.ids), RIM, constant_values=True)
    inside = mask[ends]
    around = ndimage.binary_dilation(inside, np.ones((3, 3)), iterations=RIM) & ~inside
    nearer = others[ends] & (z[ends] < (1 - IN_FRONT) * nearest_known(z[ends], inside & (z[ends] > 0)))

    cut = [
        np.count_nonzero((around & nearer)[side]) > COVERED * np.count_nonzero(around[side])
        for side in (np.s_[:, :RIM], np.s_[:, -RIM:], np.s_[:RIM, :], np.s_[-RIM:, :])
    ]
    size = float(np.ptp(np.percentile(points[:, :2], (3, 97), axis=0), axis=0).mean())
    middle = np.array([[(columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2]]) - RIM
    return _Middle(
        view.world_from_camera,
        rays(view.intrinsics, middle)[0],
        float(np.median(points[:, 2])) + SEEN_BEFORE_MIDDLE * size,
        (not any(cut[:2]), not any(cut[2:])),
    )


def _depth_over_parallax(a: _Middle, b: _Middle) -> tuple[float, float] | None:
    """Logarithms of the distances by the depth maps over those by where both cameras look; None if that is in nearly the same
    direction, or if what cuts the object in a photo moved its middle."""
    if not (a.tells(b) and b.tells(a)):
        return None
    line_a, line_b = a.line(), b.line()
    cosine = line_a @ line_b / (np.linalg.norm(line_a) * np.linalg.norm(line_b))
    if np.arccos(np.clip(cosine, -1, 1)) < MIN_ANGLE:
        return None
    between = (b.world_from_camera - a.world_from_camera)[:3, 3]
    along = np.linalg.lstsq(np.column_stack([line_a, -line_b]), between, rcond=None)[0]
    if along.min() <= 0:
        return None
    return float(np.log(a.distance / along[0])), float(np.log(b.distance / along[1]))


def _aligned(
    index: int,
    views: Sequence[Masks],
    names: Mapping[int, Mapping[int, int]],
    told: Mapping[int, float],
    floor: tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, "n"]],
) -> Masks:
    """One of the views with its depth corrected.

    Args:
        index: of the view.
        views: all.
        names: as in `aligned`.
        told: by how much the depth map has its objects too far, where that is told. The others are about as far off as these in
            the median, and where their surface lies on them in the other photos.
        floor: the same of points of the background.
    """
    view = views[index]
    if view.uncertainty <= EXACT:
        return view
    usual = float(np.median([*told.values()])) if told else 0.0
    found = {own: (-log, CORRECTED) for own, log in told.items()}
    steps = np.linspace(-SPAN, SPAN, STEPS)
    for own in names[index].keys() - told.keys():
        points, logs = _points(view, own), view.uncertainty * steps - usual
        weights = np.exp(-0.5 * steps**2)
        for other, theirs in _elsewhere(index, own, names):
            there = np.linalg.inv(views[other].world_from_camera) @ view.world_from_camera
            weights *= [_share(transform(there, points * np.exp(log)), views[other], theirs) ** TRUST for log in logs]
        if len(points) and weights.sum() > 0 and (told or _elsewhere(index, own, names)):
            mean = float(np.average(logs, weights=weights))
            found[own] = mean, float(np.sqrt(np.average((logs - mean) ** 2, weights=weights)))
    if not found:
        return view
    correction, known = np.zeros(view.z.shape, np.float32), np.isin(view.ids, [*found])
    for own, (mean, _) in found.items():
        correction[view.ids == own] = mean
    columns, rows = floor[0].astype(int).T
    correction[rows, columns] = -floor[1]
    # An estimated depth is off alike in neighbouring places: the floor below an object moves with it.
    measured = known.copy()
    measured[rows, columns] = True
    spread_out = nearest_known(correction, measured)
    smooth = cv2.GaussianBlur(spread_out, (0, 0), SMOOTHED * max(correction.shape))
    correction = np.where(known, correction, smooth)
    spread = float(np.sqrt(np.mean([spread**2 for _, spread in found.values()])))
    return replace(view, z=view.z * np.exp(correction), uncertainty=float(np.clip(spread, CORRECTED, view.uncertainty)))


def _elsewhere(index: int, own: int, names: Mapping[int, Mapping[int, int]]) -> list[Member]:
    """The same object in the other photos."""
    name = names[index][own]
    return [
        (other, theirs)
        for other, mapping in names.items()
        for theirs, same in mapping.items()
        if other != index and same == name
    ]


def _points(view: Masks, number: int) -> Float64[np.ndarray, "n 3"]:
    """Points of the visible surface of an object, in the frame of the photo's camera."""
    points = unproject(view.intrinsics, view.z)[(view.ids == number) & (view.z > 0)]
    return points[np.linspace(0, len(points) - 1, min(SAMPLES, len(points))).astype(int)]


def _share(points: Float64[np.ndarray, "n 3"], view: Masks, number: int) -> float:
    """Share of the points (frame of the view's camera) that lie on an object in it, of those that lie on it or on background."""
    ahead = points[points[:, 2] > 1e-6]
    pixels = project(view.intrinsics, ahead) if len(ahead) else np.zeros((0, 2))
    inside = (pixels >= 0).all(axis=1) & (pixels < [view.intrinsics.width, view.intrinsics.height]).all(axis=1)
    ids = at_pixels(view.ids, pixels[inside])
    on = int(np.count_nonzero(ids == number))
    told = on + int(np.count_nonzero(ids == BACKGROUND))
    # Where it is out of the picture or behind something else, nothing is told.
    return (on + 0.01) / (told + 0.01)
