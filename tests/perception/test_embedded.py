"""From what the network says to objects and depth, on answers made by hand; and the weights it is read from."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from scenegen.config import EmbeddedDepthConfig, EmbeddedSegmentConfig
from scenegen.errors import InputError, WeightsError
from scenegen.perception import embedded
from scenegen.perception.embedded import (
    Perception,
    enlarged_by_object,
    estimate_depth_embedded,
    groups,
    instances,
    load_network,
    observe,
    perceive,
    segment_embedded,
)
from scenegen.perception.network import PerceptionNetwork
from scenegen.runtime import Runtime

CELLS = (24, 32)
PHOTO = (4 * CELLS[0], 4 * CELLS[1])


def said(ids: np.ndarray, spread: float = 0.05, seed: int = 0) -> Perception:
    """What a network would say that knows `ids`: every object at a place of its own in the space of groups."""
    rng = np.random.default_rng(seed)
    centres = np.eye(int(ids.max()) + 1, 8, dtype=np.float32)
    noise = spread * rng.standard_normal((*ids.shape, 8)).astype(np.float32)
    return Perception(
        object_probability=np.where(ids > 0, 0.9, 0.1).astype(np.float32),
        seed=np.where(ids > 0, 0.8, 0.02).astype(np.float32),
        embedding=centres[ids] + noise,
        log_precision=np.full(ids.shape, np.log(4), np.float32),
        log_depth=np.log(1 + ids.astype(np.float32)),
        log_error=np.full(ids.shape, np.log(0.1), np.float32),
        fov_x_deg=50.0,
        log_focal_error=0.1,
        down=np.array([0, 1, 0], np.float32),
    )


def two_boxes() -> np.ndarray:
    ids = np.zeros(CELLS, int)
    ids[4:16, 3:14] = 1
    ids[10:22, 14:28] = 2
    return ids


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_touching_objects_come_apart_at_the_size_of_the_photo() -> None:
    ids, scores = instances(said(two_boxes()), *PHOTO, min_area=0.002, max_objects=10)
    assert ids.shape == PHOTO
    assert ids.dtype == np.uint16
    assert len(scores) == 2 == ids.max()
    true = np.kron(two_boxes(), np.ones((4, 4), int))
    for number in (1, 2):
        assert max(iou(ids == number, true == other) for other in (1, 2)) > 0.9
    assert scores == pytest.approx((0.72, 0.72), abs=0.01)


def test_parts_that_look_alike_are_one_object_however_far_apart() -> None:
    """An object cut in two by another in front of it stays one."""
    ids = np.zeros(CELLS, int)
    ids[8:16, 2:30] = 1
    ids[2:22, 13:18] = 2
    found, _ = instances(said(ids), *PHOTO, min_area=0.002, max_objects=10)
    left, right = found[48, 16], found[48, 110]
    assert left == right > 0
    assert found[48, 62] not in (0, left)


def test_small_objects_and_those_beyond_the_number_asked_for_are_left_out() -> None:
    ids = two_boxes()
    ids[20:22, 2:5] = 3
    perception = said(ids)
    assert len(groups(perception)) == 3
    assert instances(perception, *PHOTO, min_area=0.02, max_objects=10)[0].max() == 2
    surest = perception.seed.copy()
    surest[ids == 2] = 0.95
    sure = Perception(**{**perception.__dict__, "seed": surest})
    found, scores = instances(sure, *PHOTO, min_area=0.002, max_objects=1)
    assert len(scores) == 1
    assert iou(found == 1, np.kron(ids == 2, np.ones((4, 4), bool))) > 0.9


def test_nothing_is_found_where_nothing_is() -> None:
    ids, scores = instances(said(np.zeros(CELLS, int)), *PHOTO, min_area=0.002, max_objects=10)
    assert not ids.any()
    assert scores == ()


def test_stray_seeds_start_no_object() -> None:
    """Cells that belong to nothing else, and are too few."""
    ids = np.zeros(CELLS, int)
    ids[5, 5] = ids[15, 20] = 1
    perception = said(ids)
    assert groups(perception) == []


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_separate_objects_are_counted_right(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    ids = np.zeros(CELLS, int)
    for number in range(1, count + 1):
        row, column = divmod(number - 1, 3)
        top, left = 12 * row + rng.integers(1, 4), 10 * column + rng.integers(1, 4)
        ids[top : top + rng.integers(3, 8), left : left + rng.integers(3, 6)] = number
    found, scores = instances(said(ids, seed=seed), *PHOTO, min_area=0.002, max_objects=10)
    assert len(scores) == count == len(np.unique(found[found > 0]))


def test_depth_stays_sharp_between_objects() -> None:
    ids = two_boxes()
    large = np.kron(ids, np.ones((4, 4), int))
    enlarged = enlarged_by_object(np.log(1 + ids.astype(np.float32)), large)
    assert np.allclose(np.exp(enlarged), 1 + large, rtol=1e-3)


def test_what_the_network_blurs_across_an_outline_stays_out_of_both_sides() -> None:
    ids = two_boxes()
    log_depth = np.log(1 + ids.astype(np.float32))
    near_outline = cv2.dilate(ids.astype(np.uint8), np.ones((3, 3))) != cv2.erode(ids.astype(np.uint8), np.ones((3, 3)))
    blurred = np.where(near_outline, np.float32(np.log(9)), log_depth)
    enlarged = enlarged_by_object(blurred, np.kron(ids, np.ones((4, 4), int)))
    assert np.allclose(np.exp(enlarged), 1 + np.kron(ids, np.ones((4, 4))), rtol=0.02)


def test_a_mask_that_no_cell_shows_purely_still_has_a_depth() -> None:
    ids = np.zeros(PHOTO, int)
    ids[10, 10] = 5
    assert np.isfinite(enlarged_by_object(np.zeros(CELLS, np.float32), ids)).all()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random, in half precision as released."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "perception.safetensors"
    save_file({name: value.half() for name, value in PerceptionNetwork().state_dict().items()}, path)
    return path


@pytest.fixture
def installed(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "WEIGHTS", weights)
    monkeypatch.setattr(embedded, "_kept", OrderedDict())


def photo(height: int = 90, width: int = 130) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_weights_are_read_strictly(weights: Path, tmp_path: Path) -> None:
    assert load_network(weights).trunk.stem.weight.dtype == torch.float32
    tensors = {name: value.half() for name, value in PerceptionNetwork().state_dict().items()}
    for name, change in (
        ("missing", {"depth.out.bias": None}),
        ("unexpected", {"depth.more": torch.zeros(1)}),
        ("of another shape", {"depth.out.bias": torch.zeros(7)}),
    ):
        path = tmp_path / "other.safetensors"
        changed = {**tensors, **change}
        save_file({key: value for key, value in changed.items() if value is not None}, path)
        with pytest.raises(WeightsError, match=name):
            load_network(path)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="no readable weights"):
        load_network(path)
    with pytest.raises(WeightsError, match="no readable weights"):
        load_network(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("size", [(90, 130), (130, 90), (480, 640), (20, 700)])
def test_any_size_of_photo_is_seen(weights: Path, size: tuple[int, int]) -> None:
    perception = observe(load_network(weights), photo(*size), 96)
    assert perception.log_depth.shape == perception.seed.shape == perception.embedding.shape[:2]
    assert 10 < perception.fov_x_deg < 130
    assert np.linalg.norm(perception.down) == pytest.approx(1, abs=1e-5)
    ids, _ = instances(perception, *size, min_area=0.002, max_objects=5)
    assert ids.shape == size


def test_the_same_bytes_whatever_threads_torch_has(weights: Path) -> None:
    network, before, found = load_network(weights), torch.get_num_threads(), set()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        perception = observe(network, photo(), 96)
        found.add((perception.log_depth.tobytes(), perception.embedding.tobytes(), perception.fov_x_deg))
    torch.set_num_threads(before)
    assert len(found) == 1


@pytest.mark.usefixtures("installed")
def test_the_same_photo_gives_the_same_bytes_and_is_seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime(device="cpu")
    config = EmbeddedSegmentConfig()
    ids = segment_embedded(photo(), config, runtime).ids
    depth = estimate_depth_embedded(photo(), ids, EmbeddedDepthConfig(), runtime).depth
    assert len(embedded._kept) == 1
    embedded._kept.clear()
    again = segment_embedded(photo(), config, runtime).ids
    assert again.tobytes() == ids.tobytes()
    assert estimate_depth_embedded(photo(), ids, EmbeddedDepthConfig(), runtime).depth.tobytes() == depth.tobytes()
    for index in range(embedded.KEPT + 2):
        perceive(photo(90 + index), runtime)
    assert len(embedded._kept) == embedded.KEPT


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("objects", [True, False])
def test_the_scale_is_assumed_and_said_to_be(objects: bool) -> None:
    ids = np.zeros((90, 130), np.uint16)
    if objects:
        ids[30:60, 40:80] = 1
    config = EmbeddedDepthConfig(distance_m=2.5)
    estimate = estimate_depth_embedded(photo(), ids, config, Runtime(device="cpu"))
    shown = ids > 0 if objects else ids == 0
    assert np.median(estimate.depth[shown]) == pytest.approx(2.5, rel=1e-3)
    assert not estimate.metric
    assert "2.5 m" in estimate.warnings[0]
    assert "--depth" in estimate.warnings[0]
    assert estimate.backend == embedded.NAME


@pytest.mark.usefixtures("installed")
def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"`ids` is 5x4; it must be 130x90"):
        estimate_depth_embedded(photo(), np.zeros((4, 5), int), EmbeddedDepthConfig(), Runtime(device="cpu"))


def test_the_weights_of_the_package_are_there_and_small() -> None:
    assert embedded.WEIGHTS.stat().st_size < 8e6
    assert embedded.WEIGHTS.with_suffix(".md").is_file()
    network = load_network(embedded.WEIGHTS)
    assert all(bool(value.isfinite().all()) for value in network.state_dict().values())
