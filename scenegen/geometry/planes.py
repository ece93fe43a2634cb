"""Planes in depth maps."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float

from scenegen.camera import rays
from scenegen.compute.recent import reused
from scenegen.records import Intrinsics

MISSED = 1e-3
"""Chance that no draw lies on the largest plane."""
FIRST_DRAWS = 64
"""Draws of the first round; each later round makes twice as many."""
MOST_DRAWS = 400_000
"""Enough for a plane of 3 % of the points at a chance of `MISSED`."""
AGREE = float(np.cos(np.radians(30)))
"""Least |cosine| between a plane and the normal of a point on it."""
WINDOW = 0.012
"""Side of the window a normal is taken over, as a share of the picture's longer side."""

DEPTHS = 4
"""Depth maps whose normals are kept, for photos of which most stays as it was."""


@dataclass(frozen=True, eq=False)
class Plane:
    """The plane normal . X + offset = 0, and which points lie on it."""

    normal: Float[np.ndarray, "3"]
    """Unit; its sign is arbitrary."""
    offset: float
    near: Bool[np.ndarray, "n"]
    """Points within the threshold, whatever their normal."""


@reused(DEPTHS)
def depth_normals(depth: Float[np.ndarray, "h w"], camera: Intrinsics) -> Float[np.ndarray, "h w 3"]:
    """Unit normals of the surface that a z-depth map shows, camera frame, facing the camera; 0 where nothing is known.

    On a plane the inverse depth is linear in the pixel: n . r = -d / z for the ray r = ((u - cx) / fx, (v - cy) / fy, 1).
    Its slopes are differences of means over windows, of the pixels whose depth is known (positive), so that noise and
    holes matter little. They are rough within a window of the picture's border and of holes, and wrong at edges.
    """
    known = (depth > 0).astype(np.float64)
    inverse = np.divide(1.0, depth, out=np.zeros(depth.shape), where=depth > 0)
    step = max(1, round(WINDOW / 2 * max(depth.shape)))
    window = (2 * step + 1, 2 * step + 1)
    share = cv2.blur(known, window)
    mean = np.divide(cv2.blur(inverse, window), share, out=np.full(depth.shape, np.nan), where=share > 1e-9)
    padded = np.pad(mean, step, constant_values=np.nan)
    along_u = (padded[step:-step, 2 * step :] - padded[step:-step, : -2 * step]) / (2 * step) * camera.fx
    along_v = (padded[2 * step :, step:-step] - padded[: -2 * step, step:-step]) / (2 * step) * camera.fy
    ray = rays(camera)
    normals = -np.stack([along_u, along_v, mean - ray[..., 0] * along_u - ray[..., 1] * along_v], axis=-1)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    usable = np.isfinite(length) & (length > 0) & (depth > 0)[..., None]
    return np.divide(normals, length, out=np.zeros_like(normals), where=usable)


