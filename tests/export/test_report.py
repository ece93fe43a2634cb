"""The report page: its sections as text, and the whole of it in a headless browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest
from export.chromium import Page, browser_page, require_chromium
from export.toy_scene import COLORS, ToyScene, toy_scene
from hypothesis import given
from hypothesis import strategies as st

from scenegen.camera import resized
from scenegen.compute.runtime import Runtime
from scenegen.config import ReportConfig
from scenegen.export import report
from scenegen.export.glb import read_glb
from scenegen.geometry.render import render
from scenegen.records import Artifact, Completion, Completions, Topology
from scenegen.store.png import read_png
from scenegen.store.store import Store
from stages.report import REPORT
from stages.stage import execute

HOSTILE_NAME = "it's <b>$name</b> & co"


class Reader(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def write_page(folder: Path, name: str = "toy") -> tuple[ToyScene, Path]:
    """The page of the toy scene in a folder of its own, made by the stage."""
    store = Store(folder / "store")
    toy = toy_scene(store, name)
    made = execute(REPORT, toy.records, ReportConfig(picture_side=320), store, Runtime()).record
    published = folder / "a folder with 'quotes'"
    published.mkdir()
    path = published / "report.html"
    path.write_bytes(store.path(dict(made.files)["report.html"]).read_bytes())
    return toy, path


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(tmp_path_factory.mktemp("hostile"), HOSTILE_NAME)[1].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> report.Findings:
    store = Store(tmp_path_factory.mktemp("findings") / "store")
    toy = toy_scene(store)
    image, ids = read_png(store.path(toy.photo.image)), read_png(store.path(toy.instances.masks))
    return report.Findings(
        name="photo",
        photo=toy.photo,
        instances=toy.instances,
        depth=toy.depth,
        layout=toy.layout,
        scene=toy.scene,
        timings=toy.timings,
        files=(("scene.glb", 1_250_000), ("a b.png", 900)),
        image=image,
        ids=ids,
        z=np.load(store.path(toy.depth.depth)),
        render=render([], toy.scene.intrinsics),
        overlay=image,
        side_view=image,
        glb=b"glTF",
        warnings=(),
        settled={},
        side=100,
    )


def test_text_from_outside_is_escaped(hostile_page: str) -> None:
    reader = Reader(hostile_page)
    assert [tag for tag, _ in reader.tags].count("script") == 2
    assert "alert(" in "".join(reader.texts)
    assert "b" not in {tag for tag, _ in reader.tags}
    assert HOSTILE_NAME in "".join(reader.texts)
    assert "python -m scenegen regenerate 'OUT/it'\"'\"'s <b>$name</b> & co' --object 1" in "".join(reader.texts)


def test_nothing_points_outside_the_page(hostile_page: str) -> None:
    addresses = [
        value
        for _, attributes in Reader(hostile_page).tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert len(addresses) > 10
    assert [a for a in addresses if not re.match(r"data:image/(png|jpeg);base64,|#\w+$|[\w%.-]+$", a or "")] == []
    assert not any(
        attribute.startswith("on") or attribute == "style" for _, a in Reader(hostile_page).tags for attribute in a
    )


def test_the_policy_admits_the_pages_own_script_and_style_only(hostile_page: str) -> None:
    (policy,) = [a["content"] for _, a in Reader(hostile_page).tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", hostile_page, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_every_picture_has_a_text(hostile_page: str) -> None:
    pictures = [attributes for tag, attributes in Reader(hostile_page).tags if tag == "img"]
    assert len(pictures) == 12
    assert all(picture["alt"] for picture in pictures)


def test_the_script_carries_the_licence_of_three() -> None:
    folder = files("scenegen.export") / "viewer"
    script = (folder / "viewer.js").read_bytes()
    licence = (folder / "LICENSE-three.txt").read_text(encoding="utf-8")
    assert script.decode()[:2000].count(licence.strip()) == 1
    assert len(script) < 800_000


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1))
def test_any_warning_is_shown_as_it_is(findings: report.Findings, text: str) -> None:
    assert text in Reader(report.problems(replace(findings, warnings=(text,)))).texts


def test_the_verdict_says_what_is_missing(findings: report.Findings) -> None:
    text = "".join(Reader(report.header(findings)).texts)
    assert "Partial" in text
    assert "3 objects · median silhouette IoU 1.000 · missing: object 4 (yellow box)" in text
    assert "1.2 MB" in text
    assert 'href="a%20b.png"' in report.header(findings)
    whole = replace(findings, scene=findings.scene.model_copy(update={"failures": ()}))
    assert "Complete" in report.header(whole)
    assert "nothing missing" in report.header(whole)
    assert "Missing" not in report.problems(whole)


def test_the_worst_value_of_a_column_is_marked(findings: report.Findings) -> None:
    def scored(iou: float, error: float | None) -> dict[str, object]:
        return {"silhouette_iou": iou, "depth_error": error, "colour_psnr": 20.0}

    scores = [scored(0.95, 0.01), scored(0.70, None), scored(0.80, 0.2)]
    placed = tuple(
        item.model_copy(update={"scores": item.scores.model_copy(update=score), "score": 0.5})
        for item, score in zip(findings.scene.objects, scores, strict=True)
    )
    table = report.objects(replace(findings, scene=findings.scene.model_copy(update={"objects": placed})))
    cells = re.findall(r'class="number measure( worst)?".*?class="value (\w*)">(.*?)<', table)
    assert cells == [
        ("", "", "0.50"), ("", "good", "0.950"), ("", "good", "1.0%"), ("", "fair", "20.0 dB"),
        ("", "", "0.50"), (" worst", "poor", "0.700"), ("", "fair", "20.0 dB"),
        ("", "", "0.50"), ("", "fair", "0.800"), (" worst", "poor", "20.0%"), ("", "fair", "20.0 dB"),
    ]  # fmt: skip
    assert table.count("not measured") == 1


@pytest.mark.parametrize(
    ("topology", "words"),
    [
        (Topology(closed=True, pieces=1, genus=0), "closed, 1 piece"),
        (Topology(closed=True, pieces=2, genus=1), "closed, 2 pieces, 1 handle"),
        (Topology(closed=False, pieces=1, genus=None), "open, 1 piece"),
        (None, "-"),
    ],
)
def test_how_a_mesh_hangs_together_is_in_the_row(
    findings: report.Findings, topology: Topology | None, words: str
) -> None:
    placed = tuple(item.model_copy(update={"topology": topology}) for item in findings.scene.objects)
    texts = Reader(report.objects(replace(findings, scene=findings.scene.model_copy(update={"objects": placed})))).texts
    assert texts.count(words) >= len(placed)


def test_support_seed_and_back_end_are_in_the_row(findings: report.Findings) -> None:
    texts = "".join(Reader(report.objects(findings)).texts)
    assert "2 <script>" in texts
    assert "inflate, seed 2" in texts
    assert "--object 3Copy" in texts


def test_times_of_one_stage_are_added(findings: report.Findings) -> None:
    text = report.timings(findings)
    assert "generate x 2" in text
    assert "2.75 s" in text
    assert "6.0 s in total" in text
    widths = [float(width) for width in re.findall(r'class="bar" width="([\d.]+)"', text)]
    assert max(widths) == 100
    assert widths[0] == pytest.approx(100 * 0.21 / 2.75, abs=0.01)


# In a browser.


def test_a_missing_browser_skips_or_fails_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("SCENEGEN_REQUIRE_VALIDATORS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no Chromium"):
        require_chromium()
    monkeypatch.setenv("SCENEGEN_REQUIRE_VALIDATORS", "1")
    with pytest.raises(pytest.fail.Exception, match="no Chromium"):
        require_chromium()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, ToyScene, Path]]:
    folder = tmp_path_factory.mktemp("browser")
    toy, path = write_page(folder)
    with browser_page(folder) as page:
        yield page, toy, path


@pytest.fixture
def page(opened: tuple[Page, ToyScene, Path]) -> Iterator[Page]:
    """The page, freshly opened, at rest; no test may leave a problem or a request behind."""
    page, _, path = opened
    page.problems.clear()
    page.requests.clear()
    page.open(path)
    page.wait_for("document.querySelector('#view').dataset.state === 'ready'")
    yield page
    assert page.problems == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert [url for url in page.requests if url.startswith("file:")] == [path.as_uri()]


def click(page: Page, selector: str) -> None:
    page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


def differing(a: np.ndarray, b: np.ndarray, tolerance: int = 24) -> np.ndarray:
    return np.abs(a.astype(int) - b.astype(int)).max(axis=-1) > tolerance


def expected(toy: ToyScene, store: Store, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Colours and part indices of the exported scene through its own camera, at the canvas's size."""
    scene = read_glb(store.path(toy.export.files[0][1]))
    camera_from_world = np.linalg.inv(scene.world_from_camera)
    parts = [
        part.mesh.transformed(camera_from_world @ part.world_from_part) for part in (*scene.objects, *scene.background)
    ]
    picture = render(parts, resized(scene.intrinsics, shape[1], shape[0]))
    return picture.color, picture.ids


