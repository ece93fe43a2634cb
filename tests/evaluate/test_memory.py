from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

from scenegen.evaluate.memory import Peak, peak_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

MEGABYTE = 1_000_000
PATIENCE_S = 60
"""For a sample to be taken: thousands of times what it takes on an idle machine."""


def more_than(low: Peak, megabytes: int) -> Callable[[Peak], bool]:
    return lambda peak: (peak.bytes or 0) - (low.bytes or 0) > megabytes * MEGABYTE


def wait_for(peak: Peak, seen: Callable[[Peak], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not seen(peak) and time.monotonic() < end:
        time.sleep(0.01)


def test_the_peak_is_seen_though_the_memory_is_freed_again() -> None:
    with peak_memory() as low:
        pass
    with peak_memory() as high:
        block = np.ones(200 * MEGABYTE, np.uint8)
        assert block[-1] == 1
        wait_for(high, more_than(low, 190))
        del block
    assert more_than(low, 190)(high)


def test_child_processes_count() -> None:
    code = f"b = bytearray({200 * MEGABYTE}); input(); print(len(b))"
    with peak_memory() as low:
        pass
    with peak_memory() as high:
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        wait_for(high, more_than(low, 150))
        child.communicate(b"\n")
    assert more_than(low, 150)(high)
