"""Which side of a surface is outside, told by rays."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int32, Int64

from scenegen.geometry.render import RayCaster

VOTES = 64
"""Faces of a patch that are asked which of their sides is outside."""
MOST_CROSSINGS = 32
"""Surfaces a ray is followed through."""
SKIP = 1e-5
"""Step off a surface before a ray goes on, as a share of the mesh's size."""


def turned_outwards(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], patch: Int32[np.ndarray, "f"]
) -> Int32[np.ndarray, "f 3"]:
    """Turns whole patches so that their normals point out of the solid.

    Some faces of each patch send a ray from either side. A ray that leaves through an even number of surfaces began outside; the
    side with more such rays becomes the front. Right for closed surfaces and those inside them, a fair guess for open ones.
    """
    corners = vertices[faces].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1)
    chosen = _sample_patches(patch, area)
    size = float(np.ptp(vertices[faces.ravel()], axis=0).max())
    rng = np.random.default_rng(0)
    # One hemisphere of directions about each normal; the way back is the same ray from the other side.
    direction = normals[chosen] / area[chosen, None] + 0.6 * _unit(rng.standard_normal((len(chosen), 3)))
    origin = corners[chosen].mean(axis=1)
    caster = RayCaster(vertices, faces)
    outside = [_crossings(caster, origin, sign * _unit(direction), SKIP * size) % 2 == 0 for sign in (1, -1)]
    votes = np.bincount(patch[chosen], outside[0].astype(float) - outside[1], minlength=int(patch.max()) + 1)
    return np.where((votes < 0)[patch][:, None], faces[:, ::-1], faces)


def _sample_patches(patch: Int32[np.ndarray, "f"], area: Float[np.ndarray, "f"]) -> Int64[np.ndarray, "n"]:
    """Up to `VOTES` faces of each patch, evenly spread over its faces in their order; none without area."""
    order = np.argsort(patch, kind="stable")
    order = order[area[order] > 0]
    start = np.flatnonzero(np.diff(patch[order], prepend=-1))
    size = np.diff(start, append=len(order))
    taken = np.minimum(size, VOTES)
    rank = np.arange(taken.sum()) - np.repeat(np.cumsum(taken) - taken, taken)
    return order[np.repeat(start, taken) + rank * np.repeat(size, taken) // np.repeat(taken, taken)]


def _crossings(
    caster: RayCaster, origin: Float[np.ndarray, "n 3"], direction: Float[np.ndarray, "n 3"], skip: float
) -> Int64[np.ndarray, "n"]:
    """Surfaces each ray goes through, the one it starts on not counted; no more than `MOST_CROSSINGS`."""
    crossings = np.zeros(len(origin), dtype=np.int64)
    active = np.arange(len(origin))
    at = origin + skip * direction
    for _ in range(MOST_CROSSINGS):
        if not len(active):
            break
        distance = caster.cast(at, direction[active]).distance
        hit = np.isfinite(distance)
        active = active[hit]
        crossings[active] += 1
        at = at[hit] + (distance[hit, None] + skip) * direction[active]
    return crossings


def _unit(vectors: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
