"""From what the network says to objects and depth, on answers made by hand; and the weights it is read from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from scenegen.compute.recent import Recent
from scenegen.compute.runtime import Runtime
from scenegen.config import EmbeddedDepthConfig, EmbeddedSegmentConfig
from scenegen.errors import InputError, WeightsError
from scenegen.ids import UNKNOWN, object_ids
from scenegen.perception import UNNAMED, embedded
from scenegen.perception.embedded import (
    drawn,
    enlarged_by_object,
    estimate_depth_embedded,
    load_network,
    observe,
    perceive,
    segment_embedded,
)
from scenegen.perception.network import PerceptionNetwork
from scenegen.perception.nouns import NOUNS
from scenegen.perception.objects import FoundObject
from scenegen.perception.relief import Relief
from scenegen.weights.file import write_weights
from tests.perception.said import TINY

CELLS = (24, 32)
PHOTO = (4 * CELLS[0], 4 * CELLS[1])


def two_boxes() -> np.ndarray:
    ids = np.zeros(CELLS, int)
    ids[4:16, 3:14] = 1
    ids[10:22, 14:28] = 2
    return ids


LIKELY = np.array([0.8, 0.2], np.float32)
"""Of the nouns of `TINY`."""


def sure_of(ids: np.ndarray, probability: float = 0.95) -> list[FoundObject]:
    """What is found by a network that knows `ids`."""
    return [
        FoundObject(np.where(ids == number, probability, 0.02).astype(np.float32), 0.9 - 0.1 * number, LIKELY)
        for number in range(1, int(ids.max()) + 1)
    ]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_touching_objects_come_apart_at_the_size_of_the_photo() -> None:
    ids, kept = drawn(sure_of(two_boxes()), *PHOTO, min_area=0.002, max_objects=10)
    assert ids.shape == PHOTO
    assert ids.dtype == np.uint16
    assert len(kept) == 2 == ids.max()
    true = np.kron(two_boxes(), np.ones((4, 4), int))
    for number in (1, 2):
        assert iou(ids == number, true == number) > 0.9


def test_where_objects_overlap_the_likelier_is_shown() -> None:
    whole, part = np.zeros(CELLS, int), np.zeros(CELLS, int)
    whole[4:20, 4:28] = 1
    part[8:14, 10:20] = 1
    (large,), (small,) = sure_of(whole, 0.8), sure_of(part, 0.95)
    ids, _ = drawn([large, small], *PHOTO, min_area=0.002, max_objects=10)
    assert ids[44, 60] == 2
    assert ids[20, 20] == 1
    assert ids[4, 4] == 0


def test_small_objects_and_those_beyond_the_number_asked_for_are_unknown() -> None:
    cells = two_boxes()
    cells[20:22, 2:5] = 3
    found = sure_of(cells)
    assert object_ids(drawn(found, *PHOTO, min_area=0.002, max_objects=10)[0]) == [1, 2, 3]
    ids, kept = drawn(found, *PHOTO, min_area=0.02, max_objects=10)
    assert object_ids(ids) == [1, 2]
    assert iou(ids == UNKNOWN, np.kron(cells == 3, np.ones((4, 4), bool))) > 0.7
    ids, kept = drawn(found, *PHOTO, min_area=0.002, max_objects=1)
    assert kept == found[:1]
    assert object_ids(ids) == [1]
    assert iou(ids == 1, np.kron(cells == 1, np.ones((4, 4), bool))) > 0.9


def test_nothing_is_drawn_where_nothing_is_found() -> None:
    ids, kept = drawn([], *PHOTO, min_area=0.002, max_objects=10)
    assert not ids.any()
    assert kept == []


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
    """Random, of a small network, in half precision as released."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "perception.safetensors"
    write_weights(PerceptionNetwork(TINY), TINY, path)
    return path


@pytest.fixture
def installed(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "WEIGHTS", weights)
    monkeypatch.setattr(embedded, "_recent", Recent(embedded.KEPT))


