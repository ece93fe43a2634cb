"""Edits of id pictures change what they are about, and nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scenegen.edits.masks import filled, redrawn, renumbered, split
from scenegen.ids import UNKNOWN

SHAPE = (6, 8)
PICTURES = arrays(np.uint16, SHAPE, elements=st.sampled_from([0, 1, 2, 3, UNKNOWN]))
MASKS = arrays(np.bool_, SHAPE)
PLACES = st.tuples(st.floats(0, 8), st.floats(0, 6))


@given(PICTURES, MASKS)
def test_a_redrawn_object_is_its_mask_and_what_it_lost_is_unknown(ids: np.ndarray, mask: np.ndarray) -> None:
    after = redrawn(ids, 2, mask)
    assert after.dtype == np.uint16
    assert np.array_equal(after == 2, mask)
    lost = (ids == 2) & ~mask
    assert (after[lost] == UNKNOWN).all()
    assert np.array_equal(after[~mask & ~lost], ids[~mask & ~lost])


@given(PICTURES, MASKS, MASKS)
def test_the_last_mask_counts(ids: np.ndarray, first: np.ndarray, last: np.ndarray) -> None:
    twice = redrawn(redrawn(ids, 2, first), 2, last)
    assert np.array_equal(twice == 2, last)
    assert np.array_equal(redrawn(twice, 2, last), twice)


@given(PICTURES, PLACES, PLACES)
def test_two_parts_are_the_whole_and_merge_to_it(
    ids: np.ndarray, start: tuple[float, float], end: tuple[float, float]
) -> None:
    after = split(ids, 1, 9, start, end)
    assert np.array_equal(np.isin(after, [1, 9]), ids == 1)
    assert np.array_equal(renumbered(after, [9], 1), ids)


@given(PICTURES, PLACES, PLACES)
def test_the_same_line_the_other_way_splits_off_the_other_part(
    ids: np.ndarray, start: tuple[float, float], end: tuple[float, float]
) -> None:
    there, back = split(ids, 1, 9, start, end), split(ids, 1, 9, end, start)
    assert not ((there == 9) & (back == 9)).any()


def test_left_is_as_one_goes() -> None:
    # Upwards in the picture: left is where u is smaller.
    after = split(np.ones((2, 4), np.uint16), 1, 2, (2, 2), (2, 0))
    assert after.tolist() == [[2, 2, 1, 1]] * 2


@given(PICTURES)
def test_what_is_filled_encloses_nothing_and_only_grows(ids: np.ndarray) -> None:
    after = filled(ids, 1, None)
    assert ((after == 1) >= (ids == 1)).all()
    assert np.array_equal(filled(after, 1, None), after)
    assert np.array_equal(after[after != 1], ids[after != 1])
    for row, column in np.argwhere((after == 1) & (ids != 1)).tolist():
        one = filled(ids, 1, (column + 0.5, row + 0.5))
        assert one[row, column] == 1
        assert ((one == 1) <= (after == 1)).all()
