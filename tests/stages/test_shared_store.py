"""Workers with a disk each and one bucket between them: nothing is computed twice, whoever is killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections import Counter
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from scenegen.compute.runtime import Runtime
from scenegen.config import Settings
from scenegen.errors import TransientError
from scenegen.records import Artifact, Record
from scenegen.store.folder import RemoteFolder
from scenegen.store.lease import LeaseTimes
from scenegen.store.store import Store
from stages.stage import Outcome, Stage, Work, execute

SPAWN = multiprocessing.get_context("spawn")
TIMES = LeaseTimes(beat_s=0.2, expiry_s=60, poll_s=0.05)
KEYS = range(12)
KILLS = 5
GIVE_UP_S = 600


class Nap(Settings):
    seconds: float
    journal: Path
    """File that gets a line with the key and the process each time the stage is executed."""


class Slept(Record):
    key: int
    file: Artifact


def nap(key: int, *, config: Nap, work: Work) -> Slept:
    with config.journal.open("a") as file:
        file.write(f"{key} {os.getpid()}\n")
    time.sleep(config.seconds)
    work.write("sub/result.txt").write_text(f"result of {key}")
    return Slept(key=key, file=work.artifact("sub/result.txt"))


NAP = Stage("nap", Slept, nap)


def store(root: Path, url: str, times: LeaseTimes = TIMES) -> Store:
    return Store(root, RemoteFolder(url), times)


def sleep_through(root: Path, url: str, config: Nap, seed: int, host: str | None, together: int) -> None:
    """A worker: every key, in an order of its own, once as many as `together` are up."""
    if host is not None:
        import socket

        socket.gethostname = lambda: host
    root.with_suffix(".up").touch()
    while len(list(root.parent.glob("*.up"))) < together:
        time.sleep(0.01)
    keys = list(KEYS)
    random.Random(seed).shuffle(keys)
    for key in keys:
        execute(NAP, (key,), config, store(root, url), Runtime())


def start(root: Path, url: str, config: Nap, seed: int, host: str | None = None, together: int = 1) -> BaseProcess:
    process = SPAWN.Process(target=sleep_through, args=(root / f"disk-{seed}", url, config, seed, host, together))
    process.start()
    return process


def begun(config: Nap) -> list[tuple[int, int]]:
    """Key and process of every execution."""
    lines = config.journal.read_text().splitlines() if config.journal.exists() else []
    return [(int(key), int(pid)) for key, pid in (line.split() for line in lines)]


def wait_until_begun(config: Nap, count: int) -> None:
    end = time.monotonic() + GIVE_UP_S
    while len(begun(config)) < count:
        assert time.monotonic() < end
        time.sleep(0.01)


def outcomes(root: Path, url: str, config: Nap) -> list[Outcome[Slept]]:
    """What a machine finds that has computed nothing; every file is there and as it was written."""
    fresh = store(root / "fresh", url)
    found = [execute(NAP, (key,), config, fresh, Runtime()) for key in KEYS]
    for outcome in found:
        assert fresh.path(outcome.record.file).read_text() == f"result of {outcome.record.key}"
    return found


def test_three_workers_compute_everything_once(bucket_url: str, tmp_path: Path) -> None:
    config = Nap(seconds=0.05, journal=tmp_path / "journal")
    workers = [start(tmp_path, bucket_url, config, seed, f"host-{seed}", together=3) for seed in range(3)]
    for worker in workers:
        worker.join(GIVE_UP_S)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert Counter(key for key, _ in begun(config)) == dict.fromkeys(KEYS, 1)
    assert len({pid for _, pid in begun(config)}) > 1
    assert all(outcome.cached for outcome in outcomes(tmp_path, bucket_url, config))


@pytest.mark.slow
def test_workers_killed_at_random_moments(bucket_url: str, tmp_path: Path) -> None:
    """Only what was being computed at a kill is computed again."""
    config, dice = Nap(seconds=0.3, journal=tmp_path / "journal"), random.Random(7)
    workers = [start(tmp_path, bucket_url, config, seed) for seed in range(3)]
    killed: list[int] = []
    for number in range(KILLS):
        wait_until_begun(config, 2 * (number + 1))
        time.sleep(dice.uniform(0, 0.4))
        # One that computes, and not one that waits.
        victim = next((worker for worker in workers if worker.pid == begun(config)[-1][1]), workers[0])
        assert victim.pid is not None
        killed.append(victim.pid)
        victim.kill()
        victim.join()
        workers[workers.index(victim)] = start(tmp_path, bucket_url, config, 10 + number)
    for worker in workers:
        worker.join(GIVE_UP_S)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert all(outcome.cached for outcome in outcomes(tmp_path, bucket_url, config))
    last = {pid: key for key, pid in begun(config) if pid in killed}
    in_flight = Counter(last.values())
    for key, count in Counter(key for key, _ in begun(config)).items():
        assert 1 <= count <= 1 + in_flight[key]


def test_the_lease_of_a_dead_machine_expires(bucket_url: str, tmp_path: Path) -> None:
    config = Nap(seconds=600, journal=tmp_path / "journal")
    holder = start(tmp_path, bucket_url, config, 0, "another-machine")
    wait_until_begun(config, 1)
    ((key, _),) = begun(config)
    holder.kill()
    holder.join()

    def awake(key: int, *, config: Nap, work: Work) -> Slept:
        return nap(key, config=config.model_copy(update={"seconds": 0.0}), work=work)

    quick = replace(NAP, run=awake)
    here = store(tmp_path / "here", bucket_url, LeaseTimes(beat_s=0.2, expiry_s=1, poll_s=0.05))
    assert not execute(quick, (key,), config, here, Runtime()).cached
    assert len(begun(config)) == 2
    assert RemoteFolder(bucket_url).read(f"leases/nap-{NAP.key((key,), config)}") is None


def test_an_unreachable_store_is_told_and_then_resumed(
    bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Nap(seconds=0, journal=tmp_path / "journal")
    first, second = store(tmp_path / "one", bucket_url), store(tmp_path / "two", bucket_url)
    execute(NAP, (1,), config, first, Runtime())

    def unreachable(self: RemoteFolder, *words: object) -> None:
        raise TransientError("cannot reach the bucket")

    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "upload", unreachable)
        with pytest.raises(TransientError, match="cannot reach"):
            execute(NAP, (2,), config, first, Runtime())
    # Nobody sees half of it. What was computed is kept here, and goes there as soon as it is asked for again.
    assert second.find("nap", NAP.key((2,), config)) is None
    assert execute(NAP, (2,), config, first, Runtime()).cached
    assert execute(NAP, (2,), config, second, Runtime()).cached
    assert Counter(key for key, _ in begun(config)) == {1: 1, 2: 1}
    assert not any((first.root / "unpushed").iterdir())
