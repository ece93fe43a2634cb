from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scenegen.compute.runtime import Runtime
from scenegen.config import SamConfig
from scenegen.errors import WeightsError
from scenegen.perception.sam import sam_weights, segment_sam
from scenegen.weights_registry import registered

ROOT = Path(__file__).parents[2]


# --- weights and packages ---------------------------------------------------------------------------------------------


def test_absent_weights_are_refused_at_once_with_the_command_that_fetches_them(tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(WeightsError, match=r"scenegen models fetch sam-vit_b"):
        segment_sam(image, SamConfig(), Runtime(models=tmp_path, offline=True))


@pytest.mark.parametrize("package", ["segment_anything", "torch"])
def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    checkpoint = tmp_path / "any.safetensors"
    checkpoint.write_bytes(b"")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(WeightsError, match=r"pip install 'scenegen-3d\[full\]'"):
        segment_sam(np.zeros((8, 8, 3), np.uint8), SamConfig(checkpoint=checkpoint), Runtime(models=tmp_path))


def test_the_stage_key_holds_the_digest_of_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "weights.pth"
    with pytest.raises(WeightsError, match="cannot be read"):
        sam_weights(SamConfig(checkpoint=checkpoint))
    checkpoint.write_bytes(b"abc")
    found = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sam_weights(SamConfig(checkpoint=checkpoint)) == {"sam-vit_b": found}
    assert sam_weights(SamConfig(checkpoint=checkpoint, sha256="1" * 64)) == {"sam-vit_b": "1" * 64}
    assert sam_weights(SamConfig(model="vit_h")) == {"sam-vit_h": registered("sam-vit_h").files[0].sha256}


# --- segment-anything itself, in its own process ----------------------------------------------------------------------


def run_child(scenarios: str, folder: Path) -> dict:
    child = Path(__file__).with_name("sam_child.py")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(child), scenarios, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return run_child("small", tmp_path_factory.mktemp("sam"))


def best(result: dict) -> list[int]:
    """Which true object each id shows, each found well."""
    assert all(max(row) > 0.8 for row in result["iou"]), result["iou"]
    return [row.index(max(row)) for row in result["iou"]]


@pytest.mark.slow
def test_automatic_masks_find_every_object(results: dict) -> None:
    found = results["automatic"]
    assert sorted(best(found)) == [0, 1, 2]
    assert found["areas"] == sorted(found["areas"], reverse=True)
    assert found["labels"] == ["object"] * 3
    assert all(0.5 <= score <= 1 for score in found["scores"])
    assert (found["backend"], found["licence"]) == ("sam-vit_b", "unknown (local checkpoint)")
    assert found["warnings"] == []
    assert results["again"] == found


@pytest.mark.slow
def test_more_objects_than_allowed_keep_the_largest_and_say_so(results: dict) -> None:
    assert results["largest"]["areas"] == results["automatic"]["areas"][:1]
    assert "largest 1 are kept" in results["largest"]["warnings"][0]


@pytest.mark.slow
def test_finding_nothing_is_no_error(results: dict) -> None:
    assert results["none"]["areas"] == []
    assert set(results["none"]["bytes"]) == {"0"}


@pytest.mark.slow
def test_each_prompt_gives_the_object_it_points_at(results: dict) -> None:
    assert best(results["boxes"]) == [0, 1]
    assert best(results["points"]) == [2, 0]
    assert best(results["safetensors"]) == [0]


@pytest.mark.slow
def test_prompts_for_the_same_object_share_its_pixels(results: dict) -> None:
    # The box and the point see nearly the same mask: the smaller lies on top, and what is left of the other is a rim.
    both = results["both"]
    assert max(both["iou"][0]) > 0.8
    assert len(both["areas"]) == 2 or "shows no object" in both["warnings"][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "error", "code", "words"),
    [
        ("missing", "WeightsError", 4, ["missing: mask_decoder.iou_token.weight"]),
        ("extra", "WeightsError", 4, ["unexpected: surprise.weight"]),
        ("shape", "WeightsError", 4, ["another shape: mask_decoder.iou_token.weight"]),
        ("nested", "WeightsError", 4, ["not a plain mapping"]),
        ("hostile", "WeightsError", 4, ["does not hold plain tensors"]),
        ("cut", "WeightsError", 4, ["does not hold plain tensors"]),
        ("suffix", "WeightsError", 4, [".pth or .safetensors"]),
        ("untrusted", "WeightsError", 4, ["not a registered file", "--set segment.sha256="]),
        ("digest", "WeightsError", 4, ["instead of 0000"]),
        ("no cuda", "ResourceError", 5, ["cuda:63", "--device auto"]),
        ("bad device", "UsageError", 2, ["abacus", "allowed"]),
        ("memory", "LimitError", 5, ["out of memory on cpu", "--device cpu"]),
    ],
)
def test_what_cannot_work_is_refused_in_words(results: dict, name: str, error: str, code: int, words: list) -> None:
    assert (results[name].get("error"), results[name].get("exit_code")) == (error, code), results[name]
    for word in words:
        assert word in results[name]["message"]


@pytest.mark.slow
def test_it_makes_a_scene_from_the_command_line(results: dict) -> None:
    made = {"code": 0, "state": "complete", "objects": 1, "backend": "sam-vit_b"}
    assert results["command line"] == made


@pytest.mark.slow
def test_no_code_of_a_checkpoint_is_run(results: dict) -> None:
    assert results["hostile"]["touched"] is False


@pytest.mark.slow
def test_the_released_architecture_loads_and_answers_a_box(tmp_path: Path) -> None:
    found = run_child("released", tmp_path)["vit_b"]
    assert "error" not in found, found
    assert len(found["scores"]) <= 1
    assert len(bytes.fromhex(found["bytes"])) == 96 * 128 * 2