def test_the_canvas_shows_the_exported_scene_from_the_photos_camera(
    page: Page, opened: tuple[Page, ToyScene, Path]
) -> None:
    _, toy, path = opened
    shot = page.screenshot("#view canvas")
    colors, ids = expected(toy, Store(path.parent.parent / "store"), shot.shape)
    # A pixel at an edge may belong to either side: compare away from edges of colour, and rounded corners.
    flat = cv2.dilate(colors, np.ones((7, 7))) == cv2.erode(colors, np.ones((7, 7)))
    inner = flat.all(axis=-1)
    inner[:12], inner[-12:], inner[:, :12], inner[:, -12:] = False, False, False, False
    assert inner.mean() > 0.5
    assert differing(shot, colors, 6)[inner].mean() < 0.001
    for index, object_id in enumerate(COLORS):
        assert (ids == index).sum() > 500
        mean = shot[(ids == index) & inner].mean(axis=0)
        assert mean.argmax() == np.argmax(COLORS[object_id])


def test_hiding_the_objects_changes_their_pixels_and_no_others(page: Page, opened: tuple[Page, ToyScene, Path]) -> None:
    _, toy, path = opened
    before = page.screenshot("#view canvas")
    _, ids = expected(toy, Store(path.parent.parent / "store"), before.shape)
    mask = np.isin(ids, (0, 1, 2)).astype(np.uint8)
    click(page, "[data-toggle=objects]")
    changed = differing(before, page.screenshot("#view canvas"))
    assert changed[cv2.erode(mask, np.ones((5, 5))) == 1].mean() > 0.99
    assert changed[cv2.dilate(mask, np.ones((5, 5))) == 0].mean() < 0.001
    click(page, "[data-toggle=objects]")
    assert not differing(before, page.screenshot("#view canvas")).any()


