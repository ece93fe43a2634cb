"""Views that would carve an object away are left out, and only those."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scenegen.geometry.consistent import LEAST_PIXELS, consistent
from scenegen.geometry.generator import OtherView
from tests.geometry.views import CENTRE, sphere_view, turned_view


@pytest.mark.parametrize("degrees", [20, 90, 180])
@pytest.mark.parametrize("occluded", [False, True])
def test_views_that_agree_are_kept(degrees: float, occluded: bool) -> None:
    turned = turned_view(degrees)
    other = OtherView(sphere_view(occluded), turned.crop_from_main)
    view = replace(sphere_view(), others=(other, turned))
    found, warnings = consistent(view)
    assert (len(found.others), warnings) == (2, ())


def test_a_wrong_camera_is_left_out_and_named() -> None:
    right, wrong = turned_view(90), turned_view(90)
    pose = wrong.crop_from_main.copy()
    pose[:3, 3] += [0, 1.3, 0]
    found, warnings = consistent(replace(sphere_view(), others=(right, OtherView(wrong.view, pose))))
    assert len(found.others) == 1
    assert found.others[0] is right
    (warning,) = warnings
    assert warning.startswith("view 3 of it is left out")
    assert "lies beside the object there" in warning


def test_a_camera_with_the_object_behind_it_is_left_out() -> None:
    turned = turned_view(90)
    back = np.diag([1.0, 1, 1, 1])
    back[2, 3] = -2 * CENTRE[2] - 1
    found, warnings = consistent(replace(sphere_view(), others=(OtherView(turned.view, back @ turned.crop_from_main),)))
    assert not found.others
    assert "100%" in warnings[0]


def test_a_view_that_shows_next_to_nothing_is_left_out() -> None:
    turned = turned_view(90)
    unknown = replace(turned.view, depth=np.where(turned.view.mask > 0.5, 0, turned.view.depth).astype(np.float32))
    found, warnings = consistent(replace(sphere_view(), others=(OtherView(unknown, turned.crop_from_main),)))
    assert not found.others
    assert f"fewer than {LEAST_PIXELS} pixels" in warnings[0]
