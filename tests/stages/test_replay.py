"""The list of edits beside a scene, and the scene that it says."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rooms import DESK, room

from scenegen.cli import commands
from scenegen.compute.runtime import Runtime
from scenegen.config import Config
from scenegen.edits.steps import (
    DistanceEdit,
    FieldOfViewEdit,
    FloorEdit,
    LengthEdit,
    MeshEdit,
    Redo,
    RegenerateEdit,
    Step,
    SupportEdit,
    Undo,
)
from scenegen.errors import InputError, OutdatedError, UsageError
from scenegen.export.glb import read_glb
from scenegen.export.manifest import read_manifest
from scenegen.geometry.generator import USER_MESH
from scenegen.inputs.photos import Inputs
from scenegen.records import MergeEdit, PaintEdit, RemoveEdit, RenameEdit, SplitEdit
from scenegen.store.png import read_png, write_png
from scenegen.store.prune import prune
from scenegen.store.store import STORE
from stages import graph
from stages.layers import local_submit
from stages.replay import EditList, begin, edited_scene, read_edits, replay, write_edits
from stages.run import Result, open_store, photo_to_scene

TIMED = {"manifest.json", "report.html", "edits.json"}


def again(folder: Path) -> Result:
    store = open_store(folder.parent)
    with ThreadPoolExecutor(2) as executor:
        return replay(folder, store, Runtime(), local_submit(store, Runtime(), executor))


def edit(folder: Path, *steps: Step) -> EditList:
    store = open_store(folder.parent)
    edits = read_edits(folder, store)
    for step in steps:
        before, edits = edits.revision, edits.after(step)
        write_edits(folder, store, edits, before)
    return edits


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in TIMED)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def scene(bench: Any, photo: Path, tmp_path: Path) -> Path:
    """A published scene of three stand-ins."""
    store = open_store(tmp_path / "out")
    with ThreadPoolExecutor(2) as executor:
        submit = local_submit(store, Runtime(), executor)
        photo_to_scene(Inputs(photo.stem, photo), Config(), store, Runtime(), submit)
    bench.executed.clear()
    return tmp_path / "out" / "photo"


@pytest.fixture
def remarks(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen first is remarked on, and what was measured is not."""

    def depth(*inputs: Any, config: Any, work: Any) -> Any:
        record = seen.run(*inputs, config=config, work=work)
        return record.model_copy(update={"warnings": ("metres are assumed",)})

    def measure(*inputs: Any, config: Any, work: Any) -> Any:
        return measured.run(*inputs, config=config, work=work).model_copy(update={"warnings": ()})

    seen, measured = graph.DEPTH, graph.MEASURE
    monkeypatch.setattr(graph, "DEPTH", replace(seen, run=depth))
    monkeypatch.setattr(graph, "MEASURE", replace(measured, run=measure))


@pytest.mark.usefixtures("remarks")
def test_what_an_edit_made_untrue_is_not_said_any_more(scene: Path) -> None:
    def said() -> tuple[str, ...]:
        store = open_store(scene.parent)
        with ThreadPoolExecutor(2) as executor:
            submit = local_submit(store, Runtime(), executor)
            return edited_scene(read_edits(scene, store), Runtime(), submit).warnings

    assert said() == ("a warning", "metres are assumed")
    edit(scene, LengthEdit(start=(1, 1), end=(3, 1), metres=1))
    assert said() == ("a warning",)


def test_only_what_an_edit_changes_is_computed(bench: Any, scene: Path) -> None:
    edit(scene, RegenerateEdit(object=2, seed=7))
    assert again(scene).objects == 3
    assert set(bench.executed) == {"generate 2", "compose", "export", "report"}
    assert [placed.seed for placed in read_manifest(scene).objects] == [0, 7, 0]
    bench.executed.clear()
    edit(scene, RemoveEdit(object=1, shows="background"))
    assert again(scene).objects == 2
    once = {"edit", "measure", "layout", "compose", "export", "report"}
    assert bench.executed == dict.fromkeys(once, 1)  # no other object
    bench.executed.clear()
    # Of two objects that become one, that one is made; earlier edits are not computed again.
    edit(scene, MergeEdit(objects=(3, 2)))
    assert again(scene).objects == 1
    assert bench.executed == dict.fromkeys({*once, "outline 3", "generate 3"}, 1)
    bench.executed.clear()
    # Metres, the floor, and where objects are change no object.
    length = LengthEdit(start=(1, 1), end=(5, 5), metres=2)
    edit(scene, length, FloorEdit(at=(4, 5)), SupportEdit(object=3, on="floor"), DistanceEdit(object=3, factor=1.1))
    again(scene)
    assert bench.executed == dict.fromkeys({"measure", "layout", "compose", "export", "report"}, 1)


