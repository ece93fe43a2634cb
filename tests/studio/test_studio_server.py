"""The studio's server: what it answers, whom it refuses, and that nothing that was done is lost."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import trimesh
from starlette.testclient import TestClient

from scenegen.cli import commands
from scenegen.compute.recent import forget_reused
from scenegen.compute.runtime import Runtime
from scenegen.config import load_config
from scenegen.errors import UsageError
from scenegen.geometry.mesh import load_mesh
from scenegen.inputs.photos import Inputs
from scenegen.store.png import encoded_png, read_png, write_png
from stages.graph import image_to_object
from stages.layers import local_submit
from stages.replay import begin, read_edits, write_edits
from stages.run import open_store
from studio.app import MAX_BODY_BYTES, News, event_stream, studio_app
from studio.making import Choices, Maker, make, make_candidates
from studio.session import Session

PORT, TOKEN = 8123, "a-token"
HOST = f"127.0.0.1:{PORT}"
ORIGIN = f"http://{HOST}"
ROOT = Path(__file__).parents[2]


def opened(folder: Path) -> Session:
    return Session(folder, open_store(folder.parent), Runtime(), 1, lambda: None)


def client(session: Session, **headers: str) -> TestClient:
    app = studio_app(session, News(), TOKEN, PORT)
    return TestClient(app, base_url=f"{ORIGIN}/{TOKEN}/", headers={"host": HOST, **headers})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a photo with masks of three objects that nobody has edited yet."""
    image = np.full((96, 128, 3), 170, np.uint8)
    ids = np.zeros((96, 128), np.uint16)
    for number, left in enumerate((5, 45, 85), start=1):
        image[20:70, left : left + 30] = (60 * number, 90, 250 - 60 * number)
        ids[20:70, left : left + 30] = number
    write_png(tmp_path / "photo.png", image)
    write_png(tmp_path / "masks.png", ids)
    scene = tmp_path / "out" / "photo"
    store = open_store(scene.parent)
    inputs = Inputs("photo", tmp_path / "photo.png", masks=(tmp_path / "masks.png",))
    config = load_config("training-free", overrides=["texture.size=64", "generate.resolution=24"])
    write_edits(scene, store, begin(inputs, config, store), 0)
    return scene


@pytest.fixture
def session(folder: Path) -> Iterator[Session]:
    session = opened(folder)
    yield session
    session.close()


@pytest.fixture
def page(session: Session) -> TestClient:
    return client(session, origin=ORIGIN)


def step(page: TestClient, revision: int, **values: Any) -> Any:
    return page.post("steps", json={"revision": revision, "step": values})


# Whom it refuses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),  # a name that was made to point here
        ({"host": f"127.0.0.1:{PORT + 1}"}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"host": f"localhost:{PORT}", "origin": f"http://localhost:{PORT}"}, 200),
    ],
)
def test_only_the_own_page_is_answered(session: Session, headers: dict[str, str], status: int) -> None:
    assert client(session, **headers).get("state").status_code == status


def test_a_change_must_say_where_it_comes_from(session: Session) -> None:
    assert client(session).post("make").status_code == 403
    assert session.maker.job is None


@pytest.mark.parametrize("path", ["/", "/state", "/wrong/state", "/a-toke/state", f"/{TOKEN}x/state"])
def test_without_the_token_there_is_nothing(page: TestClient, path: str) -> None:
    assert page.get(f"{ORIGIN}{path}").status_code == 404


