"""One photo from files to a published folder."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scenegen.cli import commands
from scenegen.compute.runtime import Runtime
from scenegen.config import MAX_SEED, Config, load_config
from scenegen.errors import InputError, ResourceError, UsageError
from scenegen.export.manifest import read_manifest
from scenegen.inputs.photos import Inputs
from scenegen.messages.progress import Event, tell_progress
from stages.layers import Watching, local_submit
from stages.run import Result, open_store, photo_to_scene, regenerate
from stages.stage import Layers


def run(photo: Path, out: Path, config: Config | None = None, watch: Any = None, jobs: int = 2) -> Result:
    store, runtime = open_store(out), Runtime()
    with ThreadPoolExecutor(jobs) as executor:
        watching = Watching(watch or (lambda event: None))
        submit = watching.submit(local_submit(store, runtime, executor, Layers((watching.running,))))
        return photo_to_scene(Inputs(photo.stem, photo), config or Config(), store, runtime, submit)


def again(folder: Path, object_id: int, seed: int | None = None) -> Result:
    store, runtime = open_store(folder.parent), Runtime()
    with ThreadPoolExecutor(2) as executor:
        return regenerate(folder, object_id, seed, store, runtime, local_submit(store, runtime, executor))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_publishes_every_file_and_a_manifest_that_describes_them(bench: Any, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(photo, out)
    assert result == Result(folder=str(out / "photo"), objects=3, silhouette_iou=0.92, state="complete")
    files = contents(out / "photo")
    manifest = read_manifest(out / "photo")
    assert {file.name for file in manifest.outputs} == set(files) - {"manifest.json"}
    assert set(files) == {"manifest.json", "scene.glb", "report.html", *(f"objects/thing_{i}.glb" for i in (1, 2, 3))}
    assert manifest.given.photo == "photo.jpg"
    assert [(entry.stage, entry.object) for entry in manifest.stages] == [
        ("read", None),
        ("segment", None),
        ("depth", None),
        ("layout", None),
        ("generate", 1),
        ("generate", 2),
        ("generate", 3),
        ("compose", None),
        ("export", None),
        ("report", None),
    ]
    by_stage = {entry.stage: entry for entry in manifest.stages}
    assert by_stage["segment"].weights == {"net": "revision"}
    assert by_stage["segment"].backend == "embedded"
    assert by_stage["read"].warnings == ("a warning",)
    assert [placed.scale for placed in manifest.objects] == [2, 3, 4]


def test_second_run_executes_nothing_and_touches_nothing(bench: Any, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(photo, out)
    before = {path: path.stat().st_ino for path in (out / "photo").rglob("*")}
    bench.executed.clear()
    assert run(photo, out) == first
    assert not bench.executed
    assert {path: path.stat().st_ino for path in (out / "photo").rglob("*")} == before


def test_failed_object_is_left_out_and_named(bench: Any, photo: Path, tmp_path: Path) -> None:
    bench.errors["generate 2"] = ValueError("no surface")
    result = run(photo, tmp_path)
    assert (result.objects, result.state) == (2, "partial")
    (failure,) = read_manifest(tmp_path / "photo").failures
    assert (failure.stage, failure.object, failure.error) == ("generate", 2, "ValueError: no surface")
    # Once the cause is gone, only what failed is computed again.
    bench.errors.clear()
    bench.executed.clear()
    assert run(photo, tmp_path).state == "complete"
    assert set(bench.executed) == {"generate 2", "compose", "export", "report"}


def test_no_objects_is_partial(bench: Any, photo: Path, tmp_path: Path) -> None:
    bench.objects = 0
    assert run(photo, tmp_path) == Result(
        folder=str(tmp_path / "photo"), objects=0, silhouette_iou=None, state="partial"
    )


def test_failed_stage_publishes_nothing(bench: Any, photo: Path, tmp_path: Path) -> None:
    bench.errors["export"] = ResourceError("no")
    with pytest.raises(ResourceError):
        run(photo, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".scenegen"]


def test_regenerate_changes_one_object_and_keeps_the_others(bench: Any, photo: Path, tmp_path: Path) -> None:
    run(photo, tmp_path)
    before = read_manifest(tmp_path / "photo")
    files = contents(tmp_path / "photo")
    bench.executed.clear()
    again(tmp_path / "photo", 2)
    assert set(bench.executed) == {"generate 2", "compose", "export", "report"}
    after = read_manifest(tmp_path / "photo")
    assert [placed.seed for placed in after.objects] == [0, 1, 0]
    changed = {name for name, data in contents(tmp_path / "photo").items() if data != files[name]}
    assert changed == {"objects/thing_2.glb", "scene.glb", "manifest.json"}
    assert (after.objects[0], after.objects[2]) == (before.objects[0], before.objects[2])
    # A second object: the first override stays, and so does the place it was given.
    again(tmp_path / "photo", 3, seed=7)
    last = read_manifest(tmp_path / "photo")
    assert {name: item.seed for name, item in last.config.objects.items()} == {2: 1, 3: 7}
    assert last.objects[:2] == after.objects[:2]
    again(tmp_path / "photo", 3)
    assert read_manifest(tmp_path / "photo").objects[2].seed == 8


def test_regenerate_keeps_scales_that_a_fresh_run_would_not_give(bench: Any, photo: Path, tmp_path: Path) -> None:
    run(photo, tmp_path)
    path = tmp_path / "photo" / "manifest.json"
    values = json.loads(path.read_text())
    values["objects"][0]["scale"] = 5.5
    path.write_text(json.dumps(values))
    again(tmp_path / "photo", 2)
    assert [placed.scale for placed in read_manifest(tmp_path / "photo").objects] == [5.5, 3.01, 4]


def test_regenerate_takes_an_object_that_had_failed(bench: Any, photo: Path, tmp_path: Path) -> None:
    bench.errors["generate 2"] = ValueError("no surface")
    run(photo, tmp_path)
    bench.errors.clear()
    assert again(tmp_path / "photo", 2).state == "complete"


def test_regenerate_refuses(bench: Any, photo: Path, tmp_path: Path) -> None:
    run(photo, tmp_path)
    folder = tmp_path / "photo"
    with pytest.raises(UsageError, match="objects: 1, 2, 3"):
        again(folder, 4)
    with pytest.raises(InputError, match="cannot be read"):
        again(tmp_path, 1)
    values = json.loads((folder / "manifest.json").read_text())
    for damage, message in (
        ({**values, "schema_version": 2}, "schema version 2"),
        ({**values, "objects": 3}, "damaged at `objects`"),
        ([], "schema version None"),
    ):
        (folder / "manifest.json").write_text(json.dumps(damage))
        with pytest.raises(InputError, match=message):
            again(folder, 1)


def test_regenerate_says_what_stands_on_the_object(
    bench: Any, photo: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(photo, tmp_path)
    path = tmp_path / "photo" / "manifest.json"
    values = json.loads(path.read_text())
    values["objects"][1]["support"], values["objects"][2]["support"] = 1, 2
    path.write_text(json.dumps(values))
    with caplog.at_level("INFO", logger="stages"):
        again(tmp_path / "photo", 1)
    assert "on object 1 stand 2, 3: they stay where they are" in caplog.text


def test_regenerate_names_the_file_the_store_has_lost(bench: Any, photo: Path, tmp_path: Path) -> None:
    run(photo, tmp_path)
    stored = next((tmp_path / ".scenegen" / "input").rglob("*.jpg"))
    stored.unlink()
    with pytest.raises(InputError, match=r"no longer holds photo\.jpg"):
        again(tmp_path / "photo", 1)


@pytest.mark.parametrize("lost", ["generate/*/*/mesh.npz", "export/*/*/colliders.npz"])
def test_regenerate_needs_what_the_others_are(bench: Any, photo: Path, tmp_path: Path, lost: str) -> None:
    run(photo, tmp_path)
    for path in (tmp_path / ".scenegen").glob(lost):
        path.unlink()
    with pytest.raises(InputError, match="its other objects cannot stay as they are"):
        again(tmp_path / "photo", 2)


def test_regenerate_reads_nothing_outside_the_store(bench: Any, photo: Path, tmp_path: Path) -> None:
    run(photo, tmp_path)
    (tmp_path / ".scenegen" / "link.jpg").symlink_to(photo)  # the right bytes, in the wrong place
    path = tmp_path / "photo" / "manifest.json"
    for place, message in (("../photo.jpg", "damaged at `source.photo.path`"), ("link.jpg", "no longer holds")):
        path.write_text(damaged("source", "photo", "path", value=place)(json.loads(path.read_text())))
        with pytest.raises(InputError, match=message):
            again(tmp_path / "photo", 1)


def damaged(*place: Any, value: Any) -> Any:
    """What puts `value` into a manifest."""

    def damage(values: Any) -> str:
        inner = values
        for part in place[:-1]:
            inner = inner[part]
        inner[place[-1]] = value
        return json.dumps(values)

    return damage


DAMAGE = {
    "nothing": lambda values: "",
    "torn": lambda values: json.dumps(values)[:-40],
    "no text": lambda values: "\xff\xfe",
    "deep": lambda values: "[" * 200_000,
    "deep inside": lambda values: json.dumps(values)[:-1] + ', "x": ' + "[" * 200_000 + "]" * 200_000 + "}",
    "version": damaged("schema_version", value="2" * 9000),
    "digits": lambda values: json.dumps(values).replace('"schema_version": 1', '"schema_version": ' + "1" * 6000),
    "zero byte": damaged("source", "photo", "path", value="input/a\0b.jpg"),
    "long name": damaged("source", "photo", "path", value="input/" + "x" * 300),
    "long path": damaged("source", "photo", "path", value="x/" * 5000 + "x"),
    "outside": damaged("source", "photo", "path", value="../photo.jpg"),
    "absolute": damaged("source", "photo", "path", value="/etc/passwd"),
    "folder": damaged("source", "photo", "path", value="input"),
    "mask outside": lambda values: damaged("source", "masks", value=[{**values["source"]["photo"], "path": "../m"}])(
        values
    ),
    "mask not there": lambda values: damaged("source", "masks", value=[{**values["source"]["photo"], "path": "m"}])(
        values
    ),
    "name": damaged("source", "name", value="a/../../b"),
    "zero byte in a name": damaged("source", "name", value="a\0b"),
    "nan": damaged("objects", 0, "scale", value=float("nan")),
    "infinite": damaged("objects", 0, "scale", value=float("inf")),
    "huge": damaged("objects", 0, "scale", value=1e308),
    "negative": damaged("objects", 0, "scale", value=-1),
    "zero": damaged("objects", 0, "scale", value=0),
    "no seed": damaged("config", "objects", value={"2": {"seed": -1}}),
    "config": damaged("config", "export", "density_kg_m3", value=1e300),
    "null": damaged("objects", 0, value=None),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_manifest_is_bad_input_in_one_line(
    bench: Any, photo: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(photo, tmp_path)
    path = tmp_path / "photo" / "manifest.json"
    path.write_text(DAMAGE[name](json.loads(path.read_text())))
    before = contents(tmp_path / "photo")
    assert commands.main(["regenerate", str(tmp_path / "photo"), "--object", "2"]) == InputError.exit_code
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert len(told) < 1500
    assert contents(tmp_path / "photo") == before
    # The main command makes it anew.
    assert run(photo, tmp_path).state == "complete"


def test_after_the_last_seed_comes_the_first(bench: Any, photo: Path, tmp_path: Path) -> None:
    run(photo, tmp_path)
    again(tmp_path / "photo", 2, seed=MAX_SEED)
    again(tmp_path / "photo", 2)
    assert read_manifest(tmp_path / "photo").objects[1].seed == 0


def test_ingests_masks_and_depth(bench: Any, photo: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "d.npy"):
        (tmp_path / name).write_text(name)
    store, runtime = open_store(tmp_path / "out"), Runtime()
    inputs = Inputs("photo", photo, (tmp_path / "a.png", tmp_path / "b.png"), tmp_path / "d.npy")
    with ThreadPoolExecutor(1) as executor:
        photo_to_scene(inputs, Config(), store, runtime, local_submit(store, runtime, executor))
    manifest = read_manifest(tmp_path / "out" / "photo")
    assert (manifest.given.masks, manifest.given.depth) == (("a.png", "b.png"), "d.npy")
    assert [store.path(mask).read_text() for mask in manifest.source.masks] == ["a.png", "b.png"]
    assert manifest.source.depth is not None
    assert store.path(manifest.source.depth).read_text() == "d.npy"


def test_file_names_that_are_no_text(bench: Any, tmp_path: Path) -> None:
    photo = tmp_path / "caf\udce9.jpg"
    photo.write_text("picture")
    store, runtime = open_store(tmp_path / "out"), Runtime()
    with ThreadPoolExecutor(1) as executor:
        photo_to_scene(Inputs("cafe", photo), Config(), store, runtime, local_submit(store, runtime, executor))
    assert read_manifest(tmp_path / "out" / "cafe").given.photo == "caf?.jpg"


def test_every_change_of_state_is_told(bench: Any, photo: Path, tmp_path: Path) -> None:
    bench.errors["generate 2"] = ValueError("no")
    events: list[Event] = []
    run(photo, tmp_path, watch=events.append, jobs=1)
    states: dict[str, list[str]] = {}
    for event in events:
        states.setdefault(event.label, []).append(event.state)
    assert states["read"] == ["waiting", "running", "done"]
    assert states["generate 1"] == ["waiting", "running", "done"]
    assert states["generate 2"] == ["waiting", "running", "failed"]
    events.clear()
    run(photo, tmp_path, watch=events.append, jobs=1)
    assert [event.state for event in events if event.label == "generate 1"] == ["waiting", "found"]
    bench.errors["layout"] = KeyError("x")
    events.clear()
    with pytest.raises(KeyError):
        run(photo, tmp_path, load_config(overrides=["layout.grid=50"]), watch=events.append)
    assert events[-1] == Event("layout", None, "failed")


def test_what_a_long_stage_is_at_comes_with_its_name(bench: Any, photo: Path, tmp_path: Path) -> None:
    enter = bench.enter

    def busy(name: str) -> None:
        enter(name)
        tell_progress(f"in the middle of {name}")

    bench.enter = busy
    events: list[Event] = []
    run(photo, tmp_path, watch=events.append, jobs=2)
    details = {event.label: (event.state, event.detail) for event in events if event.detail}
    assert details["generate 2"] == ("running", "in the middle of generate 2")
    assert details["layout"] == ("running", "in the middle of layout")


def test_objects_run_side_by_side(bench: Any, photo: Path, tmp_path: Path) -> None:
    """Two objects wait for each other: one at a time, they never would meet."""
    bench.objects = 2
    barrier = threading.Barrier(2, timeout=300)
    enter = bench.enter

    def meet(name: str) -> None:
        enter(name)
        if name.startswith("generate"):
            barrier.wait()

    bench.enter = meet
    assert run(photo, tmp_path).objects == 2
