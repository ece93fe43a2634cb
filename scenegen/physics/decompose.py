"""A concave solid as a few parts that are nearly convex, so that what it holds can lie in it.

The part whose convex hull exceeds it by the greatest volume is cut by the upright or level plane after which the least is left,
until all parts are convex enough or there are as many as allowed: a greedy form of Wei et al. 2022 (CoACD), with volumes in
place of distances. Cuts are exact (manifold3d).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int32

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
    parts = [(_excess(coarse), coarse)]
    while len(parts) < most:
        parts.sort(key=lambda found: found[0], reverse=True)
        excess, part = parts[0]
        halves = _divided(part) if excess > EXCESS * hull else None
        if halves is None:
            break
        parts[:1] = [(_excess(half), half) for half in halves]
    return [_with_base(_corners(part), vertices, step * longest) for _, part in parts]


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
    mesh = part.to_mesh()
    points = mesh.vert_properties[:, :3].astype(np.float64)
    corners = points[mesh.tri_verts]
    doubled = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outermost = part.hull().to_mesh().vert_properties[:, :3].astype(np.float64)
    planes = [(axis, low + place * (high - low)) for axis, (low, high) in enumerate(_box(points)) for place in PLACES]
    axis, offset = min(planes, key=lambda plane: _left(corners, doubled, outermost, *plane))
    pieces = list(part.split_by_plane(np.eye(3)[axis].tolist(), float(offset)))
    return None if any(piece.is_empty() for piece in pieces) else pieces


def _box(points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "3 2"]:
    return np.stack([points.min(axis=0), points.max(axis=0)], axis=1)


def _left(
    corners: Float64[np.ndarray, "f 3 3"],
    doubled: Float64[np.ndarray, "f 3"],
    outermost: Float64[np.ndarray, "n 3"],
    axis: int,
    offset: float,
) -> float:
    """What two halves would exceed their hulls by, measured without cutting: a cut takes twenty times as long.

    Volumes are sums of tetrahedra with their tips in the plane, to which the cut itself adds none.

    Args:
        corners: of the part's triangles.
        doubled: their normals, twice as long as their areas.
        outermost: the corners of its hull.
        axis: that the plane is at right angles to.
        offset: where on the axis.
    """
    from manifold3d import Manifold

    sixfold = np.einsum("fd,fd->f", corners[:, 0] - offset * np.eye(3)[axis], doubled)
    over = corners[:, :, axis] - offset
    above = (over > 0).sum(axis=1)
    # Turned so that the corner that is alone on its side comes first.
    cut = np.flatnonzero((above == 1) | (above == 2))
    alone = np.argmax((over[cut] > 0) == (above[cut] == 1)[:, None], axis=1)
    order = (alone[:, None] + np.arange(3)) % 3
    turned, height = corners[cut[:, None], order], over[cut[:, None], order]
    along = height[:, :1] / (height[:, :1] - height[:, 1:])
    rim = (turned[:, :1] + along[..., None] * (turned[:, 1:] - turned[:, :1])).reshape(-1, 3)
    share = (above == 3).astype(np.float64)
    share[cut] = np.where(above[cut] == 1, along.prod(axis=1), 1 - along.prod(axis=1))
    volumes = (sixfold * share).sum() / 6, (sixfold * (1 - share)).sum() / 6
    sides = outermost[:, axis] > offset, outermost[:, axis] <= offset
    hulls = [Manifold.hull_points(np.concatenate([outermost[side], rim])).volume() for side in sides]
    # Squares prefer even cuts: half a bowl is as hollow as the bowl, but its halves soon are not.
    return float(sum((hull - volume) ** 2 for hull, volume in zip(hulls, volumes, strict=True)))


def _corners(part: Any) -> Float32[np.ndarray, "n 3"]:
    return np.asarray(part.hull().to_mesh().vert_properties[:, :3], dtype=np.float32)
