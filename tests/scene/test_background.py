"""The background gives way to what is seen, and takes nothing from what is unknown."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms import Room, room

from scenegen.camera import intrinsics_from_fov
from scenegen.config import LayoutConfig
from scenegen.ids import UNKNOWN, object_ids, shows_object
from scenegen.scene.background import background_depth
from scenegen.scene.layout import Floor, find_floor, support_depth

CONFIG = LayoutConfig()
CAMERA = intrinsics_from_fov(96, 72, 60)


def random_scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Floor]:
    """Boxes of pixels before each other at random depths, with holes, unknown fragments and a floor that fits badly."""
    pitch = np.radians(rng.uniform(0, 60))
    floor = Floor(np.array([0, -np.cos(pitch), -np.sin(pitch)]), rng.uniform(0.3, 3), "ransac")
    depth = np.full((72, 96), rng.uniform(0.5, 6)) * np.exp(rng.normal(0, 0.2) * np.linspace(-1, 1, 72))[:, None]
    ids = np.zeros((72, 96), np.uint16)
    for number in rng.permutation([*range(1, 5), 0, 0, UNKNOWN, UNKNOWN]):
        top, left = rng.integers(0, 60), rng.integers(0, 80)
        box = np.s_[top : top + rng.integers(2, 40), left : left + rng.integers(2, 40)]
        ids[box] = number
        depth[box] = rng.uniform(0.3, 8) * np.exp(rng.normal(0, 0.3, depth[box].shape))
    depth[rng.random(depth.shape) < 0.05] = 0
    return depth.astype(np.float32), ids, floor


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.01, 0.07, 0.3]))
def test_the_limit_never_comes_before_what_is_seen_of_an_object(seed: int, uncertainty: float) -> None:
    depth, ids, floor = random_scene(np.random.default_rng(seed))
    behind, _ = background_depth(depth, ids, CAMERA, floor, CONFIG, uncertainty)
    assert np.isfinite(behind).all()
    assert (behind > 0).all()
    shown = shows_object(ids)
    assert (behind[shown] >= depth[shown]).all()
    for number in object_ids(ids):
        mask = ids == number
        assert (support_depth(depth, mask, CAMERA, floor)[mask] >= depth[mask]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 20))
def test_what_is_unknown_says_nothing_about_the_background(seed: int, factor: float) -> None:
    """Whatever depth the unknown pixels have: seen background and limit are the same."""
    depth, ids, floor = random_scene(np.random.default_rng(seed))
    other = np.where(ids == UNKNOWN, factor * depth, depth).astype(np.float32)
    for one, two in zip(
        background_depth(depth, ids, CAMERA, floor, CONFIG),
        background_depth(other, ids, CAMERA, floor, CONFIG),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


def fragmented() -> tuple[Room, np.ndarray]:
    """A near box with a fragment of its mask beside a farther one; and the ids with the fragment unknown."""
    scene = room([((0.5, 0.9, 0.3), (-0.25, 0, -1.9)), ((0.5, 0.7, 0.3), (0.55, 0, -3.0))], size=(480, 360))
    rows, columns = np.nonzero(scene.ids == 2)
    top, left = rows.min() + 20, columns.min()
    near = np.median(scene.depth[scene.ids == 1])
    scene.ids[top : top + 14, left : left + 14] = 1
    scene.depth[top : top + 14, left : left + 14] = near
    ids = scene.ids.copy()
    ids[top : top + 14, left : left + 14] = UNKNOWN
    return scene, ids


def test_an_unknown_fragment_moves_no_limit_and_leaves_no_hole_in_the_floor() -> None:
    scene, ids = fragmented()
    floor = find_floor(scene.depth, ids, scene.camera, CONFIG)
    limit, _ = background_depth(scene.depth, ids, scene.camera, floor, CONFIG)
    true = room([], size=(480, 360)).depth
    hidden = scene.ids > 0
    assert np.percentile(np.abs(limit[hidden] / true[hidden] - 1), 99) < 0.1
    as_background = np.where(ids == UNKNOWN, 0, ids)
    wrong, _ = background_depth(scene.depth, as_background, scene.camera, floor, CONFIG)
    assert np.percentile(np.abs(wrong[hidden] / true[hidden] - 1), 99) > 0.2  # what the difference is about
