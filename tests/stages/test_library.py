"""scenegen from Python: the same scene as from the command line, and no file but where one is asked for."""

from __future__ import annotations

import gc
import inspect
import json
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from rooms import DESK, room

import scenegen
from scenegen.cli import commands
from scenegen.config import MAX_SEED
from scenegen.errors import InputError, ScenegenError, UsageError
from scenegen.export.manifest import read_manifest
from scenegen.inputs.options import ConfigOptions, InputOptions, PromptOptions, SceneRunOptions
from scenegen.messages import progress
from scenegen.messages.progress import Event, log_event, showing
from scenegen.store.digest import sha256_file
from scenegen.store.png import write_png
from scenegen.store.store import STORE
from stages.library import PhotoScene, load, make, make_views

TIMED = {"manifest.json", "report.html"}
"""They show timings."""
SMALL = ("texture.size=64", "generate.resolution=24", "generate.max_faces=400", "export.usdz=false")
FOV = 55.0


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return folder


def digests(scene: Path) -> dict[str, str]:
    files = sorted(path for path in scene.rglob("*") if path.is_file() and path.name not in TIMED)
    return {path.relative_to(scene).as_posix(): sha256_file(path) for path in files}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PhotoScene]:
    """A photo with its masks and depth, and the scene made of it."""
    folder = tmp_path_factory.mktemp("desk")
    scene = room(DESK, size=(160, 120), fov=FOV)
    write_png(folder / "desk.png", scene.image)
    write_png(folder / "masks.png", scene.ids)
    np.save(folder / "depth.npy", scene.depth)
    given: dict[str, Any] = {"masks": folder / "masks.png", "depth": folder / "depth.npy", "fov": FOV}
    return folder, make(folder / "desk.png", preset="training-free", set=SMALL, **given)


# Real stages ----------------------------------------------------------------------------------------------------------


def test_a_scene_is_meshes_a_graph_and_a_camera(desk: tuple[Path, PhotoScene]) -> None:
    _, scene = desk
    assert [item.id for item in scene.objects] == [1, 2, 3]
    assert scene.failures == ()
    assert set(scene.background) >= {"floor"}
    for item, (extents, base) in zip(scene.objects, DESK, strict=True):
        low, high = item.mesh.bounds
        # The world's origin is below the objects' centre, so only heights and sizes are known.
        assert low[1] == pytest.approx(base[1], abs=0.05)
        assert high[1] - low[1] == pytest.approx(extents[1], rel=0.2)
        assert item.mesh.visual.material.baseColorTexture is not None
        assert item.scores.silhouette_iou > 0.85
        u, v = scene.camera.project(np.asarray(item.mesh.vertices)).T
        assert 0 <= u.min() < u.max() <= 160
        assert 0 <= v.min() < v.max() <= 120
    assert {item.name for item in scene.objects} <= set(scene.graph)
    assert nx.has_path(scene.graph, scene.objects[1].name, scene.objects[2].name)
    assert scene.camera.matrix[0, 2] == 80
    assert set(scene.to_trimesh().geometry) == {item.name for item in scene.objects} | set(scene.background)
    assert "3 objects, complete" in repr(scene)
    assert scene._repr_html_().count("<tr>") == 4


