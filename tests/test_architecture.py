"""docs/architecture.md is true: the way of one photo, and the order of the folders."""

from __future__ import annotations

import ast
import re
import traceback
from collections.abc import Iterator
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


ANNOTATED_ONLY = {"scenegen.registry.backend"}
"""Modules that may name types from above, which they import for annotations only: what the functions of a back-end take and
return. Python never runs these imports."""


def order() -> list[list[str]]:
    """The rows of modules and packages on the page, each above what it may import."""
    told = re.search(r"```text order\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.DOTALL)
    assert told is not None
    return [line.split() for line in told[1].splitlines()]


def modules() -> dict[str, Path]:
    paths = [path for package in ("scenegen", "stages", "flows", "studio") for path in (ROOT / package).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(module: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of the project that a module imports, also those that a function of it imports when it is called."""
    tree = ast.parse(path.read_text())
    unrun = set()
    if module in ANNOTATED_ONLY:
        checks = [
            node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ]
        unrun = {each for check in checks for each in ast.walk(check)}
    for node in ast.walk(tree):
        if node in unrun:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path} has a relative import"
            yield from (name if (name := f"{node.module}.{each.name}") in known else node.module for each in node.names)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


def test_no_import_points_up() -> None:
    known, rows = modules(), order()
    level = {name: height for height, row in enumerate(reversed(rows)) for name in row}

    def place(module: str) -> str:
        """The module or package of the order that `module` belongs to, the narrowest one."""
        while module not in level:
            module, _, _ = module.rpartition(".")
            assert module, "a module is not in the order"
        return module

    wrong = []
    for module, path in known.items():
        for target in imported(module, path, known):
            # `scenegen` itself has the version, and names of upper rows, which it imports when they are asked for.
            if target in known and not {module, target} & {"scenegen", "stages"}:
                here, there = place(module), place(target)
                if here != there and level[there] >= level[here]:
                    wrong.append(f"{module} imports {target}")
    assert wrong == []
