from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from export.toy_scene import varied
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from scenegen.errors import ExportError
from scenegen.export.parts import Part, PartScene, from_pose, pose, prepared
from scenegen.geometry.mesh import is_watertight


def with_object(scene: PartScene, part: Part) -> PartScene:
    return replace(scene, objects=(part, *scene.objects[1:]))


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: math.hypot(*q) > 0.1), st.floats(-1e3, 1e3))
def test_a_rigid_matrix_survives_its_pose(quaternion: list[float], shift: float) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(quaternion).as_matrix()
    matrix[:3, 3] = [shift, -shift, 2 * shift]
    translation, rotation = pose(matrix, "part")
    assert rotation[3] >= 0
    np.testing.assert_allclose(from_pose(translation, rotation), matrix, atol=1e-12)


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([1.0, 2, 1, 1]),
        np.diag([-1.0, 1, 1, 1]),
        np.diag([1.0, 1, 1, 2]),
        np.full((4, 4), np.nan),
        np.array([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    ],
    ids=["scale", "mirror", "projective", "nan", "shear"],
)
def test_only_rigid_placements_are_taken(part_scene: PartScene, matrix: np.ndarray) -> None:
    with pytest.raises(ExportError, match=r"obj_01_box.*not rigid"):
        prepared(with_object(part_scene, replace(part_scene.objects[0], world_from_part=matrix)))


@pytest.mark.parametrize(
    "name", ["", "a/b", "../up", "3d", "tasse-1", "чашка", "a" * 64, "obj_02", "OBJ_02", "floor", "scene", "Camera"]
)
def test_names_must_be_safe_and_unique(part_scene: PartScene, name: str) -> None:
    with pytest.raises(ExportError, match="`name` of a part is"):
        prepared(with_object(part_scene, replace(part_scene.objects[0], name=name)))


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**63, 10**400])
def test_facts_must_fit_both_formats(part_scene: PartScene, value: float) -> None:
    with pytest.raises(ExportError, match="the fact seed is"):
        prepared(with_object(part_scene, replace(part_scene.objects[0], facts={"seed": value})))


def test_a_sliver_that_closes_a_mesh_is_kept(part_scene: PartScene) -> None:
    """The first face is cut in two at the middle of an edge; towards the neighbour a triangle without area fills the gap."""
    part = part_scene.objects[0]
    a, b, c = part.mesh.faces[0]
    middle = len(part.mesh.vertices)
    cut = replace(
        part.mesh,
        vertices=np.concatenate([part.mesh.vertices, part.mesh.vertices[[a, b]].mean(axis=0, keepdims=True)]),
        uv=np.concatenate([part.mesh.uv, part.mesh.uv[[a, b]].mean(axis=0, keepdims=True)]),
        faces=np.concatenate([[[a, middle, c], [middle, b, c], [a, b, middle]], part.mesh.faces[1:]]).astype(np.int32),
    )
    assert is_watertight(prepared(with_object(part_scene, replace(part, mesh=cut))).objects[0].mesh)


def test_triangles_without_area_and_lonely_vertices_are_dropped(part_scene: PartScene) -> None:
    part = part_scene.objects[0]
    mesh = part.mesh
    count = len(mesh.vertices)
    middle = (mesh.vertices[0] + mesh.vertices[1]) / 2
    spoilt = replace(
        mesh,
        vertices=np.concatenate([[[9, 9, 9]], mesh.vertices, [middle]]).astype(np.float32),
        uv=np.concatenate([[[0, 0]], mesh.uv, [[0, 0]]]).astype(np.float32),
        faces=np.concatenate([mesh.faces + 1, [[1, 2, count + 1], [3, 3, 4]]]).astype(np.int32),
    )
    cleaned = prepared(with_object(part_scene, replace(part, mesh=spoilt))).objects[0].mesh
    np.testing.assert_array_equal(cleaned.vertices, mesh.vertices)
    np.testing.assert_array_equal(cleaned.faces, mesh.faces)
    np.testing.assert_array_equal(cleaned.uv, mesh.uv)


def test_alpha_is_kept_where_it_shows_and_only_there(part_scene: PartScene) -> None:
    scene = varied(part_scene)
    for part, cleaned in zip(scene.objects, prepared(scene).objects, strict=True):
        channels = 3 if part.name == "obj_01_box" else 4
        np.testing.assert_array_equal(cleaned.mesh.base_color, part.mesh.base_color[..., :channels])
        np.testing.assert_array_equal(cleaned.mesh.metallic_roughness, part.mesh.metallic_roughness)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda mesh: {"vertices": mesh.vertices * np.float32(np.nan)}, "not finite"),
        (lambda mesh: {"uv": mesh.uv + np.float32(np.inf)}, "not finite"),
        (lambda mesh: {"vertices": mesh.vertices * np.float32(0)}, "no triangle with an area"),
        (lambda mesh: {"faces": mesh.faces[:0]}, "no triangle with an area"),
        (lambda mesh: {"faces": mesh.faces + 1}, "vertices it does not have"),
        (lambda mesh: {"faces": mesh.faces - 1}, "vertices it does not have"),
        (lambda mesh: {"base_color": mesh.base_color[:0]}, "a texture"),
        (lambda mesh: {"base_color": mesh.base_color[..., :2]}, "2 channels"),
        (lambda mesh: {"metallic_roughness": mesh.base_color[:0]}, "no texels"),
        (lambda mesh: {"roughness": math.nan}, "must lie in 0..1"),
        (lambda mesh: {"metallic": 1.5}, "must lie in 0..1"),
    ],
)
def test_broken_meshes_are_refused(part_scene: PartScene, change, message: str) -> None:
    part = part_scene.objects[0]
    with pytest.raises(ExportError, match=f"obj_01_box.*{message}"):
        prepared(with_object(part_scene, replace(part, mesh=replace(part.mesh, **change(part.mesh)))))