@pytest.mark.slow
def test_saved_it_is_what_the_command_line_writes(
    desk: tuple[Path, PhotoScene], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, scene = desk
    words = [str(folder / "desk.png"), "--masks", str(folder / "masks.png"), "--depth", str(folder / "depth.npy")]
    words += ["--fov", str(FOV), "--preset", "training-free", *(word for text in SMALL for word in ("--set", text))]
    assert commands.main([*words, "-o", str(tmp_path / "cli")]) == 0
    saved = scene.save(tmp_path / "out")
    assert saved == tmp_path / "out" / "desk"
    assert "scene.glb" in digests(saved)
    assert digests(saved) == digests(tmp_path / "cli" / "desk")
    # The command line goes on from there: nothing is computed.
    capsys.readouterr()
    before = {path: path.stat().st_ino for path in saved.rglob("*")}
    assert commands.main([*words, "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert said.count(": already in the store") == 10
    assert {path: path.stat().st_ino for path in saved.rglob("*")} == before


def test_one_object_anew_leaves_the_others(desk: tuple[Path, PhotoScene], tmp_path: Path) -> None:
    _, scene = desk
    first = load(scene.save(tmp_path / "out"))
    before = digests(first.folder)
    again = first.regenerate(1, seed=7)
    assert digests(first.folder) == before
    assert again.objects[0].placed.seed == 7
    after = digests(again.folder)
    same = {name for name in before if before[name] == after[name]}
    assert {name for name in before if name.startswith(("objects/obj_02", "objects/obj_03", "background"))} <= same
    assert f"objects/{scene.objects[0].name}/payload.usdc" not in same
    again.save(tmp_path / "out")
    assert digests(first.folder) == after


def test_a_folder_without_its_store_can_be_looked_at(desk: tuple[Path, PhotoScene], tmp_path: Path) -> None:
    _, scene = desk
    saved = scene.save(tmp_path / "out")
    alone = load(saved.rename(tmp_path / "alone"))
    assert len(alone.objects[0].mesh.faces) == len(scene.objects[0].mesh.faces)
    assert nx.utils.graphs_equal(alone.graph, scene.graph)
    with pytest.raises(InputError, match=r"no longer holds desk\.png"):
        alone.save(tmp_path / "elsewhere")
    (alone.folder / "scene_graph.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"scene_graph\.json cannot be read"):
        _ = load(alone.folder).graph


# Stand-ins ------------------------------------------------------------------------------------------------------------


def test_nothing_is_written_but_to_a_folder_that_goes(
    bench: Any, photo: Path, temporary: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = set(tmp_path.rglob("*"))
    scene = make(photo)
    assert scene.folder.is_relative_to(temporary)
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(temporary)} == before - {temporary}
    del scene
    gc.collect()
    assert not any(temporary.iterdir())
    assert capfd.readouterr() == ("", "")


def test_a_scene_that_fails_leaves_nothing(bench: Any, photo: Path, temporary: Path) -> None:
    bench.errors["layout"] = InputError("`photo` shows nothing.")
    with pytest.raises(InputError, match="shows nothing"):
        make(photo)
    assert not any(temporary.iterdir())


def test_a_lost_object_is_a_failure_of_the_scene(bench: Any, photo: Path) -> None:
    bench.errors["generate 2"] = ValueError("no surface")
    scene = make(photo)
    assert [failure.object for failure in scene.failures] == [2]
    assert scene.manifest.state == "partial"
    del bench.errors["generate 2"]
    bench.executed.clear()
    assert scene.regenerate(2).failures == ()
    assert (bench.executed["generate 1"], bench.executed["generate 2"]) == (0, 1)


def test_saving_keeps_what_the_scene_was_made_from(bench: Any, photo: Path, tmp_path: Path) -> None:
    saved = make(photo, seed=4).save(tmp_path / "out")
    photo.unlink()
    assert read_manifest(saved).config.seed == 4
    bench.executed.clear()
    assert commands.main(["regenerate", str(saved), "--object", "3"]) == 0
    assert bench.executed["generate 3"] == 1
    assert bench.executed["generate 1"] == bench.executed["segment"] == 0
    # Onto itself: nothing to do.
    before = {path: path.stat().st_ino for path in saved.rglob("*")}
    load(saved).save(tmp_path / "out")
    assert {path: path.stat().st_ino for path in saved.rglob("*")} == before


def test_what_the_store_has_lost_is_said(bench: Any, photo: Path, tmp_path: Path) -> None:
    scene = load(make(photo).save(tmp_path / "out"))
    for entry in (tmp_path / "out" / STORE / "report").rglob("entry.json"):
        entry.unlink()
    with pytest.raises(InputError, match="no longer has its files; copy the folder"):
        scene.save(tmp_path / "elsewhere")


def test_a_manifest_that_leaves_the_folder_is_refused(bench: Any, photo: Path, tmp_path: Path) -> None:
    saved = make(photo).save(tmp_path / "out")
    path = saved / "manifest.json"
    values = json.loads(path.read_text())
    values["source"]["name"] = "a/../../b"
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"damaged at `source\.name`"):
        load(saved).save(tmp_path / "out" / "deeper")


def test_options_are_those_of_the_command_line() -> None:
    given = inspect.signature(commands.scene).parameters
    groups = (ConfigOptions, InputOptions, PromptOptions, SceneRunOptions)
    names = {name.removesuffix("_") for group in groups for name in inspect.signature(group).parameters}
    names |= {name for name in given if name not in ("images", "out") and not name.endswith("_options")}
    # A flow is a function of its own, the log is the program's, and only published scenes were edited.
    assert set(inspect.signature(make).parameters) == (names - {"prefect", "edits"}) | {"image", "progress"}


def test_options_of_several_photos_are_those_of_their_command() -> None:
    given = inspect.signature(commands.views).parameters
    groups = (ConfigOptions, InputOptions, SceneRunOptions)
    names = {name.removesuffix("_") for group in groups for name in inspect.signature(group).parameters}
    names |= {name for name in given if name != "out" and not name.endswith("_options")}
    assert set(inspect.signature(make_views).parameters) == (names - {"prefect", "edits", "meshes"}) | {"progress"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"device": "tpu"}, UsageError, "allowed: auto, cpu"),
        ({"jobs": 0}, UsageError, "at least 1"),
        ({"preset": "pixal"}, UsageError, "Did you mean pixal3d"),
        ({"fov": 0}, UsageError, "greater than 1"),
        ({"seed": -1}, UsageError, "`seed`"),
        ({"set": "generate.guidence=1"}, UsageError, "Did you mean guidance"),
        ({"set": ["x"]}, UsageError, "name=value"),
        ({"config": "missing.yaml"}, UsageError, "cannot be read"),
        ({"export": "fbx"}, UsageError, r"export\.formats"),
        ({"ray": "auto", "isolate": True}, UsageError, "contradict"),
        ({"box": "1,2,3"}, UsageError, "x0,y0,x1,y1"),
        ({"point": "1,2", "masks": "m.png"}, UsageError, "contradict"),
        ({"masks": "nowhere"}, InputError, "`masks` nowhere does not exist"),
        ({"depth": "nowhere.npy"}, InputError, "`depth` nowhere.npy does not exist"),
    ],
)
def test_options_are_checked_as_there(
    options: dict[str, Any], error: type[ScenegenError], message: str, photo: Path, temporary: Path
) -> None:
    with pytest.raises(error, match=message):
        make(photo, **options)
    assert not any(temporary.iterdir())


