"""`benchmarks/claim.py`: one command from meshes to the table, and its measures where the answer is known."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from benchmarks import claim
from benchmarks.claim import METRICS, Row, operations, rendered, run, scores, shown_views, summary
from scenegen.errors import UsageError
from scenegen.evaluate.sampling import Triangles
from scenegen.train import samples
from scenegen.train.meshes import MeshFile, MeshFolder, mesh_folder
from scenegen.train.samples import parted
from scenegen.train.twins import SETTINGS, TWINS, Twin
from tests.pixal3d.test_compact import SMALL, TinyTrunk
from tests.train.folders import save_glb, small_folder

TINY = replace(SMALL, sampler=replace(SMALL.sampler, steps=2))


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball and a bar to learn from, two more bars held out."""
    folder = small_folder(tmp_path_factory.mktemp("meshes"))
    names = (name for name in map("held{}.glb".format, count()) if parted(MeshFolder((MeshFile(Path(name)),)))[1].files)
    for name, width in zip(names, (0.5, 0.9), strict=False):
        save_glb(folder / name, trimesh.creation.box(extents=(1.0, width, 0.4)), (200, 200, 40))
    return folder


@pytest.fixture(scope="module")
def cache(meshes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four samples, as `prepare` leaves them."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "learned").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "SHARD", 4)
        samples._make_shard(parted(mesh_folder(meshes))[0], folder / "learned", 0, TINY)
    return folder


def test_the_twins_weigh_and_compute_the_same() -> None:
    torch.manual_seed(0)
    twins = [Twin(TinyTrunk(), replace(SETTINGS, trunk_channels=(4, 6)), conditioning) for conditioning in TWINS]
    first, second = (sum(value.numel() for value in twin.parameters()) for twin in twins)
    assert first == second > 2_000_000
    assert operations(twins[0]) == operations(twins[1]) > 2e9


def test_one_command_trains_compares_and_goes_on(
    meshes: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "POINTS", 200)
    monkeypatch.setattr(claim, "RESAMPLES", 50)

    def go(steps: int = 3, only: claim.Conditioning | None = None) -> str | None:
        torch.manual_seed(1)
        return run(
            meshes=meshes,
            cache=cache,
            out=tmp_path,
            steps=steps,
            samples=4,
            views=3,
            batch=2,
            only=only,
            trunk=TinyTrunk(),
            settings=TINY,
        )

    assert go(only="back-projection") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back-projection.pt", "plan.json"]
    before = (tmp_path / "back-projection.pt").read_bytes()
    text = go()
    assert text is not None
    assert (tmp_path / "back-projection.pt").read_bytes() == before
    assert text == (tmp_path / "claim.md").read_text()
    lines = text.splitlines()
    assert lines[0] == "| | cross-attention only | back-projection | paired difference |"
    row = next(line for line in lines if line.startswith("| silhouette IoU |"))
    assert row.count(" to ") == 3
    assert "3 views of" in text
    found = json.loads((tmp_path / "claim.json").read_text())
    assert found["plan"] == {"steps": 3, "samples": 4, "batch": 2, "seed": 0}
    assert (found["learned_meshes"], found["held_out_meshes"]) == (2, 2)
    assert len(found["rows"]) == 3
    assert {tuple(row["scores"]) for row in found["rows"]} == {TWINS}
    assert all(row["mesh"].startswith("held") for row in found["rows"])
    first, second = (found["facts"][conditioning] for conditioning in TWINS)
    assert (first["parameters"], first["operations"]) == (second["parameters"], second["operations"])
    with pytest.raises(UsageError, match="was begun with Plan"):
        go(steps=4)


def test_the_true_shape_scores_best_and_no_shape_worst(meshes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "POINTS", 2000)
    held_out = parted(mesh_folder(meshes))[1]
    (shown,) = shown_views(held_out, 1)
    camera = shown.view.view.crop.intrinsics
    true, picture = claim._cloud(shown.mesh, camera, 0, 0), rendered(shown.mesh, camera)
    # Whatever is seen of the object is part of its whole silhouette.
    seen = shown.view.view.mask.ravel() > 0.9
    assert seen.any()
    assert picture.silhouette[seen].mean() > 0.99
    np.testing.assert_allclose(np.linalg.norm(picture.normals[picture.silhouette], axis=1), 1, atol=1e-6)

    same = scores(shown.mesh, true, picture, shown.unit, camera, 0)
    assert (same["silhouette_iou"], same["f_5"], same["f_5_hidden"]) == (1, 1, 1)
    assert same["normal_error_deg"] == pytest.approx(0, abs=1e-3)
    assert same["chamfer"] is not None
    assert same["chamfer"] < 0.02
    beyond = shown.mesh.vertices + np.array([0, 0, 0.2 * shown.unit])
    moved = scores(Triangles(beyond, shown.mesh.faces), true, picture, shown.unit, camera, 0)
    assert 0.05 < (moved["chamfer"] or 0) < 0.2 + same["chamfer"]
    assert (moved["silhouette_iou"] or 0) < 1
    nothing = scores(None, true, picture, shown.unit, camera, 0)
    assert nothing == {
        "silhouette_iou": 0,
        "normal_error_deg": None,
        "chamfer": None,
        "f_5": 0,
        "f_5_hidden": 0,
    }


def test_the_summary_pairs_views_and_draws_meshes() -> None:
    def row(mesh: str, first: float | None, second: float) -> Row:
        both = zip(TWINS, (first, second), strict=True)
        return Row(0, mesh, {conditioning: dict.fromkeys(METRICS, value) for conditioning, value in both})

    found = summary([row("a", 0.1, 0.4), row("a", 0.3, 0.6), row("b", 0.5, 0.6), row("b", None, 0.9)])["chamfer"]
    assert (found.views, found.meshes) == (3, 2)
    assert [found.twins[conditioning].mean for conditioning in TWINS] == pytest.approx([0.3, 1.6 / 3])
    assert found.difference.mean == pytest.approx(0.7 / 3)
    assert found.difference.interval == pytest.approx((0.1, 0.3))
