"""Makes docs/prefect/*.jpg: what Prefect's own pages show of the example photo, in the headless Chromium of the tests.

python docs/make_prefect_pictures.py
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "flows")]

from export.chromium import Page, browser_page  # noqa: E402
from site_under_test import Deployment, until  # noqa: E402

FOLDER = Path(__file__).parent / "prefect"
WINDOW = (1440, 900)
WIDTH = 960
DRAWN_S = 10.0
"""The graph is drawn on a canvas, bit by bit, and the page does not say when it is done."""


class Open(Deployment):
    """With pages, and without a password, which they would ask for."""

    @property
    def environment(self) -> dict[str, str]:
        """Of its processes."""
        found = {name: value for name, value in super().environment.items() if not name.endswith("_AUTH_STRING")}
        return found | {"PREFECT_SERVER_UI_ENABLED": "true", "PYTHONPATH": str(ROOT)}


def main() -> None:
    """A photo, then a batch that finds it done, among one that cannot be read."""
    with tempfile.TemporaryDirectory(prefix="scenegen-") as temporary:
        site = Open(Path(temporary))
        photos, out = site.folder / "photos", site.folder / "scenes"
        shutil.copy(ROOT / "examples" / "table.jpg", photos)
        (photos / "torn.jpg").write_bytes((ROOT / "examples" / "table.jpg").read_bytes()[:2000])
        try:
            site.start_server()
            site.run("-m", "scenegen", "prefect-setup")
            project = str(ROOT / "prefect.yaml")
            for name in ("image-to-scene", "batch-scenes"):
                site.run("-m", "prefect", "--no-prompt", "deploy", "--name", name, "--prefect-file", project)
            site.start_worker()
            scene = run(site, "image-to-scene", {"image": str(photos / "table.jpg"), "out": str(out)})
            batch = run(site, "batch-scenes", {"source": str(photos), "out": str(out)})
            browser = site.folder / "browser"
            browser.mkdir()
            with browser_page(browser) as page:
                form = site.ask("GET", "/deployments/name/image-to-scene/image-to-scene")["id"]
                take(site, page, f"/deployments/deployment/{form}/run", "form")
                take(site, page, f"/runs/flow-run/{scene}", "graph")
                take(site, page, f"/artifacts/artifact/{artifact(site, scene, 'markdown')}", "scene")
                take(site, page, f"/artifacts/artifact/{artifact(site, batch, 'table')}", "batch")
        finally:
            site.stop()


def run(site: Deployment, name: str, parameters: dict[str, Any]) -> str:
    """The id of a run of the deployment of this name, when it has ended."""
    found = site.ask("GET", f"/deployments/name/{name}/{name}")
    body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    made: str = site.ask("POST", f"/deployments/{found['id']}/create_flow_run", body)["id"]
    until(lambda: site.ask("GET", f"/flow_runs/{made}")["state_type"] == "COMPLETED", f"{name} is done")
    return made


def artifact(site: Deployment, run_id: str, kind: str) -> str:
    """The id of a run's artifact."""
    found = site.ask("POST", "/artifacts/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
    return next(entry["id"] for entry in found if entry["type"] == kind)


def take(site: Deployment, page: Page, path: str, name: str) -> None:
    """Writes what the window shows of one page."""
    page.open(f"http://127.0.0.1:{site.port}{path}", *WINDOW)
    page.wait_for("document.body.innerText.length > 300")
    time.sleep(DRAWN_S)
    FOLDER.mkdir(exist_ok=True)
    picture = Image.fromarray(page.screenshot("body"))
    picture.thumbnail((WIDTH, WIDTH))
    picture.save(FOLDER / f"{name}.jpg", quality=80, optimize=True)


if __name__ == "__main__":
    main()
