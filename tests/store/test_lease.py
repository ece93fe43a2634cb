"""Of several workers one computes; the others take its result, or its place once it is dead."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import signal
import socket
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from scenegen.store import lease as lease_module
from scenegen.store.folder import Folder, LocalFolder, RemoteFolder
from scenegen.store.lease import LeaseTimes, is_gone, lease

TIMES = LeaseTimes(beat_s=0.02, expiry_s=0.3, poll_s=0.01)
NEVER = LeaseTimes(beat_s=0.02, expiry_s=3600, poll_s=0.01)


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return LocalFolder(tmp_path / "root", tmp_path / "staging")
    if request.param == "memory":
        return RemoteFolder(f"memory://{uuid.uuid4().hex}")
    return RemoteFolder(f"{request.getfixturevalue('bucket_url')}/deep/down")


def nothing() -> None:
    return None


def owner(host: str, pid: int) -> bytes:
    return json.dumps({"host": host, "pid": pid, "token": "theirs", "beat": 3}).encode()


def dead_pid() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_held_and_given_back(folder: Folder) -> None:
    with lease(folder, "x", TIMES, nothing) as result:
        assert result is None
        assert folder.read("x") is not None
    assert folder.read("x") is None


def test_given_back_after_a_failure(folder: Folder) -> None:
    with pytest.raises(ZeroDivisionError), lease(folder, "x", TIMES, nothing):
        raise ZeroDivisionError
    assert folder.read("x") is None


def test_one_works_and_the_others_take_its_result(folder: Folder) -> None:
    landed: list[str] = []
    worked: list[int] = []
    taken: list[str] = []

    def worker(i: int) -> None:
        with lease(folder, "x", NEVER, lambda: landed[0] if landed else None) as result:
            if result is None:
                worked.append(i)
                time.sleep(0.1)
                landed.append(f"result of {i}")
            else:
                taken.append(result)

    threads = [threading.Thread(target=worker, args=(i,)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worked) == 1
    assert taken == [f"result of {worked[0]}"] * 4


def test_who_comes_after_a_failure_works_itself(folder: Folder) -> None:
    first_in, first_out = threading.Event(), threading.Event()

    def fail() -> None:
        with contextlib.suppress(ValueError), lease(folder, "x", NEVER, nothing):
            first_in.set()
            first_out.wait()
            raise ValueError

    thread = threading.Thread(target=fail)
    thread.start()
    first_in.wait()
    threading.Timer(0.1, first_out.set).start()
    with lease(folder, "x", NEVER, nothing) as result:
        assert result is None
        assert first_out.is_set()
    thread.join()


def test_a_dead_process_of_this_machine_is_noticed_at_once(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    folder.create("x", owner(socket.gethostname(), dead_pid()))
    with lease(folder, "x", NEVER, nothing) as result:
        assert result is None
    assert "taking its work over" in caplog.text


def test_a_lease_without_a_beat_expires(folder: Folder) -> None:
    folder.create("x", owner("elsewhere", 1))
    start = time.monotonic()
    with lease(folder, "x", TIMES, nothing) as result:
        assert result is None
    assert time.monotonic() - start >= TIMES.expiry_s


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"pid": "x"}'])
def test_a_lease_that_names_nobody_is_soon_given_up(folder: Folder, content: bytes) -> None:
    folder.create("x", content)
    with lease(folder, "x", replace(NEVER, unsigned_s=0.1), nothing) as result:
        assert result is None


def test_a_process_that_was_started_again_with_the_same_number_is_another(folder: Folder) -> None:
    """As in a container that keeps its name: the number is alive, and nobody beats."""
    with lease(folder, "x", NEVER, nothing):
        content = folder.read("x")
    assert content is not None
    assert not is_gone(content)
    values = json.loads(content)
    if values["started"] is None:
        pytest.skip("this system does not say when a process was started")
    folder.create("x", json.dumps({**values, "token": "theirs", "started": values["started"] + "0"}).encode())
    with lease(folder, "x", NEVER, nothing) as result:
        assert result is None


def test_a_local_lease_is_never_seen_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the content was written and before the lease is there: nothing is there."""
    folder = LocalFolder(tmp_path / "root", tmp_path / "staging")
    monkeypatch.setattr(os, "link", lambda source, target: os.kill(os.getpid(), signal.SIGKILL))
    pid = os.fork()
    if pid == 0:
        folder.create("x", b"content")
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert folder.read("x") is None


def test_a_disk_without_links_has_leases_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no links")

    folder = LocalFolder(tmp_path / "root", tmp_path / "staging")
    monkeypatch.setattr(os, "link", refuse)
    assert folder.create("x", b"content")
    assert not folder.create("x", b"other")
    assert folder.read("x") == b"content"


def test_a_lease_that_beats_does_not_expire(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner works for four expiry times; whoever waits gets the result, not the lease."""
    landed: list[str] = []
    held, worked = threading.Event(), threading.Event()

    def work() -> None:
        with lease(folder, "x", TIMES, nothing):
            held.set()
            worked.wait()
            landed.append("result")

    thread = threading.Thread(target=work)
    thread.start()
    held.wait()
    now = 0.0

    def sleep(seconds: float) -> None:
        """Until the next beat, however long that takes: almost an expiry time by the clock of whoever waits."""
        nonlocal now
        beat = folder.read("x")
        while folder.read("x") == beat and not landed:
            threading.Event().wait(seconds)
        now += 0.9 * TIMES.expiry_s
        if now > 4 * TIMES.expiry_s:
            worked.set()

    monkeypatch.setattr(lease_module, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    with lease(folder, "x", TIMES, lambda: landed[0] if landed else None) as result:
        assert result == "result"
    thread.join()


def test_an_owner_that_lost_its_lease_leaves_the_new_one(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    with lease(folder, "x", NEVER, nothing):
        # A beat that has just looked at the lease writes once more.
        while "has taken over" not in caplog.text:
            folder.write("x", owner("elsewhere", 1))
            time.sleep(NEVER.beat_s)
    assert folder.read("x") == owner("elsewhere", 1)


def _hold(root: Path) -> None:
    with lease(LocalFolder(root, root / "staging"), "x", LeaseTimes(), nothing):
        time.sleep(60)


def test_a_killed_owner(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path,))
    process.start()
    while not (tmp_path / "x").exists():
        time.sleep(0.01)
    process.kill()
    process.join()
    with lease(LocalFolder(tmp_path, tmp_path / "staging"), "x", LeaseTimes(poll_s=0.01), nothing) as result:
        assert result is None
