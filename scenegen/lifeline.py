"""Child processes that end with their parent, however it ends."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import threading

STDIN = 0


def end_with_parent() -> None:
    """`kill_with` for standard input, which a parent that only holds the other end closes by ending."""
    lifeline = os.dup(STDIN)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, STDIN)
    os.close(nothing)
    kill_with(lifeline)


def kill_with(lifeline: int) -> None:
    """From now on this process, with all it has started, is killed when the other end of the pipe `lifeline` is closed.

    That happens when the process that holds it ends, however it ends. On Linux the kernel sends the signal itself;
    elsewhere, and where the pipe was closed before, a thread does, as soon as native code lets Python run.
    """
    if sys.platform == "linux":
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        select.select([lifeline], [], [])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
