"""The studio's page in a browser: from a bad first guess to a scene that is published, by hand and by the command line."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from export.chromium import Page, browser_page, require_chromium

from scenegen.cli import commands
from scenegen.config import load_config
from scenegen.export.manifest import read_manifest
from scenegen.inputs.photos import Inputs
from scenegen.store.png import write_png
from stages.replay import begin, read_edits, write_edits
from stages.run import open_store

ROOT = Path(__file__).parents[2]
TIMED = {"manifest.json", "report.html", "edits.json"}
SMALL = ["texture.size=64", "generate.resolution=24", "generate.max_faces=400", "export.usdz=false"]
SIZE = (160, 120)
PIECES = {1: (15, 50, 45, 80), 2: (15, 25, 45, 49), 3: (70, 50, 100, 85), 4: (115, 60, 140, 90)}
"""Where the photo shows the objects: 1 and 2 are one thing, 3 is none."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a photo whose objects are badly cut."""
    image = np.full((SIZE[1], SIZE[0], 3), 170, np.uint8)
    ids = np.zeros((SIZE[1], SIZE[0]), np.uint16)
    for number, (left, top, right, bottom) in PIECES.items():
        image[top:bottom, left:right] = (50 * number, 90, 240 - 50 * number)
        ids[top:bottom, left:right] = number
    write_png(tmp_path / "photo.png", image)
    write_png(tmp_path / "masks.png", ids)
    scene = tmp_path / "out" / "photo"
    store = open_store(scene.parent)
    inputs = Inputs("photo", tmp_path / "photo.png", masks=(tmp_path / "masks.png",))
    write_edits(scene, store, begin(inputs, load_config("training-free", overrides=SMALL), store), 0)
    return scene


@contextlib.contextmanager
def studio(folder: Path, ends_with: signal.Signals) -> Iterator[str]:
    """The address of a studio, which is ended by a signal."""
    command = [sys.executable, "-m", "scenegen", "studio", str(folder), "--no-browser", "-q"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(ends_with)
        process.wait(timeout=60)


def opened(page: Page, address: str) -> None:
    page.open(address)
    page.wait_for("document.querySelector('main')?.dataset.ready !== undefined")


def place(page: Page, number: int, across: float = 0.5) -> tuple[float, float]:
    """A place of the window where the photo shows one of the pieces, this share of its width from the left."""
    box = page.evaluate(
        "(() => { const b = document.querySelector('#outlines').getBoundingClientRect(); return [b.x, b.y, b.width]; })()"
    )
    left, top, right, bottom = PIECES[number]
    scale = box[2] / SIZE[0]
    return box[0] + scale * (left + across * (right - left)), box[1] + scale * (top + bottom) / 2


def revision(page: Page, number: int) -> None:
    page.wait_for(f"fetch('state').then((answer) => answer.json()).then((state) => state.revision === {number})")


def listed(page: Page) -> list[str]:
    return list(page.evaluate("[...document.querySelectorAll('#objects li button')].map((each) => each.textContent)"))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in TIMED)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow  # a browser, and two scenes
def test_a_scene_is_put_right_by_hand_though_the_studio_is_killed(folder: Path, tmp_path: Path) -> None:
    require_chromium()
    (tmp_path / "browser").mkdir()
    with browser_page(tmp_path / "browser") as page:
        with studio(folder, signal.SIGKILL) as address:
            opened(page, address)
            assert listed(page) == ["1 object", "2 object", "3 object", "4 object"]
            page.drag(place(page, 1))
            page.drag(place(page, 2), shift=True)
            page.press("m")
            page.wait_for("document.querySelectorAll('#objects li').length === 3")
            page.drag(place(page, 3))
            page.press("Delete")
            page.wait_for("document.querySelectorAll('#objects li').length === 2")
        # Nothing was published, and nothing is lost.
        assert [path.name for path in folder.iterdir()] == ["edits.json"]
        killed = address
        with studio(folder, signal.SIGTERM) as address:
            opened(page, address)
            assert listed(page) == ["1 object", "4 object"]
            page.drag(place(page, 4))
            page.press("F2")
            for character in "box":
                page.press(character)
            page.press("Enter")
            page.wait_for("document.querySelector('#objects').textContent.includes('4 box')")
            page.press("l")
            page.drag(place(page, 4, 0.1), place(page, 4, 0.9))
            page.evaluate("document.querySelector('#metres').value = 0.25")
            page.press("Enter")
            revision(page, 4)
            page.wait_for("!document.querySelector('[data-do=publish]').disabled")
            page.press("u")
            page.wait_for("document.querySelector('#state').textContent === 'Published'")
            page.wait_for("document.querySelector('#scene').dataset.state === 'ready'")
            assert [problem for problem in page.problems if killed not in problem] == []
            assert all(request.startswith((address, killed, "blob:", "data:")) for request in page.requests)
    manifest = read_manifest(folder)
    assert [(item.id, item.label) for item in manifest.objects] == [(1, "object"), (4, "box")]
    assert manifest.metres is not None
    assert manifest.metres.source == "known length"
    assert [step.kind for step in read_edits(folder, open_store(folder.parent)).steps] == [
        "merge",
        "remove",
        "rename",
        "length",
    ]
    # The command line makes the same of the photo and the edits alone.
    again = tmp_path / "again" / "photo"
    again.mkdir(parents=True)
    shutil.copy(folder / "edits.json", again)
    shutil.copytree(folder.parent / ".scenegen" / "input", again.parent / ".scenegen" / "input")
    assert commands.main(["replay", str(again)]) == 0
    assert contents(again) == contents(folder)
