"""Boxes, the meshes whose metrics are known."""

from __future__ import annotations

import numpy as np
import trimesh

from scenegen.evaluate.sampling import Triangles
from scenegen.geometry import mesh
from scenegen.geometry.mesh import TexturedMesh


def box(centre: tuple[float, float, float], sides: tuple[float, float, float]) -> Triangles:
    """A closed box, faces counter-clockwise from outside."""
    made = trimesh.creation.box(extents=sides)
    return Triangles(np.asarray(made.vertices) + np.array(centre, dtype=float), np.asarray(made.faces))


def textured(solid: Triangles) -> TexturedMesh:
    """The same, grey."""
    vertices = solid.vertices.astype(np.float32)
    uv = np.zeros((len(vertices), 2), np.float32)
    return TexturedMesh(vertices, solid.faces.astype(np.int32), uv, np.full((1, 1, 3), 128, np.uint8))


def joined(*meshes: Triangles) -> Triangles:
    """All of them as one mesh."""
    return Triangles(*mesh.joined([part.vertices for part in meshes], [part.faces for part in meshes]))
