from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solids import box

from scenegen.evaluate.metrics import (
    bootstrap,
    box_iou,
    box_ious,
    depth_scores,
    extents_error,
    f_score,
    hungarian,
    mask_ious,
    normal_error_deg,
    penetration,
    precision_recall,
    resampled,
    solid,
    surface_scores,
)
from scenegen.evaluate.sampling import Triangles

UNIT = (1.0, 1.0, 1.0)


def test_f_score_is_the_harmonic_mean() -> None:
    near, far = np.zeros(10), np.ones(10)
    half = np.concatenate([near, far])
    assert f_score(near, near, 0.1) == 1
    assert f_score(half, near, 0.1) == pytest.approx(2 * 0.5 / 1.5)
    assert f_score(near, half, 0.1) == pytest.approx(2 * 0.5 / 1.5)
    assert f_score(far, far, 0.1) == 0
    assert f_score(far, far, 1.0) == 1


def test_chamfer_sum_and_mean_are_shares_of_the_unit() -> None:
    scores = surface_scores(np.full(4, 0.06), np.full(7, 0.02), unit=2.0)
    assert scores.completeness == pytest.approx(0.03)
    assert scores.accuracy == pytest.approx(0.01)
    assert scores.chamfer_sum == pytest.approx(0.04)
    assert scores.chamfer_mean == pytest.approx(0.02)
    assert (scores.f_1, scores.f_2, scores.f_5) == (0, 0, 1)


def test_nothing_made_has_the_accuracy_of_its_completeness_and_no_f_score() -> None:
    scores = surface_scores(np.full(4, 0.001), np.zeros(0), unit=1.0)
    assert scores.chamfer_sum == pytest.approx(0.002)
    assert (scores.f_1, scores.f_2, scores.f_5) == (0, 0, 0)


@settings(max_examples=20)
@given(st.floats(0, 2))
def test_iou_of_two_unit_boxes(offset: float) -> None:
    shifted = box((offset, 0, 0), UNIT).vertices
    assert box_iou(box((0, 0, 0), UNIT).vertices, shifted) == pytest.approx(max(0, (1 - offset) / (1 + offset)))


def test_extents() -> None:
    true = box((0, 0, 0), (1, 2, 4)).vertices
    assert extents_error(box((5, 0, 0), (1, 1, 5)).vertices, true) == pytest.approx((0 + 0.5 + 0.25) / 3)
    flat = true * (1, 1, 0)
    assert extents_error(true * (2, 1, 1), flat) == pytest.approx(0.5)


def test_normals_have_no_side() -> None:
    x, y = np.array([[1.0, 0, 0]]), np.array([[0, 1.0, 0]])
    assert normal_error_deg(x, -x) == 0
    assert normal_error_deg(x, y) == pytest.approx(90)
    assert normal_error_deg(x, (x + y) / np.sqrt(2)) == pytest.approx(45)


def test_mask_ious() -> None:
    made = np.array([[1, 1, 0, 7], [1, 1, 0, 7]])
    true = np.array([[2, 2, 2, 0], [2, 2, 2, 0]])
    made_ids, true_ids, ious = mask_ious(made, true)
    assert (made_ids, true_ids) == ([1, 7], [2])
    np.testing.assert_allclose(ious, [[4 / 6], [0]])
    assert mask_ious(np.zeros_like(made), true)[2].shape == (0, 1)


def test_matching_takes_the_greatest_total_not_the_greatest_pair() -> None:
    ious = np.array([[0.6, 0.5], [0.55, 0.1]])
    assert hungarian(ious, 0.25) == [(0, 1), (1, 0)]
    assert hungarian(np.array([[0.2, 0.0]]), 0.25) == []
    assert hungarian(np.zeros((1, 1)), 0.0) == []
    assert hungarian(np.zeros((0, 3)), 0.25) == []


def test_ties_are_broken_the_same_way_every_time() -> None:
    ious = np.full((3, 3), 0.5)
    first = hungarian(ious, 0.25)
    assert sorted(column for _, column in first) == [0, 1, 2]
    assert all(hungarian(ious.copy(), 0.25) == first for _ in range(5))


