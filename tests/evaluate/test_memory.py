from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from scenegen.evaluate.memory import peak_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

MEGABYTE = 1_000_000


def test_the_peak_is_seen_though_the_memory_is_freed_again() -> None:
    with peak_memory() as low:
        pass
    with peak_memory() as high:
        block = np.ones(200 * MEGABYTE, np.uint8)
        assert block[-1] == 1
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.3)"], check=True)
        del block
    assert low.bytes is not None
    assert high.bytes is not None
    assert high.bytes - low.bytes > 190 * MEGABYTE


def test_child_processes_count() -> None:
    code = f"b = bytearray({200 * MEGABYTE}); import time; time.sleep(0.5); print(len(b))"
    with peak_memory() as low:
        pass
    with peak_memory() as high:
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert (high.bytes or 0) - (low.bytes or 0) > 150 * MEGABYTE
