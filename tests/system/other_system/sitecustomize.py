"""Makes scenegen's own modules see another operating system: in this process and in every Python it starts.

Only they do: the standard library and other packages keep the real one. Python imports a module of this name by itself.
"""

from __future__ import annotations

import builtins
import ctypes
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

SYSTEM = os.environ["OTHER_SYSTEM"]
OURS = ("scenegen", "stages", "flows")
POSIX_MODULES = {"fcntl", "grp", "posix", "pwd", "pty", "resource", "select", "syslog", "termios", "tty"}
POSIX_NAMES = {
    "os": {
        *(
            "fork",
            "getpgid",
            "getpgrp",
            "getuid",
            "geteuid",
            "killpg",
            "mkfifo",
            "setpgid",
            "setsid",
            "sysconf",
            "umask",
        ),
        *("chown", "O_ASYNC", "O_NONBLOCK", "uname", "wait", "WTERMSIG"),
    },
    "signal": {"SIGKILL", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGXCPU", "alarm", "setitimer"},
}
plain_import = builtins.__import__
fsync, kill, opened, popen, run = os.fsync, os.kill, os.open, subprocess.Popen, subprocess.run


class Seen(ModuleType):
    """A module as it is on the other system."""

    def __init__(self, real: ModuleType, changed: Mapping[str, Any], lacks: set[str] | None = None) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(changed)
        self.__dict__.update(_real=real, _lacks=lacks or set())

    def __getattr__(self, name: str) -> Any:
        if name in self._lacks:
            raise AttributeError(f"{SYSTEM} has no {self.__name__}.{name}")
        return getattr(self._real, name)


def open_no_folder(path: Any, flags: int, *more: Any, **named: Any) -> int:
    if os.path.isdir(path):  # noqa: PTH112 (pathlib is imported by what is tested)
        raise PermissionError(13, "Permission denied", str(path))
    return opened(path, flags, *more, **named)


def fsync_of_written(handle: int) -> None:
    if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY or stat.S_ISDIR(os.fstat(handle).st_mode):
        raise OSError(9, "Bad file descriptor")
    fsync(handle)


def kill_no_console(pid: int, number: int) -> None:
    if number == 0:
        raise AssertionError("on Windows this sends Ctrl-C")
    kill(pid, number)


def refuse_descriptors(start: Any) -> Any:
    def starting(*words: Any, **options: Any) -> Any:
        if "taskkill" in words[0]:
            return kill(int(words[0][-1]), signal.SIGKILL)
        assert not options.get("pass_fds"), "pass_fds not supported on Windows."
        inherited = options.pop("startupinfo", {"handle_list": []})["handle_list"]
        return start(*words, **options, pass_fds=inherited)

    return starting


def locking(handle: int, mode: int, count: int) -> None:
    if mode == 0:
        fcntl.flock(handle, fcntl.LOCK_UN)
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PermissionError(13, "Permission denied") from error


def open_process(access: int, inherit: bool, pid: int) -> int:
    try:
        kill(pid, 0)
    except ProcessLookupError as error:
        lost = OSError(22, "The parameter is incorrect")
        lost.winerror = 87  # type: ignore[attr-defined]
        raise lost from error
    return pid


def wait_for(pid: int, milliseconds: int) -> int:
    while True:
        try:
            kill(pid, 0)
        except ProcessLookupError:
            return 0
        if not milliseconds:
            return 258
        time.sleep(0.05)


def tell_memory(status: Any) -> int:
    status._obj.total = 8 * 10**9
    return 1


def refuse_memory(kind: int, limits: tuple[int, int]) -> None:
    import resource

    if kind == resource.RLIMIT_AS:
        raise ValueError("current limit exceeds maximum limit")
    resource.setrlimit(kind, limits)


WINDOWS = {
    "ctypes": Seen(ctypes, {"windll": SimpleNamespace(kernel32=SimpleNamespace(GlobalMemoryStatusEx=tell_memory))}),
    "msvcrt": SimpleNamespace(LK_NBLCK=2, LK_UNLCK=0, locking=locking),
    "_winapi": SimpleNamespace(
        INFINITE=-1, WAIT_OBJECT_0=0, OpenProcess=open_process, WaitForSingleObject=wait_for, CloseHandle=lambda _: None
    ),
}


def seen(name: str) -> Any:
    """The module `name` as scenegen's modules see it."""
    real = sys.modules.get(name) or plain_import(name)
    if name == "sys":
        return Seen(real, {"platform": SYSTEM})
    if SYSTEM == "darwin":
        return Seen(real, {"setrlimit": refuse_memory}) if name == "resource" else real
    if name == "os":
        changed = {"open": open_no_folder, "fsync": fsync_of_written, "kill": kill_no_console}
        return Seen(real, {**changed, "set_handle_inheritable": os.set_inheritable}, POSIX_NAMES["os"])
    if name == "signal":
        return Seen(real, {}, POSIX_NAMES["signal"])
    if name == "subprocess":
        changed = {"run": refuse_descriptors(run), "Popen": refuse_descriptors(popen)}
        return Seen(real, {**changed, "STARTUPINFO": lambda lpAttributeList: lpAttributeList})
    if name == "multiprocessing":
        from multiprocessing import connection

        return Seen(real, {"connection": Seen(connection, {"PipeConnection": connection.Connection}, {"Connection"})})
    return real


known: dict[str, Any] = {}
making = threading.RLock()


def import_elsewhere(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    importer = (globals or {}).get("__name__", "")
    if level or importer.partition(".")[0] not in OURS:
        return plain_import(name, globals, locals, fromlist, level)
    if SYSTEM == "win32" and name in WINDOWS:
        return WINDOWS[name]
    if SYSTEM == "win32" and name in POSIX_MODULES:
        raise ModuleNotFoundError(f"{SYSTEM} has no module {name}", name=name)
    if name in ("sys", "os", "signal", "subprocess", "resource") or (SYSTEM == "win32" and name == "multiprocessing"):
        with making:
            known.setdefault(name, seen(name))
        return known[name]
    return plain_import(name, globals, locals, fromlist, level)


builtins.__import__ = import_elsewhere
