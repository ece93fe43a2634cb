"""What the starters of child processes share: how loud a child logs, where its log goes, and what its death means."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scenegen.messages.progress import OWN_LOGGERS
from scenegen.system.processes import KILLED, ending

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


def log_levels() -> dict[str, int]:
    """The level of each logger that a child is to forward from."""
    return {name: logging.getLogger(name).getEffectiveLevel() for name in ("root", *OWN_LOGGERS)}


def log_here(record: logging.LogRecord, context: Mapping[str, object]) -> None:
    """Logs a record of a child as one of this process, with the attributes `context`."""
    record.__dict__.update(context)
    receiver = logging.getLogger(record.name)
    if receiver.isEnabledFor(record.levelno):
        receiver.handle(record)
