"""Folders of meshes, with an index and without."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import trimesh

from scenegen.errors import InputError
from scenegen.train.meshes import CREASE_COS, mesh_folder, read_mesh
from tests.train.folders import save_glb, small_folder


def test_any_folder_of_glbs_is_training_data(tmp_path: Path) -> None:
    small_folder(tmp_path)
    save_glb(tmp_path / "deeper" / "other.glb", trimesh.creation.box(), (1, 2, 3))
    meshes = mesh_folder(tmp_path)
    assert [item.path.name for item in meshes.files] == ["ball.glb", "bar.glb", "other.glb"]
    assert (meshes[0].colors == (220, 30, 30)).all()
    assert meshes[1].longest_side == pytest.approx(1.0)
    assert meshes[1].low[1] == pytest.approx(0)
    assert meshes[1] is meshes[1]


def test_an_index_says_what_belongs_to_which_split(tmp_path: Path) -> None:
    small_folder(tmp_path)
    (tmp_path / "index.csv").write_text(
        "file,split,category,metric_scale\nball.glb,train,ball,1\nbar.glb,heldout,bar,0\n"
    )
    (found,) = mesh_folder(tmp_path).files
    assert (found.category, found.metric) == ("ball", True)
    assert mesh_folder(tmp_path, ("heldout",)).files[0].path.name == "bar.glb"
    with pytest.raises(InputError, match="splits other"):
        mesh_folder(tmp_path, ("other",))
    (tmp_path / "index.csv").write_text("name\nball\n")
    with pytest.raises(InputError, match="without `file`"):
        mesh_folder(tmp_path)


def test_what_is_no_mesh_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \.glb file"):
        mesh_folder(tmp_path)
    broken = tmp_path / "broken.glb"
    broken.write_bytes(b"glTF, it says")
    with pytest.raises(InputError, match=r"broken\.glb.*cannot be read"):
        read_mesh(broken)
    save_glb(tmp_path / "point.glb", trimesh.Trimesh([[0, 0, 0]] * 3, [[0, 1, 2]], process=False), (0, 0, 0))
    with pytest.raises(InputError, match="no triangles"):
        read_mesh(tmp_path / "point.glb")


def test_several_parts_become_one_mesh(tmp_path: Path) -> None:
    scene = trimesh.Scene([trimesh.creation.box(), trimesh.creation.icosphere(1)])
    scene.export(tmp_path / "scene.glb")
    mesh = read_mesh(tmp_path / "scene.glb")
    assert len(mesh.faces) == 12 + 80
    assert mesh.faces.max() == len(mesh.vertices) - 1 == len(mesh.colors) - 1


def test_a_folder_goes_to_another_process_without_what_was_read(tmp_path: Path) -> None:
    meshes = mesh_folder(small_folder(tmp_path))
    assert meshes[0].caster is not None
    other = pickle.loads(pickle.dumps(meshes))
    assert other.files == meshes.files
    assert not other._read
    np.testing.assert_array_equal(other[0].vertices, meshes[0].vertices)


def test_flat_shading_at_creases_and_smooth_shading_elsewhere(tmp_path: Path) -> None:
    meshes = mesh_folder(small_folder(tmp_path))
    ball = meshes[0]
    save_glb(tmp_path / "roof.glb", trimesh.creation.cone(radius=1, height=2, sections=4), (9, 9, 9))
    roof = read_mesh(tmp_path / "roof.glb")
    assert (np.einsum("fcd,fd->fc", roof.corner_normals, roof.face_normals) > CREASE_COS - 1e-6).all()
    outwards = ball.vertices[ball.faces] - [0, 0.5, 0]
    assert (np.einsum("fcd,fcd->fc", ball.corner_normals, outwards / 0.5) > 0.995).all()
    assert ball.digest != roof.digest
