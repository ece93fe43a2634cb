"""Packed meshes are the meshes, but for the rounding of positions."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from scenegen.errors import InputError
from scenegen.train.meshes import mesh_folder, pack_meshes
from scenegen.train.packing import STEPS, Triangles, packed, unpacked
from scenegen.train.samples import parted
from tests.train.folders import small_folder


def corners(mesh: Triangles, unit: float) -> np.ndarray:
    """Positions, in whole units, and colours of all corners, whatever corner and triangle comes first."""
    rows = np.concatenate([np.round(mesh.vertices[mesh.faces] / unit), mesh.colors[mesh.faces]], axis=2)
    turned = [min(tuple(map(tuple, np.roll(triangle, k, axis=0))) for k in range(3)) for triangle in rows]
    return np.array(sorted(turned))


@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 1e4]))
def test_any_triangles_come_back(count: int, seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 20, (40, 3)) / 10
    points[0], points[1] = 0, 1.9
    faces = np.array([rng.choice(40, 3, replace=False) for _ in range(count)] + [[0, 1, 2]], np.int32)
    mesh = Triangles((size * points).astype(np.float32), faces, rng.integers(0, 256, (40, 3)).astype(np.uint8))
    again = unpacked(packed(mesh))
    used = np.unique(faces)
    low, high = mesh.vertices[used].min(axis=0), mesh.vertices[used].max(axis=0)
    assert len(again.vertices) == len(used)
    np.testing.assert_allclose([again.vertices.min(axis=0), again.vertices.max(axis=0)], [low, high], atol=2e-3 * size)
    np.testing.assert_array_equal(corners(again, size / 10), corners(mesh, size / 10))


def test_positions_are_off_by_half_a_step_at_most_and_a_smooth_mesh_is_small() -> None:
    ball = trimesh.creation.icosphere(4)
    mesh = Triangles(
        ball.vertices.astype(np.float32), ball.faces.astype(np.int32), np.full((len(ball.vertices), 3), 90, np.uint8)
    )
    data = packed(mesh)
    again = unpacked(data)
    apart = np.linalg.norm(again.vertices[:, None] - mesh.vertices, axis=2).min(axis=1)
    assert apart.max() < 0.5 * np.sqrt(3) * 2 / STEPS + 1e-6
    assert len(data) < 3 * len(ball.faces)
    volume = trimesh.Trimesh(again.vertices, again.faces, process=False).volume
    assert volume == pytest.approx(ball.volume, rel=1e-3)  # all triangles face as they did


def test_a_pack_is_a_folder_of_meshes_in_one_file(tmp_path: Path) -> None:
    folder = small_folder(tmp_path / "glb")
    (folder / "index.csv").write_text(
        "file,split,category,metric_scale\nball.glb,train,ball,1\nbar.glb,heldout,bar,0\n"
    )
    pack = tmp_path / "all.meshes"
    pack_meshes(meshes=folder, out=pack, splits=("train", "heldout"))
    whole, both = mesh_folder(folder, ("train", "heldout")), mesh_folder(pack, ("train", "heldout"))
    assert [(item.path.name, item.category, item.split, item.metric) for item in whole.files] == [
        (item.path.name, item.category, item.split, item.metric) for item in both.files
    ]
    assert len(mesh_folder(pack)) == 1
    assert [len(part) for part in parted(both)] == [len(part) for part in parted(whole)]
    other = pickle.loads(pickle.dumps(both))
    for index in range(2):
        assert other[index].longest_side == pytest.approx(whole[index].longest_side, rel=1e-3)
        assert (other[index].colors == whole[index].colors[0]).all()
        assert len(other[index].faces) == len(whole[index].faces)
    assert not list(tmp_path.glob("*.partial"))


def test_damaged_packs_are_refused(tmp_path: Path) -> None:
    pack = tmp_path / "all.meshes"
    pack.write_bytes(b"something else")
    with pytest.raises(InputError, match="not a file of packed meshes"):
        mesh_folder(pack)
    pack_meshes(meshes=small_folder(tmp_path / "glb"), out=pack)
    data = pack.read_bytes()
    pack.write_bytes(data[:-40])
    with pytest.raises(InputError, match="damaged"):
        mesh_folder(pack)[1]
    pack.write_bytes(data[:40])
    with pytest.raises(InputError, match="cannot be read"):
        mesh_folder(pack)
    with pytest.raises(InputError, match="cannot be packed"):
        packed(Triangles(np.zeros((3, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros((3, 3), np.uint8)))
