"""The nearest point of a triangle mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int32, Int64
from scipy.spatial import cKDTree

CANDIDATES = 8
"""Number of triangles that the search begins with; it doubles as long as the result is open."""
ROWS = 2**21
"""Pairs of query and triangle that are computed at a time."""


@dataclass(frozen=True, eq=False)
class Closest:
    """For each query, the point of the mesh nearest to it."""

    points: Float32[np.ndarray, "n 3"]
    distance: Float32[np.ndarray, "n"]
    """Infinite, and the point without meaning, beyond what was searched."""


def closest_points(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    queries: Float[np.ndarray, "n 3"],
    within: float = np.inf,
) -> Closest:
    """The points of the mesh (at least one face, in any winding) nearest to `queries`.

    Triangles are looked at in the order of their centroids' distance, those of one size after those of another, so that a few
    large ones do not widen the search among many small ones. No triangle is nearer than its centroid less its reach; so a
    query is settled among triangles of one size once what is found is nearer than that bound for the next centroid.

    Args:
        vertices: of the mesh.
        faces: its triangles.
        queries: points in the frame of the mesh.
        within: how far to search. Far from a fine mesh all its triangles are about equally near, which makes the search slow.
    """
    corners = vertices[faces].astype(np.float64)
    centroids = corners.mean(axis=1)
    reach = np.linalg.norm(corners - centroids[:, None], axis=2).max(axis=1)
    size = np.frexp(reach)[1]
    search = _Search(corners, centroids, reach, np.asarray(queries, dtype=np.float64), within)
    for each in np.unique(size):
        search.among(np.flatnonzero(size == each))
    distance = np.where(search.distance <= within, search.distance, np.inf)
    return Closest(search.points.astype(np.float32), distance.astype(np.float32))


class _Search:
    """The best found so far for every query."""

    def __init__(
        self,
        corners: Float[np.ndarray, "f 3 3"],
        centroids: Float[np.ndarray, "f 3"],
        reach: Float[np.ndarray, "f"],
        queries: Float[np.ndarray, "n 3"],
        within: float,
    ) -> None:
        self._corners, self._centroids, self._reach = corners, centroids, reach
        self._queries, self._within = queries, within
        self.points = np.zeros_like(queries)
        self.distance = np.full(len(queries), np.inf)

    def among(self, faces: Int64[np.ndarray, "m"]) -> None:
        """Looks at some faces, of about one size."""
        tree, reach = cKDTree(self._centroids[faces]), float(self._reach[faces].max())
        count, open_ = min(CANDIDATES, len(faces)), np.arange(len(self._queries))
        while len(open_):
            unsettled = []
            for rows in np.array_split(open_, -(-len(open_) * count // ROWS)):
                away, found = tree.query(
                    self._queries[rows], [*range(1, count + 1)], distance_upper_bound=self._within + reach, workers=-1
                )
                # Centroids lie on the mesh: the nearest bounds the distance.
                bound = np.minimum(np.minimum(self.distance[rows], away[:, 0]), self._within)
                there = found < len(faces)  # within the bound of the search
                row, column = np.nonzero(there & (away - self._reach[faces[found * there]] <= bound[:, None]))
                self._look(rows[row], faces[found[row, column]])
                unsettled.append(rows[away[:, -1] - reach < np.minimum(self.distance[rows], self._within)])
            open_ = np.concatenate(unsettled) if count < len(faces) else open_[:0]
            count = min(2 * count, len(faces))

    def _look(self, rows: Int64[np.ndarray, "p"], faces: Int64[np.ndarray, "p"]) -> None:
        """Looks at one face each for some queries, those of a query one after the other."""
        if not len(rows):
            return
        points = _on_triangles(self._corners[faces], self._queries[rows])
        distance = np.linalg.norm(points - self._queries[rows], axis=1)
        first = np.flatnonzero(np.diff(rows, prepend=-1))
        least = np.repeat(np.minimum.reduceat(distance, first), np.diff(first, append=len(rows)))
        better = np.flatnonzero((distance == least) & (distance < self.distance[rows]))[
            ::-1
        ]  # of equals the first stays
        self.points[rows[better]] = points[better]
        self.distance[rows[better]] = distance[better]


def _on_triangles(triangles: Float[np.ndarray, "p 3 3"], queries: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "p 3"]:
    """The nearest point of each triangle: the foot of the perpendicular if it lies inside, else one on an edge."""
    first = triangles[:, 0]
    along_u, along_v, arm = triangles[:, 1] - first, triangles[:, 2] - first, queries - first
    uu, uv, vv = _dot(along_u, along_u), _dot(along_u, along_v), _dot(along_v, along_v)
    pu, pv = _dot(arm, along_u), _dot(arm, along_v)
    area = np.maximum(uu * vv - uv * uv, 1e-300)
    u, v = (vv * pu - uv * pv) / area, (uu * pv - uv * pu) / area
    nearest = first + u[:, None] * along_u + v[:, None] * along_v
    beside = np.flatnonzero(~((u >= 0) & (v >= 0) & (u + v <= 1) & (area > 1e-12 * uu * vv)))
    starts = triangles[beside]
    edges, arms = starts[:, [1, 2, 0]] - starts, queries[beside, None] - starts
    share = np.clip(_dot(arms, edges) / np.maximum(_dot(edges, edges), 1e-300), 0, 1)
    on_edges = starts + share[..., None] * edges
    away = queries[beside, None] - on_edges
    nearest[beside] = on_edges[np.arange(len(beside)), _dot(away, away).argmin(axis=1)]
    return nearest


def _dot(a: Float[np.ndarray, "*p 3"], b: Float[np.ndarray, "*p 3"]) -> Float[np.ndarray, "*p"]:
    return np.asarray(np.einsum("...d,...d->...", a, b))
