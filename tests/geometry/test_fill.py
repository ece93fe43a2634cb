"""Pictures with holes: what is unknown is continued from what is known around it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenegen.camera import intrinsics_from_fov, rays
from scenegen.geometry import fill
from scenegen.geometry.fill import continued_as_planes, nearest_known, pull_push

SIDE = 64


def plane_depth(lean: float, turn: float) -> np.ndarray:
    """z-depth of a plane that crosses the axis 2 m away."""
    normal = np.array([np.sin(lean) * np.cos(turn), np.sin(lean) * np.sin(turn), np.cos(lean)])
    return 2 * normal[2] / (rays(intrinsics_from_fov(SIDE, SIDE, 40)) @ normal)


@given(st.floats(0, 1.0), st.floats(0, 6.3))
def test_a_plane_is_continued_as_that_plane(lean: float, turn: float) -> None:
    depth = plane_depth(lean, turn)
    known = np.hypot(*(np.indices(depth.shape) - 31.5)) < 22
    ring = ~known & (np.hypot(*(np.indices(depth.shape) - 31.5)) < 24)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fill, "RIDGE", 1e-9)
        made = continued_as_planes(np.where(known, depth, 0), known, 4)
    np.testing.assert_array_equal(made[known], depth[known])
    within = (depth > depth[known].min()) & (depth < depth[known].max()) & ring
    np.testing.assert_allclose(made[within], depth[within], rtol=1e-6)
    assert made.min() >= depth[known].min() - 1e-9
    assert made.max() <= depth[known].max() + 1e-9


def test_the_plane_is_nearer_the_truth_than_the_nearest_pixel() -> None:
    depth = plane_depth(0.8, 0.5)
    known = np.hypot(*(np.indices(depth.shape) - 31.5)) < 22
    ring = ~known & (np.hypot(*(np.indices(depth.shape) - 31.5)) < 24)
    ring &= (depth > depth[known].min()) & (depth < depth[known].max())
    error = np.abs(continued_as_planes(depth, known, 4) - depth)[ring].mean()
    assert error < 0.8 * np.abs(nearest_known(depth, known) - depth)[ring].mean()


def test_far_from_all_that_is_known_the_nearest_pixel_is_taken() -> None:
    depth = np.full((SIDE, SIDE), 3.0)
    known = np.zeros_like(depth, dtype=bool)
    known[:4, :4] = True
    assert continued_as_planes(depth, known, 2)[-1, -1] == pytest.approx(3.0)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.9))
def test_colours_spread_within_the_range_of_what_is_known(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    picture = random.uniform(40, 200, (37, 23, 3)).astype(np.float32)
    known = random.random(picture.shape[:2]) < share
    known[5, 5] = True
    made = pull_push(np.where(known[..., None], picture, 255).astype(np.float32), known.astype(np.float32))
    np.testing.assert_array_equal(made[known], picture[known])
    low, high = picture[known].min(axis=0), picture[known].max(axis=0)
    assert (made >= low - 1e-3).all()
    assert (made <= high + 1e-3).all()


def test_one_colour_spreads_everywhere() -> None:
    known = np.zeros((40, 60), dtype=np.float32)
    known[3:5, 50:55] = 1
    picture = np.where(known[..., None] > 0, np.float32([10, 90, 200]), np.float32(255))
    np.testing.assert_allclose(pull_push(picture, known), np.broadcast_to([10, 90, 200], picture.shape), atol=1e-2)
