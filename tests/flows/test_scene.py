"""The flows: the same graph, every stage one task run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from injected import check_failures, one_object_each

from flows.parameters import Making
from scenegen.errors import InputError, ResourceError
from scenegen.export.manifest import read_manifest

PATIENCE_S = 300.0
"""For the server to hear of what has ended: hundreds of times what it takes on an idle machine."""

pytestmark = pytest.mark.slow

HERE = Making(isolate=False)
"""The stand-ins are closures, which no other process can have."""


def task_runs() -> Counter[str]:
    """Names of all task runs the server knows that are completed."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import TaskRun

    with get_client(sync_client=True) as client:
        runs: list[TaskRun] = client.read_task_runs(limit=200)
    return Counter(run.name for run in runs if run.state_name == "Completed")


def last_run() -> dict[str, Any]:
    """The flow run that began last, as the server has it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
    found: dict[str, Any] = run.model_dump(mode="json")
    return found


def graph(run_id: str) -> dict[str, set[str]]:
    """What Prefect draws of a flow run: the names of the tasks that each task comes after."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        drawn = client.request("GET", "/flow_runs/{id}/graph-v2", path_params={"id": run_id}).json()
    nodes = {node["id"]: node for _, node in drawn["nodes"]}
    return {node["label"]: {nodes[parent["id"]]["label"] for parent in node["parents"]} for node in nodes.values()}


def settled(expected: Counter[str]) -> Counter[str]:
    """The completed task runs, once they are as many as expected: the server hears of them with some delay."""
    end = time.monotonic() + PATIENCE_S
    while (found := task_runs()).total() < expected.total() and time.monotonic() < end:
        time.sleep(0.1)
    return found


def test_every_stage_is_one_task_run(server: None, bench: Any, photo: Path, tmp_path: Path) -> None:
    from flows.scene import image_to_scene

    before = task_runs()
    out = tmp_path / "out"
    result = image_to_scene(str(photo), str(out), making=HERE.model_copy(update={"settings": {"seed": 3}}))
    assert result == {"folder": str(out / "photo"), "objects": 3, "silhouette_iou": 0.92, "state": "complete"}
    names = ["read", "segment", "depth", "layout", "generate-1", "generate-2", "generate-3"]
    expected = Counter(["fetch", *names, "compose", "export", "report", "deliver"])
    assert settled(before + expected) - before == expected
    assert all(count == 1 for count in bench.executed.values())
    assert read_manifest(out / "photo").config.seed == 3
    assert not list(tmp_path.glob("**/*.pkl"))
    run = last_run()
    assert (run["name"], run["state"]["message"]) == (
        "photo",
        f"complete: 3 objects, silhouette IoU 0.920, {out / 'photo'}",
    )
    end = time.monotonic() + PATIENCE_S
    while not all((edges := graph(run["id"]))[name] for name in expected if name != "fetch"):
        assert time.monotonic() < end, edges
        time.sleep(0.5)
    assert edges == {
        "fetch": set(),
        "read": {"fetch"},
        "segment": {"read"},
        "depth": {"segment"},
        "layout": {"depth"},
        **{name: {"layout"} for name in ("generate-1", "generate-2", "generate-3")},
        "compose": {"generate-1", "generate-2", "generate-3"},
        "export": {"compose"},
        "report": {"export"},
        "deliver": {"report"},
    }
    # Again: the tasks run, and find everything in the store.
    bench.executed.clear()
    assert image_to_scene(str(photo), str(out), making=HERE.model_copy(update={"settings": {"seed": 3}})) == result
    assert not bench.executed


def test_a_failed_object_and_a_failed_photo(server: None, bench: Any, photo: Path, tmp_path: Path) -> None:
    from flows.scene import image_to_scene

    bench.errors["generate 2"] = ValueError("no surface")
    result = image_to_scene(str(photo), str(tmp_path / "out"), making=HERE)
    assert (result["objects"], result["state"]) == (2, "partial")
    assert bench.executed["generate 2"] == 1  # no retry
    bench.errors["layout"] = ResourceError("no memory")
    with pytest.raises(ResourceError, match="no memory"):
        image_to_scene(str(photo), str(tmp_path / "other"), making=HERE)
    with pytest.raises(InputError, match="No such file"):
        image_to_scene(str(tmp_path / "missing.jpg"), str(tmp_path / "out"))


@pytest.mark.parametrize("isolate", [False, True])
def test_each_fault_costs_its_object(
    server: None, bench: Any, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolate: bool
) -> None:
    from scenegen.cli import commands

    monkeypatch.setenv("SCENEGEN_LOCKS", str(tmp_path))
    one_object_each(monkeypatch, bench)
    assert commands.main([str(photo), "-o", str(tmp_path / "out"), "--prefect", *["--isolate"] * isolate]) == 6
    check_failures(read_manifest(tmp_path / "out" / "photo"))


def test_a_task_that_cannot_be_submitted_leaves_its_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from standins import STAGES

    from flows import scene
    from scenegen.compute.runtime import Runtime
    from scenegen.config import ReadConfig
    from scenegen.store.store import Store

    class Unreachable:
        def submit(self, *inputs: Any, **options: Any) -> None:
            raise ConnectionError("no server")

    monkeypatch.setattr(scene, "task", lambda **_: lambda step: Unreachable())
    submit = scene.prefect_submit(Store(tmp_path), Runtime(), 1)
    with ThreadPoolExecutor(1) as executor:
        for _ in range(2):
            begun = executor.submit(submit, STAGES[0], 1, config=ReadConfig(), object_id=1)
            with pytest.raises(ConnectionError):
                begun.result(60)


def test_regenerate_object(server: None, bench: Any, photo: Path, tmp_path: Path) -> None:
    from flows.scene import image_to_scene, regenerate_object

    image_to_scene(str(photo), str(tmp_path / "out"), making=HERE)
    bench.executed.clear()
    regenerate_object(str(tmp_path / "out" / "photo"), 2, seed=5, making=HERE)
    assert set(bench.executed) == {"generate 2", "compose", "export", "report"}
    assert [placed.seed for placed in read_manifest(tmp_path / "out" / "photo").objects] == [0, 5, 0]


def test_command_line_as_a_flow(
    server: None, bench: Any, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from scenegen.cli import commands

    before = task_runs()
    out = tmp_path / "out"
    words = [str(photo), str(tmp_path / "missing.jpg"), "-o", str(out), "--prefect", "--set", "generate.guidance=0.8"]
    assert commands.main(words) == 6
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{out / 'photo'}/report.html: 3 objects, silhouette IoU 0.920, complete, ")
    assert (settled(before + Counter({"read": 12})) - before)["generate-2"] == 1
    assert read_manifest(out / "photo").config.generate.guidance == 0.8
    assert commands.main(["regenerate", str(out / "photo"), "--object", "2", "--prefect"]) == 0
    assert read_manifest(out / "photo").objects[1].seed == 1


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120"),
        ("PREFECT_SERVER_ANALYTICS_ENABLED", "false"),
        ("DO_NOT_TRACK", "1"),
    ],
)
def test_settings_of_prefect_yield_to_the_users(name: str, default: str) -> None:
    code = f"import flows, os; print(os.environ[{name!r}])"
    for given, expected in ((None, default), ("7", "7")):
        environment = {key: value for key, value in os.environ.items() if key != name}
        if given is not None:
            environment[name] = given
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected
