"""The one free number: found from depth through outliers, then from contact, without moving a pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms import DESK, room

from scenegen.camera import project
from scenegen.scene.layout import Floor
from scenegen.scene.placement import (
    fit_scale,
    gap_above,
    scale_on_floor,
    scale_touching,
    scale_touching_floor,
    surface_depth,
)
from scenegen.scene.scoring import intersection_over_union, psnr, score_objects

SCENE = room(DESK)
FLOOR = Floor(SCENE.up, SCENE.height, "ransac")


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 20), st.floats(0, 0.3), st.integers(0, 1000))
def test_the_scale_comes_back_through_outliers(scale: float, outliers: float, seed: int) -> None:
    box, mask = SCENE.boxes[0], SCENE.ids == 1
    depth = SCENE.depth.copy()
    random = np.random.default_rng(seed)
    stray = mask & (random.random(mask.shape) < outliers)
    depth[stray] *= random.uniform(1.1, 2.0, np.count_nonzero(stray))
    made = surface_depth(box.vertices / scale, box.faces, SCENE.camera, mask)
    fit = fit_scale(made, depth, mask)
    assert fit is not None
    assert fit.scale == pytest.approx(scale, rel=0.02)


def test_without_depth_there_is_no_scale() -> None:
    mask = SCENE.ids == 1
    assert fit_scale(np.ones(mask.shape), np.zeros(mask.shape), mask) is None


@given(st.floats(0.7, 1.4))
def test_the_floor_is_touched_exactly(factor: float) -> None:
    vertices = SCENE.boxes[0].vertices.astype(float) * factor
    scale = scale_touching_floor(vertices, FLOOR)
    assert scale is not None
    assert FLOOR.heights(vertices * scale).min() == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(project(SCENE.camera, vertices * scale), project(SCENE.camera, vertices), atol=1e-6)


def test_nothing_below_the_horizon_touches_no_floor() -> None:
    assert scale_touching_floor(np.array([[0.0, -5.0, 1.0]]), FLOOR) is None


@given(st.floats(0.7, 1.4), st.floats(0, 0.25), st.booleans())
def test_no_object_stays_below_the_floor_as_far_as_its_distance_may_be_wrong(
    factor: float, tolerance: float, resting: bool
) -> None:
    """It moves as a whole along its rays: up to the floor, or as near as the tolerance allows; down only to rest."""
    vertices = SCENE.boxes[0].vertices.astype(float)
    touching = scale_touching_floor(vertices, FLOOR)
    assert touching is not None
    scale = scale_on_floor(vertices, FLOOR, factor * touching, tolerance, resting)
    assert 1 / (1 + tolerance) - 1e-9 <= scale / (factor * touching) <= 1 + tolerance + 1e-9
    if factor > 1:
        assert scale == pytest.approx(max(touching, factor * touching / (1 + tolerance)))
    elif resting and 1 / factor <= 1 + tolerance:
        assert scale == pytest.approx(touching)
    else:
        assert scale == factor * touching


def test_what_never_meets_the_floor_keeps_its_distance() -> None:
    assert scale_on_floor(np.array([[0.0, -5.0, 1.0]]), FLOOR, 2.0, 0.2, True) == 2.0


def test_an_object_is_set_down_on_another() -> None:
    table, cup = SCENE.boxes[1], SCENE.boxes[2]
    for factor in (0.97, 1.03):
        wrong = cup.vertices.astype(float) * factor
        scale = scale_touching(wrong, table, FLOOR, 1.0, 0.08)
        assert scale is not None
        assert scale * factor == pytest.approx(1, abs=0.01)
        gap = gap_above(wrong * scale, table, FLOOR)
        assert gap == pytest.approx(0, abs=1e-3)


def test_what_is_out_of_reach_stays_where_it_is() -> None:
    table, cup = SCENE.boxes[1], SCENE.boxes[2]
    assert scale_touching(cup.vertices * 1.5, table, FLOOR, 1.0, 0.05) is None
    assert gap_above(SCENE.boxes[0].vertices.astype(float), table, FLOOR) is None  # not over it


def test_true_boxes_score_perfectly() -> None:
    meshes = {index + 1: box for index, box in enumerate(SCENE.boxes)}
    for score in score_objects(meshes, SCENE.image, SCENE.ids, SCENE.depth, SCENE.camera).values():
        assert score.silhouette_iou == 1
        assert score.depth_error == pytest.approx(0, abs=1e-4)
        assert score.colour_psnr is not None
        assert score.colour_psnr > 60


def test_a_shifted_box_scores_by_its_overlap() -> None:
    half = SCENE.boxes[0].transformed(np.diag([1.1, 1, 1, 1]))
    (score,) = score_objects({1: half}, SCENE.image, SCENE.ids, SCENE.depth, SCENE.camera).values()
    assert 0.5 < score.silhouette_iou < 0.99


def test_closed_forms_of_the_scores() -> None:
    a = np.zeros((10, 10), bool)
    b = a.copy()
    a[:, :6], b[:, 4:] = True, True
    assert intersection_over_union(a, b) == pytest.approx(0.2)
    assert intersection_over_union(a & False, b & False) == 0
    assert psnr(np.full(10, 255.0)) == pytest.approx(0)
    assert psnr(np.full(10, 25.5)) == pytest.approx(20)
    assert psnr(np.zeros(10)) == 100
