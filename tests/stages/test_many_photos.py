"""A process that makes scene after scene stays as it is: nothing of a photo is kept, in Python or in a native library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PHOTOS, WARM = 16, 4
LEAST_LEAK = 1.5e6
"""Bytes a photo. The allocator takes memory in steps that come to half of this."""
SMALL = ("--preset", "training-free", "--set", "generate.resolution=32", "--set", "texture.size=64")
MAKE = """
import gc, os, sys
from pathlib import Path
import numpy as np
from scenegen.cli.commands import main
from scenegen.store.png import write_png

rows, columns = np.mgrid[:72, :96]
for number in range(int(sys.argv[1])):
    picture = np.full((72, 96, 4), (190, 190, 190, 0), np.uint8)
    picture[(rows - 40) ** 2 + (columns - 40 - number % 8) ** 2 < 18**2] = (40, 60 + 7 * number, 200, 255)
    write_png(Path(f"{number}.png"), picture)
    assert main([f"{number}.png", "-q", *sys.argv[2:]]) == 0
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    print("held:", pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read from /proc")
def test_a_process_holds_no_more_after_many_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    done = subprocess.run(
        [sys.executable, "-c", MAKE, str(PHOTOS), *SMALL], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("held:")]
    memory, files, threads = ([int(line[column]) for line in lines] for column in (1, 2, 3))
    assert memory[-1] - memory[WARM] < LEAST_LEAK * (PHOTOS - 1 - WARM), memory
    assert files[-1] <= files[WARM], files
    assert threads[-1] <= threads[WARM], threads
