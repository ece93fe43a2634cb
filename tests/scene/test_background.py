"""The background gives way to what is seen, takes nothing from what is unknown, and carries what stands on it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms import DESK, Room, room

from scenegen.camera import intrinsics_from_fov, unproject
from scenegen.config import LayoutConfig
from scenegen.geometry.render import RayCaster
from scenegen.ids import UNKNOWN, object_ids, shows_object
from scenegen.scene.background import background_depth, background_surfaces, below_objects, with_room
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


@settings(max_examples=20, deadline=None)
@given(st.floats(8, 60), st.floats(0.8, 2.0), st.integers(0, 2**32 - 1))
def test_every_object_has_the_floor_below_it(pitch: float, height: float, seed: int) -> None:
    """Also where something that was not segmented, or is unknown, hides that floor, and beyond the picture."""
    rng = np.random.default_rng(seed)
    scene = room(DESK, pitch, height, 60, size=(160, 120))
    rows, columns = rng.integers(0, 100), rng.integers(0, 140)
    hole = np.s_[rows : rows + 30, columns : columns + 30]
    ids, depth = scene.ids.copy(), scene.depth.copy()
    ids[hole] = rng.choice([0, UNKNOWN])
    depth[hole] = 0.6
    floor = Floor(scene.up, scene.height, "ransac")
    behind, is_floor = background_depth(depth, ids, scene.camera, floor, CONFIG)
    below = below_objects(depth, ids, scene.camera, floor)
    surfaces = background_surfaces(scene.image, behind, is_floor, scene.camera, floor, CONFIG, below)
    if not object_ids(ids):
        return
    caster = RayCaster(surfaces["floor"].vertices, surfaces["floor"].faces)
    cloud = unproject(scene.camera, depth.astype(float))
    for number in object_ids(ids):
        seen = cloud[ids == number]
        points = np.concatenate([seen, (1 + np.ptp(seen, axis=0).max() / seen[:, 2:]) * seen])
        points = points[floor.heights(points) >= 0]
        feet = points - floor.heights(points)[:, None] * floor.normal
        # What is right below the camera is not continued to.
        points = points[feet[:, 2] > 0.3 * seen[:, 2].min()]
        hits = caster.cast(points + 0.01 * floor.normal, np.broadcast_to(-floor.normal, points.shape))
        assert (hits.triangle >= 0).all()
    heights = floor.heights(surfaces["floor"].vertices.astype(float))
    np.testing.assert_allclose(heights, 0, atol=1e-4)


def test_a_backdrop_gives_way_to_the_relief_that_an_object_may_have() -> None:
    depth = np.full((72, 96), 2.0, np.float32)
    ids = np.zeros((72, 96), np.uint16)
    ids[20:40, 30:60], ids[50:60, 30:60] = 1, UNKNOWN
    behind = np.full((72, 96), 2.1, np.float32)
    width = 30 / CAMERA.fx * 2
    made = with_room(behind, depth, ids, CAMERA, relief_error=0.2)
    np.testing.assert_allclose(made, np.where(ids == 1, 2 + 0.4 * width, 2.1), rtol=1e-6)
    np.testing.assert_array_equal(with_room(behind, depth, ids, CAMERA, relief_error=0.01), behind)


def test_without_objects_the_surfaces_end_with_the_picture() -> None:
    scene = room([])
    floor = find_floor(scene.depth, scene.ids, scene.camera, CONFIG)
    behind, is_floor = background_depth(scene.depth, scene.ids, scene.camera, floor, CONFIG)
    surfaces = background_surfaces(scene.image, behind, is_floor, scene.camera, floor, CONFIG)
    for mesh in surfaces.values():
        ends = mesh.vertices[:, :2] / mesh.vertices[:, 2:] * scene.camera.fx
        assert np.abs(ends[:, 0]).max() == pytest.approx(scene.camera.width / 2, abs=0.01)
        assert np.abs(ends[:, 1]).max() <= scene.camera.height / 2 + 0.01


def test_nothing_is_made_where_the_picture_shows_no_background() -> None:
    scene = room(DESK)
    floor = find_floor(scene.depth, scene.ids, scene.camera, CONFIG)
    behind, is_floor = background_depth(scene.depth, scene.ids, scene.camera, floor, CONFIG)
    below = below_objects(scene.depth, scene.ids, scene.camera, floor)
    made = (scene.image, behind, is_floor, scene.camera, floor, CONFIG, below)
    assert background_surfaces(*made, visible=np.zeros_like(is_floor)) == {}
    left = np.broadcast_to(np.arange(is_floor.shape[1]) < is_floor.shape[1] // 2, is_floor.shape)
    for mesh in background_surfaces(*made, visible=left).values():
        assert mesh.vertices[:, 0].max() <= 0.01
