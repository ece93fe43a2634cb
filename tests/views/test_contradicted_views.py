"""An object that several photos put elsewhere than its main view shows it is made from that view alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import standins

from scenegen.compute.runtime import Runtime
from scenegen.config import Config
from scenegen.edits.steps import FieldOfViewEdit, RegenerateEdit
from scenegen.errors import InputError, UsageError
from scenegen.export.manifest import Manifest, read_manifest
from scenegen.inputs.photos import Inputs
from scenegen.inputs.sources import list_scenes
from scenegen.records import (
    LockEdit,
    ObjectMesh,
    Perceived,
    Registered,
    Removed,
    Report,
    Scene,
    Scores,
    Views,
    ViewScores,
)
from stages import graph
from stages.batch import pending, plan, run_item, standing
from stages.compose import LEAST_IOU
from stages.layers import local_submit
from stages.replay import read_edits, replay, write_edits
from stages.run import open_store, photo_to_scene
from stages.stage import Stage, Work

OBJECTS = (1, 2)


def register(perceived: Perceived, *, config: Any, work: Work) -> Registered:
    return Registered(
        scene=perceived.scene,
        items=perceived.items,
        left_out=(),
        matches=perceived.items[0].photo.image,
        backend="given",
        licence="none",
    )


def measure_views(views: Views, *, config: Any, work: Work) -> Views:
    return views


def match(registered: Registered, removed: Removed, *, config: Any, work: Work) -> Views:
    """The second photo shows both objects best, and the first shows them too: of the second one a fragment only."""
    first, second = registered.items
    areas = {1: 80, 2: 5}
    items = tuple(item.model_copy(update={"area": areas[item.id]}) for item in first.instances.items)
    larger = tuple(item.model_copy(update={"area": 100}) for item in second.instances.items)
    return Views(
        scene=registered.scene,
        items=(
            first.model_copy(update={"instances": first.instances.model_copy(update={"items": items})}),
            second.model_copy(update={"instances": second.instances.model_copy(update={"items": larger})}),
        ),
        made_from=tuple((number, 1) for number in OBJECTS),
    )


@standins.recorded
def generate_from_views(*inputs: Any, config: Any, work: Work) -> ObjectMesh:
    *given, views = inputs
    made: ObjectMesh = standins.generate.__wrapped__(*given, config=config, work=work)
    return made.model_copy(update={"backend": f"from {len(views.items)} views"})


def compose(*inputs: Any, config: Any, work: Work) -> Scene:
    """What is made from both photos lies elsewhere in the first."""
    *given, views = inputs
    scene: Scene = standins.compose(*given, config=config, work=work)
    objects = []
    for item in scene.objects:
        here = 0.9 if item.backend == "inflate" else LEAST_IOU - 0.01
        scores = tuple(
            ViewScores(photo=name, scores=Scores(silhouette_iou=iou, depth_error=None, colour_psnr=None))
            for name, iou in (("a", here), ("b", 0.9))
        )
        objects.append(item.model_copy(update={"views": scores}))
    return scene.model_copy(update={"objects": tuple(objects), "warnings": tuple(f"{n} alone" for n in views.alone)})


def report(*inputs: Any, config: Any, work: Work) -> Report:
    *given, _ = inputs
    found: Report = standins.report(*given, config=config, work=work)
    return found


def test_a_folder_for_each_scene_is_made_once(stages: standins.Bench, tmp_path: Path) -> None:
    for scene in ("desk", "shelf"):
        (tmp_path / "shots" / scene).mkdir(parents=True)
        for photo in ("a", "b"):
            (tmp_path / "shots" / scene / f"{photo}.jpg").write_text(f"picture {scene} {photo}")
    out = tmp_path / "out"
    job = plan(str(out), Config(), Runtime(), several=True)
    items = list_scenes(str(tmp_path / "shots")).items
    rows = [run_item(item, job) for item in items]
    assert [(row.name, row.state, row.objects) for row in rows] == [("desk", "complete", 2), ("shelf", "complete", 2)]
    assert [given.given.photo for given in read_manifest(out / "desk").others] == ["b.jpg"]
    stages.executed.clear()
    assert not pending(items, standing(items, job))
    assert [run_item(item, job) for item in items] == rows
    assert not stages.executed
    Path(items[0].others[0]).write_text("another picture")
    assert [item.name for item in pending(items, standing(items, job))] == ["desk"]


@pytest.fixture
def stages(bench: standins.Bench, monkeypatch: pytest.MonkeyPatch) -> standins.Bench:
    bench.objects = len(OBJECTS)
    for stage in (
        Stage("register", Registered, register),
        Stage("match", Views, match),
        Stage("compose", Scene, compose),
        Stage("report", Report, report),
    ):
        monkeypatch.setattr(graph, stage.name.upper(), stage)
    monkeypatch.setattr(graph, "MEASURE_VIEWS", Stage("measure", Views, measure_views))
    monkeypatch.setattr(graph, "GENERATE_FROM_VIEWS", Stage("generate", ObjectMesh, generate_from_views))
    return bench


def made(folder: Path, **settings: Any) -> Manifest:
    for name in ("a", "b"):
        (folder / f"{name}.jpg").write_text(name)
    store, runtime = open_store(folder / "out"), Runtime()
    inputs = Inputs("a", folder / "a.jpg", others=(Inputs("b", folder / "b.jpg"),), scene="desk")
    with ThreadPoolExecutor(1) as executor:
        photo_to_scene(inputs, Config.model_validate(settings), store, runtime, local_submit(store, runtime, executor))
    return read_manifest(folder / "out" / "desk")


def test_an_object_elsewhere_than_its_main_view_shows_it_is_made_from_that_one(
    stages: standins.Bench, tmp_path: Path
) -> None:
    manifest = made(tmp_path)
    # Of the second object the first photo shows too little to say where it is.
    assert [(item.id, item.backend) for item in manifest.objects] == [(1, "inflate"), (2, "from 2 views")]
    assert [entry.warnings for entry in manifest.stages if entry.stage == "compose"] == [("1 alone",)]
    assert manifest.state == "complete"


def test_edits_of_the_first_photo_are_replayed_with_all_photos(stages: standins.Bench, tmp_path: Path) -> None:
    before = made(tmp_path)
    folder, store, runtime = tmp_path / "out" / "desk", open_store(tmp_path / "out"), Runtime()
    edits = read_edits(folder, store).after(RegenerateEdit(object=2, seed=7)).after(LockEdit(object=1, locked=True))
    write_edits(folder, store, edits, 0)
    with pytest.raises(UsageError, match="several photos show this scene"):
        edits.after(FieldOfViewEdit(degrees=50))
    stages.executed.clear()
    with ThreadPoolExecutor(1) as executor:
        replay(folder, store, runtime, local_submit(store, runtime, executor))
    after = read_manifest(folder)
    assert (after.name, after.others, after.given) == ("desk", before.others, before.given)
    assert [item.seed for item in after.objects] == [0, 7]
    assert [read["stage"] for read in (entry.model_dump() for entry in after.stages)].count("read") == 2
    assert "read" not in stages.executed
    # Another photo that was lost is told.
    store.path(after.others[0].source.photo).unlink()
    with pytest.raises(InputError, match="no longer holds"):
        read_edits(folder, store)


def test_an_object_that_cannot_be_made_from_its_main_view_fails_alone(stages: standins.Bench, tmp_path: Path) -> None:
    stages.errors["generate 1"] = ValueError("no surface")
    manifest = made(tmp_path)
    assert [item.id for item in manifest.objects] == [2]
    assert [(failure.object, failure.stage) for failure in manifest.failures] == [(1, "generate")]


def test_a_known_length_measures_all_photos_at_once(stages: standins.Bench, tmp_path: Path) -> None:
    length = {"start": (1, 1), "end": (2, 1), "metres": 2.0}
    manifest = made(tmp_path, camera={"known_length": length})
    stages_of_depth = [entry.stage for entry in manifest.stages if entry.stage in ("depth", "match", "measure")]
    assert stages_of_depth == ["depth", "depth", "match", "measure"]
