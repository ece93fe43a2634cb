"""Signed distances to a mesh, sampled on a grid, so that many points can be asked for often."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32
from scipy import ndimage
from scipy.spatial import cKDTree

from scenegen.compute.recent import OF_OBJECTS, reused
from scenegen.geometry.render import RayCaster

CELLS = 36
"""Along the longest side of the mesh's box."""
MARGIN = 3
"""Cells around the box."""
SURFACE_SAMPLES = 12_000
SIDES = np.eye(3)


@dataclass(frozen=True, eq=False)
class Distances:
    """Distances from the cells of a grid to a surface, negative inside of it."""

    values: Float32[np.ndarray, "i j k"]
    corner: Float[np.ndarray, "3"]
    cell: float

    def near(self, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, "n"]:
        """Which points are within the grid: no others can be inside of the surface."""
        far = self.corner + self.cell * (np.array(self.values.shape) - 1)
        return np.asarray(((points >= self.corner) & (points <= far)).all(axis=1))

    def at(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n"]:
        """Trilinear; beyond the grid that at its border, and the way there: no less than the distance, at most 1.42 times it."""
        places = (points - self.corner) / self.cell
        inside = np.clip(places, 0, np.array(self.values.shape) - 1)
        way = self.cell * np.linalg.norm(places - inside, axis=1)
        return np.asarray(ndimage.map_coordinates(self.values, inside.T, order=1, mode="nearest")) + way


@reused(OF_OBJECTS)
def distances(vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"]) -> Distances:
    """Of a mesh: a cell is inside if most of three rays from it first meet the back of a face."""
    low, high = vertices.min(axis=0).astype(np.float64), vertices.max(axis=0).astype(np.float64)
    cell = float((high - low).max()) / CELLS
    corner = low - MARGIN * cell
    counts = np.ceil((high - low) / cell).astype(int) + 2 * MARGIN + 1
    cells = np.stack(np.meshgrid(*(np.arange(count) for count in counts), indexing="ij"), axis=-1).reshape(-1, 3)
    points = corner + cell * cells
    corners = vertices[faces].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    caster = RayCaster(vertices, faces)
    votes = np.zeros(len(points), dtype=int)
    for side in SIDES:
        met = caster.first(points, np.broadcast_to(side, points.shape))
        votes += (met >= 0) & (normals[met] @ side > 0)
    nearest, _ = cKDTree(surface_points(vertices, faces)).query(points, workers=1)
    signed = np.where(votes >= 2, -nearest, nearest)
    return Distances(signed.reshape(tuple(counts)).astype(np.float32), corner, cell)


def surface_points(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], count: int = SURFACE_SAMPLES
) -> Float[np.ndarray, "n 3"]:
    """About `count` points spread evenly over triangles: each gives as many as its area asks for, the same every time."""
    corners = vertices[faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    counts = np.maximum(1, np.round(count * area / max(float(area.sum()), 1e-30))).astype(int)
    which = np.repeat(np.arange(len(corners)), counts)
    rank = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    # The R2 sequence (Roberts 2018) fills the unit square evenly; folded, it fills a triangle.
    u, v = (rank * 0.7548776662466927 + 1 / 3) % 1, (rank * 0.5698402909980532 + 1 / 3) % 1
    over = u + v > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    a, b, c = (corners[which, corner] for corner in range(3))
    return np.asarray(a + u[:, None] * (b - a) + v[:, None] * (c - a))
