"""One process at a time on a device: a lock file per device, in the user's runtime folder.

The operating system holds the lock and takes it back when the process that has it ends, however it ends.
Processes of other users, and of other containers, have their own runtime folder and are not seen.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from platformdirs import user_runtime_path

from scenegen.compute.runtime import check_device
from scenegen.compute.waiting import waiting
from scenegen.errors import ResourceError, UsageError
from scenegen.system.locks import try_lock, unlock

logger = logging.getLogger(__name__)

CPU_SLOTS = "SCENEGEN_CPU_SLOTS"
"""Environment variable: how many processes may compute on the CPU at once; by default one per core."""
POLL_S = 0.2


@dataclass(frozen=True)
class Slot:
    """A slot that this process holds."""

    device: str
    """The device it is of."""
    queue: IO[str]
    """One of those who wait for a slot of the same device has it locked."""

    def wanted(self) -> bool:
        """Whether another process waits for it."""
        if not try_lock(self.queue):
            return True
        unlock(self.queue)
        return False


@contextlib.contextmanager
def device_slot(*devices: str, cpu_slots: int | None = None) -> Iterator[Slot]:
    """Waits until this process may compute on one of `devices`, and keeps the others off it until the block ends.

    A graphics card has one slot. It is told by its place in CUDA_VISIBLE_DEVICES, so `cuda:0` of two processes that
    see different cards are different slots.

    Args:
        devices: `cpu`, `cuda`, `cuda:N` or `mps`; the first that is free is taken.
        cpu_slots: how many processes may compute on the CPU at once; None means SCENEGEN_CPU_SLOTS, else one per core.

    Raises:
        UsageError: if a device has another name, or the number of slots is below 1.
        ResourceError: if the lock file cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        files: list[IO[str]] = []
        slots: list[Slot] = []
        for device in devices:
            opened = [stack.enter_context(_opened(path)) for path in _lock_files(device, cpu_slots)]
            queue = stack.enter_context(_opened(Path(opened[0].name).with_suffix(".queue")))
            files += opened
            slots += [Slot(device, queue)] * len(opened)
        place = _first_free(files)
        if place is None:
            logger.info("%s is in use by %s; waiting", ", ".join(devices), _holders(files))
            queues, ours = {slot.queue for slot in slots}, set[IO[str]]()
            with waiting():
                while place is None:
                    ours |= {queue for queue in queues - ours if try_lock(queue)}
                    time.sleep(POLL_S)
                    place = _first_free(files)
            for queue in ours:
                unlock(queue)
            logger.info("%s is free now", slots[place].device)
        held = files[place]
        held.truncate(0)
        held.write(f"{os.getpid()}\n")
        held.flush()
        try:
            yield slots[place]
        finally:
            held.truncate(0)


def _lock_files(device: str, cpu_slots: int | None) -> list[Path]:
    """One path per slot of `device`. The files stay: to remove a locked file would let two processes lock its name."""
    check_device(device)
    if device == "auto":
        raise UsageError(
            "`device` is 'auto', which has no slot of its own; name one of the devices that it stands for."
        )
    kind, _, index = device.partition(":")
    if kind == "cpu":
        names = [f"cpu-{number}" for number in range(_cpu_slots(cpu_slots))]
    elif kind == "cuda":
        names = [f"cuda-{_card(int(index or 0))}"]
    else:
        names = ["mps"]
    with warnings.catch_warnings():
        # platformdirs warns if the system has no runtime folder; its substitute will do.
        warnings.simplefilter("ignore")
        folder = user_runtime_path("scenegen")
    return [folder / f"{name}.lock" for name in names]


def _cpu_slots(given: int | None) -> int:
    text = os.environ.get(CPU_SLOTS) if given is None else str(given)
    if text is None:
        return os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        name = CPU_SLOTS if given is None else "cpu_slots"
        raise UsageError(f"`{name}` is {text!r}; it must be a whole number of at least 1.")
    return int(text)


def _card(index: int) -> str:
    """Name of card `index` of this process, the same for every process that names its cards in the same way."""
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return re.sub(r"[^\w-]", "-", visible[index]) if index < len(visible) else str(index)


def _opened(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path.open("a+", encoding="ascii")
    except OSError as error:
        raise ResourceError(
            f"the lock file {path} cannot be opened: {error.strerror}; set XDG_RUNTIME_DIR to a folder that you may write to."
        ) from error


def _first_free(files: Sequence[IO[str]]) -> int | None:
    """Place of the first of `files` that no other process has locked, now locked; None if all are."""
    for place, file in enumerate(files):
        if try_lock(file):
            return place
    return None


def _holders(files: Sequence[IO[str]]) -> str:
    """The processes that hold the slots, as they wrote it themselves."""
    pids = []
    for file in files:
        file.seek(0)
        pids.append(f"process {file.read().strip() or 'unknown'}")
    return ", ".join(pids)
