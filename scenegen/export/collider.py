"""The physical body of an object: volume, centre of mass, and a convex hull to collide with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh
from jaxtyping import Float32, Float64, Int32
from scipy.spatial import ConvexHull

from scenegen.geometry.solid import is_closed, welded

MAX_HULL_VERTICES = 64
"""Most corners of one convex hull in PhysX."""

THINNEST_M = 0.001
"""Thickness given to the hull of a sheet, which has no volume."""


@dataclass(frozen=True, eq=False)
class Body:
    """A solid, in the frame of the mesh it was made from."""

    hull_vertices: Float32[np.ndarray, "h 3"]
    hull_faces: Int32[np.ndarray, "g 3"]
    """Triangles, counter-clockwise seen from outside."""
    volume: float
    """Cubic metres."""
    centre_of_mass: Float64[np.ndarray, "3"]
    """Centre of mass at uniform density."""
    closed: bool
    """Whether volume and centre are those of the mesh. If it has holes or inverted faces, they are those of its hull."""


def body(vertices: Float32[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"]) -> Body:
    """The body of a mesh (metres). Vertices at the same place count as one; solids that touch along an edge are closed."""
    points = _thickened(vertices.astype(np.float64))
    corners = few_corners(points[ConvexHull(points).vertices], MAX_HULL_VERTICES)
    hull = trimesh.convex.convex_hull(corners)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    _, place = welded(vertices)
    closed = is_closed(place[faces]) and bool(mesh.volume > 0)
    solid = mesh if closed else hull
    return Body(
        hull.vertices.astype(np.float32), hull.faces.astype(np.int32), float(solid.volume), solid.center_mass, closed
    )


def few_corners(corners: Float64[np.ndarray, "n 3"], limit: int) -> Float64[np.ndarray, "m 3"]:
    """At most `limit` corners of a convex solid, chosen so that their hull fills it well.

    The search starts from a large tetrahedron and then always adds the corner farthest outside the hull so far.
    """
    if len(corners) <= limit:
        return corners
    taken = _tetrahedron(corners)
    hull = ConvexHull(corners[taken], incremental=True)
    while len(taken) < limit:
        outside = (corners @ hull.equations[:, :3].T + hull.equations[:, 3]).max(axis=1)
        taken.append(int(outside.argmax()))
        hull.add_points(corners[taken[-1:]])
    return corners[taken]


def _tetrahedron(points: Float64[np.ndarray, "n 3"]) -> list[int]:
    # The lowest point is chosen first, so that the hull touches what the solid stands on.
    first = int(points[:, 2].argmin())
    away = points - points[first]
    second = int(np.linalg.norm(away, axis=1).argmax())
    third = int(np.linalg.norm(np.cross(away, away[second]), axis=1).argmax())
    fourth = int(np.abs(away @ np.cross(away[second], away[third])).argmax())
    return [first, second, third, fourth]


def _thickened(points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "m 3"]:
    """`points`; if they lie in a plane, copies on both sides of it, since a sheet has no hull."""
    centred = points - points.mean(axis=0)
    normal = np.linalg.svd(centred, full_matrices=False)[2][-1]
    if np.ptp(centred @ normal) >= THINNEST_M:
        return points
    return np.concatenate([points - normal * THINNEST_M / 2, points + normal * THINNEST_M / 2])
