"""scenegen on Windows and macOS, as far as Linux can tell: its modules see what these systems lack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scenegen.store.png import write_png

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="imitates other systems on Linux")

ROOT = Path(__file__).parents[2]
SITE = Path(__file__).parent / "other_system"
SYSTEMS = ["win32", "darwin"]


def python(system: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OTHER_SYSTEM": system, "PYTHONPATH": os.pathsep.join([str(SITE), str(ROOT)])}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two boxes of one colour each on a floor, and their masks."""
    folder = tmp_path_factory.mktemp("photo")
    rgb, ids = np.full((96, 128, 3), 200, np.uint8), np.zeros((96, 128), np.uint16)
    for number, (left, colour) in enumerate(((20, (180, 40, 30)), (75, (40, 60, 170))), start=1):
        rgb[40:80, left : left + 30], ids[40:80, left : left + 30] = colour, number
    write_png(folder / "photo.png", rgb)
    write_png(folder / "masks.png", ids)
    return folder / "photo.png"


@pytest.mark.parametrize("system", SYSTEMS)
def test_help_and_doctor(system: str, tmp_path: Path) -> None:
    assert "Usage" in python(system, "-m", "scenegen", "--help").stdout
    code = (
        "import scenegen.cli.doctor as d; print([(c.state, c.detail) for c in (d.check_machine(), d.check_limits())])"
    )
    found = python(system, "-c", code)
    missing = {"win32": "memory and CPU time", "darwin": "memory"}[system]
    assert f"('warn', 'this system cannot limit {missing} of the decoder')" in found.stdout, found.stderr
    assert "8.0 GB" in found.stdout or system == "darwin"


@pytest.mark.slow  # a whole run, with its child processes
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_run(system: str, photo: Path, tmp_path: Path) -> None:
    words = ["--preset", "training-free", "--masks", photo.with_name("masks.png"), "-o", tmp_path]
    small = ["--set", "generate.resolution=32", "--set", "texture.size=64"]
    for _ in range(2):  # the second finds the scene, and takes over the locks of the first
        done = python(system, "-m", "scenegen", photo, *words, *small)
        assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "photo" / "manifest.json").read_text())
    assert len(manifest["objects"]) == 2
    notes = [text for stage in manifest["stages"] for text in stage["warnings"]]
    assert any(f"cannot limit {'memory' if system == 'darwin' else 'memory and CPU time'}" in text for text in notes)


def test_processes_of_their_own_are_refused_on_windows(photo: Path, tmp_path: Path) -> None:
    done = python("win32", "-m", "scenegen", photo, "--isolate", "--preset", "training-free", "-o", tmp_path)
    assert done.returncode == 2
    assert "`--isolate` needs Linux or macOS; this is Windows" in done.stderr


LOCKS = """
import sys
from pathlib import Path
from scenegen.store.store import Store
from scenegen.system.locks import try_lock, unlock
from scenegen.system.processes import is_running
root = Path(sys.argv[1])
with (root / "file").open("a") as one, (root / "file").open("a") as other:
    print(try_lock(one), try_lock(other), unlock(one), try_lock(other))
store = Store(root / "store")
with store.lock(), store.staging() as folder:
    store.sweep()
    print(folder.is_dir())
print(is_running(int(sys.argv[2])), is_running(2**22 + 1))
"""


@pytest.mark.parametrize("system", SYSTEMS)
def test_locks_and_processes(system: str, tmp_path: Path) -> None:
    done = python(system, "-c", LOCKS, tmp_path, str(os.getpid()))
    assert done.stdout.splitlines() == ["True False None True", "True", "True False"], done.stderr


WORKERS = """
from stages.workers.pool import run_in_children
print(sorted(end.result for end in run_in_children([-3, -1, -2], abs, workers=2, timeout_s=200)))
"""


@pytest.mark.parametrize("system", SYSTEMS)
def test_workers(system: str) -> None:
    done = python(system, "-c", WORKERS)
    assert done.stdout == "[1, 2, 3]\n", done.stderr
