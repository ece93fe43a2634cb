"""The list of edits beside a scene, and the scene that it says."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rooms import DESK, room

from scenegen.cli import commands
from scenegen.compute.runtime import Runtime
from scenegen.config import Config
from scenegen.edits.steps import FieldOfViewEdit, LengthEdit, Redo, RegenerateEdit, Step, Undo
from scenegen.errors import InputError, OutdatedError, UsageError
from scenegen.export.glb import read_glb
from scenegen.export.manifest import read_manifest
from scenegen.inputs.photos import Inputs
from scenegen.records import MergeEdit, PaintEdit, RemoveEdit, RenameEdit
from scenegen.store.png import write_png
from scenegen.store.prune import prune
from stages.layers import local_submit
from stages.replay import EditList, begin, read_edits, replay, write_edits
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


def test_only_what_an_edit_changes_is_computed(bench: Any, scene: Path) -> None:
    edit(scene, RegenerateEdit(object=2, seed=7))
    assert again(scene).objects == 3
    assert set(bench.executed) == {"generate 2", "compose", "export", "report"}
    assert [placed.seed for placed in read_manifest(scene).objects] == [0, 7, 0]
    bench.executed.clear()
    edit(scene, RemoveEdit(object=1, shows="background"))
    assert again(scene).objects == 2
    assert bench.executed["edit"] == 1
    assert not {"read", "segment"} & set(bench.executed)
    bench.executed.clear()
    # Earlier edits are not computed again.
    edit(scene, RemoveEdit(object=3, shows="background"))
    again(scene)
    assert bench.executed["edit"] == 1


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


def test_a_known_length_gives_the_metres(tmp_path: Path) -> None:
    truth = room(DESK, size=(160, 120), fov=55.0)
    write_png(tmp_path / "desk.png", truth.image)
    write_png(tmp_path / "masks.png", truth.ids)
    np.save(tmp_path / "depth.npy", 3 * truth.depth)
    settings = ["--set", "texture.size=64", "--set", "generate.resolution=24", "--set", "export.usdz=false"]
    given = ["--masks", str(tmp_path / "masks.png"), "--depth", str(tmp_path / "depth.npy"), "--fov", "55"]
    out = tmp_path / "out"
    photo = str(tmp_path / "desk.png")
    assert commands.main([photo, "-o", str(out), "--preset", "training-free", *settings, *given]) == 0
    before = read_glb(out / "desk" / "scene.glb").objects
    rows, columns = np.nonzero(truth.ids == 1)
    ends = [(columns.min(), rows[columns.argmin()]), (columns.max(), rows[columns.argmax()])]
    places = []
    for column, row in ends:
        ray = [(column + 0.5 - truth.camera.cx) / truth.camera.fx, (row + 0.5 - truth.camera.cy) / truth.camera.fy, 1]
        places.append(np.array(ray) * truth.depth[row, column])
    length = float(np.linalg.norm(places[1] - places[0]))
    (start, end) = [(float(column) + 0.5, float(row) + 0.5) for column, row in ends]
    edit(out / "desk", MergeEdit(objects=(2, 3)), LengthEdit(start=start, end=end, metres=length))
    assert again(out / "desk").objects == 2
    manifest = read_manifest(out / "desk")
    assert manifest.metres is not None
    assert manifest.metres.source == "known length"
    sizes = [np.ptp(parts[0].mesh.vertices, axis=0) for parts in (before, read_glb(out / "desk" / "scene.glb").objects)]
    assert sizes[1] == pytest.approx(sizes[0] / 3, rel=0.02)
    # A length between two places of which one shows nothing says so.
    edit(out / "desk", LengthEdit(start=start, end=(150_00.0, 5), metres=1))
    with pytest.raises(UsageError, match="no depth is known at"):
        again(out / "desk")