def test_a_click_in_the_scene_selects_the_row_and_back(page: Page, opened: tuple[Page, ToyScene, Path]) -> None:
    _, toy, path = opened
    before = page.screenshot("#view canvas")
    _, ids = expected(toy, Store(path.parent.parent / "store"), before.shape)
    v, u = (int(np.median(axis)) for axis in np.nonzero(ids == 0))
    box = page.evaluate(
        "(() => { const b = document.querySelector('#view canvas').getBoundingClientRect(); return [b.x, b.y]; })()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=box[0] + u, y=box[1] + v, button="left", clickCount=1)
    selected = "[...document.querySelectorAll('tr.selected')].map(row => Number(row.dataset.object))"
    assert page.evaluate(selected) == [1]
    assert page.evaluate("document.querySelector('#view [role=status]').textContent") == "Selected: 1 red box"
    assert page.evaluate("scrollY") == 0, "the scene stays in view"
    assert page.evaluate("document.activeElement.tagName") == "CANVAS", "from now on the wheel zooms"
    assert page.evaluate("document.querySelector('[data-object=\"1\"] .pick').getAttribute('aria-pressed')") == "true"
    dimmed = page.screenshot("#view canvas")
    assert dimmed[ids == 1].mean() < 0.7 * before[ids == 1].mean(), "the others are dimmed"
    inside = cv2.erode((ids == 0).astype(np.uint8), np.ones((9, 9))) == 1
    assert differing(before, dimmed)[inside].mean() < 0.1, "the chosen one is not"
    click(page, '[data-object="3"] .pick')
    assert page.evaluate(selected) == [3]
    click(page, '[data-object="3"] .pick')
    assert page.evaluate(selected) == []
    assert not differing(before, page.screenshot("#view canvas")).any()


def test_orbit_moves_the_view_and_photo_view_brings_it_back(page: Page) -> None:
    before = page.screenshot("#view canvas")
    click(page, "[data-toggle=turning]")
    pressed = "document.querySelector('[data-action=photo]').getAttribute('aria-pressed')"
    page.wait_for(f"{pressed} === 'false'")
    moved = (differing(before, page.screenshot("#view canvas")).mean() > 0.01 for _ in range(200))
    assert any(moved), "a busy machine draws few frames"
    click(page, "[data-toggle=turning]")
    click(page, "[data-action=photo]")
    assert page.evaluate(pressed) == "true"
    assert not differing(before, page.screenshot("#view canvas")).any()


def test_every_toggle_changes_the_picture(page: Page) -> None:
    before = page.screenshot("#view canvas")
    for name in ("background", "shaded", "wireframe"):
        click(page, f"[data-toggle={name}]")
        assert differing(before, page.screenshot("#view canvas")).mean() > 0.01, name
        click(page, f"[data-toggle={name}]")
        assert not differing(before, page.screenshot("#view canvas")).any(), name


def test_the_comparison_shows_what_is_chosen(page: Page) -> None:
    def show(mode: str, share: int = 50) -> np.ndarray:
        page.evaluate(
            f"(() => {{ document.querySelector('[name=compare][value={mode}]').click();"
            " const slider = document.querySelector('#compare [type=range]');"
            f" slider.value = {share}; slider.dispatchEvent(new Event('input')); }})()"
        )
        return page.screenshot("#compare .stack")

    photo, scene = show("slide", 100), show("slide", 0)
    assert 0.005 < differing(photo, scene).mean() < 0.1, "the lost object is in the photo only"
    half = show("slide", 50)
    middle = half.shape[1] // 2
    assert not differing(half, photo)[40:, : middle - 4].any()
    assert not differing(half, scene)[40:, middle + 4 :].any()
    assert show("difference").mean() < 0.2 * photo.mean()
    assert 0.001 < differing(show("outlines"), scene)[40:].mean() < 0.3


def test_the_command_names_the_folder_the_page_lies_in(page: Page, opened: tuple[Page, ToyScene, Path]) -> None:
    command = page.evaluate("document.querySelector('[data-object=\"2\"] code').textContent")
    words = shlex.split(command)
    assert words == ["python", "-m", "scenegen", "regenerate", str(opened[2].parent), "--object", "2"]


@pytest.mark.parametrize(("width", "dark"), [(360, False), (768, True), (1440, False)])
def test_the_page_fits_every_width(opened: tuple[Page, ToyScene, Path], width: int, dark: bool) -> None:
    page, _, path = opened
    page.open(path, width=width, height=800, dark=dark)
    page.wait_for("document.querySelector('#view').dataset.state === 'ready'")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    lightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(lightness) < 60) == dark


