"""Exclusive locks on open files. The system takes one back when the process that holds it ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

POLL_S = 0.1
BEYOND = 1 << 30
"""The byte that is locked on Windows. A locked byte cannot be read there, so it lies beyond the end of every such file."""


def try_lock(file: IO[str] | int, shared: bool = False) -> bool:
    """Locks `file`, an open file or its descriptor, and returns True; returns False if it is locked already.

    Args:
        file: it.
        shared: whether others may lock it too who share it; on Windows nobody can.

    Raises:
        OSError: if the file system has no locks.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryFile("w") as file:
        ...     try_lock(file)
        True
    """
    if sys.platform == "win32":
        try:
            _locking(file, msvcrt.LK_NBLCK)
        except PermissionError:
            return False
    else:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def lock(file: IO[str] | int) -> None:
    """As `try_lock`, but waits until the lock is free."""
    if sys.platform == "win32":
        while not try_lock(file):
            time.sleep(POLL_S)
    else:
        fcntl.flock(file, fcntl.LOCK_EX)


def unlock(file: IO[str] | int) -> None:
    """Releases a lock that this process holds."""
    if sys.platform == "win32":
        _locking(file, msvcrt.LK_UNLCK)
    else:
        fcntl.flock(file, fcntl.LOCK_UN)


def lock_folder(folder: Path) -> int | None:
    """Locks a folder and returns the descriptor to close; None if this system cannot lock folders, such as Windows.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if sys.platform == "win32":
        return None
    handle = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):  # a file system without locks
        lock(handle)
    return handle


@contextlib.contextmanager
def folder_locked(folder: Path) -> Iterator[bool | None]:
    """Whether this process could lock `folder`, for as long as the block runs. None if folders cannot be locked here.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if sys.platform == "win32":
        yield None
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            locked: bool | None = try_lock(handle)
        except OSError:
            locked = None
        yield locked
    finally:
        os.close(handle)


if sys.platform == "win32":

    def _locking(file: IO[str] | int, mode: int) -> None:
        handle = file if isinstance(file, int) else file.fileno()
        place = os.lseek(handle, 0, os.SEEK_CUR)
        os.lseek(handle, BEYOND, os.SEEK_SET)
        try:
            msvcrt.locking(handle, mode, 1)
        finally:
            os.lseek(handle, place, os.SEEK_SET)
