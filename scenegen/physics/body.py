"""The rigid body of an object: convex parts to collide with, volume, centre of mass and inertia."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import trimesh
from jaxtyping import Float32, Float64, Int32
from scipy.spatial import ConvexHull

from scenegen.compute.recent import OF_OBJECTS, reused
from scenegen.geometry.solid import is_closed, welded
from scenegen.physics.decompose import LEVEL_M, convex_parts

MAX_HULL_VERTICES = 64
"""Most corners of one convex hull in PhysX."""

BASE_CORNERS = 12
"""Corners of the base that are always kept."""

THINNEST_M = 0.001
"""Thickness given to the hull of a sheet, which has no volume."""
A_BOX = 0.97
"""A hull that fills this share of an upright box is taken for the box: engines handle those best."""


@dataclass(frozen=True, eq=False)
class Box:
    """An upright box."""

    centre: Float64[np.ndarray, "3"]
    size: Float64[np.ndarray, "3"]
    yaw: float
    """Radians about Y."""

    @property
    def turn(self) -> Float64[np.ndarray, "3 3"]:
        """From its own axes to those of the hull."""
        cosine, sine = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])


@dataclass(frozen=True, eq=False)
class Hull:
    """A convex solid."""

    vertices: Float32[np.ndarray, "h 3"]
    faces: Int32[np.ndarray, "g 3"]
    """Triangles, counter-clockwise seen from outside."""
    box: Box | None = None
    """The box that it is, if it is one."""


@dataclass(frozen=True, eq=False)
class Body:
    """A solid, in the frame of the mesh it was made from (metres)."""

    hulls: tuple[Hull, ...]
    """What it collides with: one hull or box, or the convex parts it is divided into."""
    volume: float
    """Cubic metres."""
    centre_of_mass: Float64[np.ndarray, "3"]
    """Centre of mass at uniform density."""
    inertia: Float64[np.ndarray, "3 3"]
    """About the centre of mass, at a density of 1 kg/m3."""
    closed: bool
    """Whether volume, centre and inertia are those of the mesh. If it has holes or inverted faces, they are those of its hull."""


@reused(OF_OBJECTS)
def body(vertices: Float32[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], parts: int = 1) -> Body:
    """The body of a mesh: Y is up, and it stands on its lowest points.

    Vertices at the same place count as one; solids that touch along an edge are closed.

    Args:
        vertices: metres.
        faces: counter-clockwise seen from outside.
        parts: most hulls that it may be divided into. It is divided only if it is closed and fills its hull badly.
    """
    outer = hull(vertices)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    points, place = welded(vertices)
    closed = is_closed(place[faces]) and bool(mesh.volume > 0)
    solid = mesh if closed else trimesh.Trimesh(outer.vertices, outer.faces, process=False)
    hulls = tuple(hull(part) for part in convex_parts(points, place[faces], parts)) if closed and parts > 1 else ()
    return Body(
        hulls or (as_box(outer) or outer,), float(solid.volume), solid.center_mass, solid.moment_inertia, closed
    )


def hull(vertices: Float32[np.ndarray, "v 3"]) -> Hull:
    """The convex hull of points, of at most `MAX_HULL_VERTICES` corners; that of points in a plane is a thin slab."""
    points = _thickened(vertices.astype(np.float64))
    corners = few_corners(points[ConvexHull(points).vertices], MAX_HULL_VERTICES)
    # As they are written: corners that are one in single precision would leave it open.
    corners = np.unique(corners.astype(np.float32), axis=0).astype(np.float64)
    faces = _facets(corners, "Qt")
    if not is_closed(faces):  # many corners in a plane, which qhull divides badly
        faces = _facets(corners, "QJ")
    used, place = np.unique(faces, return_inverse=True)
    return Hull(corners[used].astype(np.float32), place.reshape(faces.shape).astype(np.int32))


def _facets(corners: Float64[np.ndarray, "n 3"], options: str) -> Int32[np.ndarray, "g 3"]:
    """The triangles of the hull of points, counter-clockwise seen from outside."""
    found = ConvexHull(corners, qhull_options=options)
    a, b, c = (corners[found.simplices[:, corner]] for corner in range(3))
    inwards = (np.cross(b - a, c - a) * found.equations[:, :3]).sum(axis=1) < 0
    return np.where(inwards[:, None], found.simplices[:, ::-1], found.simplices).astype(np.int32)


def as_box(solid: Hull) -> Hull | None:
    """The smallest upright box around a convex solid, if that is hardly larger; else None."""
    low, high = float(solid.vertices[:, 1].min()), float(solid.vertices[:, 1].max())
    (x, z), (width, depth), angle = cv2.minAreaRect(np.ascontiguousarray(solid.vertices[:, [0, 2]]))
    box = Box(np.array([x, (low + high) / 2, z]), np.array([width, high - low, depth]), -float(np.radians(angle)))
    volume = trimesh.Trimesh(solid.vertices, solid.faces, process=False).volume
    if volume < A_BOX * box.size.prod() or box.size.min() < THINNEST_M:
        return None
    made = trimesh.creation.box(box.size)
    corners = made.vertices @ box.turn.T + box.centre
    return Hull(corners.astype(np.float32), made.faces.astype(np.int32), box)


def few_corners(corners: Float64[np.ndarray, "n 3"], limit: int) -> Float64[np.ndarray, "m 3"]:
    """At most `limit` corners of a convex solid, chosen so that their hull fills it well.

    The search starts from a large tetrahedron and then always adds the corner farthest outside the hull so far.
    """
    if len(corners) <= limit:
        return corners
    taken = list(dict.fromkeys([*_tetrahedron(corners), *_base(corners)]))
    while len(taken) < limit:
        # Not qhull's incremental mode, which gives up on corners that lie nearly in one plane.
        found = ConvexHull(corners[taken])
        outside = (corners @ found.equations[:, :3].T + found.equations[:, 3]).max(axis=1)
        taken.append(int(outside.argmax()))
    return corners[taken]


def _tetrahedron(points: Float64[np.ndarray, "n 3"]) -> list[int]:
    # The lowest point is chosen first, so that the hull touches what the solid stands on.
    first = int(points[:, 1].argmin())
    away = points - points[first]
    second = int(np.linalg.norm(away, axis=1).argmax())
    third = int(np.linalg.norm(np.cross(away, away[second]), axis=1).argmax())
    fourth = int(np.abs(away @ np.cross(away[second], away[third])).argmax())
    return [first, second, third, fourth]


def _base(corners: Float64[np.ndarray, "n 3"]) -> list[int]:
    """The corners that the solid stands on, of many those that are outermost: without them it would rock."""
    lowest = np.flatnonzero(corners[:, 1] < corners[:, 1].min() + LEVEL_M)
    angles = np.arange(BASE_CORNERS) * (2 * np.pi / BASE_CORNERS)
    outwards = np.stack([np.cos(angles), np.sin(angles)])
    return [int(lowest[index]) for index in (corners[lowest][:, [0, 2]] @ outwards).argmax(axis=0)]


def _thickened(points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "m 3"]:
    """`points`; if they lie in a plane, copies on both sides of it, since a sheet has no hull."""
    centred = points - points.mean(axis=0)
    normal = np.linalg.svd(centred, full_matrices=False)[2][-1]
    if np.ptp(centred @ normal) >= THINNEST_M:
        return points
    return np.concatenate([points - normal * THINNEST_M / 2, points + normal * THINNEST_M / 2])
