"""Makes docs/studio/*.jpg: the studio's page with the example picture, in the headless Chromium of the tests.

python docs/make_studio_pictures.py [OUT]
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from export.chromium import Page, browser_page  # noqa: E402

FOLDER = Path(__file__).parent / "studio"
SIZE = (1440, 860)
APPLE, MUG = (0.49, 0.63), (0.3, 0.5)
"""Where the example picture shows them, as shares of its width and height."""


def main() -> None:
    """Makes the scene in a folder, a temporary one by default, and the pictures."""
    with tempfile.TemporaryDirectory() as temporary:
        out = sys.argv[1] if len(sys.argv) > 1 else f"{temporary}/out"
        command = [
            sys.executable,
            "-m",
            "scenegen",
            "studio",
            str(ROOT / "examples" / "table.jpg"),
            "-o",
            out,
            "--no-browser",
        ]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            with browser_page(Path(temporary)) as page:
                take_pictures(page, server.stdout.readline().strip())
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()


def take_pictures(page: Page, address: str) -> None:
    """A picture of each state."""
    page.open(address, *SIZE)
    page.wait_for("document.querySelector('#scene')?.dataset.state === 'ready'")
    page.drag(place(page, APPLE))
    page.wait_for("document.querySelector('#outlines path.selected') !== null")
    save(page, "selected")
    page.drag(place(page, APPLE))
    page.press("c")
    page.drag(place(page, MUG))
    page.wait_for("document.querySelector('.answer') !== null")
    save(page, "click")
    page.open(address, *SIZE, dark=True)
    page.wait_for("document.querySelector('#scene')?.dataset.state === 'ready'")
    page.press("p")
    start, end = place(page, (0.35, 0.8)), place(page, (0.5, 0.83))
    page.drag(start, end)
    save(page, "paint")


def place(page: Page, share: tuple[float, float]) -> tuple[float, float]:
    """A place of the photo in the window."""
    box = page.evaluate(
        "(({x, y, width, height}) => [x, y, width, height])(document.querySelector('#outlines').getBoundingClientRect())"
    )
    return box[0] + share[0] * box[2], box[1] + share[1] * box[3]


def save(page: Page, name: str) -> None:
    """Writes what the window shows."""
    FOLDER.mkdir(exist_ok=True)
    Image.fromarray(page.screenshot("body")).save(FOLDER / f"{name}.jpg", quality=82, optimize=True)


if __name__ == "__main__":
    main()
