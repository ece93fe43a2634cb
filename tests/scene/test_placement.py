"""The one free number: found from depth through outliers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms import DESK, room

from scenegen.geometry.render import render
from scenegen.scene.placement import Fit, Sighting, fit_scale, fit_scale_in_views, surface_depth
from scenegen.scene.scoring import intersection_over_union, psnr, score_objects

SCENE = room(DESK)


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


@pytest.mark.parametrize(("own", "other"), [(1.12, 0.9), (0.9, 0.9), (1.0, 1.15)])
def test_silhouettes_from_the_side_tell_the_scale_that_depth_maps_do_not(own: float, other: float) -> None:
    """A box in two views, whose depth maps are off by the given factors."""
    made = SCENE.boxes[0].transformed(np.diag([0.5, 0.5, 0.5, 1.0]))
    turn = np.eye(4)
    turn[:3, :3] = [[np.cos(0.7), 0, -np.sin(0.7)], [0, 1, 0], [np.sin(0.7), 0, np.cos(0.7)]]
    turn[:3, 3] = [2.0, 0, 0.6]
    side = render([box.transformed(turn) for box in SCENE.boxes], SCENE.camera)
    sightings = [
        Sighting(SCENE.camera, np.eye(4), SCENE.ids == 1, SCENE.ids == 0, own * SCENE.depth, 0.1),
        Sighting(SCENE.camera, turn, side.ids == 0, side.ids == -1, other * side.depth, 0.1),
    ]
    fit = fit_scale_in_views(made, Fit(2 * own, 0.02, 100), sightings)
    assert fit.views == 2
    assert fit.scale == pytest.approx(2, rel=0.03)
