"""Presets, files, overrides, and what they may say."""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from scenegen.cli import commands
from scenegen.config import (
    MAX_ID,
    MAX_SEED,
    Config,
    DefaultCameraConfig,
    EmbeddedCameraConfig,
    GroundConfig,
    MogeDepthConfig,
    ObjectConfig,
    Pixal3DConfig,
    RegionsConfig,
    SamConfig,
    Settings,
    load_config,
    preset_names,
)
from scenegen.errors import UsageError
from scenegen.registry import CAMERA_ESTIMATORS, DEPTH_ESTIMATORS, OBJECT_GENERATORS, SEGMENTERS


def test_the_default_preset_is_the_defaults() -> None:
    assert load_config() == load_config("embedded") == Config()


def test_the_training_free_preset_needs_no_weights() -> None:
    config = load_config("training-free")
    assert config.segment == RegionsConfig()
    assert config.depth == GroundConfig()
    assert config.camera.estimator == DefaultCameraConfig()


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
    config = load_config("pixal3d", overrides=["depth.detail=3"])
    assert isinstance(config.depth, MogeDepthConfig)
    config = load_config("pixal3d", overrides=["depth.detail=3", "depth.method=ground"])
    assert config.depth == GroundConfig()
    config = load_config("pixal3d", overrides=["segment.method=sam", "segment.points_per_side=8"])
    assert isinstance(config.segment, SamConfig)
    assert config.segment.points_per_side == 8
    assert load_config("pixal3d", overrides=["segment.method=regions"]).segment == RegionsConfig()


def test_a_method_alone_stands_for_its_section() -> None:
    config = load_config("pixal3d", overrides=["depth=ground", "depth.pitch_deg=5", "camera.estimator=default"])
    assert config.depth == GroundConfig(pitch_deg=5)
    assert config.camera.estimator == DefaultCameraConfig()
    assert load_config(overrides=[{"camera": {"estimator": "embedded"}}]).camera.estimator == EmbeddedCameraConfig()


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
        (
            "depth.method=nope",
            "`depth`: no depth estimator is called 'nope'. Installed: depth-anything, depth-pro, embedded, ground, moge",
        ),
        ("depth=grund", "called 'grund'. Did you mean ground?"),
        (
            "depth={method: null}",
            "`depth`: it must name its `method`, one of: depth-anything, depth-pro, embedded, ground, moge",
        ),
        ("camera.estimator=nope", r"`camera\.estimator`: no camera estimator is called 'nope'"),
        ("texture.unwrap_timeout_s=-1", r"greater than 0 \(received -1\)"),
        ("generate.guidance=thick", r"valid number.*\(received 'thick'\)"),
        ("seed", "write it as name=value"),
        ("=1", "write it as name=value"),
        ("seed=[", "not valid YAML"),
        ("generate=3", r"must name its `method`, one of: embedded, inflate, pixal3d \(received 3\)"),
    ],
)
def test_refuses(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config(overrides=[override])


def test_refuses_unknown_presets_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Allowed: .*training-free"):
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


# Values that anyone may give ------------------------------------------------------------------------------------------


PLUGGED = {
    "segment": SEGMENTERS,
    "depth": DEPTH_ESTIMATORS,
    "estimator": CAMERA_ESTIMATORS,
    "generate": OBJECT_GENERATORS,
}
"""By section: where its back-ends are registered."""


def fields_of(settings: type[Settings], above: tuple[str, ...] = (), chosen: tuple[str, ...] = ()) -> Iterator[Any]:
    """Every setting: where it is, and the methods that must be chosen for it to be there."""
    for name, field in settings.model_fields.items():
        place = (*above, name)
        if name in PLUGGED:
            for method in PLUGGED[name].offers():
                config = PLUGGED[name].backend(method).config
                yield from fields_of(config, place, (*chosen, f"{'.'.join(place)}.method={method}"))
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from fields_of(field.annotation, place, chosen)
        elif name != "objects":
            yield place, chosen
    if not above:
        yield ("objects", "3", "seed"), ()


FIELDS = [*fields_of(Config)]
NUMBERS = [math.nan, math.inf, -math.inf, 1e308, -1e308, 1e-320, -0.0, 0, -1, 2**31, 2**53, 2**64, -(2**64), 10**400]
ANYTHING = (
    st.sampled_from(NUMBERS)
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.none()
    | st.booleans()
    | st.recursive(
        st.integers() | st.text(max_size=5) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
        ),
        max_leaves=8,
    )
)


