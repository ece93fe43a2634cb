from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scenegen.config import Sam3Config
from scenegen.ids import UNKNOWN
from scenegen.perception.overlaps import Proposals, drawn_objects, resolve_overlaps

HEIGHT, WIDTH = 60, 80


def box(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def resolve(*masks: np.ndarray, scores: list[float] | None = None) -> tuple[np.ndarray, list[int]]:
    proposals = np.array(masks, bool).reshape(len(masks), HEIGHT, WIDTH)
    return resolve_overlaps(proposals, np.array(scores or [0.9] * len(masks), float), 0.002, 0.6)


def test_separate_objects_keep_their_masks_and_the_largest_comes_first() -> None:
    small, large = box(5, 5, 15, 15), box(30, 20, 60, 40)
    ids, order = resolve(small, large)
    assert order == [1, 0]
    np.testing.assert_array_equal(ids == 1, large)
    np.testing.assert_array_equal(ids == 2, small)


def test_of_duplicates_the_better_score_stays() -> None:
    loose, tight = box(20, 20, 41, 40), box(20, 20, 40, 40)
    for scores, winner in (([0.9, 0.95], 1), ([0.95, 0.9], 0)):
        ids, order = resolve(loose, tight, scores=scores)
        assert order == [winner]
        np.testing.assert_array_equal(ids == 1, (loose, tight)[winner])


def test_a_part_is_absorbed_by_its_whole() -> None:
    mug, body, handle = box(20, 20, 44, 40), box(20, 20, 38, 40), box(38, 25, 44, 35)
    ids, order = resolve(handle, body, mug)
    assert order == [2]
    np.testing.assert_array_equal(ids == 1, mug)


def test_a_small_part_of_a_small_whole_is_absorbed_however_small() -> None:
    assert resolve(box(20, 20, 44, 40), box(22, 22, 26, 26))[1] == [0]


def test_a_cup_wins_over_the_table_it_is_in() -> None:
    table, cup = box(10, 20, 70, 55), box(30, 25, 38, 35)
    ids, order = resolve(table, cup)
    assert order == [0, 1]
    np.testing.assert_array_equal(ids == 2, cup)
    np.testing.assert_array_equal(ids == 1, table & ~cup)


def test_where_two_objects_overlap_the_smaller_is_on_top() -> None:
    behind, before = box(10, 10, 40, 40), box(30, 20, 50, 38)
    ids, _ = resolve(before, behind)
    np.testing.assert_array_equal(ids == 2, before)
    np.testing.assert_array_equal(ids == 1, behind & ~before)


@pytest.mark.parametrize("background", [box(0, 35, 80, 60), box(0, 0, 80, 30), box(0, 0, 30, 60)])
def test_floor_and_wall_are_no_objects_and_absorb_nothing(background: np.ndarray) -> None:
    thing = box(5, 40, 25, 50) if background[45, 10] else box(5, 5, 25, 15)
    ids, order = resolve(background, thing)
    assert order == [1]
    np.testing.assert_array_equal(ids == 1, thing)


def test_an_object_cut_off_in_a_corner_stays() -> None:
    assert resolve(box(50, 30, 80, 60))[1] == [0]


def test_size_limits_are_shares_of_the_picture() -> None:
    speck, cloth = box(10, 10, 13, 13), box(1, 1, 79, 59)
    assert (speck.mean(), cloth.mean()) == (9 / 4800, 78 * 58 / 4800)
    assert resolve(speck, cloth)[1] == []


def test_no_proposals_give_an_empty_picture() -> None:
    ids, order = resolve()
    assert order == []
    assert ids.shape == (HEIGHT, WIDTH)
    assert not ids.any()


proposals = arrays(bool, st.tuples(st.integers(0, 6), st.just(9), st.just(11)))


@given(proposals, st.data())
def test_resolved_ids_come_from_the_proposals_whatever_their_order(masks: np.ndarray, data: st.DataObject) -> None:
    scores = np.array(data.draw(st.permutations(range(len(masks)))), float)
    ids, order = resolve_overlaps(masks, scores, 0.02, 0.7)
    for number, index in enumerate(order, 1):
        assert (masks[index] | (ids != number)).all()
        assert 0.02 <= masks[index].mean() <= 0.7
    areas = masks.sum((1, 2)).tolist()
    if len(set(areas)) == len(areas):  # masks of equal area are painted in the order they come in
        turned, back = resolve_overlaps(masks[::-1], scores[::-1], 0.02, 0.7)
        np.testing.assert_array_equal(np.bincount(ids.ravel())[1:], np.bincount(turned.ravel())[1:])
        assert sorted(order) == sorted(len(masks) - 1 - index for index in back)


def test_of_what_was_asked_for_nothing_counts_as_a_part_or_as_background() -> None:
    table, mug, handle = box(0, 30, 80, 60), box(20, 20, 44, 40), box(38, 25, 44, 35)
    proposals = np.array([table, mug, handle, mug])
    ids, order = resolve_overlaps(proposals, np.array([0.6, 0.9, 0.5, 0.8]), 0.002, 1.0, asked_for=True)
    assert order == [0, 1, 2]
    np.testing.assert_array_equal(ids == 3, handle)
    np.testing.assert_array_equal(ids == 2, mug & ~handle)


def test_labels_of_proposals_that_show_the_same_are_guesses() -> None:
    masks = np.array([box(20, 20, 44, 40), box(20, 20, 44, 41), box(50, 5, 70, 25)])
    found = Proposals(masks, np.array([0.6, 0.7, 0.5]), ("bowl", "coffee mug", "gizmo"))
    drawn = drawn_objects(found, Sam3Config(), 0.6, "sam3", "SAM License")
    assert drawn.labels == ("coffee mug", "gizmo")
    assert drawn.label_confidences == drawn.scores == (0.7, 0.5)
    assert drawn.guesses == ((("cup", 0.7), ("bowl", 0.6)), ())


def test_more_objects_than_allowed_keep_the_largest() -> None:
    masks = np.array([box(5, 5, 15, 15), box(30, 20, 60, 40)])
    drawn = drawn_objects(Proposals(masks, np.array([0.9, 0.8])), Sam3Config(max_objects=1), 0.6, "sam3", "SAM License")
    assert drawn.scores == (0.8,)
    assert set(np.unique(drawn.ids)) == {0, 1, UNKNOWN}
    assert "largest 1 are kept" in drawn.warnings[0]
