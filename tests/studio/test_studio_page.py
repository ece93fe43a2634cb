"""The studio's page in a browser: from a bad first guess to a scene that is published, by hand and by the command line."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import trimesh
import uvicorn
from export.chromium import Page, axe_violations, browser_page, require_chromium

from scenegen.cli import commands
from scenegen.compute.runtime import Runtime
from scenegen.config import Config, load_config
from scenegen.export.manifest import read_manifest
from scenegen.inputs.photos import Inputs
from scenegen.store.png import encoded_png, write_png
from stages.replay import begin, read_edits, write_edits
from stages.run import open_store
from studio.app import News, studio_app
from studio.making import Choice, Choices, make, make_candidates
from studio.session import Session

ROOT = Path(__file__).parents[2]
TIMED = {"manifest.json", "report.html", "edits.json"}
SMALL = ["texture.size=64", "generate.resolution=24", "generate.max_faces=400", "export.usdz=false"]
SIZE = (160, 120)
PIECES = {1: (15, 50, 45, 80), 2: (15, 25, 45, 49), 3: (70, 50, 100, 85), 4: (115, 60, 140, 90)}
"""Where the small photo shows the objects: left, top, right, bottom."""
FACE, SUIT = (225.0, 120.0), (120.0, 400.0)
"""Places of the astronaut, who is found in pieces."""


def begun(folder: Path, image: np.ndarray, ids: np.ndarray | None, config: Config) -> None:
    """A list of edits in `folder`, of this photo and these masks."""
    store = open_store(folder.parent)
    paths = []
    for name, picture in (("photo.png", image), ("masks.png", ids)):
        if picture is not None:
            write_png(folder.parent.parent / name, picture)
            paths.append(folder.parent.parent / name)
    write_edits(folder, store, begin(Inputs(folder.name, paths[0], masks=tuple(paths[1:])), config, store), 0)


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


def opened(page: Page, address: str, **window: Any) -> None:
    page.open(address, **window)
    page.wait_for("document.querySelector('main')?.dataset.ready !== undefined")


def place(page: Page, at: tuple[float, float]) -> tuple[float, float]:
    """Where the window shows a place of the photo at working size."""
    box = page.evaluate(
        "(() => { const b = document.querySelector('#outlines').getBoundingClientRect();"
        " return [b.x, b.y, b.width / document.querySelector('#outlines').viewBox.baseVal.width]; })()"
    )
    return box[0] + box[2] * at[0], box[1] + box[2] * at[1]


def middle(number: int, across: float = 0.5) -> tuple[float, float]:
    """A place of the small photo on a piece, this share of its width from the left."""
    left, top, right, bottom = PIECES[number]
    return left + across * (right - left), (top + bottom) / 2


def listed(page: Page) -> list[str]:
    return list(page.evaluate("[...document.querySelectorAll('#list li button')].map((each) => each.textContent)"))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in TIMED)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def typed(page: Page, text: str) -> None:
    for character in text:
        page.press(character)
    page.press("Enter")


@pytest.mark.slow  # a browser, the networks, and two scenes
def test_a_person_in_pieces_is_put_right_by_hand_though_the_studio_is_killed(tmp_path: Path) -> None:
    require_chromium()
    folder = tmp_path / "out" / "astronaut"
    begun(folder, skimage.data.astronaut(), None, load_config("training-free", overrides=["segment=embedded", *SMALL]))
    (tmp_path / "browser").mkdir()
    with browser_page(tmp_path / "browser") as page:
        with studio(folder, signal.SIGKILL) as address:
            opened(page, address)
            found = len(listed(page))
            # What clicks and a scribble mean is shown before anything changes.
            for tool, end, clicks in (("c", None, 1), ("q", place(page, SUIT), 5)):
                page.press(tool)
                page.drag(place(page, FACE), end)
                page.wait_for("document.querySelector('.answer') !== null")
                assert page.evaluate("document.querySelectorAll('circle.inside').length") == clicks
            page.press("Escape")
            assert page.evaluate("document.querySelector('.answer')") is None
            page.drag(place(page, FACE))
            page.drag(place(page, SUIT), shift=True)
            chosen = page.evaluate("document.querySelectorAll('#list [aria-pressed=true]').length")
            assert chosen == 2, "the person is found in pieces"
            page.press("m")
            page.wait_for(f"document.querySelectorAll('#list li').length === {found - 1}")
        # Nothing was published, and nothing is lost.
        assert [path.name for path in folder.iterdir()] == ["edits.json"]
        killed = address
        with studio(folder, signal.SIGTERM) as address:
            opened(page, address)
            assert len(listed(page)) == found - 1
            # All but the person: the list is worked through without a mouse.
            page.drag(place(page, FACE))
            person = page.evaluate("document.querySelector('#list li:has([aria-pressed=true])').dataset.id")
            page.press("Escape")
            page.evaluate(
                f"document.querySelectorAll('#list li:not([data-id=\"{person}\"]) button').forEach((button) =>"
                " button.dispatchEvent(new MouseEvent('click', {shiftKey: true})))"
            )
            page.drag(place(page, FACE), shift=True)
            page.press("Delete")
            page.wait_for("document.querySelectorAll('#list li').length === 1")
            page.drag(place(page, FACE))
            page.press("F2")
            typed(page, "astronaut")
            page.wait_for("document.querySelector('#list').textContent.includes('astronaut')")
            page.press("l")
            page.drag(place(page, (130, 500)), place(page, (225, 20)))
            page.evaluate("document.querySelector('#metres').value = 0.9")
            page.press("Enter")
            page.wait_for(f"document.querySelectorAll('#edits li').length === {found + 1}")
            page.wait_for("!document.querySelector('[data-do=publish]').disabled")
            page.press("u")
            page.wait_for("document.querySelector('#state').textContent === 'Published'")
            page.wait_for("document.querySelector('#scene').dataset.state === 'ready'")
            assert [problem for problem in page.problems if killed not in problem] == []
            assert all(request.startswith((address, killed, "blob:", "data:")) for request in page.requests)
    manifest = read_manifest(folder)
    assert [(str(item.id), item.label) for item in manifest.objects] == [(person, "astronaut")]
    assert manifest.metres is not None
    assert manifest.metres.source == "known length"
    steps = [step.kind for step in read_edits(folder, open_store(folder.parent)).steps]
    assert steps == ["merge", *["remove"] * (found - 2), "rename", "length"]
    # The command line makes the same of the photo and the edits alone.
    again = tmp_path / "again" / "astronaut"
    again.mkdir(parents=True)
    shutil.copy(folder / "edits.json", again)
    shutil.copytree(folder.parent / ".scenegen" / "input", again.parent / ".scenegen" / "input")
    assert commands.main(["replay", str(again)]) == 0
    assert contents(again) == contents(folder)


# A page whose scene is made ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, str]]:
    """A page and its address. The server runs in this process, and the scene is made before it starts."""
    require_chromium()
    root = tmp_path_factory.mktemp("page")
    image = np.full((SIZE[1], SIZE[0], 3), 170, np.uint8)
    ids = np.zeros((SIZE[1], SIZE[0]), np.uint16)
    for number, (left, top, right, bottom) in PIECES.items():
        image[top:bottom, left:right] = (50 * number, 90, 240 - 50 * number)
        ids[top:bottom, left:right] = number
    folder = root / "out" / "photo"
    begun(folder, image, ids, load_config("training-free", overrides=SMALL))
    news = News()
    session = Session(folder, open_store(folder.parent), Runtime(), 1, news.tell)
    session.maker.made = make(folder, "files", Runtime(), 1)
    asked = Choices(object=3, choices=(Choice(seed=0), Choice(seed=1)))
    session.maker.candidates = make_candidates(folder, asked, Runtime(), 1)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(studio_app(session, news, "token", port), log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    (root / "browser").mkdir()
    try:
        with browser_page(root / "browser") as page:
            yield page, f"http://127.0.0.1:{port}/token/"
    finally:
        server.should_exit = True
        news.end()
        thread.join()
        session.close()


@pytest.fixture
def page(served: tuple[Page, str]) -> Iterator[Page]:
    page, address = served
    page.problems.clear()
    opened(page, address)
    page.wait_for("document.querySelector('#scene').dataset.state === 'ready'")
    yield page
    assert page.problems == []


STATE = "fetch('state').then((answer) => answer.json())"


def revision(page: Page) -> int:
    return int(page.evaluate(f"{STATE}.then((state) => state.revision)"))


def hover(page: Page, x: float, y: float) -> None:
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def changed(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the pixels that differ visibly."""
    return float((np.abs(before.astype(int) - after).max(axis=2) > 12).mean())


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1280, True), (3840, False)])
def test_the_page_fits_every_width_and_is_accessible(served: tuple[Page, str], width: int, dark: bool) -> None:
    page, address = served
    opened(page, address, width=width, height=900, dark=dark)
    page.wait_for("document.querySelector('#scene').dataset.state === 'ready'")
    page.drag(place(page, middle(1)))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe_violations(page) == []
    page.press("?")
    assert axe_violations(page) == []


