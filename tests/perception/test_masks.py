"""Closed forms and invariants of the clean-up every segmentation goes through."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scenegen.ids import UNKNOWN, object_ids, shows_object
from scenegen.perception.masks import (
    alpha_components,
    boxes_and_areas,
    clean_masks,
    paint,
    renumbered,
    snap_to_edges,
    without_small,
)


def blank(height: int = 60, width: int = 80) -> np.ndarray:
    return np.zeros((height, width), dtype=np.uint16)


def test_stray_specks_become_unknown_and_the_object_stays() -> None:
    ids = blank()
    ids[10:40, 10:40] = 7
    expected = ids.copy()
    ids[50:52, 70:74] = 7  # 8 pixels of 908
    expected[50:52, 70:74] = UNKNOWN
    clean = clean_masks(ids, min_area=64)
    assert (clean.ids == expected).all()
    assert clean.dropped == ()


def test_a_second_part_that_is_no_speck_stays() -> None:
    ids = blank()
    ids[10:40, 10:40] = 1
    ids[50:58, 60:68] = 1  # 64 pixels of 964
    assert (clean_masks(ids, min_area=64).ids == ids).all()


def test_small_objects_become_unknown_and_are_named() -> None:
    ids = blank()
    ids[10:40, 10:40] = 3
    ids[50:57, 50:59] = 9  # 63 pixels
    ids[50:58, 70:78] = 12  # 64 pixels
    for clean in (clean_masks(ids, min_area=64), without_small(ids, min_area=64)):
        assert clean.dropped == (9,)
        assert object_ids(clean.ids) == [3, 12]
        np.testing.assert_array_equal(clean.ids == UNKNOWN, ids == 9)


def test_what_is_unknown_fills_a_hole_and_is_no_object() -> None:
    ids = blank()
    ids[5:45, 5:45] = 1
    ids[10:12, 10:12] = 2  # too small to be an object, and inside another
    clean = clean_masks(ids, min_area=64)
    assert clean.dropped == (2,)
    assert (clean.ids[5:45, 5:45] == 1).all()
    assert list(boxes_and_areas(np.full((4, 5), UNKNOWN, np.uint16))) == []
    assert renumbered(np.array([[0, 7, UNKNOWN]], np.uint16))[0].tolist() == [[0, 1, UNKNOWN]]


def test_an_object_of_specks_only_is_dropped_and_named() -> None:
    ids = blank()
    ids[::4, ::4] = 5  # 300 pixels, none beside another
    assert clean_masks(ids, min_area=64).dropped == (5,)


def test_tiny_holes_close_but_real_ones_and_other_objects_stay() -> None:
    ids = blank()
    ids[5:45, 5:45] = 1
    ids[10:12, 10:12] = 0  # tiny: 4 of 1600
    ids[20:30, 20:30] = 0  # a real hole
    ids[35:38, 35:38] = 2  # another object
    clean = clean_masks(ids, min_area=1)
    assert (clean.ids[10:12, 10:12] == 1).all()
    assert (clean.ids[20:30, 20:30] == 0).all()
    assert (clean.ids[35:38, 35:38] == 2).all()


def test_a_bay_at_the_picture_border_is_no_hole() -> None:
    ids = blank()
    ids[0:40, 0:40] = 1
    ids[0:2, 10:12] = 0
    assert (clean_masks(ids, min_area=1).ids[0:2, 10:12] == 0).all()


def test_renumbering_keeps_the_order() -> None:
    ids = blank()
    ids[:5], ids[10:15], ids[20:25] = 40, 7, 1000
    dense, origins = renumbered(ids)
    assert origins == (7, 40, 1000)
    assert (dense[:5] == 2).all()
    assert (dense[10:15] == 1).all()
    assert (dense[20:25] == 3).all()
    assert not dense[30:].any()


def test_alpha_gives_the_largest_parts_first() -> None:
    alpha = np.zeros((60, 80), dtype=np.uint8)
    alpha[2:12, 2:12] = 255
    alpha[20:50, 20:50] = 128
    alpha[20:50, 60:70] = 127  # not more than half opaque
    alpha[55:58, 2:5] = 200
    ids = alpha_components(alpha, max_objects=2)
    assert (ids[20:50, 20:50] == 1).all()
    assert (ids[2:12, 2:12] == 2).all()
    assert (ids[55:58, 2:5] == UNKNOWN).all()
    assert np.count_nonzero(ids) == 900 + 100 + 9


def test_boxes_are_tight_and_exclusive() -> None:
    ids = blank()
    ids[3:8, 10:30] = 5
    ids[4, 12] = 0
    assert list(boxes_and_areas(ids)) == [(5, (10, 3, 30, 8), 99)]


def test_nothing_stays_nothing() -> None:
    clean = clean_masks(blank(), min_area=64)
    assert clean.dropped == ()
    assert not clean.ids.any()
    assert renumbered(clean.ids)[1] == ()
    assert list(boxes_and_areas(clean.ids)) == []


def test_outlines_snap_to_the_edge_of_the_picture() -> None:
    truth = np.zeros((100, 120), dtype=bool)
    truth[30:70, 40:80] = True
    image = np.full((100, 120, 3), 220, dtype=np.uint8)
    image[truth] = (30, 60, 160)
    rough = np.zeros((100, 120), dtype=np.uint16)
    rough[28:69, 42:83] = 1
    snapped = snap_to_edges(image, rough, reach=5)
    assert np.count_nonzero((rough == 1) != truth) > 250
    assert np.count_nonzero((snapped == 1) != truth) < 80


def test_a_thin_object_survives_snapping() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    ids = blank()
    ids[30:33, 10:70] = 1
    ids[5:20, 5:20] = 2
    snapped = snap_to_edges(image, ids, reach=4)
    assert set(np.unique(snapped)) == {0, 1, 2}


@given(arrays(np.uint16, (24, 30), elements=st.sampled_from([0, 1, 2, 900])), st.integers(1, 60))
def test_invariants_of_cleaning(ids: np.ndarray, min_area: int) -> None:
    clean = clean_masks(ids, min_area)
    left = set(object_ids(clean.ids))
    assert left | set(clean.dropped) == set(object_ids(ids))
    assert not left & set(clean.dropped)
    areas = [area for _, _, area in boxes_and_areas(clean.ids)]
    assert all(area >= min_area for area in areas)
    assert sum(areas) == np.count_nonzero(shows_object(clean.ids))
    # What showed an object never becomes background.
    assert (clean.ids[ids > 0] > 0).all()


@given(arrays(bool, st.tuples(st.integers(0, 6), st.just(9), st.just(11))))
def test_paint_gives_each_pixel_its_smallest_mask_in_the_order_given(masks: np.ndarray) -> None:
    ids, order = paint(masks)
    np.testing.assert_array_equal(ids > 0, masks.any(0))
    assert order == sorted(set(order))
    assert object_ids(ids) == list(range(1, len(order) + 1))
    for v, u in np.argwhere(ids > 0):
        shown = order[ids[v, u] - 1]
        assert masks[shown, v, u]
        assert masks[shown].sum() == min(mask.sum() for mask in masks if mask[v, u])
