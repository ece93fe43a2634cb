"""One photo gives one scene to the byte, whatever the machine does meanwhile: rows of circumstances, columns of presets."""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest
import torch
from threadpoolctl import threadpool_limits

from scenegen.compute.runtime import Runtime
from scenegen.config import load_config
from scenegen.inputs.photos import Inputs
from scenegen.store.digest import sha256_file
from stages.layers import local_submit, on_devices
from stages.run import open_store, photo_to_scene
from stages.stage import Layers

pytestmark = pytest.mark.slow

PHOTO = Path(__file__).parents[1] / "examples" / "table.jpg"
PRESETS = ("embedded", "training-free")
SETTINGS = {
    "read": {"max_side": 256},
    "segment": {"max_objects": 2},
    "generate": {"resolution": 48},
    "texture": {"size": 128},
}
TIMED = {"manifest.json", "report.html"}
"""They show timings."""


@dataclass(frozen=True)
class Circumstances:
    """Under which a scene is made. Each has a current folder and a temporary folder of its own besides."""

    threads: int = 1
    """That torch, BLAS and OpenCV would take."""
    jobs: int = 1
    isolated: bool = False
    loaded: bool = False


ROWS = {
    "one thread": Circumstances(),
    "three threads, two jobs, a busy machine": Circumstances(threads=3, jobs=2, loaded=True),
    "a process of its own": Circumstances(threads=2, isolated=True),
}


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Beside a process that does nothing but compute."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def digests(scene: Path) -> dict[str, str]:
    files = sorted(path for path in scene.rglob("*") if path.is_file() and path.name not in TIMED)
    return {path.relative_to(scene).as_posix(): sha256_file(path) for path in files}


def made(preset: str, row: Circumstances) -> dict[str, str]:
    """Of the scene made in the current folder."""
    torch.set_num_threads(row.threads)
    cv2.setNumThreads(row.threads)
    out = Path("out")
    with contextlib.ExitStack() as stack:
        # Left as they are found: a stage has to see to it itself.
        stack.enter_context(threadpool_limits(row.threads, user_api="blas"))
        if row.loaded:
            stack.enter_context(busy())
        store, executor = open_store(out), stack.enter_context(ThreadPoolExecutor(row.jobs))
        process = stack.enter_context(on_devices(["cpu"] * row.jobs if row.isolated else []))
        submit = local_submit(store, Runtime(), executor, Layers(process=process))
        inputs = Inputs(name="table", photo=PHOTO, masks=(), depth=None)
        photo_to_scene(inputs, load_config(preset, overrides=[SETTINGS]), store, Runtime(), submit)
    return digests(out / "table")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """By preset: what the first row gives."""
    scenes = {}
    for preset in PRESETS:
        with contextlib.chdir(tmp_path_factory.mktemp(preset)):
            scenes[preset] = made(preset, ROWS["one thread"])
    return scenes


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("row", [name for name in ROWS if name != "one thread"])
def test_same_bytes(
    preset: str,
    row: str,
    expected: dict[str, dict[str, str]],
    threads: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("temporary", "runtime", "here"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setenv("SCENEGEN_LOCKS", str(tmp_path / "runtime"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path / "here")
    assert "scene.glb" in expected[preset]
    assert made(preset, ROWS[row]) == expected[preset]
    assert not list((tmp_path / "temporary").iterdir())


def test_same_bytes_as_a_flow(
    expected: dict[str, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importlib.import_module("flows")  # sets what Prefect reads on import
    from prefect.testing.utilities import prefect_test_harness

    from flows.parameters import Making, ObjectLimits
    from flows.scene import image_to_scene

    monkeypatch.chdir(tmp_path)
    with prefect_test_harness(server_startup_timeout=120):
        for preset in PRESETS:
            making = Making(preset=preset, settings=SETTINGS, isolate=False)
            image_to_scene(str(PHOTO), preset, making=making, pace=ObjectLimits(objects_at_once=2))
            assert digests(tmp_path / preset / "table") == expected[preset]
