"""How far away each object is, from where several photos show it: nearer or farther, its surface would lie beside it in the
other photos."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Float64

from scenegen.camera import project, rays, transform, unproject
from scenegen.geometry.fill import nearest_known
from scenegen.ids import BACKGROUND
from scenegen.views.features import at_pixels
from scenegen.views.matching import EXACT, Masks

SPAN, STEPS = 3.0, 61
"""In standard deviations of the depth: how much nearer and farther is tried, and in how many steps."""
SAMPLES = 800
"""Pixels of an object."""
MIN_ANGLE = np.radians(10)
"""Between two photos' directions to an object from which on they tell how far it is."""
SEEN_BEFORE_MIDDLE = 0.25
"""How far the middle of an object lies behind what is seen of it, as a share of its width."""
SMOOTHED = 0.03
"""Share of the longer side of the photo over which what is between two objects goes from moving with one to the other."""
CORRECTED = 0.03
"""Least uncertainty of a corrected depth: what is between the objects is not measured."""
TRUST = 12
"""Power of the share of an object's surface that lies on it in another photo: a tenth beside it counts a quarter."""


def rescaled_cameras(views: Sequence[Masks], names: Mapping[int, Mapping[int, int]]) -> float:
    """By how much the cameras must move apart for the objects to be as far away as the depth maps say: the median over pairs of
    photos that show an object whole. 1 if there is none, or if all depth is measured, which is surer than the middles of masks.

    The middles of an object's masks in two photos say where it is without any depth.
    """
    if all(view.uncertainty <= EXACT for view in views):
        return 1.0
    logs = []
    for first, second in itertools.combinations(range(len(views)), 2):
        for own, name in names[first].items():
            theirs = next((number for number, same in names[second].items() if same == name), None)
            if theirs is not None:
                logs += _depth_over_parallax(views[first], own, views[second], theirs)
    return float(np.exp(np.median(logs))) if logs else 1.0


def _depth_over_parallax(a: Masks, own: int, b: Masks, theirs: int) -> list[float]:
    """Logarithm of the distance by the depth maps over that by where both cameras look at an object; nothing if it is cut or both
    look in nearly the same direction."""
    middles, distances = [], []
    for view, number in ((a, own), (b, theirs)):
        rows, columns = np.nonzero(view.ids == number)
        if (
            min(rows.min(), columns.min()) == 0
            or rows.max() == len(view.ids) - 1
            or columns.max() == view.ids.shape[1] - 1
        ):
            return []
        points = _points(view, number)
        if not len(points):
            return []
        size = float(np.ptp(np.percentile(points[:, :2], (3, 97), axis=0), axis=0).mean())
        middle = np.array([[(columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2]])
        direction = rays(view.intrinsics, middle)[0] @ view.world_from_camera[:3, :3].T
        middles.append((view.world_from_camera[:3, 3], direction))
        distances.append(float(np.median(points[:, 2])) + SEEN_BEFORE_MIDDLE * size)
    (from_a, ray_a), (from_b, ray_b) = middles
    cosine = ray_a @ ray_b / (np.linalg.norm(ray_a) * np.linalg.norm(ray_b))
    if np.arccos(np.clip(cosine, -1, 1)) < MIN_ANGLE:
        return []
    along = np.linalg.lstsq(np.column_stack([ray_a, -ray_b]), from_b - from_a, rcond=None)[0]
    return [float(np.log(d / z)) for d, z in zip(distances, along, strict=True) if z > 0]


def aligned(views: Sequence[Masks], names: Mapping[int, Mapping[int, int]]) -> list[Masks]:
    """The views with each object at the distance at which it lies on itself in the others, and what is around it moved with it.

    A depth that is surer than `EXACT` stays as it is.

    Args:
        views: at least one.
        names: the id in the scene of every object of every photo, from `same_objects`.
    """
    return [_aligned(index, views, names) for index in range(len(views))]


def _aligned(index: int, views: Sequence[Masks], names: Mapping[int, Mapping[int, int]]) -> Masks:
    view = views[index]
    if view.uncertainty <= EXACT:
        return view
    logs = np.linspace(-SPAN, SPAN, STEPS) * view.uncertainty
    found: dict[int, tuple[float, float]] = {}
    for own, name in names[index].items():
        elsewhere = [
            (views[other], theirs)
            for other, mapping in names.items()
            for theirs, same in mapping.items()
            if other != index and same == name
        ]
        points = _points(view, own)
        weights = np.exp(-0.5 * (logs / view.uncertainty) ** 2)
        for other, theirs in elsewhere:
            there = np.linalg.inv(other.world_from_camera) @ view.world_from_camera
            weights *= [_share(transform(there, points * np.exp(log)), other, theirs) ** TRUST for log in logs]
        if elsewhere and len(points) and weights.sum() > 0:
            mean = float(np.average(logs, weights=weights))
            found[own] = mean, float(np.sqrt(np.average((logs - mean) ** 2, weights=weights)))
    if not found:
        return view
    correction = np.zeros(view.z.shape, np.float32)
    for own, (mean, _) in found.items():
        correction[view.ids == own] = mean
    # An estimated depth is off alike in neighbouring places: the floor below an object moves with it.
    known = np.isin(view.ids, [*found])
    spread_out = nearest_known(correction, known)
    smooth = cv2.GaussianBlur(spread_out, (0, 0), SMOOTHED * max(correction.shape))
    correction = np.where(known, correction, smooth)
    spread = float(np.sqrt(np.mean([spread**2 for _, spread in found.values()])))
    return replace(view, z=view.z * np.exp(correction), uncertainty=float(np.clip(spread, CORRECTED, view.uncertainty)))


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