def fit_plane(
    points: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"], threshold: float, seed: int = 0
) -> Plane | None:
    """The plane that most points lie on: within `threshold` of it, with a normal within 30 degrees of its own.

    RANSAC (Fischler and Bolles 1981), refined by total least squares. Three points make a candidate if their normals agree
    with the plane through them, which leaves few to count of the many draws that a small plane among clutter takes. Rounds
    of draws go on until a plane larger than the best found would have been drawn but for a chance of `MISSED`.

    Nothing here depends on threads: there are no matrix products of a size that a library would split.

    Args:
        points: in any frame.
        normals: of the surface at the points, unit, of either sign; 0 where unknown.
        threshold: in the units of the points.
        seed: of the draws.

    Returns:
        The plane, or None if no three points agree.
    """
    random = np.random.default_rng(seed)
    best: tuple[int, Float[np.ndarray, "3"], float] | None = None
    drawn, draws, needed = 0, FIRST_DRAWS, float(MOST_DRAWS)
    while drawn < min(needed, MOST_DRAWS):
        for normal, offset in _candidates(points, normals, random.integers(0, len(points), (draws, 3))):
            count = int(np.count_nonzero(_agreeing(points, normals, normal, offset, threshold)))
            if best is None or count > best[0]:
                best = (count, normal, offset)
        drawn, draws = drawn + draws, min(2 * draws, MOST_DRAWS // 8)
        if best is not None:
            needed = np.log(MISSED) / np.log1p(-min((best[0] / len(points)) ** 3, 1 - 1e-12))
    if best is None:
        return None
    _, normal, offset = best
    for _ in range(2):
        agreeing = _agreeing(points, normals, normal, offset, threshold)
        if np.count_nonzero(agreeing) < 3:
            break
        normal, offset = _least_squares(points[agreeing])
    return Plane(normal, offset, np.abs(_heights(points, normal, offset)) < threshold)


def _candidates(
    points: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"], triples: np.ndarray
) -> list[tuple[Float[np.ndarray, "3"], float]]:
    """The planes through those triples of points whose normals agree with them."""
    first, second, third = (points[triples[:, i]] for i in range(3))
    across = np.cross(second - first, third - first)
    length = np.linalg.norm(across, axis=1)
    whole = length > 1e-12
    across = across[whole] / length[whole, None]
    cosines = np.abs(np.einsum("nd,nid->ni", across, normals[triples[whole]]))
    kept = (cosines >= AGREE).all(axis=1)
    offsets = -np.einsum("nd,nd->n", across[kept], first[whole][kept])
    return [(normal, float(offset)) for normal, offset in zip(across[kept], offsets, strict=True)]


def along(points: Float[np.ndarray, "*n 3"], direction: Float[np.ndarray, "3"]) -> Float[np.ndarray, "*n"]:
    """Scalar products. Not those of the linear algebra library, which may depend on its number of threads."""
    return points[..., 0] * direction[0] + points[..., 1] * direction[1] + points[..., 2] * direction[2]


def _heights(points: Float[np.ndarray, "n 3"], normal: Float[np.ndarray, "3"], offset: float) -> Float[np.ndarray, "n"]:
    return along(points, normal) + offset


def _agreeing(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    normal: Float[np.ndarray, "3"],
    offset: float,
    threshold: float,
) -> Bool[np.ndarray, "n"]:
    """Which points lie within `threshold` of the plane and face as it does."""
    near = np.abs(_heights(points, normal, offset)) < threshold
    near[near] = np.abs(along(normals[near], normal)) >= AGREE
    return near


def _least_squares(points: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, "3"], float]:
    """The plane with the least squared distances to the points."""
    centre = points.mean(axis=0)
    away = points - centre
    _, axes = np.linalg.eigh(np.einsum("ni,nj->ij", away, away))
    return axes[:, 0], float(-axes[:, 0] @ centre)


def plane_facing(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    normal: Float[np.ndarray, "3"],
    agree: float,
    tolerance: float,
) -> tuple[int, float]:
    """The plane normal . X = distance, before the camera and facing it, that most points lie on.

    The logarithms of the points' distances are looked at, because the error of a depth map is relative: then a plane is a peak
    of the same width wherever it is.

    Args:
        points: camera frame.
        normals: of the surface at the points, unit, towards the camera; 0 where unknown.
        normal: unit, away from the camera.
        agree: least cosine between the plane and the normals of points on it.
        tolerance: relative error of the distances.

    Returns:
        How many points lie on it, and its distance; 0 and 1 if there are none.
    """
    distance = along(points, normal)
    logs = np.sort(np.log(distance[(distance > 0) & (along(normals, normal) < -agree)]))
    if not len(logs):
        return 0, 1.0
    ends = np.searchsorted(logs, logs + 2 * tolerance, side="right")
    first = int(np.argmax(ends - np.arange(len(logs))))
    inside = logs[first : ends[first]]
    return len(inside), float(np.exp(np.median(inside)))
