"""Which camera and which depth win, and what the record says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenegen.camera import fov_x_deg, intrinsics_from_fov, matrix4
from scenegen.compute.runtime import Runtime
from scenegen.config import (
    CameraConfig,
    DepthAnythingConfig,
    DepthSettings,
    EmbeddedCameraConfig,
    EmbeddedDepthConfig,
    GroundConfig,
    KnownLength,
    MeasureSettings,
)
from scenegen.errors import InputError, UsageError
from scenegen.messages.remarks import note
from scenegen.perception import DepthEstimate, embedded
from scenegen.perception.ground import estimate_ground
from scenegen.records import (
    Artifact,
    Depth,
    GivenCamera,
    Instance,
    Instances,
    Intrinsics,
    Metres,
    OutlinedObjects,
    Photo,
    SeenView,
    Views,
)
from scenegen.scene.metres import ASSUMED_SPREAD
from scenegen.store.png import write_png
from scenegen.store.store import Store
from scenegen.weights import perception_weights
from stages.depth import DEPTH
from stages.measure import MEASURE, MEASURE_VIEWS
from stages.stage import execute

HEIGHT, WIDTH = 60, 80
GROUND = DepthSettings(depth=GroundConfig(), camera=CameraConfig())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def picture(store: Store, name: str, values: np.ndarray) -> Artifact:
    path = store.root.parent / name
    write_png(path, values)
    return store.ingest(path)


def photo(store: Store, focal_35mm: float | None = None, depth: np.ndarray | None = None) -> Photo:
    given = None
    if depth is not None:
        path = store.root.parent / "depth.npy"
        np.save(path, depth)
        given = store.ingest(path)
    return Photo(
        name="photo",
        image=picture(store, "image.png", np.full((HEIGHT, WIDTH, 3), 100, dtype=np.uint8)),
        alpha=None,
        masks=None,
        depth=given,
        width=WIDTH,
        height=HEIGHT,
        original_width=WIDTH,
        original_height=HEIGHT,
        focal_35mm=focal_35mm,
    )


def ids() -> np.ndarray:
    values = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
    values[20:50, 30:50] = 1
    return values


def instances(store: Store, **called: Any) -> Instances:
    item = Instance(**{"label": "object", **called}, id=1, score=1.0, box=(30, 20, 50, 50), area=600)
    return Instances(masks=picture(store, "masks.png", ids()), items=(item,), backend="user masks", licence="none")


def run(store: Store, given: Photo, config: DepthSettings, **called: Any) -> tuple[Depth, np.ndarray]:
    record = execute(DEPTH, (given, instances(store, **called)), config, store, Runtime()).record
    values = np.load(store.path(record.depth), allow_pickle=False)
    assert values.dtype == np.float32
    assert values.shape == (HEIGHT, WIDTH)
    return record, values


def test_the_ground_is_used_and_says_that_it_is_assumed(store: Store) -> None:
    record, values = run(store, photo(store), GROUND)
    assert record.metres == Metres(source="assumed", factor=round(float(np.exp(ASSUMED_SPREAD)), 4))
    assert record.uncertainty == 0.25
    assert "assumed, not measured" in record.warnings[-2]
    assert "1 m above the ground" in record.warnings[-1]
    assert (values == estimate_ground(ids(), record.intrinsics, GroundConfig()).depth).all()


@pytest.mark.parametrize("config", [GroundConfig(), EmbeddedDepthConfig(known_sizes=False)])
def test_a_known_length_takes_back_what_was_said_of_assumed_metres(store: Store, config: Any) -> None:
    seen, given = photo(store), instances(store)
    record, _ = run(store, seen, DepthSettings(depth=config, camera=CameraConfig()))
    length = KnownLength(start=(10, HEIGHT - 3), end=(WIDTH - 10, HEIGHT - 3), metres=0.5)
    settings = MeasureSettings(known_length=length)
    measured = execute(MEASURE, (seen, given, record, OutlinedObjects()), settings, store, Runtime()).record
    assert measured.metres.source == "known length"
    gone = set(record.warnings) - set(measured.warnings)
    assert gone == {note(record.assumption)}
    assert re.search(r"\d m (above|away)", record.assumption)
    assert not any(re.search(r"\d m\b", warning) for warning in measured.warnings)


def test_a_length_in_the_first_photo_measures_all_photos_and_how_far_they_are_apart(store: Store) -> None:
    record, before = run(store, photo(store), GROUND)
    apart = np.eye(4)
    apart[:3, 3] = (0.3, 0, 0.1)
    first, second = (
        SeenView(photo=photo(store), instances=instances(store), depth=record, main_from_camera=matrix4(pose))
        for pose in (np.eye(4), apart)
    )
    settings = MeasureSettings(
        known_length=KnownLength(start=(10, HEIGHT - 3), end=(WIDTH - 10, HEIGHT - 3), metres=0.5)
    )
    alone = execute(
        MEASURE, (first.photo, first.instances, record, OutlinedObjects()), settings, store, Runtime()
    ).record
    found = execute(MEASURE_VIEWS, (Views(items=(first, second)),), settings, store, Runtime()).record
    after = [np.load(store.path(seen.depth.depth), allow_pickle=False) for seen in found.items]
    assert (after[0] == np.load(store.path(alone.depth), allow_pickle=False)).all()
    assert (after[1] == after[0]).all()
    assert [seen.depth.metres.source for seen in found.items] == ["known length"] * 2
    factor = float(np.median(after[0][before > 0] / before[before > 0]))
    moved = np.array(found.items[1].main_from_camera)[:3, 3]
    np.testing.assert_allclose(moved, factor * apart[:3, 3], rtol=1e-5)


def test_a_given_field_of_view_wins(store: Store) -> None:
    camera = CameraConfig(fov_deg=70.0)
    record, _ = run(store, photo(store, focal_35mm=50.0), DepthSettings(depth=GroundConfig(), camera=camera))
    assert record.intrinsics_source == "fov"
    assert fov_x_deg(record.intrinsics) == pytest.approx(70.0)
    assert not any("field of view" in warning for warning in record.warnings)


def test_a_given_camera_wins_over_all_and_keeps_its_principal_point(store: Store) -> None:
    own = Intrinsics(width=WIDTH, height=HEIGHT, fx=90, fy=91, cx=20, cy=30)
    given = photo(store, focal_35mm=50.0).model_copy(update={"camera": GivenCamera(intrinsics=own)})
    record, _ = run(store, given, DepthSettings(depth=GroundConfig(), camera=CameraConfig(fov_deg=70.0)))
    assert (record.intrinsics, record.intrinsics_source) == (own, "camera")


def test_a_horizon_and_vertical_edges_tell_gravity(store: Store) -> None:
    level = {"start": (0, HEIGHT / 2), "end": (WIDTH, HEIGHT / 2)}
    shown = {"horizon": {"horizon": level}, "edge": {"verticals": [{"start": (5, 5), "end": (5, HEIGHT - 5)}]}}
    for values in shown.values():
        camera = CameraConfig.model_validate({"fov_deg": 60, **values})
        record, _ = run(store, photo(store), DepthSettings(depth=GroundConfig(), camera=camera))
        assert record.gravity_shown
        assert record.gravity == pytest.approx((0, 1, 0), abs=1e-6)
    # Where nothing tells the field of view, a horizon must tell it, and a camera that is taken to be level cannot.
    with pytest.raises(UsageError, match="does not tell the field of view"):
        run(
            store,
            photo(store),
            DepthSettings(depth=GroundConfig(), camera=CameraConfig.model_validate(shown["horizon"])),
        )


def test_two_lengths_give_the_field_of_view(store: Store) -> None:
    _, z = run(store, photo(store), GROUND)
    lines = [((10, HEIGHT - 2), (WIDTH - 10, HEIGHT - 2)), ((10, HEIGHT - 2), (14, HEIGHT - 20))]
    camera = intrinsics_from_fov(WIDTH, HEIGHT, 40)

    def metres(line: tuple[tuple[int, int], ...]) -> float:
        ends = [z[v, u] * np.array([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, 1]) for u, v in line]
        return float(np.linalg.norm(ends[1] - ends[0]))

    first, second = ({"start": line[0], "end": line[1], "metres": metres(line)} for line in lines)
    told = CameraConfig.model_validate({"known_length": first, "second_length": second})
    record, _ = run(store, photo(store), DepthSettings(depth=GroundConfig(), camera=told))
    assert record.intrinsics_source == "two lengths"
    assert fov_x_deg(record.intrinsics) == pytest.approx(40, abs=1)
    assert not any("field of view" in warning for warning in record.warnings)


def test_then_exif(store: Store) -> None:
    record, _ = run(store, photo(store, focal_35mm=36.0), GROUND)
    assert record.intrinsics_source == "exif"
    assert record.intrinsics.fx == pytest.approx(WIDTH)
    assert not any("field of view" in warning for warning in record.warnings)


def test_then_the_default_with_a_warning_that_names_the_fix(store: Store) -> None:
    record, _ = run(store, photo(store), GROUND)
    assert record.intrinsics_source == "default"
    assert fov_x_deg(record.intrinsics) == pytest.approx(55.0)
    assert "55 degrees" in record.warnings[0]
    assert "--fov" in record.warnings[0]


def test_user_depth_wins_and_its_holes_stay(store: Store) -> None:
    given = np.linspace(3, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    given[5:9, 5:9] = 0
    record, values = run(store, photo(store, focal_35mm=30.0, depth=given), GROUND)
    assert (values == given).all()
    assert (record.backend, record.uncertainty) == ("user depth", 0.01)
    assert record.metres == Metres(source="measured", factor=1.01)
    assert record.warnings == ()


def test_depth_that_looks_swapped_is_asked_back_and_converted_once_the_user_has_said(store: Store) -> None:
    true = np.linspace(3, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    given = photo(store, focal_35mm=30.0, depth=1 / true)
    with pytest.raises(InputError, match=r"near and far look swapped.*--depth-kind disparity"):
        run(store, given.model_copy(update={"depth_kind": "auto"}), GROUND)
    record, values = run(store, given.model_copy(update={"depth_kind": "inverse"}), GROUND)
    np.testing.assert_allclose(values, true, rtol=1e-6)
    assert (record.metres.source, record.warnings) == ("measured", ())
    record, values = run(store, given.model_copy(update={"depth_kind": "disparity"}), GROUND)
    np.testing.assert_allclose(values / np.median(values), true / np.median(true), rtol=1e-5)
    assert record.metres.source == "assumed"
    assert "has no unit" in record.warnings[-1]
    record, values = run(store, given.model_copy(update={"depth_kind": "z"}), GROUND)
    assert (values == 1 / true).all()
    assert "look swapped" in record.warnings[-1]


def test_the_estimator_gets_photo_and_camera(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def estimator(
        image: np.ndarray, camera: Intrinsics, config: DepthAnythingConfig, runtime: Runtime
    ) -> DepthEstimate:
        assert (image == 100).all()
        assert (camera.width, camera.height) == (WIDTH, HEIGHT)
        far = np.full(image.shape[:2], 2.5, dtype=np.float32)
        return DepthEstimate(
            far, metric=True, uncertainty=0.1, relief_error=0.06, backend="da", licence="L", warnings=("far",)
        )

    monkeypatch.setattr("scenegen.perception.depth_anything.estimate_depth_anything", estimator)
    monkeypatch.setattr("scenegen.perception.depth_anything.depth_anything_weights", lambda config: {"da": "1"})
    settings = DepthSettings(depth=DepthAnythingConfig(), camera=CameraConfig(fov_deg=50))
    record, values = run(store, photo(store), settings)
    assert (values == 2.5).all()
    assert (record.backend, record.licence, record.warnings) == ("da", "L", ("far",))
    assert record.metres == Metres(source="measured", factor=1.1)


def test_the_key_names_the_weights(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = DepthSettings(depth=DepthAnythingConfig(), camera=CameraConfig())
    inputs = (photo(store), instances(store))
    keys = set()
    for revision in ("one", "two"):
        monkeypatch.setattr(
            "scenegen.perception.depth_anything.depth_anything_weights",
            lambda config, revision=revision: {"da": revision},
        )
        keys.add(DEPTH.key(inputs, settings))
    assert len(keys) == 2
    assert DEPTH.weights(GROUND) == {}


EMBEDDED = DepthSettings(depth=EmbeddedDepthConfig(), camera=CameraConfig(estimator=EmbeddedCameraConfig()))


def test_the_embedded_network_gives_depth_camera_and_gravity(store: Store) -> None:
    record, values = run(store, photo(store), EMBEDDED)
    assert (record.backend, record.intrinsics_source, record.metres.source) == (embedded.NAME, "embedded", "assumed")
    assert record.gravity is not None
    assert np.linalg.norm(record.gravity) == pytest.approx(1, abs=1e-5)
    assert "--fov" in record.warnings[0]
    assert "--depth" in record.warnings[1]
    assert (values > 0).all()
    assert np.median(values[ids() > 0]) == pytest.approx(EmbeddedDepthConfig().distance_m, rel=1e-3)
    assert DEPTH.weights(EMBEDDED) == perception_weights()


def test_a_known_field_of_view_wins_over_the_estimated_one_but_gravity_stays(store: Store) -> None:
    record, _ = run(store, photo(store, focal_35mm=36.0), EMBEDDED)
    assert record.intrinsics_source == "exif"
    assert record.gravity is not None
    assert not any("field of view" in warning for warning in record.warnings)
    given = DepthSettings(depth=GroundConfig(), camera=CameraConfig(estimator=EmbeddedCameraConfig(), fov_deg=40))
    record, _ = run(store, photo(store), given)
    assert record.intrinsics_source == "fov"
    assert fov_x_deg(record.intrinsics) == pytest.approx(40)
    assert record.gravity is not None
    assert DEPTH.weights(given).keys() == {"perception"}


def test_without_an_estimator_there_is_no_gravity(store: Store) -> None:
    assert run(store, photo(store), GROUND)[0].gravity is None


def test_named_objects_give_the_metres_that_their_size_says(store: Store) -> None:
    """The object is 30 pixels high: a given chair is 0.87 m, and so half as far as a person."""
    plain, assumed = run(store, photo(store), EMBEDDED)
    made = {noun: run(store, photo(store), EMBEDDED, label=noun) for noun in ("office chair", "gizmo", "cup", "person")}
    assert made["gizmo"][0].metres == plain.metres  # no noun of the table
    ratios = []
    for label, noun, known in (("office chair", "chair", 0.87), ("person", "person", 1.6), ("cup", "cup", 0.11)):
        record, values = made[label]
        (size,) = record.metres.sizes
        assert record.metres.source == "known sizes"
        assert (size.object, size.noun, size.known_m, size.whole) == (1, noun, known, True)
        assert size.found_m == pytest.approx(known, rel=0.25)
        assert 1.1 < record.metres.factor < 2
        assert f"usual sizes of what is seen ({noun})" in record.warnings[-1]
        ratio = values / assumed
        assert ratio == pytest.approx(float(np.median(ratio)), rel=1e-5)
        ratios.append(float(np.median(ratio)))
    assert ratios[0] / ratios[2] == pytest.approx(0.87 / 0.11, rel=0.35)
    assert ratios[0] < ratios[1]


def test_guesses_count_by_their_probability_and_known_sizes_can_be_left_out(store: Store) -> None:
    guesses = (("person", 0.6), ("chair", 0.2), ("boat", 0.1))
    sure, _ = run(store, photo(store), EMBEDDED, label="person")
    record, values = run(store, photo(store), EMBEDDED, label="object", guesses=guesses)
    assert record.metres.source == "known sizes"
    assert record.metres.factor > sure.metres.factor
    off = EMBEDDED.model_copy(update={"depth": EmbeddedDepthConfig(known_sizes=False)})
    record, values = run(store, photo(store), off, label="person")
    assert record.metres.source == "assumed"
    assert np.median(values[ids() > 0]) == pytest.approx(1.2, rel=1e-3)
    measured, _ = run(store, photo(store, depth=np.ones((HEIGHT, WIDTH), np.float32)), EMBEDDED, label="person")
    assert measured.metres.source == "measured"
