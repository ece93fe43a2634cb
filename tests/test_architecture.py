"""The way of one photo, as docs/architecture.md tells it, is the way that it takes."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenegen.cli import commands
from scenegen.store.png import write_png

ROOT = Path(__file__).parents[1]


def test_the_way_of_one_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    way: list[tuple[str, str]] = []

    def segment(*_: Any) -> Any:
        for frame in traceback.extract_stack():
            path = Path(frame.filename)
            if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in ("scenegen", "stages"):
                way.append((path.relative_to(ROOT).as_posix(), frame.name))
        raise RuntimeError("far enough")

    monkeypatch.setattr("scenegen.perception.regions.segment_regions", segment)
    write_png(tmp_path / "photo.png", np.full((64, 64, 3), 100, np.uint8))
    assert commands.main([str(tmp_path / "photo.png"), "-o", str(tmp_path), "--preset", "training-free"]) == 1
    page = (ROOT / "docs" / "architecture.md").read_text()
    told = re.search(r"```text\n(.*?)```", page, re.DOTALL)
    assert told is not None
    assert [tuple(line.split()[:2]) for line in told[1].splitlines()] == way


def test_every_file_and_name_on_the_page_is_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    for name in re.findall(r"`((?:stages|flows|scenegen)\.[a-z_.]+(?:\.[A-Za-z_]+)*)`", page):
        parts = name.split(".")
        if (ROOT / "/".join(parts)).with_suffix(".py").is_file() or (ROOT / "/".join(parts)).is_dir():
            continue
        text = "\n".join(
            path.read_text() for end in range(1, len(parts)) if (path := ROOT / f"{'/'.join(parts[:end])}.py").is_file()
        )
        assert re.search(rf"^\s*(?:def|class) {parts[-1]}\b|^{parts[-1]} =", text, re.MULTILINE), name
    for path in re.findall(r"\b(?:stages|scenegen|flows)/\w+(?:\.py)?\b", page):
        assert (ROOT / path).exists(), path
