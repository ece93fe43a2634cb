"""One process at a time on a device."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scenegen.compute import card_uuid, slot
from scenegen.compute.slot import device_slot, locks_folder
from scenegen.errors import ResourceError, UsageError

ROOT = Path(__file__).parents[2]
HOLD = """
import encodings.ascii, os, sys
from scenegen.compute import card_uuid
from scenegen.compute.slot import device_slot
card_uuid.DRIVER = "no driver"
for user in map(int, sys.argv[2:]):
    os.setgid(user)
    os.setuid(user)
with device_slot(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
GIVE_UP_S = 300


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCENEGEN_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("SCENEGEN_CPU_SLOTS", "1")
    # A machine's own cards have UUIDs, of which these tests know nothing.
    monkeypatch.setattr(card_uuid, "DRIVER", "no driver")
    monkeypatch.setitem(os.environ, "PYTHONPATH", str(ROOT))
    return tmp_path / "locks"


@pytest.fixture
def holder(request: pytest.FixtureRequest, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a slot: that of `cuda:0`, or of the device the test names."""
    device = getattr(request, "param", "cuda:0")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, device], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


class Waiter:
    """A thread that takes a slot as soon as it can."""

    def __init__(self, device: str, shared: bool = False) -> None:
        self.has = threading.Event()
        self._device, self._shared = device, shared
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with device_slot(self._device, shared=self._shared):
            self.has.set()


def waits(device: str, caplog: pytest.LogCaptureFixture, shared: bool = False) -> Waiter:
    """A waiter that has found no free slot."""
    caplog.set_level(logging.INFO, "scenegen.compute.slot")
    caplog.clear()
    waiter = Waiter(device, shared)
    while "waiting" not in caplog.text and not waiter.has.wait(0.01):
        pass
    assert not waiter.has.is_set()
    return waiter


@pytest.mark.parametrize("holder", ["cuda:0", "cpu"], indirect=True)
@pytest.mark.parametrize("way", [signal.SIGKILL, None])
def test_a_slot_is_one_process_s_and_free_when_it_ends(
    request: pytest.FixtureRequest,
    holder: subprocess.Popen[str],
    way: signal.Signals | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = request.node.callspec.params["holder"]
    waiter = waits(device, caplog)
    assert f"{device} is in use by process {holder.pid}; waiting" in caplog.text
    if way is None:
        assert holder.stdin is not None
        holder.stdin.close()
        holder.stdin = None
    else:
        holder.send_signal(way)
    assert waiter.has.wait(GIVE_UP_S)


def test_who_holds_a_slot_knows_that_it_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    with device_slot("cuda:0") as slot, device_slot("cuda:1") as other:
        assert not slot.wanted()
        waiter = waits("cuda:0", caplog)
        while not slot.wanted():
            pass
        assert not other.wanted()
    assert waiter.has.wait(GIVE_UP_S)
    with device_slot("cuda:0") as slot:
        assert not slot.wanted()


def test_other_devices_are_other_slots(holder: subprocess.Popen[str]) -> None:
    with device_slot("cuda:1"), device_slot("cpu"), device_slot("mps"):
        pass


def test_two_threads_are_kept_apart_too(caplog: pytest.LogCaptureFixture) -> None:
    with device_slot("cuda"):
        waiter = waits("cuda:0", caplog)
    assert waiter.has.wait(GIVE_UP_S)


@pytest.mark.parametrize("holder", ["cuda:0"], indirect=True)
def test_a_card_is_told_by_its_place_in_the_machine(
    holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    with device_slot("cuda:0"):
        waiter = waits("cuda:1", caplog)
    holder.kill()
    assert waiter.has.wait(GIVE_UP_S)


def test_the_file_says_who_holds_it_while_it_is_held(folder: Path) -> None:
    with device_slot("cuda:3"):
        assert (folder / "cuda-3.lock").read_text() == f"{os.getpid()}\n"
    assert (folder / "cuda-3.lock").read_text() == ""


def test_the_cpu_has_as_many_slots_as_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SCENEGEN_CPU_SLOTS", "2")
    with device_slot("cpu"), device_slot("cpu", cpu_slots=2):
        waiter = waits("cpu", caplog)
        with device_slot("cpu", cpu_slots=3):
            assert not waiter.has.is_set()
    assert waiter.has.wait(GIVE_UP_S)


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_number_of_slots_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENEGEN_CPU_SLOTS", text)
    with pytest.raises(UsageError, match="SCENEGEN_CPU_SLOTS"), device_slot("cpu"):
        pass


@pytest.mark.parametrize("device", ["auto", "cpu:1", "cuda:x", "gpu", "../cuda"])
def test_a_device_that_is_none_is_refused(device: str) -> None:
    with pytest.raises(UsageError, match="`device`"), device_slot(device):
        pass


def test_a_folder_that_cannot_be_written_is_an_error(folder: Path) -> None:
    folder.write_text("in the way")
    with pytest.raises(ResourceError, match="SCENEGEN_LOCKS"), device_slot("cpu"):
        pass


def test_a_lock_file_that_leads_elsewhere_is_refused(folder: Path) -> None:
    mine = folder.parent / "mine"
    mine.write_text("precious")
    folder.mkdir()
    for link in (Path.symlink_to, Path.hardlink_to):
        link(folder / "cuda-0.lock", mine)
        with pytest.raises(ResourceError, match=r"cuda-0\.lock"), device_slot("cuda:0"):
            pass
        (folder / "cuda-0.lock").unlink()
    assert mine.read_text() == "precious"


def test_those_who_share_make_room_for_one_who_does_not(caplog: pytest.LogCaptureFixture) -> None:
    with device_slot("cuda", shared=True):
        with device_slot("cuda", shared=True) as slot:
            assert not slot.wanted()
            alone = waits("cuda", caplog)
            while not slot.wanted():
                pass
            late = waits("cuda", caplog, shared=True)
        assert not alone.has.is_set()
        assert not late.has.is_set()
    assert alone.has.wait(GIVE_UP_S)
    assert late.has.wait(GIVE_UP_S)


@pytest.mark.parametrize("mode", [0o1777, 0o755])
def test_the_folder_is_the_same_for_all_users(mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCENEGEN_LOCKS")
    monkeypatch.setattr(slot, "RUN_LOCK", tmp_path / "run")
    monkeypatch.setattr(slot, "TEMPORARY", tmp_path / "tmp")
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(mode)
    assert locks_folder() == tmp_path / ("run" if mode == 0o1777 else "tmp") / "scenegen-locks"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can be two users")
@pytest.mark.parametrize("first", [0, 65534])
def test_users_of_a_machine_keep_each_other_off_a_card(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By scenegen and by flock(1), as docs/deployment.md has it; whoever comes first makes folder and files."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        locks = Path(place) / "locks"
        if first:
            os.chown(place, first, first)
        monkeypatch.setenv("SCENEGEN_LOCKS", str(locks))
        with holding_as(first) as one:
            assert one.stdout.readline() == "held\n"
            assert (locks.stat().st_mode & 0o7777, (locks / "cuda-0.lock").stat().st_mode & 0o777) == (0o1777, 0o666)
            with holding_as(65534 - first) as other:
                line = threading.Thread(target=other.stdout.readline, daemon=True)
                line.start()
                tool = ["flock", "-n", str(locks / "cuda-0.lock"), "true"]
                assert subprocess.run(tool, user=65534 - first, check=False).returncode == 1
                assert line.is_alive()
                one.kill()
                line.join(GIVE_UP_S)
                assert not line.is_alive()
                assert other.poll() is None
                assert (locks / "cuda-0.lock").read_text() == f"{other.pid}\n"


@contextlib.contextmanager
def holding_as(user: int) -> Iterator[Any]:
    command = [sys.executable, "-c", HOLD, "cuda:0", str(user)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()