def test_undo_computes_nothing_and_gives_the_same_bytes(bench: Any, scene: Path) -> None:
    first = contents(scene)
    edit(scene, RemoveEdit(object=1, shows="background"))
    again(scene)
    second = contents(scene)
    assert second != first
    bench.executed.clear()
    edit(scene, Undo())
    again(scene)
    assert contents(scene) == first
    edit(scene, Redo())
    again(scene)
    assert contents(scene) == second
    assert not bench.executed
    # The list itself stays, with every step.
    assert [step.kind for step in read_edits(scene, open_store(scene.parent)).steps] == ["remove", "undo", "redo"]


def test_making_the_photo_again_does_not_undo_edits_unasked(
    bench: Any, photo: Path, scene: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit(scene, RemoveEdit(object=1, shows="background"))
    again(scene)
    edited = contents(scene)
    bench.executed.clear()
    command = [str(photo), "-o", str(scene.parent), "--seed", "3"]
    assert commands.main(command) == UsageError.exit_code
    for way in (f"scenegen replay {scene}", "--edits apply", "--edits discard", "-o"):
        assert way in caplog.text
    assert commands.main([*command, "--edits", "apply"]) == 0
    assert contents(scene) == edited
    assert not bench.executed
    assert commands.main([*command, "--edits", "discard"]) == 0
    assert not (scene / "edits.json").exists()
    assert [placed.seed for placed in read_manifest(scene).objects] == [3, 3, 3]
    # Nothing was edited in a list without steps, and another picture has nothing to do with it.
    edit(scene)
    assert commands.main([*command[:-1], "4"]) == 0
    edit(scene, RenameEdit(object=1, label="mug"))
    photo.write_text("another picture")
    assert commands.main(command) == 0


def test_the_list_is_written_as_it_is_read(scene: Path) -> None:
    edits = edit(scene, RenameEdit(object=1, label="mug"), FieldOfViewEdit(degrees=50))
    store = open_store(scene.parent)
    assert read_edits(scene, store) == edits
    text = (scene / "edits.json").read_text()
    assert text == edits.text()
    assert json.loads(text)["version"] == 1
    # A step is a line, so that a difference shows what was done.
    assert sum(line.lstrip().startswith('{"kind"') for line in text.splitlines()) == 2


def test_somebody_elses_step_is_not_lost(scene: Path) -> None:
    store = open_store(scene.parent)
    both = read_edits(scene, store)
    write_edits(scene, store, both.after(RenameEdit(object=1, label="mug")), 0)
    with pytest.raises(OutdatedError, match="has 1 steps, but 0 were expected"):
        write_edits(scene, store, both.after(RenameEdit(object=2, label="book")), 0)
    assert [step.kind for step in read_edits(scene, store).steps] == ["rename"]


def test_a_photo_can_be_edited_before_it_is_published(bench: Any, photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "photo"
    store = open_store(tmp_path / "out")
    edits = begin(Inputs("photo", photo), Config(), store)
    write_edits(folder, store, edits.after(RemoveEdit(object=1, shows="unknown")), 0)
    assert again(folder).objects == 2
    assert {"scene.glb", "edits.json", "manifest.json"} <= {path.name for path in folder.iterdir()}


def test_a_published_scene_knows_its_edits(scene: Path, tmp_path: Path) -> None:
    edit(scene, RemoveEdit(object=1, shows="unknown"), FieldOfViewEdit(degrees=50))
    again(scene)
    manifest = read_manifest(scene)
    assert manifest.source.edits == (RemoveEdit(object=1, shows="unknown"),)
    assert manifest.config.camera.fov_deg == 50
    # Without the list, the published scene is what one goes on from.
    (scene / "edits.json").unlink()
    assert read_edits(scene, open_store(scene.parent)).source.edits == manifest.source.edits


def test_what_was_painted_is_not_pruned(bench: Any, scene: Path, tmp_path: Path) -> None:
    store = open_store(scene.parent)
    (tmp_path / "mask.png").write_bytes(b"mask")
    mask = store.ingest(tmp_path / "mask.png")
    edit(scene, PaintEdit(object=1, mask=mask), Undo())
    prune(store)
    assert read_edits(scene, store).revision == 2
    store.path(mask).write_bytes(b"more")
    with pytest.raises(InputError, match="no longer holds"):
        read_edits(scene, store)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "damaged at `version`"),
        ({"steps": [{"kind": "undo"}]}, "nothing to undo"),
        ({"steps": [{"kind": "run", "code": "x"}]}, "damaged at `steps.0`"),
        ({"source": {"name": "../x", "photo": {"path": "input/x", "sha256": "0", "bytes": 0}}}, "`source.name`"),
        ({"source": {"name": "x", "photo": {"path": "../x", "sha256": "0", "bytes": 0}}}, "damaged at `source.photo"),
    ],
)
def test_a_damaged_list_is_refused(scene: Path, change: dict[str, Any], said: str) -> None:
    edit(scene, RenameEdit(object=1, label="mug"))
    values = json.loads((scene / "edits.json").read_text()) | change
    (scene / "edits.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=said):
        read_edits(scene, open_store(scene.parent))


def test_the_command_makes_what_the_edits_say(
    scene: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    edit(scene, RemoveEdit(object=1, shows="unknown"))
    assert commands.main(["replay", str(scene)]) == 0
    assert "2 objects" in capsys.readouterr().out
    assert commands.main(["replay", str(scene / "none")]) == 3


# Real stages ----------------------------------------------------------------------------------------------------------


SETTINGS = ["--preset", "training-free"]
SETTINGS += ["--set", "texture.size=64", "--set", "generate.resolution=24", "--set", "export.usdz=false"]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A published scene of three boxes, whose depth was measured three times too far."""
    truth = room(DESK, size=(160, 120), fov=55.0)
    write_png(tmp_path / "desk.png", truth.image)
    write_png(tmp_path / "masks.png", truth.ids)
    np.save(tmp_path / "depth.npy", 3 * truth.depth)
    given = ["--masks", str(tmp_path / "masks.png"), "--depth", str(tmp_path / "depth.npy"), "--fov", "55"]
    assert commands.main([str(tmp_path / "desk.png"), "-o", str(tmp_path / "out"), *SETTINGS, *given]) == 0
    return tmp_path / "out" / "desk"


def made(folder: Path) -> dict[str, str]:
    """What each stage of an object was stored under."""
    return {f"{each.stage} {each.object}": each.key for each in read_manifest(folder).stages if each.object is not None}


def test_an_object_depends_on_no_other_and_the_command_makes_the_same_of_photo_and_edits(desk: Path) -> None:
    before, ids = made(desk), read_png(desk.parent.parent / "masks.png")
    (top, bottom), column = np.flatnonzero((ids == 1).any(1))[[0, -1]], int(np.median(np.nonzero(ids == 1)[1]))
    edit(desk, SplitEdit(object=1, part=4, start=(column, bottom), end=(column, top)))
    store = open_store(desk.parent)
    glb = store.ingest(desk / "scene.glb")
    edit(desk, MeshEdit(object=3, mesh=glb), MeshEdit(object=9, mesh=glb), SupportEdit(object=4, on=1))
    assert again(desk).objects == 4
    after = made(desk)
    assert before["generate 2"] == after["generate 2"]
    assert before["generate 1"] != after["generate 1"]
    placed = {item.id: item for item in read_manifest(desk).objects}
    assert (placed[3].backend, placed[4].support) == (USER_MESH, 1)
    assert "there is no object 9" in " ".join(text for each in read_manifest(desk).stages for text in each.warnings)
    # A new store that has nothing but the user's files gives the same scene.
    other = desk.parent.parent / "other" / "desk"
    shutil.copytree(desk.parent / STORE / "input", other.parent / STORE / "input")
    other.mkdir()
    shutil.copyfile(desk / "edits.json", other / "edits.json")
    again(other)
    assert contents(other) == contents(desk)


def test_a_known_length_gives_the_metres(desk: Path) -> None:
    truth, before = room(DESK, size=(160, 120), fov=55.0), made(desk)
    sizes = [np.ptp(read_glb(desk / "scene.glb").objects[0].mesh.vertices, axis=0)]
    rows, columns = np.nonzero(truth.ids == 1)
    ends = [(columns.min(), rows[columns.argmin()]), (columns.max(), rows[columns.argmax()])]
    places = []
    for column, row in ends:
        ray = [(column + 0.5 - truth.camera.cx) / truth.camera.fx, (row + 0.5 - truth.camera.cy) / truth.camera.fy, 1]
        places.append(np.array(ray) * truth.depth[row, column])
    length = float(np.linalg.norm(places[1] - places[0]))
    (start, end) = [(float(column) + 0.5, float(row) + 0.5) for column, row in ends]
    edit(desk, LengthEdit(start=start, end=end, metres=length))
    assert again(desk).objects == 3
    manifest = read_manifest(desk)
    assert manifest.metres is not None
    assert manifest.metres.source == "known length"
    assert {key: made(desk)[key] for key in before} == before
    sizes.append(np.ptp(read_glb(desk / "scene.glb").objects[0].mesh.vertices, axis=0))
    assert sizes[1] == pytest.approx(sizes[0] / 3, rel=0.02)
    # A length between two places of which one shows nothing says so.
    edit(desk, LengthEdit(start=start, end=(150_00.0, 5), metres=1))
    with pytest.raises(UsageError, match="no depth is known at"):
        again(desk)
