"""Limits that a process sets itself, as far as the system has them."""

from __future__ import annotations

import sys

if sys.platform != "win32":
    import resource


def limit_process(cpu_s: int, memory_bytes: int | None = None) -> tuple[str, ...]:
    """Bounds the CPU time of this process, of all its threads together, and its address space.

    Args:
        cpu_s: seconds of CPU time, after which the system ends the process.
        memory_bytes: bytes of address space; None for no limit.

    Returns:
        The limits that this system does not have: `memory` on macOS, `memory` and `CPU time` on Windows.
    """
    if sys.platform == "win32":
        return ("CPU time",) if memory_bytes is None else ("memory", "CPU time")
    else:
        wanted = {"CPU time": (resource.RLIMIT_CPU, cpu_s)}
        if memory_bytes is not None:
            wanted = {"memory": (resource.RLIMIT_AS, memory_bytes), **wanted}
        refused = []
        for name, (kind, value) in wanted.items():
            _, hard = resource.getrlimit(kind)
            try:
                resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
            except ValueError:
                refused.append(name)
        return tuple(refused)
