"""One process at a time on a device: a lock file per device, in one folder for all users of the machine.

The operating system holds the lock and takes it back when the process that has it ends, however it ends. A container takes
part if the folder is mounted into it. docs/deployment.md says how other programs can.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scenegen.compute.card_uuid import card_uuid
from scenegen.compute.runtime import check_device
from scenegen.compute.waiting import waiting
from scenegen.errors import ResourceError, UsageError
from scenegen.system.locks import try_lock, unlock

logger = logging.getLogger(__name__)

CPU_SLOTS = "SCENEGEN_CPU_SLOTS"
"""Environment variable: how many processes may compute on the CPU at once; by default one per core."""
LOCKS = "SCENEGEN_LOCKS"
"""Environment variable: the folder of the lock files."""
RUN_LOCK, TEMPORARY = Path("/run/lock"), Path("/tmp")
"""Where it is by default: in the first, if that is everybody's to write, else in the second."""
FOR_ALL, SHARED_FOLDER = 0o666, 0o1777
"""Modes of the files and of the folder."""
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
def device_slot(*devices: str, cpu_slots: int | None = None, shared: bool = False) -> Iterator[Slot]:
    """Waits until this process may compute on one of `devices`, and keeps the others off it until the block ends.

    A graphics card has one slot. It is told by its UUID, so `cuda:0` of two processes that see different cards are different
    slots; without NVIDIA's driver, by its place in CUDA_VISIBLE_DEVICES.

    Args:
        devices: `cpu`, `cuda`, `cuda:N` or `mps`; the first that is free is taken.
        shared: whether others that share may be there too, because someone else sees to it that they fit, such as Ray.
        cpu_slots: how many processes may compute on the CPU at once; None means SCENEGEN_CPU_SLOTS, else one per core.

    Raises:
        UsageError: if a device has another name, or the number of slots is below 1.
        ResourceError: if the lock file cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        files: list[IO[str]] = []
        slots: list[Slot] = []
        for device in devices:
            paths = _lock_files(device, cpu_slots)
            opened = [stack.enter_context(_opened(path)) for path in paths]
            queue = stack.enter_context(_opened(paths[0].with_suffix(".queue")))
            files += opened
            slots += [Slot(device, queue)] * len(opened)

        def first_free() -> int | None:
            # Those who share make room for one who wants the device alone.
            return next(
                (n for n, file in enumerate(files) if not (shared and slots[n].wanted()) and try_lock(file, shared)),
                None,
            )

        place = first_free()
        if place is None:
            logger.info("%s is in use by %s; waiting", ", ".join(devices), _holders(files))
            queues, ours = {slot.queue for slot in slots}, set[IO[str]]()
            with waiting():
                while place is None:
                    ours |= set() if shared else {queue for queue in queues - ours if try_lock(queue)}
                    time.sleep(POLL_S)
                    place = first_free()
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
    return [locks_folder() / f"{name}.lock" for name in names]


def locks_folder() -> Path:
    """The folder of the lock files, the same for all users: `SCENEGEN_LOCKS`, else a place that everybody may write to."""
    if given := os.environ.get(LOCKS):
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("PROGRAMDATA", "C:/ProgramData")) / "scenegen-locks"
    for_everybody = RUN_LOCK.is_dir() and RUN_LOCK.stat().st_mode & stat.S_IWOTH
    return (RUN_LOCK if for_everybody else TEMPORARY) / "scenegen-locks"


def _cpu_slots(given: int | None) -> int:
    text = os.environ.get(CPU_SLOTS) if given is None else str(given)
    if text is None:
        return os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        name = CPU_SLOTS if given is None else "cpu_slots"
        raise UsageError(f"`{name}` is {text!r}; it must be a whole number of at least 1.")
    return int(text)


def _card(index: int) -> str:
    """Name of card `index` of this process, the same for every process of the machine."""
    if (uuid := card_uuid(index)) is not None:
        return uuid
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return re.sub(r"[^\w-]", "-", visible[index]) if index < len(visible) else str(index)


def _opened(path: Path) -> IO[str]:
    """The file, which is made if it is not there, for every user to lock and write.

    Raises:
        ResourceError: if it cannot be opened, or is no plain file: someone else's link could lead to a file of ours.
    """
    flags = os.O_RDWR | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    try:
        _make_folder(path.parent)
        try:
            # Linux refuses O_CREAT for a file of another user in such a folder.
            handle = os.open(path, flags)
        except FileNotFoundError:
            handle = os.open(path, flags | os.O_CREAT, FOR_ALL)
            if sys.platform != "win32":
                os.fchmod(handle, FOR_ALL)
    except OSError as error:
        raise ResourceError(
            f"the lock file {path} cannot be opened: {error.strerror}; make its folder with mode 1777, or set {LOCKS} to "
            "one that all users of the machine may write to."
        ) from error
    file, found = os.fdopen(handle, "a+", encoding="ascii"), os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        file.close()
        raise ResourceError(f"the lock file {path} is a link or no file; remove it.")
    return file


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # someone else was first
        folder.chmod(SHARED_FOLDER)


def _holders(files: Sequence[IO[str]]) -> str:
    """The processes that hold the slots, as they wrote it themselves."""
    pids = []
    for file in files:
        file.seek(0)
        pids.append(f"process {file.read().strip() or 'unknown'}")
    return ", ".join(pids)
