"""Artifacts and log lines, without a server."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import artifacts as module
from flows.artifacts import MAX_TABLE, Bar, artifact_key, show_row, show_table
from flows.logs import About
from scenegen.messages.progress import log_photo, logged_stage, say_place
from stages.batch import Row


def row(name: str, **values: Any) -> Row:
    return Row(**{"image": f"/in/{name}.jpg", "name": name, "state": "complete", "config_sha256": "c", **values})


@pytest.fixture
def artifacts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    made: list[tuple[Any, ...]] = []
    for name in (
        "create_markdown_artifact",
        "create_table_artifact",
        "create_progress_artifact",
        "update_progress_artifact",
        "emit_event",
    ):
        monkeypatch.setattr(module, name, lambda *values, name=name: made.append((name, *values)) or "id")
    monkeypatch.setattr(module.FlowRunContext, "get", lambda: object())
    return made


@given(st.lists(st.text(max_size=300), unique=True, max_size=4))
def test_keys_are_what_the_server_takes_and_unequal(names: list[str]) -> None:
    keys = [artifact_key("scene", name) for name in names]
    assert all(re.fullmatch(r"[a-z0-9-]{1,255}", key) for key in keys)
    assert len(set(keys)) == len(keys)


def test_a_page_shows_the_picture_and_no_markup_of_a_name(artifacts: list[tuple[Any, ...]]) -> None:
    picture = "data:image/jpeg;base64,AAAA"
    shown = row("<b>*x*", objects=2, silhouette_iou=0.9123, thumbnail=picture, error="[no](http://evil)")
    show_row(shown, "/o")
    (_, page, key, description), _event = artifacts
    assert f"![the scene over the photo]({picture})" in page
    assert "| 2 | 0.912 | 0.0 |" in page
    assert "<b>" not in page
    assert "[no](" not in page
    assert (description, key) == ("<b>*x*: complete", artifact_key("scene", "/o/<b>*x*"))


@pytest.mark.parametrize(
    ("out", "address"),
    [("/my scenes", "file:///my%20scenes/a"), ("s3://bucket/scenes/", "s3://bucket/scenes/a")],
)
def test_a_published_scene_is_linked_and_announced(artifacts: list[tuple[Any, ...]], out: str, address: str) -> None:
    show_row(row("a", objects=2, silhouette_iou=0.9), out)
    (_, page, _, _), (_, event, resource, *_, payload) = artifacts
    assert f"[report.html]({address}/report.html) [scene.glb]({address}/scene.glb)" in page
    assert (event, resource["prefect.resource.name"]) == ("scenegen.scene.published", "a")
    assert payload["output"] == f"{out.rstrip('/')}/a"
    show_row(row("a", state="failed", error="no picture"), out)
    assert "report.html" not in artifacts[-1][1]
    assert len(artifacts) == 3
    # Another place has a page of its own.
    show_row(row("a"), "/elsewhere")
    assert artifacts[-2][2] != artifacts[0][2] == artifacts[2][2]


def test_the_table_names_what_went_wrong_first(artifacts: list[tuple[Any, ...]]) -> None:
    rows = [row(str(number)) for number in range(MAX_TABLE + 5)] + [row("bad", state="failed", error="no picture")]
    show_table(rows, "/out")
    ((_, table, _, description),) = artifacts
    assert len(table) == MAX_TABLE
    assert (table[0]["image"], table[0]["error"]) == ("/in/bad.jpg", "no picture")
    assert (
        description
        == f"{MAX_TABLE + 6} photos: {MAX_TABLE + 5} complete, 1 failed. Shown: {MAX_TABLE}; batch.csv has all."
    )


def test_progress_counts_every_photo_once(artifacts: list[tuple[Any, ...]]) -> None:
    bar = Bar("/out", 4)
    for names in ("a", "ab", "abc"):
        bar.step(*names)
    assert [values[-1] for name, *values in artifacts if name == "update_progress_artifact"] == [25, 50, 75]
    Bar("/out", 0)
    assert artifacts[-1][1] == 100


def test_an_artifact_that_cannot_be_made_stops_nothing(
    artifacts: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*values: Any) -> None:
        raise RuntimeError("the server says no")

    monkeypatch.setattr(module, "create_markdown_artifact", refuse)
    show_row(row("a"), "/o")
    assert "an artifact cannot be shown: the server says no" in caplog.text
    monkeypatch.setattr(module.FlowRunContext, "get", lambda: None)
    show_table([row("a")], "/out")
    assert [name for name, *_ in artifacts] == ["emit_event"]


def test_a_line_says_image_stage_and_object() -> None:
    log_photo("bowl")
    try:
        with logged_stage("generate 3"):
            record = logging.LogRecord("stages.stage", logging.INFO, __file__, 1, "took %s s", ("2",), None)
            say_place(record)
    finally:
        log_photo("")
    assert About().format(record) == "image=bowl stage=generate object=3 | took 2 s"
    plain = logging.LogRecord("stages.stage", logging.INFO, __file__, 1, "ready", (), None)
    say_place(plain)
    assert About().format(plain) == "ready"
