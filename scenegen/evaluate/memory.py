"""Peak memory of this process and everything it has started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

INTERVAL_S = 0.05


@dataclass
class Peak:
    """The largest sum of resident set sizes so far; a page that two processes share counts twice."""

    bytes: int | None = None
    """None on systems without /proc."""


@contextlib.contextmanager
def peak_memory() -> Iterator[Peak]:
    """Watches the process tree while the block runs.

    Memory that was freed earlier and that the allocator still keeps is returned first, if the C library can (glibc).
    """
    _give_back()
    peak, done = Peak(), threading.Event()

    def watch() -> None:
        while True:
            now = _tree_bytes(os.getpid())
            if now is not None:
                peak.bytes = max(now, peak.bytes or 0)
            if done.wait(INTERVAL_S):
                return

    thread = threading.Thread(target=watch, name="peak-memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _give_back() -> None:
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(ctypes.c_size_t(0))


def _tree_bytes(pid: int) -> int | None:
    if sys.platform == "win32":
        return None
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    total = pages * os.sysconf("SC_PAGE_SIZE")
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            total += sum(_tree_bytes(int(child)) or 0 for child in listing.read_text(encoding="ascii").split())
    return total
