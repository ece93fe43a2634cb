"""How much memory the machine has, and how much of it this process has used."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import ctypes
else:
    import resource


def total_memory() -> int | None:
    """Bytes of main memory of this machine; None if the system does not say."""
    if sys.platform == "win32":
        status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
        return status.total if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def resident_peak() -> int:
    """The largest resident set of this process so far, in bytes."""
    if sys.platform == "win32":
        counters = _MemoryCounters(size=ctypes.sizeof(_MemoryCounters))
        kernel = ctypes.windll.kernel32
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        kernel.K32GetProcessMemoryInfo.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32]
        if not kernel.K32GetProcessMemoryInfo(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.size):
            raise ctypes.WinError()
        return counters.peak_working_set
    elif sys.platform == "linux":  # there `getrusage` still counts the process that started this one
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    else:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


if sys.platform == "win32":

    class _MemoryStatus(ctypes.Structure):
        """MEMORYSTATUSEX."""

        length: int
        total: int
        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            ("total", ctypes.c_uint64),
            ("free_and_others", ctypes.c_uint64 * 6),
        )

    class _MemoryCounters(ctypes.Structure):
        """PROCESS_MEMORY_COUNTERS."""

        size: int
        peak_working_set: int
        _fields_ = (
            ("size", ctypes.c_uint32),
            ("page_faults", ctypes.c_uint32),
            ("peak_working_set", ctypes.c_size_t),
            ("working_set_and_others", ctypes.c_size_t * 7),
        )
