"""The whole: a real server and worker, the deployments of prefect.yaml, a schedule that fires, kills, a cancellation."""

from __future__ import annotations

import csv
import os
import random
import re
import shutil
import signal
import subprocess
import time
import urllib.error
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kills import busy_children, check_the_ledger, ledger, strike
from PIL import Image
from postgres_under_test import Postgres, programs
from several_servers import SeveralServers
from site_under_test import HURRY, ROOT, Deployment, deployed, until
from standins import GATE, LEDGER, PAUSE, SLOW

from scenegen.compute.runtime import POOLS
from scenegen.export.manifest import read_manifest

pytestmark = pytest.mark.slow

PHOTOS = 4
AT_ONCE = 2
SEED = 20


class Kind(NamedTuple):
    """Of a site."""

    server: str
    hurry: bool
    """With heartbeats, and all that waits for them, of seconds instead of minutes."""


KINDS = [Kind("sqlite", hurry=True)]
if "SCENEGEN_LONG_TESTS" in os.environ:
    KINDS += [Kind("postgresql", hurry=True), Kind("several", hurry=True)]
    KINDS += [Kind("sqlite", hurry=False), Kind("postgresql", hurry=False)]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind.server}-{'hurry' if kind.hurry else 'as-is'}")
def site(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Deployment]:
    kind: Kind = request.param
    if kind.server != "sqlite" and programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    if kind.server == "several" and (shutil.which("redis-server") is None or find_spec("prefect_redis") is None):
        pytest.skip("Redis is not installed: apt-get install redis-server && pip install '.[redis]'")
    folder = tmp_path_factory.mktemp("site")
    extra = {LEDGER: str(folder / "ledger"), PAUSE: "0.5", GATE: str(folder / "gate")}
    database = None if kind.server == "sqlite" else Postgres.new()
    made = SeveralServers if kind.server == "several" else Deployment
    site = made(folder, extra={**extra, **({HURRY: "1"} if kind.hurry else {})}, database=database)
    numbers = random.Random(SEED)
    for number in range(PHOTOS):
        colour = tuple(numbers.randrange(256) for _ in range(3))
        Image.new("RGB", (16, 12), colour).save(folder / "photos" / f"picture-{number:02}.png")
    pending = 30 if kind.hurry else 120
    with deployed(
        site,
        nightly_s=20 if kind.hurry else 120,
        janitor_s=10 if kind.hurry else 120,
        chunk=PHOTOS // AT_ONCE,
        in_flight=AT_ONCE,
        tries=5,
        pending_timeout_s=pending,
    ):
        # It works where there is something for it to do: its runs, one after another, would be most of what the machine does.
        site.set_schedule("janitor/janitor", on=False)
        yield site


def test_a_nightly_batch_survives_kills(site: Deployment) -> None:
    """It is started by the schedule. While it works, five kills: a device's process, a photo's, a run's, the server, and the
    whole machine with the worker and all runs, the batch's too."""
    gate = site.folder / "gate"
    # The last photo waits for the last kill: however fast the machine, there is something left to kill.
    gate.write_text(f"picture-{PHOTOS - 1:02}")
    until(lambda: [run for run in site.runs("batch-scenes") if run["start_time"]], "the schedule has fired")
    # Once is enough: a machine that is too busy for one firing would never come to the end of them.
    site.set_schedule("batch-scenes/nightly-batch", on=False)
    until(lambda: [line for line in ledger(site) if line.what == "end"], "a stage has ended")
    nightly = site.ask("GET", "/deployments/name/batch-scenes/nightly-batch")
    start_batch(site, nightly["parameters"], deployment="nightly-batch")
    until(
        lambda: "Skipped" in {run["state_name"] for run in site.runs("batch-scenes")}, "a second one finds it at work"
    )
    dice, kills = random.Random(SEED), []
    victims = [*dice.sample(["device", "photo", "run", "server"], 4), "machine"]
    with site.worker_kept_alive():
        for victim in victims:
            time.sleep(dice.uniform(0.2, 1.0))
            kills.append(until(lambda victim=victim: strike(site, victim), f"there is a {victim} to kill"))
        gate.unlink()
        site.set_schedule("janitor/janitor", on=True)
        until(lambda: settled(site), "every photo is done and the batch has ended")
        site.set_schedule("janitor/janitor", on=False)
    check_the_scenes(site)
    check_the_ledger(site, kills, stages=PHOTOS * (4 + 3 + 3), at_once=AT_ONCE)
    check_what_the_server_shows(site)


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


def check_what_the_server_shows(site: Deployment) -> None:
    batches = site.runs("batch-scenes")
    done = [run for run in batches if run["state_name"] == "Completed"]
    assert any(run["auto_scheduled"] for run in batches)
    assert {run["name"] for run in done} == {str(site.folder / "photos")}
    assert {run["state"]["message"] for run in done} == {f"{PHOTOS} photos: {PHOTOS} complete"}
    assert any("is at work on it" in (run["state"]["message"] or "") for run in batches)
    # The machine took its batch with it: the janitor has noticed, and started it again.
    assert any(run["run_count"] > 1 for run in batches)
    assert site.ask("POST", "/v2/concurrency_limits/filter", {}) == []
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


