"""Makes docs/studio/*.jpg: the astronaut of scikit-image put right on the studio's page, in the headless Chromium of the tests.

python docs/make_studio_pictures.py [OUT]
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import skimage.data
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from export.chromium import Page, browser_page  # noqa: E402

FOLDER = Path(__file__).parent / "studio"
SIZE = (1440, 900)
WIDTH, HEIGHT = 960, 1600
FACE, SUIT, SHOULDER, FLAG = (0.44, 0.23), (0.23, 0.78), (0.62, 0.6), (0.17, 0.1)
"""Where the photo shows them, as shares of its width and height."""
PATCH = (0.6, 0.73)
FEET, HEAD = (0.25, 0.98), (0.44, 0.04)
LENGTH_M = 0.9
"""Taken for the length between them."""


def main() -> None:
    """Makes the scene in a folder, a temporary one by default, and the pictures."""
    with tempfile.TemporaryDirectory() as temporary:
        out = sys.argv[1] if len(sys.argv) > 1 else f"{temporary}/out"
        photo = Path(temporary) / "astronaut.png"
        Image.fromarray(skimage.data.astronaut()).save(photo)
        command = [sys.executable, "-m", "scenegen", "studio", str(photo), "-o", out, "--no-browser"]
        server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            with browser_page(Path(temporary)) as page:
                take_pictures(page, server.stdout.readline().strip())
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()


def take_pictures(page: Page, address: str) -> None:
    """A picture of each state."""
    open_page(page, address, *SIZE)
    page.drag(place(page, FACE))
    page.drag(place(page, SUIT), shift=True)
    save(page, "first")
    point(page, FLAG)
    page.press("d")
    page.wait_for("document.querySelector('#depth').naturalWidth > 0")
    save(page, "depth")
    page.press("d")
    page.press("m")
    edited(page, 1)
    page.press("q")
    page.drag(place(page, SUIT), place(page, SHOULDER))
    page.wait_for("document.querySelector('.answer') !== null")
    save(page, "scribble")
    page.press("Escape")
    page.press("p")
    page.drag(place(page, SHOULDER), place(page, PATCH))
    save(page, "paint")
    page.press("Enter")
    edited(page, 2)
    page.press("Escape")
    # All but the person.
    page.evaluate(
        "document.querySelectorAll('#list button').forEach((button) =>"
        " button.dispatchEvent(new MouseEvent('click', {shiftKey: true})))"
    )
    others = page.evaluate("document.querySelectorAll('#list [aria-pressed=true]').length")
    page.press("Delete")
    edited(page, 2 + others)
    page.drag(place(page, FACE))
    page.press("F2")
    for character in "astronaut":
        page.press(character)
    page.press("Enter")
    edited(page, 3 + others)
    page.press("l")
    page.drag(place(page, FEET), place(page, HEAD))
    page.evaluate(f"document.querySelector('#metres').value = {LENGTH_M}")
    save(page, "measure")
    page.press("Enter")
    edited(page, 4 + others)
    page.press("Escape")
    page.wait_for("!document.querySelector('[data-do=publish]').disabled")
    page.press("u")
    page.wait_for("!document.querySelector('[data-do=before]').disabled")
    page.wait_for("document.querySelector('#state').textContent === 'Published'")
    page.evaluate("document.querySelector('#edits').open = true")
    page.press("W", shift=True)
    save(page, "after")
    page.press("W", shift=True)
    page.evaluate("document.querySelector('#edits').open = false")
    page.press("G", shift=True)
    page.press("Enter")
    page.wait_for("[...document.querySelectorAll('#candidates img')].some((each) => each.naturalWidth > 0)")
    save(page, "candidates")
    open_page(page, address, 390, 844, dark=True)
    save(page, "phone")


def open_page(page: Page, address: str, width: int, height: int, dark: bool = False) -> None:
    """Opens the page, and waits for the scene."""
    page.open(address, width, height, dark)
    page.wait_for("document.querySelector('#scene')?.dataset.state === 'ready'")


def edited(page: Page, count: int) -> None:
    """Waits until so many edits are in effect."""
    page.wait_for(f"document.querySelectorAll('#edits li').length === {count}")


def place(page: Page, share: tuple[float, float]) -> tuple[float, float]:
    """A place of the photo in the window."""
    box = page.evaluate(
        "(({x, y, width, height}) => [x, y, width, height])(document.querySelector('#outlines').getBoundingClientRect())"
    )
    return box[0] + share[0] * box[2], box[1] + share[1] * box[3]


def point(page: Page, share: tuple[float, float]) -> None:
    """Moves the mouse to a place of the photo."""
    x, y = place(page, share)
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)


def save(page: Page, name: str) -> None:
    """Writes what the window shows."""
    FOLDER.mkdir(exist_ok=True)
    picture = Image.fromarray(page.screenshot("body"))
    picture.thumbnail((WIDTH, HEIGHT))
    picture.save(FOLDER / f"{name}.jpg", quality=76, optimize=True)


if __name__ == "__main__":
    main()
