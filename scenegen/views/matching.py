"""Which objects of several photos are the same: by where their pixels lie seen from the other camera, by the points that two
photos share, and by their colours where those do not tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float64, Integer, UInt8
from scipy.optimize import linear_sum_assignment

from scenegen.camera import project, rays, transform
from scenegen.ids import object_ids
from scenegen.records import Intrinsics
from scenegen.views.features import Tie, at_pixels

SAMPLES = 1500
"""Pixels of an object that are looked at from another camera."""
EXACT = 0.02
"""Relative error of a depth below which pixels are taken to lie where it says."""
SHIFTS = (0.0, -1.0, 1.0, -2.0, 2.0)
"""In standard deviations of the depth: an object as a whole may be that far nearer or farther."""
SHIFT_COST = 0.05
"""What each of them costs."""
TOLD = 12
"""Shared points of a photo from which on they have corrected its depth."""
FACTORS = (0.35, 0.5, 0.7, 1.4, 2.0, 2.8)
"""By which the depth of a photo as a whole may be off."""
VOTES = 5
"""Shared points of an object from which on they count."""
SAME = 0.35
"""Likeness, 0..1, from which on two objects are the same."""
COLOUR_BINS = (4, 8, 8)
"""Of lightness and the two colour axes of Lab."""


@dataclass(frozen=True, eq=False)
class Masks:
    """The objects of a photo whose camera is known."""

    image: UInt8[np.ndarray, "h w 3"]
    ids: Integer[np.ndarray, "h w"]
    z: Float64[np.ndarray, "h w"]
    """Metres, 0 where unknown."""
    uncertainty: float
    """Of the depth, relative."""
    intrinsics: Intrinsics
    world_from_camera: Float64[np.ndarray, "4 4"]
    drawn: bool
    """Whether the user drew the masks: then their ids mean the same in all photos with drawn masks."""


Member = tuple[int, int]
"""An object in a photo: number of the photo, id in it."""


def same_objects(views: Sequence[Masks], ties: Sequence[Tie]) -> dict[int, dict[int, int]]:
    """The id in the scene of every object of every photo: by photo, from its id there.

    Ids of the first photo stay as they are. Of one photo, no two objects are the same.
    """
    found: dict[int, list[Member]] = {number: [(0, number)] for number in object_ids(views[0].ids)}
    for index in range(1, len(views)):
        mine = object_ids(views[index].ids)
        chosen: dict[int, int] = {}
        if views[index].drawn:
            drawn = {n: k for k, members in found.items() for view, n in members if views[view].drawn}
            chosen = {number: drawn[number] for number in mine if number in drawn}
        open_ids = [number for number in mine if number not in chosen]
        known = [
            k
            for k, members in found.items()
            if k not in chosen.values() and not (views[index].drawn and any(views[view].drawn for view, _ in members))
        ]
        if open_ids and known:
            likeness = _likeness(views, ties, [found[k] for k in known], index, open_ids)
            for row, column in _assigned(likeness):
                chosen[open_ids[row]] = known[column]
        for number in mine:
            name = chosen.get(number)
            if name is None:
                wanted = number if views[index].drawn and number not in found else max(found, default=0) + 1
                name = wanted
            found.setdefault(name, []).append((index, number))
    return {
        index: {n: k for k, members in found.items() for view, n in members if view == index}
        for index in range(len(views))
    }


def _likeness(
    views: Sequence[Masks], ties: Sequence[Tie], known: Sequence[Sequence[Member]], index: int, numbers: Sequence[int]
) -> Float64[np.ndarray, "m k"]:
    """How likely each object of a photo is one of those that are known from others.

    The estimated depth of a photo may be too near or too far as a whole, above all that of a cut-out, and shared points may not
    tell. If some objects then find none, the factor counts at which the photo's objects lie best on the others.
    """

    def at(factor: float) -> Float64[np.ndarray, "m k"]:
        scaled = [replace(v, z=factor * v.z) if number == index else v for number, v in enumerate(views)]
        return np.array(
            [[max(_alike(scaled, ties, each, (index, n)) for each in members) for members in known] for n in numbers]
        )

    found = at(1.0)
    shared = sum(len(tie.depths[0]) for tie in ties if index in (tie.first, tie.second))
    sure = views[index].uncertainty <= EXACT or shared >= TOLD
    if sure or len(_assigned(found)) == min(found.shape):
        return found
    tried = [found, *(at(factor) for factor in FACTORS)]
    return max(tried, key=lambda each: sum(each[pair] for pair in _assigned(each)))


def _assigned(likeness: Float64[np.ndarray, "m k"]) -> list[tuple[int, int]]:
    """The rows and columns that belong together: each at most once, and none that are too unlike."""
    pairs = zip(*linear_sum_assignment(-likeness), strict=True)
    return [(int(row), int(column)) for row, column in pairs if likeness[row, column] >= SAME]


def best_views(areas: Sequence[Mapping[int, int]], cut: Sequence[Mapping[int, bool]]) -> dict[int, int]:
    """The view that each object is made from: the one that shows most of it, preferably not cut by the border of the photo.

    The first view is preferred where others show little more, because the scene is laid out in it.

    Args:
        areas: visible pixels of every object, in each view.
        cut: whether the border of the photo cuts it there.
    """
    marks: dict[int, list[tuple[float, int]]] = {}
    for index, (area, border) in enumerate(zip(areas, cut, strict=True)):
        for number, pixels in area.items():
            mark = pixels * (0.4 if border[number] else 1.0) * (1.4 if index == 0 else 1.0)
            marks.setdefault(number, []).append((mark, -index))
    return {number: -max(each)[1] for number, each in sorted(marks.items())}


def _alike(views: Sequence[Masks], ties: Sequence[Tie], a: Member, b: Member) -> float:
    """How likely two objects of two photos are the same, 0..1."""
    overlap = (_lands_on(views, a, b) + _lands_on(views, b, a)) / 2
    votes, others = _votes(views, ties, a, b)
    if votes + others >= VOTES:
        return 0.6 * votes / (votes + others) + 0.4 * overlap
    return 0.7 * overlap + 0.3 * _colour_likeness(views, a, b)


def _lands_on(views: Sequence[Masks], a: Member, b: Member) -> float:
    """Share of the pixels of `a` that lie on `b` seen from its camera, of those that are in view there and not hidden."""
    here, there = views[a[0]], views[b[0]]
    rows, columns = np.nonzero((here.ids == a[1]) & (here.z > 0))
    if not len(rows):
        return 0.0
    chosen = np.linspace(0, len(rows) - 1, min(SAMPLES, len(rows))).astype(int)
    rows, columns = rows[chosen], columns[chosen]
    points = rays(here.intrinsics, np.column_stack([columns, rows]) + 0.5) * here.z[rows, columns, None]
    size = float(np.ptp(np.percentile(points, (3, 97), axis=0), axis=0).max())
    b_from_a = np.linalg.inv(there.world_from_camera) @ here.world_from_camera
    shifts = SHIFTS if here.uncertainty > EXACT else (0.0,)
    return max(
        _share_on(transform(b_from_a, points * np.exp(shift * here.uncertainty)), size, there, b[1])
        - SHIFT_COST * abs(shift)
        for shift in shifts
    )


def _share_on(points: Float64[np.ndarray, "n 3"], size: float, view: Masks, number: int) -> float:
    ahead = points[points[:, 2] > 1e-6]
    if not len(ahead):
        return 0.0
    pixels = project(view.intrinsics, ahead)
    inside = (pixels >= 0).all(axis=1) & (pixels < [view.intrinsics.width, view.intrinsics.height]).all(axis=1)
    if np.count_nonzero(inside) < 0.1 * len(points):
        return 0.0
    ids, z = at_pixels(view.ids, pixels[inside]), at_pixels(view.z, pixels[inside])
    behind = ahead[inside, 2] - z
    # What lies on the object may be its far side, seen from here through it.
    near = size + 2 * view.uncertainty * z
    on = (ids == number) & ((z == 0) | (np.abs(behind) < near))
    hidden = (ids != number) & (z > 0) & (behind > 2 * max(view.uncertainty, EXACT) * z)
    told = np.count_nonzero(~hidden)
    return float(np.count_nonzero(on) / told) if told >= 0.05 * len(points) else 0.0


def _votes(views: Sequence[Masks], ties: Sequence[Tie], a: Member, b: Member) -> tuple[int, int]:
    """Shared points that lie on both objects, and those that lie on one of them and on another object."""
    for tie in ties:
        if {tie.first, tie.second} == {a[0], b[0]}:
            first, second = (a, b) if tie.first == a[0] else (b, a)
            on_a = at_pixels(views[first[0]].ids, tie.pixels[0]) == first[1]
            on_b = at_pixels(views[second[0]].ids, tie.pixels[1]) == second[1]
            return int(np.count_nonzero(on_a & on_b)), int(np.count_nonzero(on_a ^ on_b))
    return 0, 0


def _colour_likeness(views: Sequence[Masks], a: Member, b: Member) -> float:
    """Intersection of the colour histograms of two objects, 0..1."""
    shares = []
    for index, number in (a, b):
        lab = cv2.cvtColor(np.ascontiguousarray(views[index].image), cv2.COLOR_RGB2LAB)[views[index].ids == number]
        counts, _ = np.histogramdd(lab, bins=COLOUR_BINS, range=[(0, 256)] * 3)
        shares.append(counts / max(counts.sum(), 1))
    return float(np.minimum(*shares).sum())
