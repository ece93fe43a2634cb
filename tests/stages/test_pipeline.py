"""The whole path on a room of boxes whose truth is known: every stage real, masks and depth given."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from export.khronos import khronos_report
from rooms import DESK, Room, room

from scenegen.camera import transform
from scenegen.compute import waiting
from scenegen.compute.runtime import Runtime
from scenegen.config import Config, load_config
from scenegen.errors import InputError
from scenegen.export import bodies, glb
from scenegen.export.manifest import read_manifest
from scenegen.geometry.mesh import load_mesh
from scenegen.inputs.photos import Inputs
from scenegen.scene import arrange, scoring
from scenegen.scene.graph import from_json
from scenegen.store.png import write_png
from stages import compose, generate, graph
from stages.layers import Submit, local_submit
from stages.run import Result, open_store, photo_to_scene, regenerate
from stages.stage import Layers, Stage

FOV = 55.0
SMALL = ["texture.size=128", "generate.resolution=64", "export.usdz=false", f"camera.fov_deg={FOV}"]


@dataclass
class Desk:
    """A room, its files, and the scene made of it."""

    scene: Room
    inputs: Inputs
    out: Path
    executed: list[str]

    def submit(self, executor: ThreadPoolExecutor) -> Submit:
        """Counts what is executed."""

        @contextlib.contextmanager
        def counted(stage: Stage[Any], config: Any, object_id: int | None) -> Iterator[None]:
            self.executed.append(stage.name)
            yield

        return local_submit(open_store(self.out), Runtime(), executor, Layers((counted,)))

    def mesh_of(self, object_id: int) -> Path:
        """The generated mesh of an object of the published scene."""
        entries = read_manifest(self.out / "desk").stages
        key = next(entry.key for entry in entries if (entry.stage, entry.object) == ("generate", object_id))
        return self.out / ".scenegen" / "generate" / key[:2] / key

    def make(self, config: Config, jobs: int = 2) -> Result:
        self.executed.clear()
        with ThreadPoolExecutor(jobs) as executor:
            return photo_to_scene(self.inputs, config, open_store(self.out), Runtime(), self.submit(executor))


def desk(folder: Path, scene: Room) -> Desk:
    write_png(folder / "desk.png", scene.image)
    write_png(folder / "masks.png", scene.ids)
    np.save(folder / "depth.npy", scene.depth)
    inputs = Inputs(name="desk", photo=folder / "desk.png", masks=(folder / "masks.png",), depth=folder / "depth.npy")
    return Desk(scene, inputs, folder / "out", [])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, Result]:
    it = desk(tmp_path_factory.mktemp("desk"), room(DESK, fov=FOV))
    return it, it.make(load_config(overrides=SMALL))


def another(made: tuple[Desk, Result], folder: Path) -> Desk:
    """The same scene and what is stored of it, to be changed."""
    it, _ = made
    return replace(it, out=Path(shutil.copytree(it.out, folder / "out")), executed=[])


def test_every_object_lies_on_its_pixels_at_its_place(made: tuple[Desk, Result]) -> None:
    it, result = made
    assert (result.objects, result.state) == (3, "complete")
    manifest = read_manifest(Path(result.folder))
    scene_graph = from_json((Path(result.folder) / "scene_graph.json").read_text())
    camera_from_world = np.linalg.inv(np.array(scene_graph.nodes["camera"]["world_from_camera"]))
    for item, true in zip(manifest.objects, it.scene.boxes, strict=True):
        assert item.scores.silhouette_iou > 0.93
        assert item.scores.depth_error is not None
        assert item.scores.depth_error < 0.01
        placed = np.array(item.world_from_object)
        mesh = load_mesh(it.out / ".scenegen" / item.mesh.path)
        vertices = transform(camera_from_world @ placed, mesh.vertices.astype(float))
        extent = np.ptp(vertices[:, 2]) / np.ptp(true.vertices[:, 2])
        assert 0.8 < extent < 1.25
        # The object's own frame: gravity-aligned, its origin at the centre of its base.
        np.testing.assert_allclose(placed[:3, :3], np.eye(3))
        assert mesh.vertices[:, 1].min() == pytest.approx(0, abs=1e-5)
        assert mesh.vertices[:, 0].min() == pytest.approx(-mesh.vertices[:, 0].max(), abs=1e-5)


def test_objects_stand_on_what_carries_them(made: tuple[Desk, Result]) -> None:
    _, result = made
    objects = {item.id: item for item in read_manifest(Path(result.folder)).objects}
    assert {i: item.support for i, item in objects.items()} == {1: 0, 2: 0, 3: 2}
    for i in (1, 2):
        assert objects[i].world_from_object[1][3] == pytest.approx(0, abs=0.01)
    assert objects[3].world_from_object[1][3] == pytest.approx(0.3, abs=0.03)
    scene_graph = from_json((Path(result.folder) / "scene_graph.json").read_text())
    assert "supports" in scene_graph.edges["floor", objects[1].name]["relations"]
    assert scene_graph.edges[objects[2].name, objects[3].name]["relations"]["supports"]["contact_share"] > 0.5
    assert {data["kind"] for _, data in scene_graph.nodes(data=True)} == {"camera", "object", "background"}


def test_everything_promised_is_in_the_folder(made: tuple[Desk, Result]) -> None:
    _, result = made
    folder = Path(result.folder)
    for name in ("scene.glb", "scene.usd", "report.html", "masks.png", "depth.npy", "manifest.json"):
        assert (folder / name).stat().st_size > 0
    manifest = json.loads((folder / "manifest.json").read_text())
    named = {entry["name"] if isinstance(entry, dict) else entry for entry in manifest["outputs"]}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == named | {"manifest.json"}


def test_the_khronos_validator_has_no_complaint(made: tuple[Desk, Result]) -> None:
    _, result = made
    report = khronos_report(Path(result.folder) / "scene.glb")
    assert (report["numErrors"], report["numWarnings"]) == (0, 0)


def test_a_second_run_executes_nothing_and_a_setting_only_what_depends_on_it(made: tuple[Desk, Result]) -> None:
    it, result = made
    assert it.make(load_config(overrides=SMALL)) == result
    assert it.executed == []
    it.make(load_config(overrides=[*SMALL, "export.density_kg_m3=500"]))
    assert it.executed == ["export", "report"]
    it.make(load_config(overrides=[*SMALL, "objects.2.seed=5"]))
    assert it.executed == ["generate", "compose", "export", "report"]
    it.make(load_config(overrides=SMALL))
    assert it.executed == []


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_regenerating_one_object_leaves_the_others_byte_for_byte(
    made: tuple[Desk, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = generate.begin_object

    def larger(*args: Any) -> Any:
        good = real(*args)
        middle = good.mesh.vertices.mean(axis=0)
        return replace(good, mesh=replace(good.mesh, vertices=middle + 1.3 * (good.mesh.vertices - middle)))

    monkeypatch.setattr(generate, "begin_object", larger)
    it = another(made, tmp_path)
    folder = Path(it.make(load_config(overrides=SMALL)).folder)
    before = files_in(folder)
    poses = {item.id: item.world_from_object for item in read_manifest(folder).objects}
    it.executed.clear()
    with ThreadPoolExecutor(2) as executor:
        regenerate(folder, 2, 7, open_store(it.out), Runtime(), it.submit(executor))
    assert it.executed == ["generate", "compose", "export", "report"]
    after = files_in(folder)
    changed = {name for name in before if after.get(name) != before[name]}
    objects = {name for name in changed if name.startswith("objects/")}
    assert any(name.endswith("payload.usdc") for name in objects)
    assert all("obj_02" in name for name in objects)
    assert not any(name.startswith("background/") for name in changed)
    assert {"masks.png", "depth.npy"}.isdisjoint(changed)
    for item in read_manifest(folder).objects:
        assert item.id == 2 or item.world_from_object == poses[item.id]
    # What stands on it would give way to it in a scene made anew.
    it.make(load_config(overrides=[*SMALL, "objects.2.seed=7"]))
    anew = files_in(folder)
    assert any(name.endswith("payload.usdc") and "obj_02" not in name for name in before if anew[name] != before[name])


def test_one_bad_object_does_not_lose_the_others(
    made: tuple[Desk, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = graph.GENERATE

    def fail_on_two(*args: Any, **kwargs: Any) -> Any:
        if 2 in args:
            raise InputError("the object's mask is too small to make a mesh from")
        return real.run(*args, **kwargs)

    monkeypatch.setattr(graph, "GENERATE", replace(real, run=fail_on_two))
    result = another(made, tmp_path).make(load_config(overrides=[*SMALL, "objects.2.seed=9"]))
    assert (result.objects, result.state) == (2, "partial")
    (failure,) = read_manifest(Path(result.folder)).failures
    assert (failure.stage, failure.object) == ("generate", 2)
    assert "too small" in (Path(result.folder) / "report.html").read_text()


def left_out(result: Result) -> dict[int | None, str]:
    """What the scene says of the objects it lacks. Everything it has is published."""
    manifest = read_manifest(Path(result.folder))
    assert (Path(result.folder) / "scene.glb").stat().st_size > 0
    assert len(manifest.objects) + len(manifest.failures) == 3
    return {failure.object: f"{failure.stage}: {failure.error}" for failure in manifest.failures}


@pytest.mark.slow
def test_a_mesh_that_is_none_costs_its_object(
    made: tuple[Desk, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, numbers = generate.begin_object, itertools.count(1)

    def broken(*args: Any) -> Any:
        good, number = real(*args), next(numbers)
        uv = np.where(number == 1, np.float32(np.nan), good.mesh.uv)
        return replace(good, mesh=replace(good.mesh, uv=uv, faces=good.mesh.faces[: 3 if number == 2 else None]))

    monkeypatch.setattr(generate, "begin_object", broken)
    seeds = ["objects.1.seed=9", "objects.2.seed=9"]
    result = another(made, tmp_path).make(load_config(overrides=[*SMALL, *seeds]), jobs=1)
    assert result.state == "partial"
    failures = left_out(result)
    assert "generate: ValueError: the mesh has vertices or texture coordinates that are not finite" in failures[1]
    assert "generate: ValueError: the mesh has 3 triangles with an area" in failures[2]
    assert set(failures) == {1, 2}


@pytest.mark.slow
def test_what_fails_for_one_object_while_composing_costs_that_object(
    made: tuple[Desk, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    it, _ = made
    config = load_config(overrides=[*SMALL, "compose.max_shift=0.2", "export.density_kg_m3=450"])  # not made yet

    def fails(module: Any, name: str, about: Callable[..., bool]) -> set[int | None]:
        real = getattr(module, name)

        def failing(*args: Any, **kwargs: Any) -> Any:
            if about(*args, **kwargs):
                raise AssertionError(f"in {name}")
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, failing)
            result = it.make(config)
        failures = left_out(result)
        stage = "export" if module in (bodies, glb) else "compose"
        assert all(f"{stage}: AssertionError: in {name}" == text for text in failures.values())
        return set(failures)

    assert fails(compose, "_unplaced", lambda item, *_: item.id == 1) == {1}
    assert fails(arrange, "_stood", lambda number, *_: number == 3) == {3}
    assert fails(compose, "save_mesh", lambda mesh, path: path.name.startswith("obj_02")) == {2}
    # Object 1 is in two of the three pairs, any other in one of those that fail.
    assert fails(compose, "_relate_pair", lambda graph, a, b, *_: 1 in (a.id, b.id)) == {1}
    assert fails(scoring, "_scores", lambda *given: bool((given[3] & (it.scene.ids == 3)).any())) == {3}
    # What supports another may be what is missing.
    assert fails(compose, "load_mesh", lambda path: str(it.mesh_of(2)) in str(path)) == {2}
    # What can be composed and not be written is left out as well.
    number = itertools.count()
    assert fails(bodies, "rigid", lambda *_, **__: next(number) == 1) == {2}
    number = itertools.count()
    assert fails(glb, "encode_texture", lambda *_, **__: next(number) < 2) == {1, 2}
    # Nothing of this stays.
    assert it.make(config).objects == 3


def test_a_scene_without_objects_is_its_background(tmp_path: Path) -> None:
    it = desk(tmp_path, room([], fov=FOV))
    it.inputs = replace(it.inputs, masks=())
    result = it.make(load_config(overrides=SMALL))
    assert result.state == "partial"
    assert result.objects == 0
    assert (Path(result.folder) / "scene.glb").stat().st_size > 0


def test_a_stage_that_comes_to_the_same_result_lets_the_rest_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock of which no two intervals are alike: real ones sometimes agree to the millisecond.
    ticks = itertools.count()
    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=lambda: float(next(ticks) ** 2)))
    it = desk(tmp_path, room(DESK[:1], fov=FOV))
    it.make(load_config(overrides=SMALL))
    it.make(load_config(overrides=[*SMALL, "read.timeout_s=59"]))
    assert it.executed == ["read", "report"]  # the report shows the new timing
