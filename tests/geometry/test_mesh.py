from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from scenegen.geometry.mesh import TexturedMesh, load_mesh, save_mesh, vertex_normals
from scenegen.geometry.simplify import volume


def ball() -> TexturedMesh:
    mesh = trimesh.creation.icosphere(2)
    vertices = np.asarray(mesh.vertices, dtype=np.float32)
    texture = np.random.default_rng(0).integers(0, 255, (8, 4, 3)).astype(np.uint8)
    return TexturedMesh(vertices, np.asarray(mesh.faces, np.int32), vertices[:, :2].copy(), texture, 0.25, 0.5)


def test_a_saved_mesh_comes_back_and_has_the_same_bytes(tmp_path: Path) -> None:
    mesh = ball()
    save_mesh(mesh, tmp_path / "a.npz")
    save_mesh(mesh, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    back = load_mesh(tmp_path / "a.npz")
    for name in ("vertices", "faces", "uv", "base_color"):
        np.testing.assert_array_equal(getattr(back, name), getattr(mesh, name))
    assert (back.metallic, back.roughness) == (0.25, 0.5)


@given(st.lists(st.floats(-2, 2), min_size=9, max_size=9))
def test_an_affine_map_keeps_faces_outward(values: list[float]) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(values).reshape(3, 3)
    if abs(np.linalg.det(matrix)) < 1e-2:
        return
    moved = ball().transformed(matrix)
    assert volume(moved.vertices, moved.faces) > 0


def test_normals_of_a_ball_point_outwards_across_seams() -> None:
    mesh = ball()
    normals = vertex_normals(mesh.vertices, mesh.faces)
    np.testing.assert_allclose(normals, mesh.vertices, atol=0.05)
    split = mesh.vertices[mesh.faces].reshape(-1, 3)  # every face with vertices of its own
    faces = np.arange(len(split), dtype=np.int32).reshape(-1, 3)
    np.testing.assert_allclose(vertex_normals(split, faces), normals[mesh.faces].reshape(-1, 3), atol=1e-5)
