"""`scenegen models fetch` with a preset: what it says first, an air-gapped copy, and what is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scenegen.cli.commands import main
from scenegen.config import load_config, preset_names
from scenegen.errors import UsageError, WeightsError
from scenegen.weights_registry import MODELS, ModelFile
from scenegen.weights_registry.needed import models_needed

NEEDED = ("sam-vit_b", "moge-2-vitl-normal", "pixal3d", "dinov3-vitl16", "naf")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of small files in place of all that the preset pixal3d needs; nothing is fetched yet."""
    monkeypatch.setattr("scenegen.compute.runtime.user_cache_path", lambda _: tmp_path / "cache")
    for name in NEEDED:
        file = tmp_path / "copy" / name / "weights.bin"
        file.parent.mkdir(parents=True)
        file.write_text(name)
        few = replace(MODELS[name], files=(ModelFile("weights.bin"),), about_gb=1.5)
        monkeypatch.setitem(MODELS, name, few)  # type: ignore[arg-type]
    return tmp_path / "copy"


def test_a_presets_models_come_from_an_air_gapped_copy(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "fetch", "--preset", "pixal3d", "--offline", "--source", str(small)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said[: len(NEEDED)]] == list(NEEDED)
    assert said[0].startswith("sam-vit_b: 1.5 GB, Apache-2.0 (README of facebookresearch/segment-anything")
    assert said[len(NEEDED)] == "together 7.5 GB"
    models = small.parent / "cache" / "models"
    assert {path.parent.name: path.read_text() for path in models.glob("*/weights.bin")} == {
        name: name for name in NEEDED
    }
    assert main(["models", "fetch", "--preset", "pixal3d", "--offline"]) == 0  # all of it is here now


def test_sizes_and_licences_are_said_before_anything_fails(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "fetch", "--preset", "pixal3d", "--offline"]) == WeightsError.exit_code
    said = capsys.readouterr()
    assert "together 7.5 GB" in said.out
    assert "`scenegen models fetch sam-vit_b`" in said.err


def test_the_parts_that_a_preset_lacks_are_named_together(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["models", "fetch", "naf", "--offline", "--source", str(small)])
    photo = small.parent / "photo.jpg"
    photo.write_bytes(b"not looked at")
    words = ["--preset", "pixal3d", "--offline", "-o", str(small.parent / "out")]
    assert main([str(photo), *words]) == WeightsError.exit_code
    said = capsys.readouterr().err
    assert all(f"`{name}` are absent" in said for name in NEEDED[:-1])
    assert f"scenegen models fetch {' '.join(NEEDED)}" in said


def test_names_and_a_preset_contradict(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["naf", "--preset", "pixal3d"]):
        assert main(["models", "fetch", *words]) == UsageError.exit_code
        assert "either names of models or --preset" in capsys.readouterr().err
    assert main(["models", "fetch", "--preset", "embedded"]) == 0
    assert "embedded needs no models" in capsys.readouterr().out


def test_everything_that_presets_need_is_registered() -> None:
    for preset in preset_names():
        assert set(models_needed(load_config(preset))) <= set(MODELS)
