"""Points that two photos of a scene share: by SIFT features, and where they are in space once the cameras are known."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float64, UInt8

from scenegen.camera import camera_matrix, rays, transform
from scenegen.records import Intrinsics

MOST = 4000
"""Features of a photo."""
RATIO = 0.8
"""Largest distance of a match over that of the next best one (Lowe 2004)."""
EPIPOLAR_SHARE = 0.004
"""How far from its epipolar line a match may lie, as a share of the longer side of the photo."""
FEWEST = 8
"""Matches that determine a fundamental matrix."""
STILL = 1.0
"""Pixels within which a feature of two photos of one size stands still."""
MANY, MOST_EXPLAINED = 20, 0.5
"""Features that must move, and the share of the others that their motion may explain, for these to be of a background that
stands still before the camera while the rest is turned."""
MIN_ANGLE = np.radians(1.5)
"""Between the rays to a point: below it its distance is not known."""


@dataclass(frozen=True, eq=False)
class SeenFrom:
    """A photo and its camera."""

    image: UInt8[np.ndarray, "h w 3"]
    intrinsics: Intrinsics
    world_from_camera: Float64[np.ndarray, "4 4"]
    """Rigid, OpenCV axes, in one frame and unit for all photos."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Features of two photos that look alike, and that some rigid scene could explain."""

    first: int
    second: int
    pixels: tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, "n 2"]]
    """In the first and in the second photo."""


@dataclass(frozen=True, eq=False)
class Tie:
    """Points seen by two photos, as their cameras put them."""

    first: int
    second: int
    pixels: tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, "n 2"]]
    depths: tuple[Float64[np.ndarray, "n"], Float64[np.ndarray, "n"]]
    """z-depth in either camera, in the unit of the cameras."""
    weak: int
    """Further matches that the cameras explain, but whose distance they do not tell."""