def test_a_body_has_a_limit(page: TestClient) -> None:
    assert page.post("steps", content=b" " * (MAX_BODY_BYTES + 1)).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(9):
            yield b" " * (1 << 20)

    assert page.post("steps", content=chunks()).status_code == 422


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[[" * 100_000, b"NaN", b'{"revision": 0}', b'{"revision": 0, "step": {"kind": "run"}}']
)
def test_what_is_no_step_is_refused(page: TestClient, folder: Path, body: bytes) -> None:
    before = (folder / "edits.json").read_bytes()
    response = page.post("steps", content=body)
    assert response.status_code == 422
    assert response.json()["error"]
    assert (folder / "edits.json").read_bytes() == before


def test_the_page_may_load_nothing_from_elsewhere(page: TestClient) -> None:
    response = page.get("")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["referrer-policy"] == "no-referrer"  # the address has the token
    assert not re.findall(r"(?:src|href)=\"(?!data:)[^\"]*//", response.text)
    assert page.get("studio.js").headers["content-type"].startswith("text/javascript")
    assert page.get("studio.css").status_code == 200


# What it does ---------------------------------------------------------------------------------------------------------


def test_the_state_shows_the_objects_as_edited(page: TestClient, session: Session) -> None:
    state = page.get("state").json()
    assert (state["revision"], state["size"], [item["id"] for item in state["objects"]]) == (0, [128, 96], [1, 2, 3])
    assert (state["can_undo"], state["published"], state["next_id"]) == (False, False, 4)
    assert read_png(session.photo()).shape == (96, 128, 3)
    assert page.get("photo.png").content == session.photo().read_bytes()
    state = step(page, 0, kind="merge", objects=[2, 3]).json()
    assert (state["revision"], [item["id"] for item in state["objects"]]) == (1, [1, 2])
    assert state["objects"][1]["outline"].count("M") == 2
    # An id is not used again, though its object is gone.
    assert (state["next_id"], state["can_undo"], state["can_redo"]) == (4, True, False)
    assert state["done"] == [{"kind": "merge", "objects": [2, 3]}]
    state = step(page, 1, kind="undo").json()
    assert (state["revision"], len(state["objects"]), state["can_redo"]) == (2, 3, True)


def test_what_was_painted_is_added_or_taken_away(page: TestClient) -> None:
    runs = [0, 128 * 10, 128 * 86]  # the ten uppermost rows
    state = step(page, 0, kind="painted", object=4, adds=True, runs=runs).json()
    assert state["objects"][3]["area"] == 1280
    half = [0, 128 * 5, 128 * 91]
    state = step(page, 1, kind="painted", object=4, adds=False, runs=half).json()
    assert state["objects"][3]["area"] == 640
    assert "add up to" in step(page, 2, kind="painted", object=4, adds=True, runs=[5, 5]).json()["error"]
    assert step(page, 2, kind="painted", object=4, adds=True, runs=[-1, 1 + 128 * 96]).status_code == 422


def test_two_pages_do_not_overwrite_each_other(page: TestClient, session: Session, folder: Path) -> None:
    other = client(opened(folder), origin=ORIGIN)  # of another server, even
    assert step(page, 0, kind="rename", object=1, label="red box").status_code == 200
    late = step(other, 0, kind="rename", object=1, label="blue box")
    assert late.status_code == 409
    assert "edited elsewhere" in late.json()["error"]
    assert other.get("state").json()["objects"][0]["label"] == "red box"
    assert step(other, 1, kind="rename", object=1, label="blue box").status_code == 200


def test_a_step_that_cannot_be_done_is_not_written_down(page: TestClient, folder: Path) -> None:
    before = (folder / "edits.json").read_bytes()
    for values in ({"kind": "merge", "objects": [1, 9]}, {"kind": "undo"}, {"kind": "prompt", "object": 9}):
        response = step(page, 0, **values)
        assert (response.status_code, "error" in response.json()) == (422, True)
    assert (folder / "edits.json").read_bytes() == before


def test_a_click_is_answered_and_changes_nothing(page: TestClient, folder: Path) -> None:
    before = (folder / "edits.json").read_bytes()
    asked = {"object": 4, "inside": [[20, 40]], "outside": [], "box": None}
    found = page.post("answer", json=asked).json()
    assert found["area"] > 0
    assert found["outline"].startswith("M")
    assert page.post("answer", json={**asked, "inside": [[999, 40]]}).status_code == 422
    assert (folder / "edits.json").read_bytes() == before


def test_pages_are_told_what_has_changed(page: TestClient, session: Session) -> None:
    news = News()

    async def two() -> list[str]:
        stream = event_stream(session, news)
        first = await anext(stream)
        news.tell()  # nothing has changed, so nothing is said
        await asyncio.to_thread(step, page, 0, kind="rename", object=1, label="red box")
        news.tell()
        second = await anext(stream)
        await stream.aclose()
        return [first, second]

    told = [json.loads(text.removeprefix("data: ")) for text in asyncio.run(two())]
    assert [each["revision"] for each in told] == [0, 1]


def test_what_is_said_of_places_is_shown_and_undone(page: TestClient) -> None:
    steps: list[dict[str, Any]] = [
        {"kind": "support", "object": 1, "on": 2},
        {"kind": "order", "front": 3, "behind": 1},
        {"kind": "distance", "object": 3, "factor": 0.9},
        {"kind": "regenerate", "object": 2, "seed": 4, "method": "embedded"},
        {"kind": "formats", "formats": ["mjcf"], "usdz": False},
        {"kind": "lock", "object": 1, "locked": True},
        {"kind": "field_of_view", "degrees": 50},
        {"kind": "floor", "at": [64, 80]},
        {"kind": "vertical", "start": [20, 70], "end": [21, 20]},
    ]
    for revision, each in enumerate(steps):
        state = step(page, revision, **each)
        assert state.status_code == 200, state.json()
    shown = state.json()
    first, second, third = shown["objects"]
    assert (first["stands"], first["locked"], third["distance"]) == (2, True, 0.9)
    assert (second["seed"], second["method"], third["method"]) == (4, "embedded", "inflate")
    assert (shown["formats"], shown["usdz"], shown["fov_deg"]) == (["mjcf"], False, 50)
    assert {"embedded", "inflate"} <= set(shown["generators"])
    assert {"mjcf", "urdf", "obj"} <= set(shown["exporters"])
    for revision in range(len(steps), 2 * len(steps)):
        state = step(page, revision, kind="undo")
    assert not state.json()["can_undo"]
    assert state.json()["objects"][0]["stands"] is None


IMPOSSIBLE: list[dict[str, Any]] = [
    {"kind": "support", "object": 1, "on": 1},
    {"kind": "regenerate", "object": 1, "seed": 1, "method": "../x"},
    {"kind": "formats", "formats": ["exe"]},
    {"kind": "distance", "object": 1, "factor": 0},
    {"kind": "prompt", "object": 1, "inside": [[1, 1]] * 65},
    {"kind": "length", "start": [1, 1], "end": [1, 1], "metres": 1},
    {"kind": "floor", "at": [64, 9000]},
    {"kind": "horizon", "start": [5, 5], "end": [5, 5]},
    {"kind": "rename", "object": 1, "label": "red\x1b[31m"},
    {"kind": "paint", "object": 1, "mask": {"path": "input/no", "sha256": "0", "bytes": 1}},
    {"kind": "mesh", "object": 1, "mesh": {"path": "../../etc/passwd", "sha256": "0", "bytes": 1}},
    {"kind": "mesh", "object": 1, "mesh": {"path": "input/no", "sha256": "0", "bytes": 1}},
    {"kind": "picture", "object": 1, "picture": {"path": "../../etc/passwd", "sha256": "0", "bytes": 1}},
]


def test_what_cannot_be_is_said_at_once(page: TestClient, folder: Path) -> None:
    before = (folder / "edits.json").read_bytes()
    for values in IMPOSSIBLE:
        response = step(page, 0, **values)
        assert (response.status_code, bool(response.json()["error"])) == (422, True), values
    assert (folder / "edits.json").read_bytes() == before


def test_a_mesh_of_the_users_is_taken_and_anything_else_refused(page: TestClient, folder: Path) -> None:
    glb = trimesh.creation.box().export(file_type="glb")
    assert page.post("meshes/2?revision=0", content=b"glTF" + bytes(99)).status_code == 422
    assert page.post("meshes/2?revision=-1", content=glb).status_code == 422
    assert page.post(f"meshes/{'9' * 5000}?revision=0", content=glb).status_code == 422
    assert page.post("meshes/70000?revision=0", content=glb).status_code == 422
    assert page.post("meshes/2?revision=3", content=glb).status_code == 409
    state = page.post("meshes/2?revision=0", content=glb).json()
    assert [item["given_mesh"] for item in state["objects"]] == [False, True, False]
    assert not step(page, 1, kind="mesh", object=2, mesh=None).json()["objects"][1]["given_mesh"]


def test_an_object_is_made_from_a_picture_of_the_users(page: TestClient, folder: Path) -> None:
    assert page.post("pictures/2?revision=0", content=b"\x89PNG\r\n\x1a\n" + bytes(99)).status_code == 422
    striped = np.full((60, 30, 4), (20, 200, 30, 255), np.uint8)
    striped[::2, :, 3] = 0
    state = page.post("pictures/2?revision=0", content=encoded_png(striped))
    assert [item["given_picture"] for item in state.json()["objects"]] == [False, True, False]
    store = open_store(folder.parent)
    source, config = read_edits(folder, store).resolved()
    with ThreadPoolExecutor(1) as executor:
        submit = local_submit(store, Runtime(), executor)
        # What is seen from the camera has the picture's colours; other objects do not depend on it.
        made = [image_to_object(source, config, number, submit)[0] for number in (1, 2)]
        plain = [image_to_object(source.model_copy(update={"pictures": ()}), config, n, submit)[0] for n in (1, 2)]
    assert [with_it.key == without.key for with_it, without in zip(made, plain, strict=True)] == [True, False]
    colours = load_mesh(store.path(made[1].record.mesh)).base_color.reshape(-1, 3).astype(int)
    assert (np.abs(colours - (20, 200, 30)).max(axis=1) < 30).mean() > 0.3
    assert not step(page, 1, kind="picture", object=2, picture=None).json()["objects"][1]["given_picture"]


# Making ---------------------------------------------------------------------------------------------------------------


def test_candidates_are_shown_and_the_chosen_one_is_in_the_store(folder: Path, session: Session) -> None:
    choices = Choices.model_validate(
        {"object": 2, "choices": [{"seed": 1}, {"seed": 2}, {"seed": 3, "method": "pixal3d"}]}
    )
    found = make_candidates(folder, choices, Runtime(offline=True), 1)
    assert [item.backend != "" for item in found.items] == [True, True, False]
    assert found.items[0].picture != found.items[1].picture
    assert found.items[2].error
    session.maker.candidates = found
    page = client(session, origin=ORIGIN)
    assert page.get("thumbnails/1.png").content.startswith(b"\x89PNG")
    assert [page.get(f"thumbnails/{number}.png").status_code for number in ("2", "9", "-1", "x")] == [
        404,
        404,
        422,
        422,
    ]
    step(page, 0, kind="regenerate", object=2, seed=2)
    store = open_store(folder.parent)
    before = {path.name for path in (store.root / "generate").glob("*/*")}
    source, config = read_edits(folder, store).resolved()
    with ThreadPoolExecutor(1) as executor:
        made, _ = image_to_object(source, config, 2, local_submit(store, Runtime(), executor))
    assert made.cached
    assert {path.name for path in (store.root / "generate").glob("*/*")} == before
    with pytest.raises(UsageError, match="no object 9"):
        make_candidates(folder, choices.model_copy(update={"object": 9}), Runtime(), 1)


def meshes_of(glb: bytes) -> dict[str, tuple[list[float], int]]:
    """Where each mesh of a scene is, and how many faces it has."""
    scene = trimesh.load_scene(io.BytesIO(glb), file_type="glb")
    return {name: (mesh.bounds.round(5).ravel().tolist(), len(mesh.faces)) for name, mesh in scene.geometry.items()}


def test_what_was_made_can_be_taken_away_unpublished(folder: Path, session: Session) -> None:
    page = client(session, origin=ORIGIN)
    assert [page.get(path).status_code for path in ("scene.glb", "depth.png", "scene.zip", "made/scene.usd")] == [
        404
    ] * 4
    step(page, 0, kind="formats", formats=["mjcf", "urdf"])
    session.maker.made = preview = make(folder, "preview", Runtime(), 1)
    assert [page.get(path).status_code for path in ("scene.glb", "depth.png", "scene.zip", "made/scene.usd")] == [
        200,
        200,
        404,
        404,
    ]
    session.maker.made = make(folder, "files", Runtime(), 1)
    assert session.maker.made.glb == preview.glb
    assert page.get("depth.png").content.startswith(b"\x89PNG")
    assert page.get("made/scene.usd").status_code == 200
    for name in ("../../edits.json", "%2e%2e/edits.json", "edits.json", "/etc/passwd"):
        assert page.get(f"made/{name}").status_code == 404
    with ZipFile(io.BytesIO(page.get("scene.zip").content)) as archive:
        names = archive.namelist()
        exported, shown = archive.read("scene.glb"), page.get("scene.glb").content
    assert meshes_of(exported) == meshes_of(shown)
    assert {"scene.usdz", "report.html"} <= set(names)
    assert any(name.endswith(".urdf") for name in names)
    assert [path.name for path in folder.iterdir()] == ["edits.json"]


TIMED = {"manifest.json", "report.html", "edits.json"}
KINDS: dict[str, list[dict[str, Any]]] = {
    "name": [{"kind": "rename", "object": 1, "label": "red box"}],
    "distance": [{"kind": "distance", "object": 3, "factor": 1.1}],
    "outline": [{"kind": "painted", "object": 4, "adds": True, "runs": [0, 128 * 10, 128 * 86]}],
    "delete": [{"kind": "remove", "object": 2, "shows": "unknown"}],
    "undo": [{"kind": "undo"}],
    "merge": [{"kind": "merge", "objects": [2, 3]}],
    "place": [{"kind": "support", "object": 1, "on": 2}, {"kind": "floor", "at": [64, 90]}],
}


COMPARED = ("distance", "delete", "merge", "place")
"""Where the list has all kinds before it."""


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in TIMED)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow  # seven scenes one after another, and four of a new process
def test_a_scene_reached_edit_by_edit_is_that_of_a_new_process(
    page: TestClient, session: Session, folder: Path, tmp_path: Path
) -> None:
    made, alone = {}, {}
    for kind, steps in KINDS.items():
        for each in steps:
            assert step(page, session.revision(), **each).status_code == 200
        make(folder, "published", Runtime(), 1)
        if kind not in COMPARED:
            continue
        made[kind] = contents(folder)
        # As on another machine: only what was given, and the edits.
        other = tmp_path / kind / "photo"
        shutil.copytree(folder.parent / ".scenegen" / "input", other.parent / ".scenegen" / "input")
        other.mkdir()
        shutil.copy(folder / "edits.json", other)
        alone[kind] = other
    for kind, other in alone.items():
        forget_reused()
        assert commands.main(["replay", str(other), "--jobs", "1", "-q"]) == 0
        assert contents(other) == made[kind], kind


