"""What tests of child processes wait for."""

from __future__ import annotations

import time
from pathlib import Path

GIVE_UP_S = 300.0
"""Far longer than anything here takes; a process still there has not been ended."""


def has_ended(pid: int) -> bool:
    """Whether process `pid` ends soon. A zombie nobody waits for has ended."""
    end = time.monotonic() + GIVE_UP_S
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False


def content(path: Path) -> str:
    """Of a file that soon has some."""
    end = time.monotonic() + GIVE_UP_S
    while time.monotonic() < end:
        if path.exists() and (text := path.read_text()):
            return text
        time.sleep(0.02)
    raise AssertionError(f"{path} stays empty")
