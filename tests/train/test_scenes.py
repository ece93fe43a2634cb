"""Composed scenes: things come to rest where they touch, and what is written agrees with the meshes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from scenegen.camera import rays
from scenegen.errors import UsageError
from scenegen.train import scenes
from scenegen.train.materials import resting
from scenegen.train.meshes import MeshFolder, mesh_folder
from scenegen.train.pictures import read_pictures
from scenegen.train.scenes import compose, dropped, make_scenes
from scenegen.train.views import moved

UPRIGHT = np.eye(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("meshes")
    for name, mesh in {
        "box": trimesh.creation.box((1, 0.6, 0.8)),
        "ball": trimesh.creation.icosphere(2),
        "pole": trimesh.creation.cylinder(
            0.1, 1, transform=trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0])
        ),
    }.items():
        mesh.visual.vertex_colors = np.tile([180, 120, 60, 255], (len(mesh.vertices), 1))
        mesh.export(path / f"{name}.glb")
    return path


@pytest.fixture(scope="module")
def meshes(folder: Path) -> MeshFolder:
    return mesh_folder(folder)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "SIDES", (96, 72))


def test_things_come_to_rest_on_the_ground_and_on_each_other(meshes: MeshFolder) -> None:
    rng = np.random.default_rng(0)
    ball, box, pole = (resting(meshes[index], size, UPRIGHT, rng) for index, size in ((0, 0.4), (1, 1.0), (2, 1.0)))
    raised = moved(box, np.array([0, 3.0, 0]))
    ground = dropped(raised, [])
    assert ground is not None
    assert ground.box[0, 1] == pytest.approx(0, abs=1e-6)
    on_top = dropped(moved(ball, np.array([0.1, 0, 0.05])), [ground])
    assert on_top is not None
    assert on_top.box[0, 1] == pytest.approx(ground.box[1, 1], abs=0.02)
    # Beside it, nothing is below.
    beside = dropped(moved(ball, np.array([5.0, 2.0, 0])), [ground])
    assert beside is not None
    assert beside.box[0, 1] == pytest.approx(0, abs=1e-6)
    # A box half over the edge of a pole's end would topple.
    assert dropped(moved(box, np.array([0.35, 0, 0])), [pole]) is None


def test_the_same_number_gives_the_same_scene(meshes: MeshFolder) -> None:
    first, second = compose(meshes, 5), compose(meshes, 5)
    assert (first.image == second.image).all()
    assert (first.depth == second.depth).all()
    assert (compose(meshes, 6).image.shape != first.image.shape) or (compose(meshes, 6).image != first.image).any()


@pytest.mark.parametrize("seed", range(4))
def test_a_scene_is_true_to_itself(meshes: MeshFolder, seed: int) -> None:
    scene = compose(meshes, seed)
    shape = scene.ids.shape
    assert scene.image.shape == (*shape, 3)
    assert scene.depth.shape == shape
    assert scene.ids.max() >= 1
    known = np.isfinite(scene.depth)
    assert (scene.depth[known] > 0).all()
    assert (scene.ids[~known] == 0).all()
    lengths = np.linalg.norm(scene.normals, axis=-1)
    assert np.allclose(lengths[known], 1, atol=1e-3)
    assert not lengths[~known].any()
    # Surfaces that are seen face the camera.
    facing = (scene.normals * rays(scene.camera.intrinsics)).sum(axis=-1)
    assert (facing[known] < 1e-4).all()
    rotation = scene.camera.camera_from_world[:3, :3]
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert scene.camera.centre[1] > 0
    # The picture's lower edge is nearer to the ground than its upper one.
    assert rotation[1, 1] < 0


def test_normals_agree_with_depth(meshes: MeshFolder) -> None:
    scene = compose(meshes, 1)
    points = rays(scene.camera.intrinsics) * np.where(np.isfinite(scene.depth), scene.depth, 0)[..., None]
    normals = np.cross(np.gradient(points, axis=0), np.gradient(points, axis=1))
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    cosines = np.abs((normals * scene.normals).sum(axis=-1))[np.isfinite(scene.depth)]
    assert np.median(cosines) > 0.99


def test_scenes_are_written_once_and_read_back(folder: Path, tmp_path: Path) -> None:
    make_scenes(meshes=folder, out=tmp_path, count=2, first=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000003", "000004"]
    scene = compose(mesh_folder(folder), 3)
    read = read_pictures(tmp_path)[0]
    assert (read.image == scene.image).all()
    assert (read.ids == scene.ids).all()
    known = scene.depth < scenes.MAX_DEPTH_M
    assert read.log_depth is not None
    assert read.camera is not None
    assert np.abs(np.exp(read.log_depth) - scene.depth)[known].max() < 0.001
    assert (read.log_depth[~known] == np.inf).all()
    assert np.allclose(read.down, -scene.camera.camera_from_world[:3, 1])
    assert np.allclose(read.camera[0], scene.camera.intrinsics.fx)
    stamp = (tmp_path / "000003" / "image.png").stat().st_mtime_ns
    make_scenes(meshes=folder, out=tmp_path, count=3, first=3)
    assert (tmp_path / "000003" / "image.png").stat().st_mtime_ns == stamp
    assert (tmp_path / "000005").is_dir()
    with pytest.raises(UsageError, match="`count` is 0"):
        make_scenes(meshes=folder, out=tmp_path, count=0)
