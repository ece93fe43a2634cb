"""Warnings are said in every run, notes to the curious only, and nothing twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from standins import STAGES

from scenegen.cli import commands
from scenegen.export.manifest import read_manifest
from scenegen.messages.remarks import NOTE, is_note, level, note, of_object
from scenegen.records import Failure
from stages import graph


def command(*words: str | Path) -> int:
    return commands.main([str(word) for word in words])


@pytest.fixture
def remarks(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every object has a warning and a note, which the scene inherits as `compose` does."""

    def remarking(stage: Any) -> Any:
        def run(*inputs: Any, config: Any, work: Any) -> Any:
            record = stage.run(*inputs, config=config, work=work)
            if stage.name == "generate":
                return record.model_copy(update={"warnings": ("look here", note("by the way"))})
            made = inputs[4].items
            return record.model_copy(
                update={"warnings": tuple(of_object(item.id, text) for item in made for text in item.warnings)}
            )

        return replace(stage, run=run)

    for stage in STAGES:
        if stage.name in ("generate", "compose"):
            monkeypatch.setattr(graph, stage.name.upper(), remarking(stage))


EXPECTED = ["a warning", "object 1: look here", "object 2: look here", "object 3: look here"]


@pytest.mark.usefixtures("remarks")
def test_warnings_are_said_again_by_a_run_that_computes_nothing(
    bench: Any, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for count in range(2):
        assert command(photo, "-o", tmp_path / "out") == 0
        assert bench.executed["generate 1"] == (1 if count == 0 else 0)
        bench.executed.clear()
        lines = capsys.readouterr().err.splitlines()
        assert [line.removeprefix("WARNING: ") for line in lines if line.startswith("WARNING")] == EXPECTED
        assert not any("by the way" in line for line in lines)


@pytest.mark.usefixtures("remarks")
def test_notes_are_in_the_log_of_the_curious_and_in_the_manifest(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(photo, "-o", tmp_path / "out", "-v", "--log-json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    notes = [line for line in lines if "by the way" in line["message"]]
    assert [(line["level"], line["stage"], line["object"]) for line in notes] == [
        ("DEBUG", "generate", number) for number in (1, 2, 3)
    ]
    entries = read_manifest(tmp_path / "out" / "photo").stages
    assert [entry.warnings for entry in entries if entry.stage == "generate"] == [("look here", "note: by the way")] * 3


def test_an_object_that_compose_leaves_out_is_named_again(
    bench: Any, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (plain,) = [stage for stage in STAGES if stage.name == "compose"]

    def compose(*inputs: Any, config: Any, work: Any) -> Any:
        lost = Failure(stage="compose", object=2, error="no depth")
        return plain.run(*inputs, config=config, work=work).model_copy(update={"failures": (lost,)})

    monkeypatch.setattr(graph, "COMPOSE", replace(plain, run=compose))
    for _ in range(2):
        assert command(photo, "-o", tmp_path / "out") == 6
        text = capsys.readouterr().err
    assert text.count("object 2 failed and is left out: no depth") == 1


def test_the_rule() -> None:
    assert is_note(note("x"))
    assert not is_note("x")
    assert of_object(3, note("x")) == f"{NOTE}object 3: x"
    assert of_object(3, "x") == "object 3: x"
    assert level(note("x")) < level("x")
