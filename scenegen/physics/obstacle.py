"""Surfaces of the background as obstacles: a few slabs each, which are convex and lie behind what is seen."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int32

from scenegen.physics.body import Hull, hull

THICK_M = 0.1
"""How far a slab reaches behind its surface, seen from the camera."""
FLAT = 0.02
"""A slab may be thicker than that by this share of its width."""
FILLED = 0.8
"""Share of its convex outline that a slab's surface fills."""
MOST_SLABS = 32


def obstacles(
    vertices: Float32[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], eye: Float[np.ndarray, "3"]
) -> tuple[Hull, ...]:
    """Slabs that stand for a surface.

    The surface is halved across its longest side until every piece is flat and fills its outline, or there are enough of them:
    a plane with a straight outline is one slab.

    Args:
        vertices: metres, any frame.
        faces: of an open surface.
        eye: the camera it is seen from, same frame.

    Examples:
        >>> corners = np.array([[-1, 0, -2], [1, 0, -2], [1, 2, -2], [-1, 2, -2]], np.float32)
        >>> len(obstacles(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32), np.zeros(3)))
        1
    """
    corners = vertices[faces].astype(np.float64)
    pieces: list[Float[np.ndarray, "_ 3 3"]] = [corners]
    done: list[Float[np.ndarray, "_ 3 3"]] = []
    while pieces:
        pieces.sort(key=_area)
        piece = pieces.pop()
        halves = None if len(pieces) + len(done) + 1 >= MOST_SLABS or _is_slab(piece) else _halved(piece)
        if halves is None:
            done.append(piece)
        else:
            pieces += halves
    return tuple(_slab(piece.reshape(-1, 3), eye) for piece in done)


def _area(corners: Float[np.ndarray, "f 3 3"]) -> float:
    return float(np.linalg.norm(_double_areas(corners), axis=1).sum() / 2)


def _double_areas(corners: Float[np.ndarray, "f 3 3"]) -> Float[np.ndarray, "f 3"]:
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _is_slab(corners: Float[np.ndarray, "f 3 3"]) -> bool:
    """Whether a piece is flat, and convex but for a little."""
    across = _axes(corners)
    local = corners.reshape(-1, 3) @ across.T
    width = float(np.ptp(local[:, 0]))
    if np.ptp(local[:, 2]) > FLAT * width:
        return False
    outline = cv2.convexHull(np.ascontiguousarray(local[:, :2], dtype=np.float32))
    return bool(_area(corners) > FILLED * cv2.contourArea(outline))


def _axes(corners: Float[np.ndarray, "f 3 3"]) -> Float[np.ndarray, "3 3"]:
    """Of a piece, the longest first."""
    points = corners.reshape(-1, 3)
    return np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2]


def _halved(corners: Float[np.ndarray, "f 3 3"]) -> list[Float[np.ndarray, "_ 3 3"]] | None:
    along = corners.mean(axis=1) @ _axes(corners)[0]
    first = along < (along.min() + along.max()) / 2
    return None if first.all() or not first.any() else [corners[first], corners[~first]]


def _slab(points: Float[np.ndarray, "n 3"], eye: Float[np.ndarray, "3"]) -> Hull:
    away = points - eye
    behind = points + THICK_M * away / np.maximum(np.linalg.norm(away, axis=1), 1e-9)[:, None]
    return hull(np.concatenate([points, behind]).astype(np.float32))
