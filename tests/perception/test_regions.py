"""The training-free segmenter on pictures whose objects are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from scenegen.config import RegionsConfig
from scenegen.ids import UNKNOWN
from scenegen.perception.regions import objectness, segment_regions
from scenegen.perception.superpixels import adjacency, saliency, superpixels, weighted_lab


def table_scene(height: int = 360, width: int = 480) -> tuple[np.ndarray, np.ndarray]:
    """A ball, a box and a can on a plain, unevenly lit table before a wall; and their ids."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:height, :width]
    image = np.where((rows < 0.35 * height)[..., None], [205.0, 200, 190], [150.0, 140, 125])
    image += (20 * columns / width)[..., None]
    ids = np.zeros((height, width), dtype=np.uint8)
    scale = width / 480
    shadow = np.zeros((height, width), dtype=np.float32)
    for number, (x, y) in enumerate(((110, 210), (250, 240), (380, 200)), start=1):
        centre = (round((x + 14) * scale), round((y + 42) * scale))
        axes = (round(50 * scale), round(12 * scale))
        cv2.ellipse(shadow, centre, axes, 0, 0, 360, 1.0, cv2.FILLED)
        middle = (round(x * scale), round(y * scale))
        if number == 1:
            cv2.circle(ids, middle, round(45 * scale), 1, cv2.FILLED)
        else:
            half = (round((40 if number == 2 else 25) * scale), round(45 * scale))
            low, high = np.subtract(middle, half).tolist(), np.add(middle, half).tolist()
            cv2.rectangle(ids, low, high, number, cv2.FILLED)
    image *= 1 - 0.2 * cv2.GaussianBlur(shadow, (0, 0), 8 * scale)[..., None]
    for number, colour in enumerate(((200, 50, 40), (40, 80, 170), (40, 130, 60)), start=1):
        shade = 0.85 + 0.3 * (columns[ids == number] / width)
        image[ids == number] = np.array(colour) * shade[:, None]
    image += rng.normal(0, 3, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), ids


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


@pytest.mark.parametrize("width", [240, 480, 1280])
def test_objects_on_a_table_are_found_one_mask_each(width: int) -> None:
    image, truth = table_scene(width * 3 // 4, width)
    found = segment_regions(image, RegionsConfig())
    assert found.ids.shape == truth.shape
    assert len(found.scores) == len(found.labels) == 3
    assert set(np.unique(found.ids)) == {0, 1, 2, 3}
    for number in (1, 2, 3):
        assert max(iou(found.ids == other, truth == number) for other in (1, 2, 3)) > 0.88


def test_scores_are_probabilities_in_falling_order() -> None:
    found = segment_regions(table_scene()[0], RegionsConfig())
    assert all(0.2 < score <= 1 for score in found.scores)
    assert list(found.scores) == sorted(found.scores, reverse=True)


def test_the_same_picture_gives_the_same_masks() -> None:
    image, _ = table_scene()
    first, second = (segment_regions(image.copy(), RegionsConfig()) for _ in range(2))
    assert (first.ids == second.ids).all()
    assert first.scores == second.scores


def test_an_object_of_many_colours_stays_whole() -> None:
    image = np.full((300, 400, 3), (190, 188, 180), dtype=np.uint8)
    truth = np.zeros((300, 400), dtype=bool)
    truth[90:210, 130:270] = True
    colours = np.array([(180, 30, 30), (230, 200, 40), (30, 60, 150), (250, 250, 250), (20, 20, 20)], dtype=np.uint8)
    for row in range(12):
        for column in range(14):
            cell = colours[(row * row + 3 * column) % 5]
            image[90 + 10 * row : 100 + 10 * row, 130 + 10 * column : 140 + 10 * column] = cell
    found = segment_regions(image, RegionsConfig())
    assert len(found.scores) == 1
    assert iou(found.ids == 1, truth) > 0.9


def test_walls_and_floors_are_no_objects() -> None:
    image = np.zeros((300, 400, 3), dtype=np.uint8)
    image[:130, :220], image[:130, 220:], image[130:] = (200, 190, 170), (90, 120, 150), (120, 70, 40)
    assert not segment_regions(image, RegionsConfig()).ids.any()


def test_background_seen_through_a_gap_is_no_object() -> None:
    labels = np.zeros((90, 90), dtype=np.int64)
    labels[20:70, 20:70] = 1  # a frame around
    labels[30:60, 30:60] = 2  # what is seen through it
    salient = np.array([0.0, 1.0, 0.8])
    probabilities = []
    for inside in (70.0, 75.0):
        lab = np.zeros((90, 90, 3), dtype=np.float32)
        lab[..., 0] = np.array([70.0, 20.0, inside])[labels]
        probabilities.append(objectness(adjacency(lab, labels), np.eye(3, dtype=bool), salient)[2])
    assert probabilities[0] == 0
    assert probabilities[1] > 0.2


def test_a_plain_picture_and_a_carpet_show_nothing() -> None:
    plain = np.full((200, 300, 3), 128, dtype=np.uint8)
    carpet = np.random.default_rng(0).normal(128, 25, (200, 300, 1)).astype(np.uint8).repeat(3, axis=2)
    for image in (plain, carpet):
        found = segment_regions(image, RegionsConfig())
        assert not found.ids.any()
        assert found.scores == found.labels == ()


def test_the_limits_of_the_configuration_hold() -> None:
    image, truth = table_scene()
    assert set(np.unique(segment_regions(image, RegionsConfig(max_objects=2)).ids)) == {0, 1, 2, UNKNOWN}
    ball = np.count_nonzero(truth == 1) / truth.size
    large = segment_regions(image, RegionsConfig(min_area=0.95 * ball))
    smallest = min(np.count_nonzero(large.ids == number) for number in range(1, len(large.scores) + 1))
    assert smallest > 0.9 * ball * truth.size
    assert len(large.scores) == 2


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 700, 3), (64, 64, 3), (900, 3, 3)])
def test_odd_sizes_are_no_trouble(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    assert segment_regions(image, RegionsConfig()).ids.shape == shape[:2]


def test_adjacency_of_four_quarters() -> None:
    lab = np.zeros((40, 60, 3), dtype=np.float32)
    labels = np.zeros((40, 60), dtype=np.int64)
    labels[:20, 30:], labels[20:, :30], labels[20:, 30:] = 1, 2, 3
    lab[..., 0] = labels * 10.0
    graph = adjacency(lab, labels)
    assert graph.area.tolist() == [600.0] * 4
    assert graph.mean[:, 0].tolist() == [0, 10, 20, 30]
    assert graph.frame.tolist() == [50.0] * 4
    assert graph.pairs.tolist() == [[0, 1], [0, 2], [1, 3], [2, 3]]
    assert graph.length.tolist() == [20, 30, 30, 20]
    # Steps of 10 and 20 grey levels: the gradient across the border is in their proportion.
    assert graph.edge[1] / graph.edge[0] == pytest.approx(2, rel=0.05)
    assert graph.centre[0] == pytest.approx([9.5 / 60, 14.5 / 60])


def test_what_the_border_does_not_show_stands_out() -> None:
    image = np.full((120, 160, 3), (60, 90, 60), dtype=np.uint8)
    image[40:80, 60:100] = (210, 60, 50)
    lab = weighted_lab(image)
    labels = superpixels(lab, 200)
    salient = saliency(adjacency(lab, labels))[labels]
    assert salient[44:76, 64:96].min() > 0.8
    assert salient[:30].max() < 0.1