def find_matches(images: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> tuple[Matches, ...]:
    """The matches of every pair of photos that has any: mutually nearest, clearly better than the next, and `agreeing`."""
    described = [_described(image) for image in images]
    found = []
    for first, second in itertools.combinations(range(len(images)), 2):
        (pixels_a, looks_a), (pixels_b, looks_b) = described[first], described[second]
        a, b = _mutual(looks_a, looks_b)
        found.append(Matches(first, second, (pixels_a[a], pixels_b[b])))
    return agreeing(found, images)


def agreeing(found: Sequence[Matches], images: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> tuple[Matches, ...]:
    """Those matches that are `moving` and agree with one fundamental matrix for each two photos, of the pairs that have any."""
    kept = []
    for each, moves in zip(found, moving([each.pixels for each in found]), strict=True):
        first, second = (pixels[moves] for pixels in each.pixels)
        if len(first) < FEWEST:
            continue
        off = EPIPOLAR_SHARE * max(*images[each.first].shape[:2], *images[each.second].shape[:2])
        _, inliers = cv2.findFundamentalMat(first, second, cv2.FM_RANSAC, off, 0.999, 2000)
        if inliers is not None:
            inlier = inliers.ravel().astype(bool)
            kept.append(replace(each, pixels=(first[inlier], second[inlier])))
    return tuple(kept)


def moving(
    pairs: Sequence[tuple[Float64[np.ndarray, "_n 2"], Float64[np.ndarray, "_n 2"]]],
) -> list[Bool[np.ndarray, "_n"]]:
    """Which matches of each two photos are not of what stands still before the camera while the rest is turned, as on a
    turntable: such a background says nothing of where the camera stands as seen from that.

    All, unless in some pair the others agree with each other and not with those: what a camera keeps in its middle, or what is
    very far, stands still as well.
    """
    still = [np.linalg.norm(second - first, axis=1) < STILL for first, second in pairs]
    if any(_turned(*pair, here) for pair, here in zip(pairs, still, strict=True)):
        return [~here for here in still]
    return [np.ones(len(here), bool) for here in still]


def _turned(
    first: Float64[np.ndarray, "n 2"], second: Float64[np.ndarray, "n 2"], still: Bool[np.ndarray, "n"]
) -> bool:
    """Whether the matches that do not stand still move as one rigid thing, and those that do not as a part of it."""
    if np.count_nonzero(still) < FEWEST or np.count_nonzero(~still) < MANY:
        return False
    off = EPIPOLAR_SHARE * float(np.ptp(first, axis=0).max())
    matrix, kept = cv2.findFundamentalMat(first[~still], second[~still], cv2.FM_RANSAC, off, 0.999, 2000)
    if matrix is None or matrix.shape != (3, 3) or np.count_nonzero(kept) < MANY:
        return False
    return bool(np.mean(_from_lines(matrix, first[still], second[still]) < off) < MOST_EXPLAINED)


def among(matches: Sequence[Matches], kept: Sequence[int]) -> tuple[Matches, ...]:
    """The matches of the photos `kept` alone, whose numbers are then their places in it.

    >>> none = np.zeros((0, 2))
    >>> [(each.first, each.second) for each in among([Matches(0, 2, (none, none)), Matches(1, 2, (none, none))], [0, 2])]
    [(0, 1)]
    """
    place = {number: index for index, number in enumerate(kept)}
    return tuple(
        replace(each, first=place[each.first], second=place[each.second])
        for each in matches
        if each.first in place and each.second in place
    )


def save_matches(path: Path, matches: Sequence[Matches]) -> None:
    """Writes matches as `.npz`, as `load_matches` reads them."""
    arrays = {f"{each.first} {each.second}": np.concatenate(each.pixels, axis=1) for each in matches}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def load_matches(path: Path) -> tuple[Matches, ...]:
    """The matches that `save_matches` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        pairs = [(name.split(), archive[name]) for name in archive.files]
    return tuple(Matches(int(a), int(b), (pixels[:, :2], pixels[:, 2:])) for (a, b), pixels in pairs)


def explained(matches: Matches, views: Sequence[SeenFrom]) -> Bool[np.ndarray, "n"]:
    """Which of the matches the cameras of the two photos allow: each feature lies on the other's epipolar line."""
    a, b = views[matches.first], views[matches.second]
    b_from_a = np.linalg.inv(b.world_from_camera) @ a.world_from_camera
    x, y, z = b_from_a[:3, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ b_from_a[:3, :3]
    if np.linalg.norm(b_from_a[:3, 3]) < 1e-9:
        return np.zeros(len(matches.pixels[0]), dtype=bool)
    fundamental = np.linalg.inv(camera_matrix(b.intrinsics)).T @ essential @ np.linalg.inv(camera_matrix(a.intrinsics))
    return _from_lines(fundamental, *matches.pixels) < EPIPOLAR_SHARE * max(a.intrinsics.width, a.intrinsics.height)


def _from_lines(
    fundamental: Float64[np.ndarray, "3 3"], first: Float64[np.ndarray, "n 2"], second: Float64[np.ndarray, "n 2"]
) -> Float64[np.ndarray, "n"]:
    """How far matches lie from each other's epipolar lines, in the photo where they lie farther; pixels."""
    in_a, in_b = (np.column_stack([pixels, np.ones(len(pixels))]) for pixels in (first, second))
    line_b, line_a = in_a @ fundamental.T, in_b @ fundamental
    product = np.abs(np.sum(line_b * in_b, axis=1))
    lengths = (np.linalg.norm(line[:, :2], axis=1) for line in (line_b, line_a))
    return np.maximum(*(product / np.maximum(length, 1e-12) for length in lengths))


def tie_points(matches: Matches, views: Sequence[SeenFrom]) -> Tie:
    """The matches that the cameras explain, each where its two rays pass closest, before both cameras."""
    kept = explained(matches, views)
    a, b = views[matches.first], views[matches.second]
    b_from_a = np.linalg.inv(b.world_from_camera) @ a.world_from_camera
    pixels_a, pixels_b = (pixels[kept] for pixels in matches.pixels)
    ray_a = rays(a.intrinsics, pixels_a)
    ray_b = rays(b.intrinsics, pixels_b) @ b_from_a[:3, :3]  # in the frame of a
    centre = -b_from_a[:3, :3].T @ b_from_a[:3, 3]
    aa, bb, ab = (np.sum(p * q, axis=1) for p, q in ((ray_a, ray_a), (ray_b, ray_b), (ray_a, ray_b)))
    ac, bc = ray_a @ centre, ray_b @ centre
    wide = np.arccos(np.clip(ab / np.sqrt(aa * bb), -1, 1)) > MIN_ANGLE
    below = np.where(wide, aa * bb - ab * ab, 1.0)
    along_a, along_b = (bb * ac - ab * bc) / below, (ab * ac - aa * bc) / below
    middle = (along_a[:, None] * ray_a + centre + along_b[:, None] * ray_b) / 2
    depths_a, depths_b = middle[:, 2], transform(b_from_a, middle)[:, 2]
    told = wide & (along_a > 0) & (along_b > 0) & (depths_a > 0) & (depths_b > 0)
    return Tie(
        matches.first,
        matches.second,
        (pixels_a[told], pixels_b[told]),
        (depths_a[told], depths_b[told]),
        int(np.count_nonzero(~told & ~wide)),
    )


def shared_by(index: int, ties: Sequence[Tie]) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, "n"]]:
    """Where photo `index` sees the points that it shares with others, and their z-depth in it."""
    pixels, depths = [np.zeros((0, 2))], [np.zeros(0)]
    for tie in ties:
        for side, view in enumerate((tie.first, tie.second)):
            if view == index:
                pixels.append(tie.pixels[side])
                depths.append(tie.depths[side])
    return np.concatenate(pixels), np.concatenate(depths)


def at_pixels(picture: np.ndarray, pixels: Float[np.ndarray, "n 2"]) -> np.ndarray:
    """The values of the pixels that hold the points."""
    height, width = picture.shape[:2]
    columns, rows = np.clip(pixels.astype(int), 0, [width - 1, height - 1]).T
    return picture[rows, columns]


def _described(image: UInt8[np.ndarray, "h w 3"]) -> tuple[Float64[np.ndarray, "n 2"], np.ndarray]:
    """Pixels (centres at +0.5) and RootSIFT descriptors."""
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    points, looks = cv2.SIFT_create(nfeatures=MOST, contrastThreshold=0.02).detectAndCompute(grey, None)
    if looks is None:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    rooted = np.sqrt(looks / np.maximum(looks.sum(axis=1, keepdims=True), 1e-9))
    return np.array([point.pt for point in points]) + 0.5, rooted.astype(np.float32)


def _mutual(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the descriptors that are each other's nearest, and clearly nearer than the next."""
    if len(a) < 2 or len(b) < 2:
        return np.zeros(0, int), np.zeros(0, int)
    likeness = a @ b.T  # of unit vectors: distance squared is 2 - 2 likeness
    best = likeness.argmax(axis=1)
    top = np.partition(likeness, -2, axis=1)[:, -2:]
    nearest, next_one = np.sqrt(np.maximum(2 - 2 * top[:, 1], 0)), np.sqrt(np.maximum(2 - 2 * top[:, 0], 0))
    mutual = likeness.argmax(axis=0)[best] == np.arange(len(a))
    kept = np.flatnonzero(mutual & (nearest < RATIO * next_one))
    return kept, best[kept]
