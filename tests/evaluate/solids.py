"""Boxes, the meshes whose metrics are known."""

from __future__ import annotations

import numpy as np
import trimesh

from scenegen.evaluate.sampling import Triangles
from scenegen.geometry.mesh import TexturedMesh


def box(centre: tuple[float, float, float], sides: tuple[float, float, float]) -> Triangles:
    """A closed box, faces counter-clockwise from outside."""
    mesh = trimesh.creation.box(extents=sides)
    return Triangles(np.asarray(mesh.vertices) + np.array(centre, dtype=float), np.asarray(mesh.faces))


def textured(mesh: Triangles) -> TexturedMesh:
    """The same, grey."""
    vertices = mesh.vertices.astype(np.float32)
    uv = np.zeros((len(vertices), 2), np.float32)
    return TexturedMesh(vertices, mesh.faces.astype(np.int32), uv, np.full((1, 1, 3), 128, np.uint8))


def joined(*meshes: Triangles) -> Triangles:
    """All of them as one mesh."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]
    return Triangles(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))
