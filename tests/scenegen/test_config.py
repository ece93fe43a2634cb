"""Presets, files, overrides, and what they may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scenegen.config import (
    Config,
    DepthAnythingConfig,
    GroundConfig,
    ObjectConfig,
    Pixal3DConfig,
    RegionsConfig,
    SamConfig,
    load_config,
    preset_names,
)
from scenegen.errors import UsageError


def test_the_default_preset_is_the_defaults() -> None:
    assert load_config() == load_config("embedded") == Config()


def test_the_training_free_preset_needs_no_weights() -> None:
    config = load_config("training-free")
    assert config.segment == RegionsConfig()
    assert config.depth == GroundConfig()
    assert config.camera.estimator == "default"


@pytest.mark.parametrize("preset", preset_names())
def test_presets_load_and_survive_yaml(preset: str, tmp_path: Path) -> None:
    config = load_config(preset)
    dumped = tmp_path / "config.yaml"
    dumped.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config("training-free", dumped) == config
    assert load_config("training-free", overrides=[config.model_dump(mode="json")]) == config


def test_precedence(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 1\ngenerate: {max_faces: 1000, resolution: 1152}\n")
    config = load_config("pixal3d", file, ["generate.max_faces=2000", {"seed": 9}])
    assert isinstance(config.segment, SamConfig)  # the preset, where nothing stronger speaks
    assert isinstance(config.generate, Pixal3DConfig)
    assert config.generate.resolution == 1152  # the file over the default
    assert config.generate.max_faces == 2000  # `--set` over the file
    assert config.seed == 9
    assert load_config(overrides=["seed=1", "seed=2"]).seed == 2


def test_a_section_whose_method_changes_starts_afresh() -> None:
    config = load_config("pixal3d", overrides=["depth.near_m=1.5"])
    assert isinstance(config.depth, DepthAnythingConfig)
    config = load_config("pixal3d", overrides=["depth.near_m=1.5", "depth.method=ground"])
    assert config.depth == GroundConfig()
    config = load_config("pixal3d", overrides=["segment.method=sam", "segment.points_per_side=8"])
    assert isinstance(config.segment, SamConfig)
    assert config.segment.points_per_side == 8
    assert load_config("pixal3d", overrides=["segment.method=regions"]).segment == RegionsConfig()


def test_values_are_yaml() -> None:
    config = load_config(overrides=["segment={method: sam, boxes: [[1, 2, 3, 4]]}", "compose.contact=no"])
    assert isinstance(config.segment, SamConfig)
    assert config.segment.boxes == ((1, 2, 3, 4),)
    assert config.compose.contact is False


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("nope=1", "`nope`: Extra inputs are not permitted"),
        ("generate.nope=1", r"generate\.nope`: Extra inputs"),
        ("depth.near_m=1", "near_m`: Extra inputs"),  # a setting of another method
        ("depth.method=nope", "depth`: Input tag 'nope'"),
        ("texture.unwrap_timeout_s=-1", r"greater than 0 \(received -1\)"),
        ("generate.guidance=thick", r"valid number.*\(received 'thick'\)"),
        ("seed", "must read name=value"),
        ("=1", "must read name=value"),
        ("seed=[", "not valid YAML"),
        ("generate=3", r"\(received 3\)"),
    ],
)
def test_refuses(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config(overrides=[override])


def test_refuses_unknown_presets_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"allowed: .*training-free"):
        load_config("nope")
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(file=tmp_path / "missing.yaml")
    for content in (b"- 1", b"a: [", b"\xff\xfe\x00", b"!!python/object/apply:os.system ['true']"):
        (tmp_path / "bad.yaml").write_bytes(content)
        with pytest.raises(UsageError, match=r"bad\.yaml"):
            load_config(file=tmp_path / "bad.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_config(file=tmp_path / "empty.yaml") == Config()


def test_seeds_of_objects() -> None:
    config = load_config(overrides=["seed=4", "objects.2.seed=7"])
    assert [config.object_settings(item).seed for item in (1, 2)] == [4, 7]
    assert config.objects == {2: ObjectConfig(seed=7)}
    assert Config.model_validate_json(config.model_dump_json()) == config


@given(
    st.dictionaries(st.just("guidance"), st.floats(0.1, 0.9)),
    st.integers(0, 2**40),
    st.dictionaries(st.integers(1, 254), st.integers(0, 2**40), max_size=3),
)
def test_a_dump_resolves_to_itself(generate: dict[str, float], seed: int, objects: dict[int, int]) -> None:
    values: dict[str, Any] = {"generate": generate, "seed": seed}
    values["objects"] = {item: {"seed": value} for item, value in objects.items()}
    config = load_config(overrides=[values])
    assert load_config("pixal3d", overrides=[config.model_dump(mode="json")]) == config
    assert load_config("pixal3d", overrides=[yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))]) == config