def test_what_the_pointer_meets_lights_up_in_photo_scene_and_list(page: Page) -> None:
    before = page.screenshot("#scene canvas")
    hover(page, *place(page, middle(3)))
    assert page.evaluate("document.querySelector('#list li.hovered').dataset.id") == "3"
    assert page.evaluate("document.querySelector('#under').textContent").startswith("3 object, ")
    assert changed(before, page.screenshot("#scene canvas")) > 0.3, "the others are dimmed"
    hover(page, *place(page, (5, 5)))
    assert page.evaluate("document.querySelector('#under').textContent").startswith("background, ")
    # The scene is seen from the photo's camera, so that a place of the one is the same share of the other.
    box = page.evaluate("(({x, y, width}) => [x, y, width])(document.querySelector('#scene').getBoundingClientRect())")
    u, v = middle(4)
    hover(page, box[0] + box[2] * u / SIZE[0], box[1] + box[2] * v / SIZE[0])
    assert page.evaluate("document.querySelector('#outlines path.hovered').dataset.id") == "4"


def test_hidden_objects_depth_and_comparisons_show_in_the_pictures(page: Page) -> None:
    hover(page, 1, 1)
    whole = page.screenshot("#scene")
    page.press("w")
    page.evaluate("document.querySelector('#cut').focus()")
    page.press("End")
    photo = page.screenshot("#scene")
    assert changed(photo, page.screenshot("#photo")) < 0.2, "the photo, without outlines"
    page.press("Home")
    assert changed(whole, page.screenshot("#scene")) < 0.01
    page.press("w")
    page.drag(place(page, middle(4)))
    hover(page, 1, 1)
    chosen = page.screenshot("#scene canvas")
    page.press("h")
    hidden = page.screenshot("#scene canvas")
    assert changed(chosen, hidden) > 0.01
    page.press("i")
    page.press("a")
    assert changed(chosen, page.screenshot("#scene canvas")) == 0
    flat = page.screenshot("#photo")
    page.press("d")
    page.wait_for("document.querySelector('#depth').complete && document.querySelector('#depth').naturalWidth > 0")
    assert changed(flat, page.screenshot("#photo")) > 0.5


