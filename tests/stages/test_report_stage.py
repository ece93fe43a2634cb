from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from export.toy_scene import LOST, ToyScene, artifact, toy_scene

from scenegen.compute.runtime import Runtime
from scenegen.config import ReportConfig
from scenegen.errors import ExportError
from scenegen.records import Export, Report
from scenegen.store.png import read_png
from scenegen.store.store import Store
from stages.report import REPORT, disagreements
from stages.stage import execute

NAMES = ["report.html", "masks.png", "depth.npy", "overlay.png", "side.png"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def make(store: Store, toy: ToyScene) -> Report:
    return execute(REPORT, toy.records, ReportConfig(picture_side=200), store, Runtime()).record


def text_of(store: Store, report: Report) -> str:
    return store.path(dict(report.files)["report.html"]).read_text(encoding="utf-8")


def test_it_writes_the_page_and_its_pictures(store: Store) -> None:
    toy = toy_scene(store)
    report = make(store, toy)
    files = {name: store.path(file) for name, file in report.files}
    assert list(files) == NAMES
    assert files["masks.png"].read_bytes() == store.path(toy.instances.masks).read_bytes()
    assert files["depth.npy"].read_bytes() == store.path(toy.depth.depth).read_bytes()
    assert read_png(files["side.png"]).shape == read_png(files["overlay.png"]).shape == (240, 320, 3)


def test_the_overlay_is_the_exported_scene(store: Store) -> None:
    toy = toy_scene(store)
    overlay = read_png(store.path(dict(make(store, toy).files)["overlay.png"])).astype(int)
    photo = read_png(store.path(toy.photo.image)).astype(int)
    ids = read_png(store.path(toy.instances.masks))
    differs = np.abs(overlay - photo).max(axis=-1) > 8
    # Away from the outlines only the object that is not in the file differs.
    inner = cv2.dilate(ids, np.ones((9, 9))) == cv2.erode(ids, np.ones((9, 9)))
    assert differs[inner & (ids == LOST)].all()
    assert np.count_nonzero(inner & (ids != LOST) & (ids > 0)) > 1000
    assert not differs[inner & (ids != LOST)].any()


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    stores = [Store(tmp_path / name) for name in ("one", "two")]
    first, second = (make(store, toy_scene(store)) for store in stores)
    assert first == second


def test_an_agreeing_export_raises_no_warning(store: Store) -> None:
    record = make(store, toy_scene(store))
    assert record.warnings == ()
    text = text_of(store, record)
    assert text.count("the metres are assumed</span>") == 1, "a warning two stages give is shown once"


def test_a_moved_object_in_the_file_is_noticed(store: Store) -> None:
    record = make(store, toy_scene(store, shifted=1))
    text = text_of(store, record)
    found = re.search(r"object 1: silhouette IoU is (0\.\d+) in scene\.glb but 1\.000 in the composed scene", text)
    assert found is not None
    assert float(found[1]) < 0.8
    assert found[0] in record.warnings[0]


def test_disagreements_are_those_beyond_the_tolerance(store: Store) -> None:
    placed = toy_scene(store).scene.objects
    scores = {item.id: item.scores for item in placed}
    assert disagreements(placed, scores) == ()
    near = scores | {2: scores[2].model_copy(update={"silhouette_iou": 0.991})}
    assert disagreements(placed, near) == ()
    far = scores | {2: scores[2].model_copy(update={"silhouette_iou": 0.985})}
    (warning,) = disagreements(placed, far)
    assert warning.startswith("object 2:")


def test_a_scene_without_objects_has_a_page(store: Store) -> None:
    text = text_of(store, make(store, toy_scene(store, objects=False)))
    assert ">Empty</span>" in text
    assert "No object is in the scene." in text
    assert text.count('class="chip poor">Missing<') == 4


def test_an_export_without_glb_is_refused(store: Store) -> None:
    toy = toy_scene(store)
    with pytest.raises(ExportError, match=r"must hold scene\.glb"):
        make(store, replace(toy, export=Export(files=(("scene.usd", toy.scene.graph),))))


def test_a_file_with_other_objects_is_refused(store: Store) -> None:
    toy = toy_scene(store)
    fewer = toy.scene.model_copy(update={"objects": toy.scene.objects[:2]})
    with pytest.raises(ExportError, match=r"object_3.*the scene has \['object_1', 'object_2'\]"):
        make(store, replace(toy, scene=fewer))


@pytest.mark.parametrize("keep", [0, 11, 400])
def test_a_damaged_file_is_refused(store: Store, keep: int) -> None:
    toy = toy_scene(store)
    path = store.root / "toy" / "half.glb"
    path.write_bytes(store.path(toy.export.files[0][1]).read_bytes()[:keep])
    with pytest.raises(ExportError, match=r"is not a GLB"):
        make(store, replace(toy, export=Export(files=(("scene.glb", artifact(store, path)),))))
