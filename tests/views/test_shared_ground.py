"""The floor that several photos share is level and at its height, whatever one photo's depth and gravity say."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest

from scenegen.views.features import SeenFrom, Tie, find_matches, tie_points
from scenegen.views.ground import on_ground, shared_ground
from scenegen.views.matching import Masks
from tests.views.photographed import Photographed, looking, photograph

DOWN = np.array([0.0, -1.0, 0.0])


@cache
def photos() -> tuple[Photographed, ...]:
    return tuple(photograph([looking(angle) for angle in (0, 18)]))


@cache
def ties() -> tuple[Tie, ...]:
    seen = [SeenFrom(photo.image, photo.camera, photo.world_from_camera) for photo in photos()]
    return tuple(tie_points(each, seen) for each in find_matches([photo.image for photo in photos()]))


def views(uncertainty: float = 0.1) -> list[Masks]:
    return [
        Masks(
            photo.image, photo.ids, photo.depth.astype(float), uncertainty, photo.camera, photo.world_from_camera, True
        )
        for photo in photos()
    ]


@pytest.mark.parametrize("lean_deg", [0, 14])
def test_it_is_level_and_at_its_height_however_gravity_leans(lean_deg: float) -> None:
    lean = cv2.Rodrigues(np.radians(lean_deg) * np.array([0.6, 0, 0.8]))[0]
    found = shared_ground(views(), ties(), lean @ DOWN)
    assert found is not None
    assert np.degrees(np.arccos(found.down @ DOWN)) < 0.5
    assert found.height == pytest.approx(0, abs=0.003)


def test_too_few_points_tell_none_and_so_does_gravity_that_is_not_known() -> None:
    few = [
        Tie(
            each.first,
            each.second,
            (each.pixels[0][:10], each.pixels[1][:10]),
            (each.depths[0][:10], each.depths[1][:10]),
            0,
        )
        for each in ties()
    ]
    assert shared_ground(views(), few, DOWN) is None
    assert shared_ground(views(), [], DOWN) is None
    assert shared_ground(views(), ties(), None) is None


def test_a_plane_that_nothing_stands_on_is_no_floor() -> None:
    raised = views()
    for view in raised:
        view.z[view.ids > 0] *= 0.4
    assert shared_ground(raised, ties(), DOWN) is None


def test_estimated_depth_of_the_floor_comes_to_the_plane_and_that_of_objects_stays() -> None:
    found = shared_ground(views(), ties(), DOWN)
    assert found is not None
    view = views()[0]
    floor = (view.ids == 0) & (photos()[0].depth > 0)
    view.z[floor] *= 1.08
    moved = on_ground(view, found)
    assert np.median(np.abs(moved.z[floor] / photos()[0].depth[floor] - 1)) < 0.005
    assert np.array_equal(moved.z[~floor], view.z[~floor])
    measured = views(uncertainty=0.01)[0]
    assert on_ground(measured, found) is measured
