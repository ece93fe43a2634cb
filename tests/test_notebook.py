"""The example notebook: its code still runs, and it is shown as it was run."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rooms import DESK, room

import scenegen
from scenegen.store.png import write_png
from stages.library import make

NOTEBOOK = Path(__file__).parents[1] / "examples" / "scene.ipynb"
SMALL = ("texture.size=64", "generate.resolution=32", "export.usdz=false", "report.picture_side=64")


def code_cells() -> list[dict[str, Any]]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_it_was_executed_in_order_and_is_small() -> None:
    assert [cell["execution_count"] for cell in code_cells()] == list(range(1, len(code_cells()) + 1))
    assert not [output for cell in code_cells() for output in cell["outputs"] if output["output_type"] == "error"]
    assert NOTEBOOK.stat().st_size < 100_000


@pytest.mark.slow  # it makes a scene and an object anew
def test_its_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = room(DESK, size=(160, 120))
    Image.fromarray(desk.image).save(tmp_path / "table.jpg")
    write_png(tmp_path / "masks.png", desk.ids)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scenegen, "make", partial(make, masks="masks.png", set=SMALL), raising=False)
    names: dict[str, Any] = {}
    for cell in code_cells():
        exec("".join(cell["source"]), names)
    assert (tmp_path / "out" / "table" / "scene.glb").is_file()
    assert [item.placed.seed for item in names["again"].objects] == [7, 0, 0]
