"""`benchmarks/views.py`: from meshes to the table, and its measures where the answer is known."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import pytest
import trimesh

from benchmarks.views import COUNTS, DIRECTIONS, Row, _silhouette_iou, _unseen_directions, run, table
from scenegen.evaluate.sampling import Triangles
from scenegen.train.meshes import MeshFile, MeshFolder, mesh_folder
from scenegen.train.samples import parted
from scenegen.train.views import views
from tests.train.folders import save_glb, small_folder


def held_out(folder: Path) -> Path:
    """Meshes to learn from, and a box held out."""
    small_folder(folder)
    names = (name for name in map("held{}.glb".format, count()) if parted(MeshFolder((MeshFile(Path(name)),)))[1].files)
    save_glb(folder / next(names), trimesh.creation.box(extents=(1.0, 0.7, 0.5)), (200, 200, 40))
    return folder


def ball(shift: float) -> Triangles:
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=0.3)
    mesh.apply_translation((0, 0, shift))
    return Triangles(np.asarray(mesh.vertices), np.asarray(mesh.faces, dtype=np.int32))


def test_silhouettes_are_compared_from_all_sides() -> None:
    across, along = np.array([[1.0, 0, 0], [0, 1, 0]]), np.array([[0, 0, 1.0], [0, 0, -1]])
    assert _silhouette_iou(ball(0), ball(0), across) == 1
    assert _silhouette_iou(ball(0.2), ball(0), across) < 0.6
    assert _silhouette_iou(ball(0.2), ball(0), along) > 0.98


def test_directions_are_those_of_no_view(tmp_path: Path) -> None:
    meshes = mesh_folder(small_folder(tmp_path / "meshes"))
    seen = views(meshes, 3, 2, 64)
    directions = _unseen_directions(seen[:1])
    assert directions.shape == (DIRECTIONS, 3)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert (directions @ [0, 0, -1] < 0).all()  # the first camera looks along z


@pytest.mark.slow  # seven shapes of one object
def test_one_command_measures_every_way(tmp_path: Path) -> None:
    (row,) = run(meshes=held_out(tmp_path / "meshes"), objects=1, resolution=48)
    more = [name for name in row.scores if name != "1"]
    assert [name for name in row.scores if name.isdecimal()] == [str(number) for number in COUNTS]
    assert len(more) == 3 * (len(COUNTS) - 1)
    for scores in row.scores.values():
        assert scores["silhouette_iou"] > 0.5
        assert 0 < scores["f_5"] <= 1
    assert row.scores["4"]["silhouette_iou"] > 0.8
    text = table([row, Row(1, "same", row.scores)])
    assert "2 held-out meshes" in text
    assert all(f"| {name} |" in text for name in row.scores)