def start_batch(site: Deployment, parameters: dict[str, Any], deployment: str = "batch-scenes") -> str:
    """The id of its run."""
    found = site.ask("GET", f"/deployments/name/batch-scenes/{deployment}")
    key = parameters["out"]
    body = {"parameters": parameters, "state": {"type": "SCHEDULED"}, "idempotency_key": key}
    run_id: str = site.ask("POST", f"/deployments/{found['id']}/create_flow_run", body)["id"]
    return run_id


@pytest.mark.skipif(shutil.which("pkill") is None, reason="the line needs `pkill`, of the package procps")
def test_a_stopped_worker_gives_its_runs_back_and_a_cancelled_one_leaves_nothing(site: Deployment) -> None:
    """Stopped by the line that docs/deployment.md has for the service manager."""
    line = re.search(r"^ExecStop=/bin/sh -c '(.*)'$", (ROOT / "docs" / "deployment.md").read_text(), re.MULTILINE)
    assert line is not None
    folder, out = site.folder / "slow", site.folder / "slow-scenes"
    folder.mkdir()
    (folder / "slow.png").write_text(SLOW)
    run_id = start_batch(site, {"source": str(folder), "out": str(out)})

    def run() -> dict[str, Any]:
        return site.ask("GET", f"/flow_runs/{run_id}") or {}

    def at_work(start: int) -> bool:
        return run().get("run_count", 0) >= start and bool({*busy_children(site)} & {*site.processes_of(run_id)})

    with site.worker_kept_alive():
        until(lambda: at_work(1), "an object is being made")
    assert site.worker is not None
    # How long the run takes to say that it ended is waited for below.
    stop = line[1].replace("$MAINPID", str(site.worker.pid)).replace("sleep 20", "sleep 1")
    subprocess.run(["/bin/sh", "-c", stop], check=True)
    until(lambda: run().get("state_type") in ("CRASHED", "SCHEDULED"), "the run says that it ended")
    assert site.worker.wait() == -signal.SIGKILL
    until(lambda: not site.processes_of(run_id), "its processes are gone")
    site.set_schedule("janitor/janitor", on=True)
    with site.worker_kept_alive():
        until(lambda: at_work(2), "the run has come as far again")
        site.set_schedule("janitor/janitor", on=False)
        assert len(site.processes_of(run_id)) >= 3  # the run, the photo's process, the object's
        site.ask("POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING"}})
        until(lambda: run().get("state_type") == "CANCELLED", "it is cancelled")
        until(lambda: not site.processes_of(run_id), "its processes are gone")
    assert not (out / "slow").exists()
    assert sorted(path.name for path in out.iterdir()) == [".scenegen"]


def test_a_batch_that_outlasts_every_lease_does_not_notice_a_restart(site: Deployment) -> None:
    """Prefect's own leases end after 225 s, its default heartbeats come every 180 s."""
    if HURRY in site.extra:
        pytest.skip("takes four minutes; set SCENEGEN_LONG_TESTS=1")
    folder, gate = site.folder / "long", site.folder / "gate"
    folder.mkdir()
    Image.new("RGB", (16, 12), "white").save(folder / "gated.png")
    gate.write_text("gated")
    values = {"source": str(folder), "out": str(site.folder / "long-scenes")}
    run_id = start_batch(site, {**values, "fan_out": {"deployment": "photos-to-scenes"}})
    with site.worker_kept_alive():
        until(lambda: busy_children(site), "an object is being made")
        begun = time.monotonic()
        strike(site, "server")
        time.sleep(begun + 240 - time.monotonic())
        gate.unlink()
        until(lambda: site.ask("GET", f"/flow_runs/{run_id}")["state_type"] == "COMPLETED", "the batch is done")
    (photos,) = [run for run in site.runs("photos-to-scenes") if run["name"] == "gated"]
    batch = site.ask("GET", f"/flow_runs/{run_id}")
    assert [(run["state_type"], run["run_count"]) for run in (batch, photos)] == [("COMPLETED", 1)] * 2


def test_what_was_made_is_listed_and_removed(site: Deployment) -> None:
    """Nothing else is on the server of what may concern others: no automation, limit, block or variable."""
    for kind in ("automations", "concurrency_limits", "v2/concurrency_limits", "block_documents", "variables"):
        assert site.ask("POST", f"/{kind}/filter", {}) == []
    assert {pool["name"] for pool in site.ask("POST", "/work_pools/filter", {})} == set(POOLS)
    made = {f"removed deployment {entry['name']}" for entry in site.ask("POST", "/deployments/filter", {})}
    made |= {f"removed work pool {pool}" for pool in POOLS}
    theirs = site.ask("POST", "/work_pools/", {"name": "theirs", "type": "process"})
    # As the page says: a worker that runs makes its pool again.
    assert site.worker is not None
    site.worker.kill()
    site.worker.wait()
    assert set(site.run("-m", "scenegen", "prefect-setup", "--remove").splitlines()) == made
    assert site.ask("POST", "/deployments/filter", {}) == []
    assert [pool["id"] for pool in site.ask("POST", "/work_pools/filter", {})] == [theirs["id"]]
