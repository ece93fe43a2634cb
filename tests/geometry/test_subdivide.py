from __future__ import annotations

import numpy as np
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.solid import is_closed, volume, welded
from scenegen.geometry.subdivide import halved


def ball(seams: bool) -> TexturedMesh:
    """With `seams`, no two faces share a vertex: all edges are seams."""
    made = trimesh.creation.icosphere(1)
    vertices, faces = made.vertices.astype(np.float32), made.faces.astype(np.int32)
    if seams:
        vertices, faces = vertices[faces].reshape(-1, 3), np.arange(faces.size, dtype=np.int32).reshape(-1, 3)
    uv = (vertices[:, :2] + 1).astype(np.float32) / 2
    return TexturedMesh(vertices, faces, uv, np.zeros((2, 2, 3), np.uint8))


@settings(max_examples=30, deadline=None)
@given(st.booleans(), st.lists(st.booleans(), min_size=80, max_size=80))
def test_a_closed_mesh_stays_closed_and_in_shape(seams: bool, chosen: list[bool]) -> None:
    mesh = ball(seams)
    found = halved(mesh, np.array(chosen), 0.0)
    _, place = welded(found.vertices)
    assert is_closed(place[found.faces])
    assert np.isclose(volume(found.vertices, found.faces), volume(mesh.vertices, mesh.faces), rtol=1e-5)
    np.testing.assert_allclose(found.uv, (found.vertices[:, :2] + 1) / 2, atol=1e-6)
    assert len(found.faces) >= len(mesh.faces) + 3 * sum(chosen)


def test_short_edges_stay_whole() -> None:
    mesh = ball(seams=False)
    assert halved(mesh, np.ones(len(mesh.faces), bool), 10.0) is mesh
