"""The command on scenes made here, with the real stages."""

from __future__ import annotations

import json
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from true_scenes import write_photo, write_scene, write_view

from scenegen.cli.commands import main
from scenegen.evaluate.record import Evaluation

FAST = ("--preset", "training-free", "--set", "generate.resolution=32", "--set", "texture.size=64", "-q")


def evaluate(tmp_path: Path, *extra: str, to: str = "found.json", samples: int = 500) -> tuple[int, dict[str, Any]]:
    file = tmp_path / to
    words = ["evaluate", "--scenes", str(tmp_path / "scenes"), "--json", str(file), "-o", str(tmp_path / "out")]
    code = main([*words, "--samples", str(samples), *FAST, *extra])
    return code, json.loads(file.read_text()) if file.is_file() else {}


def make_gallery() -> ModuleType:
    """The script, which is in no package."""
    path = Path(__file__).parents[2] / "docs" / "make_gallery.py"
    spec = spec_from_file_location("make_gallery", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "timings"}


def test_a_scene_is_made_measured_kept_and_found_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scene(tmp_path / "scenes" / "one")
    code, found = evaluate(tmp_path, "--true-masks", "--true-depth")
    assert code == 0
    Evaluation.model_validate(found)
    (entry,) = found["scenes"]
    assert [item["matched"] for item in entry["scene"]["objects"]] == [1, 2, 3]
    for item in entry["scene"]["objects"]:
        assert item["silhouette_iou"] > 0.9
        assert item["raw"]["whole"]["f_5"] > 0.3
        assert 0.3 < item["hidden_share"] < 0.9
    assert entry["perception"]["depth"]["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert entry["perception"]["fov_error_deg"] == pytest.approx(0, abs=1e-6)
    assert (found["settings"]["samples"], found["settings"]["seed"], found["settings"]["matching"]) == (500, 0, "id")
    assert found["timings"][0]["peak_memory_mb"] > 50
    printed = capsys.readouterr().out
    assert "3 of 3" in printed
    assert "object.raw.hidden.f_5" in printed
    assert (tmp_path / "out" / "one" / "scene.glb").is_file()

    gallery = make_gallery()
    sheet = gallery.sheet(tmp_path / "scenes" / "one" / "image.png", tmp_path / "out" / "one")
    width, height = gallery.PANEL
    assert sheet.size == (4 * width, 2 * height)
    for column in range(3):  # photo, overlay and masks show the objects, the views below them the scene
        for row in range(2):
            panel = sheet.crop((column * width, row * height, (column + 1) * width, (row + 1) * height))
            assert np.asarray(panel).std() > 10

    code, again = evaluate(tmp_path, "--true-masks", "--true-depth", to="again.json")
    assert code == 0
    assert without_times(again) == without_times(found)
    assert again["timings"][0]["seconds"] == found["timings"][0]["seconds"]
    assert again["timings"][0]["peak_memory_mb"] is None  # nothing was computed

    assert main(["evaluate", "compare", str(tmp_path / "found.json"), str(tmp_path / "again.json")]) == 0
    assert "+0.000" in capsys.readouterr().out


@pytest.mark.slow  # the whole way of three photos
def test_several_photos_of_a_scene_are_one_scene(tmp_path: Path) -> None:
    scene = tmp_path / "scenes" / "one"
    write_scene(scene)
    embedded = ("--set", "generate.method=embedded", "--set", "generate.resolution=40")
    given = ("--true-masks", "--true-depth", "--true-cameras", *embedded)
    for degrees in (30, -30):
        write_view(scene, degrees)
    code, found = evaluate(tmp_path, *given)
    assert code == 0
    (entry,) = found["scenes"]
    assert (entry["photos"], found["true_cameras"]) == (3, True)
    for number, item in enumerate(entry["scene"]["objects"], 1):
        assert item["matched"] == number
        assert item["silhouette_iou"] > 0.95
        assert item["raw"]["whole"]["f_5"] > 0.4


def test_what_fails_is_a_row_with_its_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("bad_image", "bad_truth", "good"):
        write_scene(tmp_path / "scenes" / name)
    write_photo(tmp_path / "scenes" / "photo")
    (tmp_path / "scenes" / "bad_image" / "image.png").write_bytes(b"no picture")
    (tmp_path / "scenes" / "bad_truth" / "objects" / "01.glb").write_bytes(b"no mesh")
    code, found = evaluate(tmp_path, "--true-masks", "--true-depth")
    assert code == 6
    image, truth, good, photo = found["scenes"]
    assert "InputError" in image["error"]
    assert [item["raw"]["whole"]["f_5"] for item in image["scene"]["objects"]] == [0, 0, 0]
    assert image["perception"]["mask_recall"] == 0
    assert "mesh of object 1 cannot be read" in truth["error"]
    assert (truth["layout"], truth["scene"], truth["perception"]) == (None, None, None)
    assert (good["error"], photo["error"], photo["scene"]) == (None, None, None)
    assert photo["perception"]["labelled"] == 3
    assert photo["perception"]["depth"]["pixels"] > 1000
    # The picture that could not be read counts: half of six objects are missing.
    assert found["summary"]["object.raw.whole.f_5"]["count"] == 6
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("bad_image", "bad_truth", "good", "photo"))

    shutil.rmtree(tmp_path / "scenes" / "good")
    shutil.rmtree(tmp_path / "scenes" / "photo")
    assert evaluate(tmp_path, "--true-masks")[0] == 3


def test_what_cannot_be_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_scene(tmp_path / "scenes" / "one")
    assert evaluate(tmp_path, samples=3) == (2, {})
    assert "`samples` is 3" in caplog.text
    assert evaluate(tmp_path, "--set", "nothing=1") == (2, {})


def test_results_do_not_go_into_the_ground_truth(tmp_path: Path) -> None:
    write_scene(tmp_path / "scenes" / "one")
    words = ["evaluate", "--scenes", str(tmp_path / "scenes"), "--json", str(tmp_path / "found.json")]
    assert main([*words, "-o", str(tmp_path / "scenes")]) == 2
    assert sorted(path.name for path in (tmp_path / "scenes").iterdir()) == ["one"]