def photo(height: int = 90, width: int = 130) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_weights_are_read_strictly(weights: Path, tmp_path: Path) -> None:
    network = load_network(weights)
    assert network.settings == TINY
    assert network.trunk.stem.weight.dtype == torch.float32
    with safe_open(weights, "pt") as file:
        stated = file.metadata()
    tensors = load_file(weights)
    path = tmp_path / "other.safetensors"
    for name, change in (
        ("missing", {"depth.out.bias": None}),
        ("unexpected", {"depth.more": torch.zeros(1)}),
        ("of another shape", {"depth.out.bias": torch.zeros(7)}),
    ):
        changed = {**tensors, **change}
        save_file({key: value for key, value in changed.items() if value is not None}, path, stated)
        with pytest.raises(WeightsError, match=name):
            load_network(path)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_network(path)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_network(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("size", [(90, 130), (130, 90), (480, 640), (20, 700)])
def test_any_size_of_photo_is_seen(weights: Path, size: tuple[int, int]) -> None:
    perception = observe(load_network(weights), photo(*size), 96)
    assert perception.log_depth.shape == perception.log_error.shape
    assert perception.prediction.log_depth.shape == (1, *perception.log_depth.shape)
    assert 10 < perception.fov_x_deg < 130
    assert np.linalg.norm(perception.down) == pytest.approx(1, abs=1e-5)


def test_the_same_bytes_whatever_threads_torch_has(weights: Path) -> None:
    network, before, found = load_network(weights), torch.get_num_threads(), set()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        perception = observe(network, photo(), 96)
        found.add(
            (
                perception.log_depth.tobytes(),
                perception.prediction.features.masks.numpy().tobytes(),
                perception.fov_x_deg,
            )
        )
    torch.set_num_threads(before)
    assert len(found) == 1


@pytest.mark.usefixtures("installed")
def test_the_same_photo_gives_the_same_bytes_and_is_seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime(device="cpu")
    config = EmbeddedSegmentConfig()
    ids = segment_embedded(photo(), config, runtime).ids
    depth = estimate_depth_embedded(photo(), ids, EmbeddedDepthConfig(), runtime).depth
    assert len(embedded._recent) == 1
    embedded._recent.forget()
    again = segment_embedded(photo(), config, runtime).ids
    assert again.tobytes() == ids.tobytes()
    assert estimate_depth_embedded(photo(), ids, EmbeddedDepthConfig(), runtime).depth.tobytes() == depth.tobytes()
    for index in range(embedded.KEPT + 2):
        perceive(photo(90 + index), runtime)
    assert len(embedded._recent) == embedded.KEPT


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("objects", [True, False])
def test_the_scale_is_the_assumed_distance(objects: bool) -> None:
    ids = np.zeros((90, 130), np.uint16)
    if objects:
        ids[30:60, 40:80] = 1
    config = EmbeddedDepthConfig(distance_m=2.5)
    estimate = estimate_depth_embedded(photo(), ids, config, Runtime(device="cpu"))
    shown = ids > 0 if objects else ids == 0
    assert np.median(estimate.depth[shown]) == pytest.approx(2.5, rel=1e-3)
    assert not estimate.metric
    assert estimate.backend == embedded.NAME


@pytest.mark.usefixtures("installed")
def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"`ids` is 5x4; it must be 130x90"):
        estimate_depth_embedded(photo(), np.zeros((4, 5), int), EmbeddedDepthConfig(), Runtime(device="cpu"))


def relief_of(number: int, slope: float, error: float) -> Callable[..., Iterator[tuple[int, Relief]]]:
    """A second look that sees object `number` recede to the right."""

    def look(network: object, image: np.ndarray, ids: np.ndarray, camera: object) -> Iterator[tuple[int, Relief]]:
        columns = np.nonzero(ids == number)[1]
        yield number, Relief((slope * (columns - columns.mean())).astype(np.float32), error)

    return look


@pytest.mark.usefixtures("installed")
def test_the_second_look_gives_an_object_its_relief_and_leaves_its_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.zeros((90, 130), np.uint16)
    ids[20:60, 20:60] = 1
    ids[30:70, 80:110] = 2
    runtime, config = Runtime(device="cpu"), EmbeddedDepthConfig()
    monkeypatch.setattr(embedded, "look_again", lambda *_: iter(()))
    flat = estimate_depth_embedded(photo(), ids, config, runtime)
    assert flat.relief_error == embedded.RELIEF_ERROR
    monkeypatch.setattr(embedded, "look_again", relief_of(2, 0.01, 0.125))
    made = estimate_depth_embedded(photo(), ids, config, runtime)
    assert made.relief_error == 0.125
    ratio = np.log(made.depth) - np.log(flat.depth)
    scale = ratio[0, 0]
    assert np.allclose(ratio[ids != 2], scale, atol=1e-4)
    assert ratio[ids == 2].mean() == pytest.approx(scale, abs=1e-4)
    seen = np.log(made.depth[30:70, 80:110])
    assert np.allclose(np.diff(seen, axis=1), 0.01, atol=1e-4)
    assert np.allclose(np.diff(seen, axis=0), 0, atol=1e-4)


@pytest.mark.usefixtures("installed")
def test_objects_have_names_where_these_are_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = sure_of(two_boxes())
    unnamed = replace(second, nouns=np.array([0.02, EmbeddedSegmentConfig().min_label_confidence - 0.01], np.float32))
    monkeypatch.setattr(embedded, "find_objects", lambda *_: [first, unnamed])
    made = segment_embedded(photo(), EmbeddedSegmentConfig(), Runtime(device="cpu"))
    assert made.labels == (TINY.nouns[0], UNNAMED)
    assert made.label_confidences == (pytest.approx(0.8), None)
    assert made.guesses == ((("box", pytest.approx(0.8)), ("cup", pytest.approx(0.2))), (("cup", pytest.approx(0.39)),))
    assert made.scores == (0.8, 0.7)
    assert set(np.unique(made.ids)) == {0, 1, 2}


def test_the_weights_of_the_package_are_there_and_small() -> None:
    assert embedded.WEIGHTS.stat().st_size < 20e6
    assert embedded.WEIGHTS.with_suffix(".md").is_file()
    network = load_network(embedded.WEIGHTS)
    assert network.settings.nouns == NOUNS
    assert all(bool(value.isfinite().all()) for value in network.state_dict().values())