def test_without_webgl_the_picture_stays(tmp_path: Path) -> None:
    _, path = write_page(tmp_path)
    with browser_page(tmp_path, webgl=False) as page:
        page.open(path)
        page.wait_for("document.querySelector('#view').dataset.state === 'unavailable'")
        assert "no WebGL" in page.evaluate("document.querySelector('#view [role=status]').textContent")
        assert page.evaluate("getComputedStyle(document.querySelector('#view .frame img')).visibility") == "visible"
        assert page.evaluate("getComputedStyle(document.querySelector('#view canvas')).visibility") == "hidden"
        assert page.problems == []


def test_a_note_is_no_warning(findings: report.Findings) -> None:
    shown = report.problems(replace(findings, warnings=("look here", "note: by the way")))
    assert '<span class="chip fair">Warning</span><span>look here</span>' in shown
    assert '<span class="chip ">Note</span><span>by the way</span>' in shown


def test_a_completed_object_is_shown_in_the_photo_that_shows_it(findings: report.Findings) -> None:
    """The main view does not show it; a second one does, in red."""
    image, ids = np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), np.uint16)
    image[5:15, 5:20], ids[5:15, 5:20] = (255, 0, 0), 77
    nowhere = Artifact(path="x", sha256="0", bytes=0)
    item = Completion(id=77, pad=0, picture=nowhere, mask=nowhere, hidden_outline=0.2, growth=1.5)
    views = tuple(
        report.ShownView(name, picture, numbers, picture)
        for name, picture, numbers in (("a", findings.image, findings.ids), ("b", image, ids))
    )
    whole = np.dstack([image, np.uint8(255) * (ids > 0)])
    shown = replace(findings, completions=Completions(items=(item,)), completed={77: whole}, views=views)
    seen, _ = (
        cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR_RGB)
        for data in re.findall(r"data:image/png;base64,([^\"']+)", report.completed(shown))
    )
    assert (seen[len(seen) // 2, seen.shape[1] // 2] == (255, 0, 0)).all()