@pytest.mark.slow  # two processes that import everything
def test_making_can_be_cancelled_and_publishing_is_whole_or_not_at_all(folder: Path) -> None:
    maker = Maker(folder, Runtime(), 1, lambda: None)
    maker.start("published")
    maker.cancel()
    assert maker.job is not None
    assert maker.job.state == "cancelled"
    assert [path.name for path in folder.iterdir()] == ["edits.json"]
    maker.start()
    maker.join()
    assert maker.job.state == "done"
    assert ("generate 2", "done") in maker.job.stages
    assert not {"export", "report"} & {stage for stage, _ in maker.job.stages}, "a look at it needs no files"
    assert maker.made is not None
    assert len(maker.made.objects) == 3
    assert [path.name for path in folder.iterdir()] == ["edits.json"]
    maker.start("published")
    maker.join()
    assert {"edits.json", "manifest.json", "scene.glb"} <= {path.name for path in folder.iterdir()}
    session = opened(folder)
    assert session.state().published


@pytest.mark.slow  # a whole program, twice
def test_a_killed_studio_goes_on_where_it_was(folder: Path) -> None:
    def start() -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "scenegen", "studio", str(folder), "--no-browser", "-q"]
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    import httpx2

    process, address = start()
    headers = {"origin": address.rsplit("/", 2)[0]}
    edit = {"revision": 0, "step": {"kind": "rename", "object": 1, "label": "red box"}}
    response = httpx2.post(f"{address}steps", json=edit, headers=headers, timeout=120)
    assert response.status_code == 200
    process.send_signal(signal.SIGKILL)
    process.wait()
    process, again = start()
    assert again != address  # the token is another one
    state = httpx2.get(f"{again}state", timeout=120).json()
    assert (state["revision"], state["objects"][0]["label"]) == (1, "red box")
    process.terminate()
    assert process.wait(timeout=60) == 130
    assert read_edits(folder, open_store(folder.parent)).revision == 1
