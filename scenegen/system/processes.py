"""Processes: ending one together with its parent, killing one with all that it has started, and saying how one ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":
    import _winapi
else:
    import fcntl
    import select

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

KILLED = -9
"""Exit code, as `subprocess` gives it, of a process that SIGKILL has ended."""
NO_SUCH_PROCESS = 87
"""Windows' ERROR_INVALID_PARAMETER, its answer to the number of a process that is gone."""
SYNCHRONIZE = 0x100000
"""The right to wait for a process of Windows."""
VMSTAT = Path("/proc/vmstat")


@dataclass(frozen=True)
class Died:
    """A process ended without an answer."""

    code: int
    """As `subprocess.Popen.returncode`."""
    oom_kills: int | None
    """How many processes the system has killed for lack of memory meanwhile, None if it does not tell."""

    def __str__(self) -> str:
        return f"its process {'was killed by' if self.code < 0 else 'ended with'} {ending(self.code)}"

    @property
    def out_of_memory(self) -> bool:
        """Whether it was, or may have been, the system's out-of-memory killer."""
        return self.code == KILLED and self.oom_kills != 0


def died(code: int, oom_kills_before: int | None) -> Died:
    """What the end of a process means that had a task.

    Args:
        code: as `Died.code`.
        oom_kills_before: `oom_kills()` when it got the task.
    """
    now = oom_kills()
    return Died(code, None if oom_kills_before is None or now is None else now - oom_kills_before)


def oom_kills() -> int | None:
    """How many processes Linux has killed for lack of memory since it started, None if it does not tell."""
    try:
        lines = VMSTAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


@contextlib.contextmanager
def child_lifeline(*connections: Connection) -> Iterator[tuple[int, dict[str, Any]]]:
    """What a child process needs to end with this one.

    Args:
        connections: that the child gets too; there, `received` of their `fileno()`.

    Yields:
        A number for the child to give to `end_with`, and arguments for `subprocess.Popen`. Both hold while the block runs.
    """
    handles = [connection.fileno() for connection in connections]
    if sys.platform == "win32":
        for handle in handles:
            os.set_handle_inheritable(handle, True)
        # An empty list of handles is an error there.
        inherited = {"startupinfo": subprocess.STARTUPINFO(lpAttributeList={"handle_list": handles})} if handles else {}
        yield os.getpid(), inherited
    else:
        lifeline, held = os.pipe()
        try:
            yield lifeline, {"pass_fds": [lifeline, *handles], "start_new_session": True}
        finally:
            os.close(lifeline)
            os.close(held)


def received(handle: int) -> Connection:
    """In a child process: a connection that its parent has passed to it. What the child starts does not get it."""
    # It takes longer to import than most children live.
    from multiprocessing import connection

    if sys.platform == "win32":
        os.set_handle_inheritable(handle, False)
        return connection.PipeConnection(handle)
    os.set_inheritable(handle, False)
    return connection.Connection(handle)


def end_with(number: int) -> None:
    """`kill_with` for the number that the parent got from `child_lifeline`."""
    if sys.platform == "win32":
        kill_with(_winapi.OpenProcess(SYNCHRONIZE, False, number))
    else:
        kill_with(number)


def kill_with(lifeline: int) -> None:
    """From now on this process, with all it has started, is killed when the other end of the pipe `lifeline` is closed.

    That happens when the process that holds it ends, however it ends. On Linux the kernel sends the signal itself. On
    other systems, and if the pipe was closed before, a thread does, as soon as native code lets Python run.

    On Windows `lifeline` is a handle of the parent process, and what this process has started is not killed with it.
    """
    if sys.platform == "linux":
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        if sys.platform == "win32":
            _winapi.WaitForSingleObject(lifeline, _winapi.INFINITE)
            os._exit(1)
        else:
            select.select([lifeline], [], [])
            os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def kill_group(pid: int) -> None:
    """Kills the process `pid`, leader of its group, with the processes it has started."""
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(pid)], capture_output=True, check=False)
    else:
        # The group may be gone already; macOS reports that as PermissionError.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def kill_descendants() -> None:
    """Kills every process that this one has started, at any depth.

    Only Linux lists them. On other systems each ends by itself, when it finds its parent gone or its time used up.
    """
    if sys.platform == "linux":
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Processes started by process `pid`, at any depth; none if the system has no /proc."""
    children: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children += [int(word) for word in listing.read_text(encoding="ascii").split()]
    return children + [deeper for child in children for deeper in descendants(child)]


def is_running(pid: int) -> bool:
    """Whether there is a process `pid` on this machine."""
    if sys.platform == "win32":
        # `os.kill(pid, 0)` would send it Ctrl-C.
        try:
            handle = _winapi.OpenProcess(SYNCHRONIZE, False, pid)
        except OSError as error:
            return error.winerror != NO_SUCH_PROCESS
        try:
            return _winapi.WaitForSingleObject(handle, 0) != _winapi.WAIT_OBJECT_0
        finally:
            _winapi.CloseHandle(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def ending(code: int) -> str:
    """How a process ended, by its exit code as `subprocess` gives it.

    Example:
        >>> ending(-11), ending(3), ending(0xC0000005)
        ('SIGSEGV', 'exit code 3', 'exit code 0xC0000005')
    """
    if code >= 0:
        return f"exit code {code}" if code < 0xC0000000 else f"exit code 0x{code:X}"
    # Not every real-time signal has a name.
    return next((known.name for known in signal.Signals if known == -code), f"signal {-code}")