def test_everything_is_done_without_a_mouse(page: Page) -> None:
    now = revision(page)
    page.press("p")
    page.evaluate("document.querySelector('#brush').value = 2")
    page.evaluate("document.querySelector('#outlines').focus()")
    # From the middle of the photo up to where no object is; then press, go round, release, and fill what was gone round.
    steps = [("ArrowUp", 5), (" ", 1), ("ArrowRight", 3), ("ArrowDown", 2), ("ArrowLeft", 3), ("ArrowUp", 2), (" ", 1)]
    for key, times in steps:
        for _ in range(times):
            page.press(key, shift=True)
    page.press("F", shift=True)
    page.press("Enter")
    page.wait_for("document.querySelectorAll('#list li').length === 5")
    painted = page.evaluate(f"{STATE}.then((state) => state.objects.at(-1).area)")
    long_step = 0.05 * SIZE[0]
    assert 6 * long_step**2 < painted < 10 * long_step**2, "with what the line encloses"
    page.press("e")
    assert page.evaluate("document.querySelector('#tools [data-tool=erase]').getAttribute('aria-pressed')") == "true"
    page.press("Escape")
    # A hole is erased and filled again, by Enter alone. Steps may be asked for faster than they are done.
    page.press("e")
    page.evaluate("document.querySelector('#outlines').focus()")
    for key, times in [("ArrowDown", 1), ("ArrowRight", 1), (" ", 2)]:
        for _ in range(times):
            page.press(key, shift=key != " ")
    page.press("Enter")
    page.wait_for(f"{STATE}.then((state) => state.objects.at(-1).area < {painted})")
    page.press("j")
    page.wait_for("!document.querySelector('[data-do=apply]').disabled")
    page.press("Enter")
    page.wait_for(f"{STATE}.then((state) => state.objects.at(-1).area === {painted})")
    for _ in range(3):
        page.press("z", control=True)
    page.wait_for("document.querySelectorAll('#list li').length === 4")
    assert page.evaluate("document.querySelector('#edits summary').textContent") == "Edits: 0"
    assert revision(page) == now + 6


def edited(page: Page, wanted: str) -> None:
    """Waits for the last edit to be this one."""
    page.wait_for(f"document.querySelector('#edits li:last-child')?.textContent === '{wanted}'")


