"""A concave solid as a few parts that are nearly convex, so that what it holds can lie in it.

The part whose convex hull exceeds it by the greatest volume is cut by the upright or level plane after which the least is left,
until all parts are convex enough or there are as many as allowed: a greedy form of Wei et al. 2022 (CoACD), with volumes in
place of distances. Cuts are exact (manifold3d).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

CONVEX = 0.9
"""A solid that fills this share of its hull is not divided."""
EXCESS = 0.01
"""Nor is a part whose hull is too large by less than this share of the whole solid's hull."""
TRIANGLES = 1500
"""Of the solid that is cut: parts follow its shape, not its relief."""
COARSEST = 0.02
"""How far the surface may move when it is made coarse, as a share of the longest side."""
LEVEL_M = 5e-4
"""How uneven a base may be."""
PLACES = (0.2, 0.35, 0.5, 0.65, 0.8)
"""Where planes are tried, along each side of a part's box."""


def convex_parts(
    vertices: Float32[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], most: int
) -> list[Float32[np.ndarray, "_ 3"]]:
    """The corners of each part; none if the solid is convex as it is, or its surface crosses itself.

    Args:
        vertices: welded.
        faces: of a closed mesh.
        most: number of parts at which it ends.
    """
    from manifold3d import Error, Manifold, Mesh

    whole = Manifold(Mesh(np.ascontiguousarray(vertices), np.ascontiguousarray(faces, dtype=np.uint32)))
    if whole.status() != Error.NoError or whole.volume() <= 0:
        return []
    longest = float(np.ptp(vertices, axis=0).max())
    coarse, step = whole, 0.002
    while coarse.num_tri() > TRIANGLES and step <= COARSEST:
        coarse, step = whole.simplify(step * longest), 2 * step
    hull = coarse.hull().volume()
    if coarse.volume() > CONVEX * hull:
        return []
    parts = [coarse]
    while len(parts) < most:
        parts.sort(key=_excess, reverse=True)
        halves = _divided(parts[0]) if _excess(parts[0]) > EXCESS * hull else None
        if halves is None:
            break
        parts[:1] = halves
    return [_with_base(_corners(part), vertices, step * longest) for part in parts]


def _with_base(
    corners: Float32[np.ndarray, "n 3"], vertices: Float32[np.ndarray, "v 3"], moved: float
) -> Float32[np.ndarray, "m 3"]:
    """A part that reaches down to the base, with the solid's own vertices there: made coarse, what is level would rock."""
    if corners[:, 1].min() > vertices[:, 1].min() + moved:
        return corners
    base = vertices[vertices[:, 1] < vertices[:, 1].min() + LEVEL_M]
    low, high = corners.min(axis=0) - moved, corners.max(axis=0) + moved
    return np.concatenate([corners, base[((base >= low) & (base <= high)).all(axis=1)]])


def _excess(part: Any) -> float:
    """By how much the hull is larger than the part."""
    return float(part.hull().volume() - part.volume())


def _divided(part: Any) -> list[Any] | None:
    """The part cut in two where that helps most; None if no plane cuts it."""
    box = np.array(part.bounding_box()).reshape(2, 3)
    best: tuple[float, list[Any]] | None = None
    for axis in np.eye(3):
        low, high = box @ axis
        for place in PLACES:
            pieces = list(part.split_by_plane(axis.tolist(), float(low + place * (high - low))))
            if any(piece.is_empty() for piece in pieces):
                continue
            # Squares prefer even cuts: half a bowl is as hollow as the bowl, but its halves soon are not.
            left = sum(_excess(piece) ** 2 for piece in pieces)
            if best is None or left < best[0]:
                best = (left, pieces)
    return None if best is None else best[1]


def _corners(part: Any) -> Float32[np.ndarray, "n 3"]:
    return np.asarray(part.hull().to_mesh().vert_properties[:, :3], dtype=np.float32)
