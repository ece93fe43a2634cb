"""The whole: a real server and worker, the deployments of prefect.yaml, a schedule that fires, kills, a cancellation."""

from __future__ import annotations

import csv
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import time
import urllib.error
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from PIL import Image
from site_under_test import ROOT, Deployment, kill, until
from standins import GATE, LEDGER, PAUSE, SLOW

from flows.janitor import HEARTBEAT_S
from scenegen.export.manifest import read_manifest

pytestmark = pytest.mark.slow
WAITS = pytest.mark.skipif(
    "SCENEGEN_LONG_TESTS" not in os.environ,
    reason="waits minutes for heartbeats and the janitor; set SCENEGEN_LONG_TESTS=1",
)

PHOTOS = 12
SEED = 20
LINGER_S = 10.0
"""How long a killed process may take to be gone: its children end with it, not before."""


class Line(NamedTuple):
    """Of the ledger."""

    when: float
    what: str
    stage: str
    key: str
    pid: int


def ledger(site: Deployment) -> list[Line]:
    path = Path(site.extra[LEDGER])
    rows = [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []
    return [Line(float(when), what, stage, key, int(pid)) for when, what, stage, key, pid in rows]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Server, set-up, deployments and worker, by the commands of docs/deployment.md."""
    folder = tmp_path_factory.mktemp("site")
    site = Deployment(folder, extra={LEDGER: str(folder / "ledger"), PAUSE: "1.0", GATE: str(folder / "gate")})
    project = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    nightly, janitor = (
        next(entry for entry in project["deployments"] if entry["name"] == name)
        for name in ("nightly-batch", "janitor")
    )
    nightly["parameters"] = {
        "source": str(folder / "photos"),
        "out": str(folder / "scenes"),
        "fan_out": {"deployment": "photos-to-scenes", "chunk": 4, "in_flight": 2, "tries": 5, "pending_timeout_s": 120},
    }
    janitor["parameters"] = {"silence_s": HEARTBEAT_S * 2}
    for entry in (nightly, janitor):
        entry["schedules"][0]["cron"] = "* * * * *"
    (folder / "prefect.yaml").write_text(yaml.safe_dump(project))
    numbers = random.Random(SEED)
    for number in range(PHOTOS):
        colour = tuple(numbers.randrange(256) for _ in range(3))
        Image.new("RGB", (16, 12), colour).save(folder / "photos" / f"picture-{number:02}.png")
    try:
        site.start_server()
        site.run("-m", "scenegen", "prefect-setup")
        site.run("-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(folder / "prefect.yaml"))
        site.start_worker()
        yield site
    except BaseException:
        print(site.logs())  # noqa: T201 (pytest shows it with the failure)
        raise
    finally:
        site.stop()


@WAITS
def test_a_nightly_batch_survives_kills(site: Deployment) -> None:
    """A cron run fires. While it works, five kills: a device's process, a photo's, a run's, a whole machine, the server."""
    gate = site.folder / "gate"
    # The last photo waits for the last kill: however fast the machine, there is something left to kill.
    gate.write_text(f"picture-{PHOTOS - 1:02}")
    until(lambda: site.runs("batch-scenes"), "the schedule fires")
    until(lambda: [line for line in ledger(site) if line.what == "end"], "a stage has ended")
    dice, kills = random.Random(SEED), []
    victims = ["machine", *dice.sample(["device", "photo", "run", "server"], 4)]
    with site.worker_kept_alive():
        for victim in victims:
            time.sleep(dice.uniform(0.5, 2.0))
            kills.append(until(lambda victim=victim: strike(site, victim), f"there is a {victim} to kill"))
        gate.unlink()
        until(lambda: settled(site), "every photo is done and the batch has ended")
    check_the_scenes(site)
    check_the_ledger(site, kills)
    check_what_the_server_shows(site)


def strike(site: Deployment, victim: str) -> float | None:
    """Kills `victim`, if it is there. Returns when."""
    processes = site.processes()
    busy = busy_children(site)
    if victim == "server":
        assert site.server is not None
        kill(site.server.pid)
        for pid, words in processes.items():
            if "uvicorn" in words or "prefect.server" in words:
                kill(pid)
        site.server.wait()
        when = time.time()
        site.start_server()
        return when
    workers = {pid for pid, words in processes.items() if "stages.workers.child" in words}
    for_photos = {pid for pid in workers if '"devices": []' in processes[pid]}
    if victim == "device":
        found = [pid for pid in busy if pid in workers - for_photos]
    elif victim == "photo":
        found = sorted(for_photos) if busy else []
    else:
        runs = [run for run in site.runs("photos-to-scenes") if run["state_type"] == "RUNNING"]
        found = [pid for run in runs[:1] for pid in site.processes_of(run["id"])] if busy else []
        if victim == "run":
            found = [pid for pid in found if "prefect" in processes.get(pid, "")]
        elif found:
            # The power goes: nobody is left to say that the run has crashed.
            assert site.worker is not None
            found.append(site.worker.pid)
    if not found:
        return None
    if victim in ("device", "photo"):
        found = found[:1]
    when = time.time()
    for pid in found:
        kill(pid)
    return when


def busy_children(site: Deployment) -> list[int]:
    """Processes that are in the middle of a stage."""
    doing: dict[int, Line] = {}
    for line in ledger(site):
        doing[line.pid] = line
    alive = site.processes()
    return [pid for pid, line in doing.items() if line.what == "start" and pid in alive]


def settled(site: Deployment) -> bool:
    done = all((site.folder / "scenes" / f"picture-{number:02}" / "manifest.json").exists() for number in range(PHOTOS))
    runs = site.runs("batch-scenes")
    return done and any(run["state_name"] == "Completed" for run in runs)


def check_the_scenes(site: Deployment) -> None:
    with (site.folder / "scenes" / "batch.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(Path(row["image"]).stem, row["state"], row["error"]) for row in rows] == [
        (f"picture-{number:02}", "complete", "") for number in range(PHOTOS)
    ]
    for number in range(PHOTOS):
        folder = site.folder / "scenes" / f"picture-{number:02}"
        manifest = read_manifest(folder)
        assert len(manifest.objects) == 3
        assert all((folder / file.name).stat().st_size == file.bytes for file in manifest.outputs)
    assert (site.folder / "scenes" / "batch.html").exists()


def check_the_ledger(site: Deployment, kills: list[float]) -> None:
    """Every stage ran once, but those that a kill met in the middle."""
    starts: dict[tuple[str, str], list[Line]] = defaultdict(list)
    ends: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in ledger(site):
        (starts if line.what == "start" else ends)[line.stage, line.key].append(line)
    assert len(starts) == PHOTOS * (4 + 3 + 3)
    again = {key: lines for key, lines in starts.items() if len(lines) > 1}
    for key, lines in again.items():
        for before, after in itertools.pairwise(lines):
            assert any(before.when - LINGER_S <= when <= after.when for when in kills), (key, lines, kills)
    assert all(ends[key] for key in starts)
    # Two runs at a time, one photo each: no kill meets more than two stages.
    assert sum(len(lines) - 1 for lines in again.values()) <= 2 * len(kills)


def check_what_the_server_shows(site: Deployment) -> None:
    batches = site.runs("batch-scenes")
    # The server's death has ended no run, and the schedule has fired meanwhile: those runs have left the work to the first.
    assert {run["state_name"] for run in batches if run["start_time"]} <= {"Completed", "Skipped", "Running", "Pending"}
    (done,) = [run for run in batches if run["state_name"] == "Completed" and "nothing" not in run["state"]["message"]]
    assert done["auto_scheduled"]
    assert done["name"] == str(site.folder / "photos")
    assert done["state"]["message"] == f"{PHOTOS} photos: {PHOTOS} complete"
    assert any(run["state_name"] == "Skipped" and "is at work on it" in run["state"]["message"] for run in batches)
    assert site.ask("POST", "/v2/concurrency_limits/filter", {}) == []
    messages = [
        run["state"]["message"] or "" for run in site.runs("photos-to-scenes") if run["state_type"] == "CRASHED"
    ]
    assert any("No sign of life for" in message for message in messages), messages
    artifacts: list[dict[str, Any]] = site.ask("POST", "/artifacts/filter", {"limit": 200})
    kinds = {
        kind: [entry for entry in artifacts if entry["type"] == kind] for kind in ("table", "progress", "markdown")
    }
    assert str(kinds["table"][0]["data"]).count("complete") >= PHOTOS
    assert max(entry["data"] for entry in kinds["progress"]) == 100
    assert len({entry["key"] for entry in kinds["markdown"]}) == PHOTOS
    lines: list[dict[str, Any]] = site.ask("POST", "/logs/filter", {"limit": 200, "sort": "TIMESTAMP_DESC"})
    told = [line["message"] for line in lines]
    assert any(message.startswith("image=picture-") and " | " in message for message in told), told[:20]
    # No pickle anywhere, and nobody's password.
    assert not [path for path in site.folder.rglob("*") if path.suffix in (".pkl", ".pickle")]
    assert not list((site.folder / "home" / "storage").glob("**/*"))
    assert "a-password" not in str(artifacts) + str(lines) + str(site.runs("batch-scenes"))


def test_who_does_not_say_who_he_is_is_refused(site: Deployment) -> None:
    for user in (None, "admin:wrong"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            site.ask("GET", "/admin/version", user=user)
        assert refused.value.code == 401
    assert site.ask("GET", "/admin/version")
    with pytest.raises(urllib.error.HTTPError) as refused:
        site.ask("POST", "/flow_runs/filter", {}, csrf=False)
    assert refused.value.code == 403
    # Loopback only.
    port = f"{site.port:04X}"
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    assert {fields[1] for fields in listening if fields[3] == "0A" and fields[1].endswith(f":{port}")} == {
        f"0100007F:{port}"
    }


@WAITS
def test_a_crashed_batch_starts_again_and_a_cancelled_one_stops(site: Deployment) -> None:
    """And leaves nothing half-written."""
    folder = site.folder / "slow"
    folder.mkdir()
    (folder / "slow.png").write_text(SLOW)
    out = site.folder / "slow-scenes"
    found = site.ask("GET", "/deployments/name/batch-scenes/batch-scenes")
    body = {"parameters": {"source": str(folder), "out": str(out)}, "state": {"type": "SCHEDULED"}}
    run = site.ask("POST", f"/deployments/{found['id']}/create_flow_run", body)

    def at_work(start: int) -> bool:
        state = site.ask("GET", f"/flow_runs/{run['id']}")
        return state is not None and state["run_count"] >= start and bool(set(busy_children(site)) & of_run())

    def of_run() -> set[int]:
        return set(site.processes_of(run["id"]))

    with site.worker_kept_alive():
        until(lambda: at_work(1), "an object is being made")
        for pid in of_run():
            if "prefect" in site.processes().get(pid, ""):
                kill(pid)
        until(lambda: at_work(2), "the crash is seen and the run has come as far again")
        assert len(of_run()) >= 3  # the run, the photo's process, the object's
        site.ask("POST", f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
        until(
            lambda: (site.ask("GET", f"/flow_runs/{run['id']}") or {}).get("state_type") == "CANCELLED",
            "it is cancelled",
        )
        until(lambda: not of_run(), "its processes are gone")
    assert not (out / "slow").exists()
    assert sorted(path.name for path in out.iterdir()) == [".scenegen"]


def test_bad_parameters_are_refused_by_the_server(site: Deployment) -> None:
    found = site.ask("GET", "/deployments/name/batch-scenes/batch-scenes")
    secret = "s3://key:hunter2@bucket/photos"
    wrong: tuple[dict[str, Any], ...] = (
        {},
        {"source": "/in", "fan_out": {"chunk": 0}},
        {"source": secret},
        {"source": "/in", "out": "https://host/scenes?X-Amz-Signature=hunter2"},
    )
    before = len(site.runs("batch-scenes"))
    for parameters in wrong:
        with pytest.raises(urllib.error.HTTPError) as refused:
            site.ask("POST", f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        assert refused.value.code in (409, 422)
    assert len(site.runs("batch-scenes")) - before <= 1  # the schedule may have fired
    assert "hunter2" not in (site.folder / "logs" / "server").read_text()
    # The form's own defaults are enough for what it asks for.
    site.ask("POST", f"/deployments/{found['id']}/create_flow_run", {"parameters": {"source": "/in"}})


@WAITS
@pytest.mark.skipif(shutil.which("pkill") is None, reason="the line needs `pkill`, of the package procps")
def test_a_stopped_worker_gives_its_runs_back(site: Deployment) -> None:
    """By the line that docs/deployment.md has for the service manager."""
    line = re.search(r"^ExecStop=/bin/sh -c '(.*)'$", (ROOT / "docs" / "deployment.md").read_text(), re.MULTILINE)
    assert line is not None
    folder = site.folder / "stopped"
    folder.mkdir()
    (folder / "slow.png").write_text(SLOW)
    found = site.ask("GET", "/deployments/name/batch-scenes/batch-scenes")
    values = {"source": str(folder), "out": str(site.folder / "stopped-scenes")}
    body = {"parameters": values, "state": {"type": "SCHEDULED"}}
    run = site.ask("POST", f"/deployments/{found['id']}/create_flow_run", body)
    with site.worker_kept_alive():
        until(lambda: set(busy_children(site)) & {*site.processes_of(run["id"])}, "an object is being made")
    assert site.worker is not None
    stop = line[1].replace("$MAINPID", str(site.worker.pid))
    subprocess.run(["/bin/sh", "-c", stop], check=True)
    until(lambda: site.ask("GET", f"/flow_runs/{run['id']}")["state_type"] == "CRASHED", "the run says that it ended")
    os.kill(site.worker.pid, signal.SIGTERM)
    assert site.worker.wait() == 0
    assert not site.processes_of(run["id"])
