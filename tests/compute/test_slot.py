"""One process at a time on a device."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scenegen.compute.slot import device_slot
from scenegen.errors import ResourceError, UsageError

HOLD = """
import sys, time
from scenegen.compute.slot import device_slot
with device_slot(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
GIVE_UP_S = 300


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("SCENEGEN_CPU_SLOTS", "1")
    return tmp_path / "scenegen"


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

    def __init__(self, device: str) -> None:
        self.has = threading.Event()
        self._device = device
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with device_slot(self._device):
            self.has.set()


def waits(device: str, caplog: pytest.LogCaptureFixture) -> Waiter:
    """A waiter that has found no free slot."""
    caplog.set_level(logging.INFO, "scenegen.compute.slot")
    waiter = Waiter(device)
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
    with pytest.raises(ResourceError, match="XDG_RUNTIME_DIR"), device_slot("cpu"):
        pass
