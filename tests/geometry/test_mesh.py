from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.geometry.mesh import (
    TexturedMesh,
    alpha_mode,
    check_mesh,
    check_object,
    joined,
    load_mesh,
    save_mesh,
    vertex_normals,
)
from scenegen.geometry.solid import volume


def ball() -> TexturedMesh:
    mesh = trimesh.creation.icosphere(2)
    vertices = np.asarray(mesh.vertices, dtype=np.float32)
    texture = np.random.default_rng(0).integers(0, 255, (8, 4, 3)).astype(np.uint8)
    return TexturedMesh(vertices, np.asarray(mesh.faces, np.int32), vertices[:, :2].copy(), texture, 0.25, 0.5)


def varied_ball() -> TexturedMesh:
    """The ball with alpha, and with metal and roughness that vary, at a size of their own."""
    texels = np.random.default_rng(1).integers(0, 255, (8, 4, 4)).astype(np.uint8)
    return replace(ball(), base_color=texels, metallic_roughness=texels[:3, :, :3].copy())


def with_alpha(alpha: np.ndarray) -> np.ndarray:
    """A texture of random colours with this alpha."""
    alpha = np.atleast_2d(alpha).astype(np.uint8)
    return np.dstack([np.random.default_rng(0).integers(0, 256, (*alpha.shape, 3), dtype=np.uint8), alpha])


def mixture(data: st.DataObject, solid: int, between: int, clear: int) -> np.ndarray:
    """A texture of so many texels of each kind, at any places."""
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    ranges = ((230, 256, solid), (26, 230, between), (0, 26, clear))
    return with_alpha(generator.permutation(np.concatenate([generator.integers(*kind) for kind in ranges])))


@pytest.mark.parametrize("mesh", [ball(), varied_ball()], ids=["plain", "varied"])
def test_a_saved_mesh_comes_back_and_has_the_same_bytes(tmp_path: Path, mesh: TexturedMesh) -> None:
    save_mesh(mesh, tmp_path / "a.npz")
    save_mesh(mesh, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    back = load_mesh(tmp_path / "a.npz")
    for field in fields(TexturedMesh):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(mesh, field.name))
    assert (back.metallic_roughness is None) == (mesh.metallic_roughness is None)


def test_a_mesh_without_the_second_texture_is_saved_as_ever(tmp_path: Path) -> None:
    save_mesh(ball(), tmp_path / "plain.npz")
    with np.load(tmp_path / "plain.npz", allow_pickle=False) as data:
        assert "metallic_roughness" not in data


def solid(faces: int = 4) -> TexturedMesh:
    """The first faces of a tetrahedron, each unwrapped on the whole atlas."""
    corners = np.float32([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    uv = np.float32([[0, 0], [1, 0], [0, 1], [1, 1]])
    triangles = np.int32([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])[:faces]
    return TexturedMesh(corners, triangles, uv, np.zeros((2, 2, 3), np.uint8))


def test_the_smallest_solid_is_an_object() -> None:
    check_object(solid())


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (replace(solid(), vertices=solid().vertices + np.float32(np.inf)), "not finite"),
        (replace(solid(), uv=solid().uv * np.float32(np.nan)), "not finite"),
        (replace(solid(), uv=solid().uv * np.float32(1.01)), r"from 0 to 1\.01; they must lie in 0\.\.1"),
        (replace(solid(), uv=solid().uv - np.float32(0.01)), r"from -0\.01"),
        (replace(solid(), faces=solid().faces + np.int32(1)), "vertices it does not have"),
        (replace(solid(), faces=solid().faces - np.int32(1)), "vertices it does not have"),
        (replace(solid(), faces=solid().faces * np.int32(0)), "no triangle with an area"),
        (solid(faces=0), "no triangle with an area"),
        (solid(faces=3), "3 triangles with an area"),
        (replace(solid(), vertices=solid().vertices * np.float32([1, 1, 0])), "2 triangles with an area"),
        (replace(solid(), base_color=np.zeros((0, 4, 3), np.uint8)), "and a texture"),
        (replace(solid(), roughness=float("nan")), "must lie in"),
    ],
)
def test_what_is_no_object(damaged: TexturedMesh, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_object(damaged)


def test_a_sheet_that_repeats_its_texture_can_be_exported_all_the_same() -> None:
    check_mesh(replace(solid(faces=1), uv=solid().uv * np.float32(3)))


def test_a_moved_mesh_keeps_its_material() -> None:
    mesh = varied_ball()
    moved = mesh.transformed(np.diag([2.0, -1, 1, 1]))
    np.testing.assert_array_equal(moved.base_color, mesh.base_color)
    np.testing.assert_array_equal(moved.metallic_roughness, mesh.metallic_roughness)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 255))
def test_without_alpha_a_texture_is_opaque(height: int, width: int, value: int) -> None:
    assert alpha_mode(np.full((height, width, 3), value, np.uint8)) == "OPAQUE"


@settings(max_examples=40)
@given(data=st.data(), size=st.integers(1, 3000), lowest=st.integers(0, 229))
def test_stray_texels_do_not_make_an_object_transparent(data: st.DataObject, size: int, lowest: int) -> None:
    strays = size // 100
    alpha = np.full(size, 230)
    places = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(size)
    alpha[places[:strays]] = lowest
    assert alpha_mode(with_alpha(alpha)) == "OPAQUE"
    alpha[places[: strays + 1]] = lowest
    assert alpha_mode(with_alpha(alpha)) != "OPAQUE"


@settings(max_examples=40)
@given(data=st.data(), solid=st.integers(11, 500), clear=st.integers(11, 500))
def test_two_values_are_a_mask_until_a_quarter_of_the_hole_lies_between(
    data: st.DataObject, solid: int, clear: int
) -> None:
    between = clear // 3  # a quarter of clear + between
    assert alpha_mode(mixture(data, solid, between, clear)) == "MASK"
    assert alpha_mode(mixture(data, solid, between + 1, clear)) == "BLEND"


@settings(max_examples=40)
@given(data=st.data(), solid=st.integers(0, 9), between=st.integers(0, 500), clear=st.integers(0, 500))
def test_what_has_nothing_solid_is_blended(data: st.DataObject, solid: int, between: int, clear: int) -> None:
    solid = min(solid, (between + clear) // 100)
    if between + clear:
        assert alpha_mode(mixture(data, solid, between, clear)) == "BLEND"


@settings(max_examples=20)
@given(st.floats(8.5, 30), st.floats(-1, 1), st.floats(-1, 1))
def test_a_hole_with_a_smooth_edge_is_a_mask_and_a_pane_is_blended(radius: float, right: float, down: float) -> None:
    v, u = np.mgrid[:80, :80] + 0.5
    inside = radius - np.hypot(u - 40 - right, v - 40 - down)
    hole = 255 * (1 - np.clip(inside + 0.5, 0, 1))
    assert alpha_mode(with_alpha(hole)) == "MASK"
    pane = np.where(inside > 0, 100, 255)
    assert alpha_mode(with_alpha(pane)) == "BLEND"


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


def test_joined_meshes_keep_their_triangles() -> None:
    parts = [np.arange(9.0).reshape(3, 3), np.arange(12.0).reshape(4, 3) + 20]
    faces = [np.array([[0, 1, 2]]), np.array([[3, 1, 0], [2, 1, 3]])]
    vertices, triangles = joined(parts, faces)
    assert triangles.dtype == np.int32
    corners = np.concatenate([part[face] for part, face in zip(parts, faces, strict=True)])
    assert np.array_equal(vertices[triangles], corners)