def test_what_is_said_of_an_object_is_an_edit_and_shown(page: Page) -> None:
    page.drag(place(page, middle(1)))
    hover(page, 1, 1)
    before = page.screenshot("#scene canvas")
    made_at = page.evaluate(f"{STATE}.then((state) => state.made.objects[0].distance)")
    assert float(page.evaluate("10 ** document.querySelector('#away').value")) == pytest.approx(made_at, rel=0.01)
    page.press("]")
    page.wait_for("document.querySelector('#edits li:last-child')?.textContent.startsWith('Object 1 at ')")
    assert changed(before, page.screenshot("#scene canvas")) < 0.05, "it stays on its pixels"
    farther = page.evaluate(f"{STATE}.then((state) => state.objects[0].distance)")
    assert farther == pytest.approx(made_at * 10**0.02, rel=0.01)
    assert f"{farther:g} x as far" in page.evaluate("document.querySelector('#list li').textContent")
    page.press("=")
    edited(page, "Object 1 at the distance that depth says")
    assert page.evaluate("document.querySelector('[data-do=asseen]').disabled")
    page.press("k")
    edited(page, "Object 1 locked")
    assert page.evaluate("document.querySelector('[data-do=lock]').getAttribute('aria-pressed')") == "true"
    page.press("t")
    page.evaluate("document.querySelector('#question select').value = '4'")
    page.press("Enter")
    edited(page, "Object 1 stands on object 4")
    page.drag(place(page, middle(4)), shift=True)
    page.press("o")
    edited(page, "Object 1 is in front of object 4")


def test_a_candidate_is_chosen_by_its_picture(page: Page) -> None:
    assert page.evaluate("document.querySelector('#candidates h3').textContent") == "Candidates of 3 object"
    page.wait_for("[...document.querySelectorAll('#candidates img')].every((each) => each.naturalWidth > 0)")
    pressed = "[...document.querySelectorAll('#candidates button')].map((each) => each.getAttribute('aria-pressed'))"
    assert page.evaluate(pressed) == ["true", "false"]
    page.evaluate("document.querySelectorAll('#candidates button')[1].click()")
    edited(page, "Object 3 with seed 1")
    assert page.evaluate(pressed) == ["false", "true"]


def given(page: Page, kind: str, content: bytes) -> None:
    """Chooses a file that the page has asked for."""
    page.evaluate(
        f"(() => {{ const files = new DataTransfer(); const input = document.querySelector('#{kind}');"
        f" const content = Uint8Array.from(atob('{base64.b64encode(content).decode()}'), (each) => each.charCodeAt(0));"
        " files.items.add(new File([content], 'file')); input.files = files.files;"
        " input.dispatchEvent(new Event('change')); })()"
    )


def test_formats_a_picture_and_a_mesh_are_given(page: Page) -> None:
    page.press("E", shift=True)
    page.evaluate("document.querySelector('#choice [value=mjcf]').click()")
    page.evaluate("document.querySelector('#choice [value=ok]').click()")
    edited(page, "Formats glb, usd, mjcf")
    page.call("Page.setInterceptFileChooserDialog", enabled=True)
    page.drag(place(page, middle(4)))
    page.press("P", shift=True)
    given(page, "picture", encoded_png(np.full((30, 30, 3), 90, np.uint8)))
    edited(page, "Object 4 is made from a given picture")
    page.press("P", shift=True)
    edited(page, "Object 4 is made from the photo again")
    page.press("M", shift=True)
    given(page, "mesh", trimesh.creation.box().export(file_type="glb"))
    edited(page, "Object 4 is a given mesh")
    assert page.evaluate("document.querySelector('[data-do=mesh]').getAttribute('aria-pressed')") == "true"
    # No seed makes another one of it.
    assert page.evaluate(
        "[...document.querySelectorAll('[data-do=again], [data-do=candidates]')].every((b) => b.disabled)"
    )
    page.press("M", shift=True)
    edited(page, "Object 4 generated again")


def test_what_is_level_and_how_long_is_drawn(page: Page) -> None:
    page.press("y")
    page.drag(place(page, (50, 110)), place(page, (52, 20)))
    page.press("Enter")
    edited(page, "An edge is vertical")
    page.press("n")
    page.drag(place(page, (60, 110)))
    page.press("Enter")
    edited(page, "A place of the floor")
    page.press("f")
    assert 20 < float(page.evaluate("document.querySelector('#question input').value")) < 120
    page.evaluate("document.querySelector('#question input').value = '50'")
    page.press("Enter")
    edited(page, "Field of view 50 degrees")
    page.press("z")
    page.drag(place(page, (10, 20)), place(page, (150, 22)))
    page.press("Enter")
    edited(page, "The horizon")
