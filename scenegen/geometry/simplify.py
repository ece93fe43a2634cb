"""Fewer triangles, still closed."""

from __future__ import annotations

import manifold3d
import numpy as np
from jaxtyping import Float, Float32, Int32

FINEST, COARSEST, STEP = 5e-4, 2e-2, 1.5
"""Tolerances tried, as shares of the mesh's size, each `STEP` times the one before."""


def simplify(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], max_faces: int
) -> tuple[Float32[np.ndarray, "w 3"], Int32[np.ndarray, "g 3"], tuple[str, ...]]:
    """Collapses edges of a closed mesh, at growing tolerance, until it has `max_faces` or would lose its shape.

    manifold3d keeps it closed all the way: every edge has exactly two faces.

    Returns:
        - **vertices**, **faces**: the simplified mesh, or the one given where it is no closed manifold.
        - **warnings**: says so in that case.
    """
    vertices = vertices.astype(np.float32)
    if len(faces) <= max_faces:
        return vertices, faces, ()
    solid = manifold3d.Manifold(manifold3d.Mesh(vertices, faces.astype(np.uint32)))
    if solid.status() != manifold3d.Error.NoError:
        return vertices, faces, (f"the mesh is not a closed manifold: it keeps all its {len(faces)} faces.",)
    size = float(np.ptp(vertices, axis=0).max())
    tolerance = FINEST
    while solid.num_tri() > max_faces and tolerance <= COARSEST:
        solid = solid.simplify(tolerance * size)
        tolerance *= STEP
    mesh = solid.to_mesh()
    return mesh.vert_properties[:, :3].astype(np.float32), mesh.tri_verts.astype(np.int32), ()


def is_closed(faces: Int32[np.ndarray, "f 3"]) -> bool:
    """Whether every edge has exactly two faces, which run along it in opposite directions."""
    if len(faces) == 0:
        return False
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    stride = int(faces.max()) + 1
    forward = np.sort(edges[:, 0] * stride + edges[:, 1])
    backward = np.sort(edges[:, 1] * stride + edges[:, 0])
    return bool((np.diff(forward) > 0).all() and np.array_equal(forward, backward))


def volume(vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"]) -> float:
    """Signed volume of a closed mesh; positive where the faces are counter-clockwise seen from outside."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    return float(np.einsum("nd,nd->", a, np.cross(b, c)) / 6)
