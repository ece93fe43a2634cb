"""Batches one after another for a long time, with kills of every kind: nothing is lost, made twice, or left behind."""

from __future__ import annotations

import csv
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kills import check_the_ledger, strike
from PIL import Image
from postgres_under_test import Postgres, programs
from site_under_test import HURRY, Deployment, deployed, until
from standins import LEDGER, PAUSE

from flows.retries import MAX_STARTS
from scenegen.export.manifest import read_manifest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("SCENEGEN_LONG_TESTS" not in os.environ, reason="takes hours; set SCENEGEN_LONG_TESTS=1"),
]

MINUTES = float(os.environ.get("SCENEGEN_SOAK_MINUTES", "120"))
KILL_EVERY_S = float(os.environ.get("SCENEGEN_SOAK_KILL_EVERY_S", "60"))
"""On average; the next kill may come at any moment."""
SEED = 20
PHOTOS = 6
"""Of a batch."""
AT_ONCE = 2
KINDS = ("device", "photo", "run", "batch", "worker", "machine", "server", "database")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Deployment]:
    database = None if programs() is None else Postgres.new()
    extra = {LEDGER: str(tmp_path / "ledger"), PAUSE: "0.3", HURRY: "1"}
    site = Deployment(tmp_path, extra=extra, database=database)
    spread = {"chunk": PHOTOS // AT_ONCE, "in_flight": AT_ONCE, "tries": 10, "pending_timeout_s": 30}
    with deployed(site, nightly_s=60, janitor_s=60, **spread):
        yield site


def test_nothing_is_lost_made_twice_or_left_behind(site: Deployment, capfd: pytest.CaptureFixture[str]) -> None:
    dice = random.Random(SEED)
    names: list[str] = []
    kills: list[tuple[str, float]] = []
    batches, begun = 0, time.monotonic()
    most: Counter[str] = Counter()
    next_kill = begun + dice.expovariate(1 / KILL_EVERY_S)
    with site.worker_kept_alive():
        while time.monotonic() < begun + 60 * MINUTES:
            if all(is_published(site, name) for name in names):
                names += add_photos(site, dice, len(names))
                batches += 1
                most |= held(site)
            if time.monotonic() >= next_kill:
                victim = dice.choice([kind for kind in KINDS if kind != "database" or site.database is not None])
                when = strike(site, victim)
                if when is not None:
                    kills.append((victim, when))
                    next_kill = time.monotonic() + dice.expovariate(1 / KILL_EVERY_S)
            time.sleep(0.5)
        until(lambda: all(is_published(site, name) for name in names), "every photo has its scene")
        until(lambda: is_done(site, names), "a batch has listed them all")
        site.set_schedule("batch-scenes/nightly-batch", on=False)
        until(lambda: not live(site), "no run is left that a process should be working for")
        site.set_schedule("janitor/janitor", on=False)
        until(lambda: not others(site), "only server and worker are left")
        until(lambda: not any((site.folder / "tmp").glob("*prefect*")), "their temporary folders are gone")
        left = held(site)
    report = {
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "batches": batches,
        "photos": len(names),
        "kills": dict(Counter(kind for kind, _ in kills)),
        "runs": {flow: states(site, flow) for flow in ("batch-scenes", "photos-to-scenes", "janitor")},
        "most": dict(most),
        "left": dict(left),
    }
    with capfd.disabled():
        print(json.dumps(report))  # noqa: T201 (docs/deployment.md shows it)
    check_the_table(site, names)
    # Of each photo, four stages of the whole and six of its objects.
    check_the_ledger(site, [when for _, when in kills], stages=len(names) * (4 + 3 + 3), at_once=2 * AT_ONCE)
    assert left["leases"] == 0
    assert left["connections"] <= most["connections"]
    assert left["files of the worker"] <= most["files of the worker"]


def add_photos(site: Deployment, dice: random.Random, first: int) -> list[str]:
    """Another night's."""
    names = [f"picture-{number:05}" for number in range(first, first + PHOTOS)]
    for name in names:
        colour = tuple(dice.randrange(256) for _ in range(3))
        # Under its own name at once and whole: a batch may be listing the folder.
        part = site.folder / f"{name}.part"
        Image.new("RGB", (16, 12), colour).save(part, format="PNG")
        part.rename(site.folder / "photos" / f"{name}.png")
    return names


def is_published(site: Deployment, name: str) -> bool:
    return (site.folder / "scenes" / name / "manifest.json").exists()


def is_done(site: Deployment, names: list[str]) -> bool:
    return any(
        run["state_name"] == "Completed" and run["state"]["message"] == f"{len(names)} photos: {len(names)} complete"
        for run in all_runs(site, "batch-scenes")
    )


def all_runs(site: Deployment, flow: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    chosen = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_ASC"}
    while page := site.ask("POST", "/flow_runs/filter", {**chosen, "offset": len(found)}):
        found += page
    return found


def states(site: Deployment, flow: str) -> dict[str, int]:
    return dict(Counter(run["state_name"] for run in all_runs(site, flow)))


def live(site: Deployment) -> list[str]:
    """Runs of batches and their photos that have begun and not ended, or crashed ones that the janitor has not come to."""
    waiting = {"PENDING", "RUNNING", "CANCELLING", "SCHEDULED"}
    return [
        run["name"]
        for flow in ("batch-scenes", "photos-to-scenes")
        for run in all_runs(site, flow)
        if run["state_type"] in waiting
        or (flow == "batch-scenes" and run["state_type"] == "CRASHED" and run["run_count"] <= MAX_STARTS)
    ]


def others(site: Deployment) -> list[str]:
    """Processes that are neither the server's nor the worker."""
    assert site.worker is not None
    return [words for pid, words in site.processes().items() if pid != site.worker.pid and not site.serves(pid)]


def held(site: Deployment) -> Counter[str]:
    """What could leak."""
    assert site.server is not None
    assert site.worker is not None
    scenes = site.folder / "scenes" / ".scenegen"
    found = Counter(
        {
            "processes": len(site.processes()),
            "files of the server": files(site.server.pid),
            "files of the worker": files(site.worker.pid),
            "temporary folders": len([*(site.folder / "tmp").iterdir()]),
            "leases": len([*scenes.glob("leases/*")]),
            "staging folders": len([*scenes.glob("staging/*")]),
        }
    )
    if site.database is not None:
        found["connections"] = int(site.database.ask("select count(*) from pg_stat_activity where datname = 'prefect'"))
    return found


def files(pid: int) -> int:
    """Open ones of a process; none if it has just been killed."""
    try:
        return len([*Path(f"/proc/{pid}/fd").iterdir()])
    except OSError:
        return 0


def check_the_table(site: Deployment, names: list[str]) -> None:
    with (site.folder / "scenes" / "batch.csv").open() as file:
        rows = {Path(row["image"]).stem: (row["state"], row["error"]) for row in csv.DictReader(file)}
    assert rows == dict.fromkeys(names, ("complete", ""))
    for name in names:
        manifest = read_manifest(site.folder / "scenes" / name)
        assert len(manifest.objects) == 3
        folder = site.folder / "scenes" / name
        assert all((folder / file.name).stat().st_size == file.bytes for file in manifest.outputs)