def test_boxes_of_every_pair() -> None:
    made = [box((x, 0, 0), UNIT).vertices for x in (0.5, 9)]
    true = [box((x, 0, 0), UNIT).vertices for x in (0, 1, -5)]
    np.testing.assert_allclose(box_ious(made, true), [[1 / 3, 1 / 3, 0], [0, 0, 0]])
    assert box_ious([], true).shape == (0, 3)


def test_precision_and_recall() -> None:
    found = precision_recall([(1, 0), (2, 0)], [(1, 0), (2, 1), (3, 0), (4, 0)])
    assert (found.precision, found.recall, found.count) == (0.5, 0.25, 4)
    nothing = precision_recall([], [])
    assert (nothing.precision, nothing.recall, nothing.count) == (None, None, 0)


@settings(max_examples=10)
@given(st.floats(0.1, 10))
def test_depth_is_scored_after_the_median_scale(scale: float) -> None:
    true = np.linspace(1, 3, 100).reshape(10, 10).astype(np.float32)
    found = depth_scores(true / np.float32(scale), true)
    assert found is not None
    assert found.scale == pytest.approx(scale, rel=1e-5)
    assert found.abs_rel == pytest.approx(0, abs=1e-6)
    assert found.delta_1 == 1
    assert found.abs_rel_unscaled == pytest.approx(abs(1 / scale - 1), abs=1e-5)


def test_depth_errors_and_unknown_depth() -> None:
    true = np.array([[2.0, 2, 2, 2, 0]])
    made = np.array([[2.0, 2, 2, 3, 5]])
    found = depth_scores(made, true)
    assert found is not None
    assert (found.scale, found.pixels) == (1, 4)
    assert found.abs_rel == pytest.approx(0.5 / 4)
    assert found.delta_1 == pytest.approx(0.75)
    assert depth_scores(np.zeros((1, 5)), true) is None


def test_penetration_of_two_boxes() -> None:
    left, right, far = (solid(box((x, 0, 0), UNIT)) for x in (0, 0.75, 9))
    found = penetration({1: left, 2: right, 3: far})
    assert found.volume_m3 == pytest.approx(0.25)
    assert found.share == pytest.approx(0.25 / 3)
    assert penetration({}).share == 0


def test_an_open_mesh_is_no_solid_and_is_named() -> None:
    whole = box((0, 0, 0), UNIT)
    opened = Triangles(whole.vertices, whole.faces[1:])
    assert solid(opened) is None
    found = penetration({4: solid(opened), 5: solid(whole)})
    assert (found.left_out, found.volume_m3) == ((4,), 0)


def test_seams_do_not_open_a_mesh() -> None:
    whole = box((0, 0, 0), UNIT)
    split = Triangles(whole.vertices[whole.faces].reshape(-1, 3), np.arange(whole.faces.size).reshape(-1, 3))
    body = solid(split)
    assert body is not None
    assert body.volume() == pytest.approx(1)


def test_bootstrap_draws_whole_groups() -> None:
    # Two groups: a resample holds either one only, or both.
    (low, high), (low_median, high_median) = bootstrap([[0.0] * 5, [1.0] * 5], 400, 0) or pytest.fail("no interval")
    assert (low, high) == (0, 1)
    assert (low_median, high_median) == (0, 1)
    assert bootstrap([[1.0, 2.0], []], 400, 0) is None
    (low, high), _ = bootstrap([[3.0], [3.0, 3.0]], 50, 0) or pytest.fail("no interval")
    assert (low, high) == (3, 3)


def test_bootstrap_agrees_with_drawing_one_by_one() -> None:
    rng = np.random.default_rng(3)
    groups = [rng.normal(size=count).tolist() for count in (1, 4, 2, 7, 3)]
    drawn = np.random.default_rng(5).integers(5, size=(300, 5))
    resamples = [np.concatenate([groups[i] for i in chosen]) for chosen in drawn]
    means, medians = bootstrap(groups, 300, 5) or pytest.fail("no interval")
    np.testing.assert_allclose(means, np.percentile([r.mean() for r in resamples], [2.5, 97.5]))
    np.testing.assert_allclose(medians, np.percentile([np.median(r) for r in resamples], [2.5, 97.5]))


def test_a_resample_draws_as_many_groups_as_there_are() -> None:
    times = resampled(4, 50, 1)
    assert times.shape == (50, 4)
    np.testing.assert_array_equal(times.sum(axis=1), 4)
    np.testing.assert_array_equal(times, resampled(4, 50, 1))
