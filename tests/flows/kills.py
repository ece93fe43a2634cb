"""Kills of every kind, and what the ledger of the stand-ins says of the work that they met."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from site_under_test import Deployment, kill
from standins import LEDGER

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


def busy_children(site: Deployment) -> list[int]:
    """Processes that are in the middle of a stage."""
    doing = {line.pid: line for line in ledger(site)}
    alive = site.processes()
    return [pid for pid, line in doing.items() if line.what == "start" and pid in alive]


def strike(site: Deployment, victim: str) -> float | None:
    """Kills `victim`, if it is there and at work. Returns when. A server and a database are started again at once.

    Args:
        site: of the victim.
        victim: `device`, the process that makes an object; `photo`, that of a photo; `run`, that of a flow run which makes
            photos; `batch`, that of the batch's own; `worker`, Prefect's; `machine`, all of these at once; `server`; `database`.
    """
    when = time.time()
    if victim == "server":
        site.kill_server()
        site.start_server()
        return when
    if victim == "database":
        assert site.database is not None
        site.database.kill()
        site.database.start()
        return when
    busy = busy_children(site)
    if not busy:
        return None
    found = _found(site, victim, busy)
    when = time.time()
    for pid in found:
        kill(pid)
    return when if found else None


def _found(site: Deployment, victim: str, busy: list[int]) -> list[int]:
    processes = site.processes()
    children = {pid for pid, words in processes.items() if "stages.workers.child" in words}
    for_photos = {pid for pid in children if '"devices": []' in processes[pid]}
    match victim:
        case "device":
            return [pid for pid in busy if pid in children - for_photos][:1]
        case "photo":
            return sorted(for_photos)[:1]
        case "run" | "batch":
            flow = "photos-to-scenes" if victim == "run" else "batch-scenes"
            runs = [run for run in site.runs(flow) if run["state_type"] == "RUNNING"]
            return [
                pid for run in runs[:1] for pid in site.processes_of(run["id"]) if "prefect" in processes.get(pid, "")
            ]
        case "worker":
            return [] if site.worker is None or site.worker.poll() is not None else [site.worker.pid]
        case "machine":
            # The power goes: nobody is left to say that a run has crashed.
            return [pid for pid in processes if not site.serves(pid)]
    raise ValueError(victim)


def check_the_ledger(site: Deployment, kills: list[float], stages: int, at_once: int) -> None:
    """Every stage has ended, and ran once, but those that a kill met in the middle.

    Args:
        site: whose ledger it is.
        kills: when there was one.
        stages: how many there are.
        at_once: how many may be met by one kill.
    """
    starts: dict[tuple[str, str], list[Line]] = defaultdict(list)
    ends: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in ledger(site):
        (starts if line.what == "start" else ends)[line.stage, line.key].append(line)
    assert len(starts) == stages
    again = {key: lines for key, lines in starts.items() if len(lines) > 1}
    for key, lines in again.items():
        for before, after in itertools.pairwise(lines):
            assert any(before.when - LINGER_S <= when <= after.when for when in kills), (key, lines, kills)
    assert all(ends[key] for key in starts)
    assert sum(len(lines) - 1 for lines in again.values()) <= at_once * len(kills)