def numbers(value: Any) -> Iterator[float]:
    """Every number in a plain value."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers(item)
    elif isinstance(value, int | float):
        yield value


def loads_or_says_why(*overrides: Any) -> None:
    refusal = None
    try:
        config = load_config(overrides=overrides)
    except UsageError as error:
        refusal = str(error)
    if refusal is not None:
        assert refusal.isprintable()  # so it is one line
        assert len(refusal) < 1500
    else:
        plain = config.model_dump(mode="json")
        assert all(abs(number) <= MAX_SEED for number in numbers(plain))
        json.dumps(plain, allow_nan=False)
        assert Config.model_validate(plain) == config


def test_every_setting_is_known() -> None:
    assert (("depth", "near_m"), ("depth.method=depth-anything",)) in FIELDS
    assert (("export", "density_kg_m3"), ()) in FIELDS
    assert len(FIELDS) > 60


@given(st.sampled_from(FIELDS), ANYTHING)
@example((("export", "density_kg_m3"), ()), math.inf)
@example((("export", "density_kg_m3"), ()), 1e300)
@example((("segment", "points"), ("segment.method=sam",)), [[math.nan, 1.0]])
@example((("objects",), ()), {-1: {"seed": 1}})
@example((("objects",), ()), {10**400: {"seed": 1}})
@example((("segment", "checkpoint"), ("segment.method=sam",)), "a\0b")
def test_any_value_of_any_setting_loads_or_is_refused_in_one_line(field: Any, value: Any) -> None:
    place, chosen = field
    nested = value
    for part in reversed(place):
        nested = {part: nested}
    loads_or_says_why(*chosen, nested)


@given(st.sampled_from(FIELDS), st.text(max_size=60) | st.text("[]{}:,&*!?|>-#%@'\"\\0159.eExX+_ \n\tab", max_size=60))
@example((("seed",), ()), "9" * 6000)
@example((("seed",), ()), "0x" + "f" * 4000)
@example((("seed",), ()), "2026-13-45")
@example((("seed",), ()), "!!bool maybe")
@example((("seed",), ()), "!!int ''")
@example((("seed",), ()), "? [a]\n: b")
@example((("seed",), ()), "*a")
@example((("seed",), ()), "&a [*a]")
def test_any_text_for_any_setting_loads_or_is_refused_in_one_line(field: Any, text: str) -> None:
    place, chosen = field
    loads_or_says_why(*chosen, f"{'.'.join(place)}={text}")


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: ".".join(field[0]))
def test_no_number_without_bounds(field: Any) -> None:
    """What is finite and absurd is refused as what is infinite is."""
    place, chosen = field
    for value in (math.inf, -math.inf, math.nan, 1e30, -1e30, 10**30):
        nested: Any = value
        for part in reversed(place):
            nested = {part: nested}
        with pytest.raises(UsageError, match=place[0]):
            load_config(overrides=[*chosen, nested])


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in itertools.pairwise("abcdefghi")
)
HOSTILE = {
    "aliases": LAUGHS,
    "merged aliases": LAUGHS.replace("[x", "{x: x}, &z [x").replace("a: &a {x: x}, &z", "a: &a") + "q: {<<: *i}",
    "depth": "seed: " + "[" * 200_000,
    "blocks": "".join(f"{' ' * level}a:\n" for level in range(2000)),
    "dashes": "- " * 100_000,
    "digits": "seed: " + "9" * 6000,
    "length": "# " + "x" * (1 << 20),
    "names": "".join(f"name{number}: 1\n" for number in range(5000)),
    "zeros": "\0" * 1000,
    "itself": "seed: &a {b: *a}",
    "tag": "seed: !!python/object/apply:os.system ['true']",
    "documents": "seed: 1\n---\nseed: 2\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_at_once(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hostile.yaml"
    path.write_text(HOSTILE[name])
    begun = time.process_time()
    assert commands.main(["config", "show", "--config", str(path)]) == UsageError.exit_code
    assert time.process_time() - begun < 20  # minutes, where what it stands for is built or printed
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert len(captured.err) < 1500


def test_a_file_without_an_end_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("/dev/zero")
    assert commands.main(["config", "show", "--config", "/dev/zero"]) == UsageError.exit_code
    assert capsys.readouterr().err.count("\n") == 1


def test_aliases_and_merges_are_welcome(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("objects:\n  1: &one {seed: 4}\n  2: *one\n  3: {<<: *one, seed: 5}\n")
    assert [item.seed for item in load_config(file=path).objects.values()] == [4, 4, 5]
    assert load_config(overrides=[f"objects.{MAX_ID}.seed={MAX_SEED}"]).objects[MAX_ID].seed == MAX_SEED
