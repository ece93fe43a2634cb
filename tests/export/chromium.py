"""A headless Chromium, driven over its debugging pipe: opens a page and watches what it does."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)
SOFTWARE_GL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
PATIENCE_S = 300
AXE = Path(__file__).parents[2] / "viewer" / "node_modules" / "axe-core" / "axe.min.js"


def require_chromium() -> str:
    """Path of the browser. Skips without one, or fails where the environment demands the validators."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        reason = "no Chromium on the PATH (Debian package `chromium`): the page cannot be looked at"
        if os.environ.get("SCENEGEN_REQUIRE_VALIDATORS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class Page:
    """One tab. `problems` are console errors and exceptions, `requests` the addresses of everything it asked for."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._buffer = b""
        self._ids = itertools.count(1)
        self._session: str | None = None
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self._note(answer)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Waits until a JavaScript expression is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, f"{expression} stayed false; problems: {self.problems}"
            time.sleep(0.05)

    def open(self, place: Path | str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Opens a file from disk, or an address, in a window of `width` x `height` CSS pixels."""
        address = place if isinstance(place, str) else place.as_uri()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete' && location.protocol !== 'about:'")

    def press(self, key: str, shift: bool = False, control: bool = False) -> None:
        """Presses a key, which types if it is a character."""
        text = "" if control else {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        values = {"key": key, "modifiers": 8 * shift + 2 * control}
        self.call("Input.dispatchKeyEvent", type="keyDown", **values, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **values)

    def drag(self, start: tuple[float, float], end: tuple[float, float] | None = None, shift: bool = False) -> None:
        """Presses the mouse at a place of the window, CSS pixels, and releases it at another, or at the same: a click."""
        moves = [("mousePressed", start), *([("mouseMoved", end)] if end else []), ("mouseReleased", end or start)]
        for kind, (x, y) in moves:
            given = {"button": "left", "clickCount": 1, "modifiers": 8 if shift else 0}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **given)

    def screenshot(self, selector: str) -> np.ndarray:
        """What is drawn where an element lies, as RGB [h, w, 3]."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        box = self.evaluate(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return {x: b.x + scrollX, y: b.y + scrollY, width: b.width, height: b.height}; })()"
        )
        shot = self.call("Page.captureScreenshot", format="png", clip={**box, "scale": 1}, captureBeyondViewport=True)
        data = np.frombuffer(base64.b64decode(shot["data"]), np.uint8)
        return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            chunk = os.read(self._answers, 1 << 20)
            assert chunk, "Chromium ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.problems.append(json.dumps(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                self.problems.append(json.dumps(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                self.problems.append(json.dumps(parameters["entry"]))
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])


def axe_violations(page: Page) -> list[str]:
    """What axe-core has against the page as it is now. Without axe-core the test is skipped, or fails as `require_chromium`."""
    if not AXE.is_file():
        reason = "axe-core is not there: install node, then run `npm ci` in viewer"
        (pytest.fail if os.environ.get("SCENEGEN_REQUIRE_VALIDATORS") == "1" else pytest.skip)(reason)
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run().then(({violations}) => violations)")
    return [f"{each['id']}: {each['help']}: {each['nodes'][0]['html']}" for each in found]


@contextlib.contextmanager
def browser_page(folder: Path, webgl: bool = True) -> Iterator[Page]:
    """A fresh browser with one tab; its profile and pipes lie in `folder`."""
    chromium = require_chromium()
    commands, answers = folder / "commands", folder / "answers"
    os.mkfifo(commands)
    os.mkfifo(answers)
    gl = SOFTWARE_GL if webgl else ("--disable-3d-apis",)
    # Chromium reads commands from descriptor 3 and answers on 4.
    process = subprocess.Popen(
        ["sh", "-c", 'exec "$0" "$@" 3<commands 4>answers', chromium, *FLAGS, *gl, f"--user-data-dir={folder}/profile"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    writer = os.open(commands, os.O_WRONLY)
    reader = os.open(answers, os.O_RDONLY)
    try:
        yield Page(writer, reader)
    finally:
        os.close(writer)  # the end of the pipe is Chromium's order to leave
        os.close(reader)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
