"""The nearest point of a triangle mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int32, Int64
from scipy.spatial import cKDTree

from scenegen.geometry.planes import open3d_problem

CANDIDATES = 16
"""Triangles the plain search begins with; twice as many each time these do not settle it."""
ROWS = 2**21
"""Pairs of point and triangle the plain search looks at a time."""


@dataclass(frozen=True)
class Closest:
    """For each query, the point of the mesh nearest to it."""

    points: Float32[np.ndarray, "n 3"]
    distance: Float32[np.ndarray, "n"]


def closest_points(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], queries: Float[np.ndarray, "n 3"]
) -> Closest:
    """The points of the mesh (at least one face, in any winding) nearest to `queries`.

    open3d's search tree over the triangles; `closest_points_numpy`, several times slower, where open3d cannot be imported.
    """
    if open3d_problem() is not None:
        return closest_points_numpy(vertices, faces, queries)
    import open3d

    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        open3d.core.Tensor(np.ascontiguousarray(vertices, dtype=np.float32)),
        open3d.core.Tensor(np.ascontiguousarray(faces, dtype=np.uint32)),
    )
    found = scene.compute_closest_points(open3d.core.Tensor(np.ascontiguousarray(queries, dtype=np.float32)))
    points = found["points"].numpy()
    return Closest(points, np.linalg.norm(points - queries, axis=1).astype(np.float32))


def closest_points_numpy(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], queries: Float[np.ndarray, "n 3"]
) -> Closest:
    """The twin of `closest_points` in scipy and numpy: its oracle in the tests, and what runs without open3d.

    Triangles are looked at in the order of their centroids' distance. No triangle is nearer than its centroid less the largest
    reach of any, so a query is settled once what it has found is nearer than that bound for the next centroid.
    """
    corners = vertices[faces].astype(np.float64)
    centroids = corners.mean(axis=1)
    reach = float(np.linalg.norm(corners - centroids[:, None], axis=2).max())
    tree = cKDTree(centroids)
    points = np.empty((len(queries), 3))
    distance = np.full(len(queries), np.inf)
    open_ = np.arange(len(queries))
    candidates = min(CANDIDATES, len(faces))
    while len(open_):
        unsettled = []
        for chunk in np.array_split(open_, -(-len(open_) * candidates // ROWS)):
            near, triangle = tree.query(queries[chunk], k=[*range(1, candidates + 1)], workers=-1)
            points[chunk], distance[chunk] = _nearest_of(corners, queries[chunk].astype(np.float64), triangle)
            unsettled.append(chunk[near[:, -1] - reach < distance[chunk]])
        open_ = np.concatenate(unsettled) if candidates < len(faces) else open_[:0]
        candidates = min(2 * candidates, len(faces))
    return Closest(points.astype(np.float32), distance.astype(np.float32))


def _nearest_of(
    corners: Float[np.ndarray, "f 3 3"], queries: Float[np.ndarray, "n 3"], triangle: Int64[np.ndarray, "n k"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n"]]:
    """The nearest point to each query on its k triangles, and its distance."""
    found = _on_triangles(corners[triangle], queries[:, None])
    distance = np.linalg.norm(found - queries[:, None], axis=2)
    best = distance.argmin(axis=1)
    rows = np.arange(len(queries))
    return found[rows, best], distance[rows, best]


def _on_triangles(triangles: Float[np.ndarray, "n k 3 3"], queries: Float[np.ndarray, "n 1 3"]) -> np.ndarray:
    """The nearest point of each triangle: the foot of the perpendicular where it lies inside, else one on an edge."""
    edges = triangles[..., [1, 2, 0], :] - triangles
    arms = queries[..., None, :] - triangles
    along = (arms * edges).sum(axis=-1) / np.maximum((edges * edges).sum(axis=-1), 1e-300)
    on_edges = triangles + np.clip(along, 0, 1)[..., None] * edges
    best = ((on_edges - queries[..., None, :]) ** 2).sum(axis=-1).argmin(axis=-1)
    nearest = np.take_along_axis(on_edges, best[..., None, None], axis=-2)[..., 0, :]
    normal = np.cross(edges[..., 0, :], edges[..., 1, :])
    area = (normal * normal).sum(axis=-1, keepdims=True)
    inside = ((np.cross(edges, arms) * normal[..., None, :]).sum(axis=-1) >= 0).all(axis=-1, keepdims=True)
    height = (arms[..., 0, :] * normal).sum(axis=-1, keepdims=True) / np.maximum(area, 1e-300)
    return np.where(inside & (area > 1e-300), queries - height * normal, nearest)