def test_what_is_no_photo_or_scene_is_refused(bench: Any, photo: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jpg does not exist"):
        make(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="is not a folder"):
        load(tmp_path / "none")
    with pytest.raises(InputError, match=r"manifest\.json cannot be read"):
        load(tmp_path)
    scene = make(photo)
    with pytest.raises(UsageError, match="No object 9"):
        scene.regenerate(9)
    with pytest.raises(UsageError, match="at least 1"):
        scene.regenerate(0)
    with pytest.raises(UsageError, match="at most"):
        scene.regenerate(1, MAX_SEED + 1)
    with pytest.raises(UsageError, match="holds a backslash"):
        scene.save(tmp_path / "a\\b")


# The package ----------------------------------------------------------------------------------------------------------


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys; before = set(sys.modules); import scenegen; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in eval(done.stdout)}
    assert loaded - sys.stdlib_module_names == {"scenegen"}
    assert done.stderr == ""


def test_the_packages_say_that_they_are_typed() -> None:
    root = Path(scenegen.__file__).parents[1]
    assert all((root / package / "py.typed").is_file() for package in ("scenegen", "stages", "flows"))


def test_public_names_are_there_and_no_others() -> None:
    assert {name for name in scenegen.__all__ if getattr(scenegen, name).__name__ == name} == set(scenegen.__all__)
    assert set(scenegen.__all__) <= set(dir(scenegen))
    with pytest.raises(AttributeError, match="no attribute 'mak'"):
        _ = scenegen.mak  # type: ignore[attr-defined]


def test_another_package_of_the_same_name_is_said(tmp_path: Path) -> None:
    (tmp_path / "stages.py").write_text("")
    root = Path(scenegen.__file__).parents[1]
    code = f"import sys; sys.path.append({str(root)!r}); import scenegen; scenegen.make"
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert "the package `stages` would be imported from" in done.stderr


# Progress -------------------------------------------------------------------------------------------------------------

EVENTS = (Event("read", None, "running"), Event("read", None, "done", 1.25), Event("generate", 1, "found"))


@pytest.mark.parametrize("wanted", [None, False])
def test_a_plain_script_shows_nothing(wanted: bool | None, capfd: pytest.CaptureFixture[str]) -> None:
    with showing("photo", wanted) as watch:
        assert watch is log_event
        for event in EVENTS:
            watch(event)
    assert capfd.readouterr() == ("", "")


def test_a_plain_script_shows_lines_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    progress.console.cache_clear()
    with showing("photo", True) as watch:
        for event in EVENTS:
            watch(event)
    progress.console.cache_clear()
    assert capsys.readouterr().err.splitlines() == ["read: 1.2 s", "generate 1: found"]


def test_a_notebook_redraws_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[dict[str, str]] = []
    handle = types.SimpleNamespace(update=lambda data, raw: drawn.append(data))
    shown = types.SimpleNamespace(display=lambda data, raw, display_id: handle)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", shown)  # type: ignore[arg-type]
    monkeypatch.setattr(progress, "console", lambda: types.SimpleNamespace(is_jupyter=True, is_terminal=False))
    with showing("photo <1>", None) as watch:
        for event in EVENTS:
            watch(event)
    assert len(drawn) == len(EVENTS)
    assert "read" in drawn[-1]["text/plain"]
    assert "1 of 1 objects" in drawn[-1]["text/plain"]
    assert drawn[-1]["text/html"].startswith("<pre>")
    assert "photo &lt;1&gt;" in drawn[-1]["text/html"]
    with showing("photo", False) as watch:
        assert watch is log_event
