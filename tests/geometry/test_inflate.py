"""Inflated shapes against solids whose silhouette, surface and depth are known exactly."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.camera import intrinsics_from_fov, project, rays
from scenegen.config import InflateConfig
from scenegen.errors import InputError
from scenegen.geometry.generator import ObjectView
from scenegen.geometry.inflate import inflate, poisson_profile
from scenegen.geometry.render import RayCaster
from scenegen.geometry.solid import is_closed, volume
from scenegen.records import CropCamera

SIZE = 256
CROP = CropCamera(crop_from_camera=((1, 0, 0), (0, 1, 0), (0, 0, 1)), intrinsics=intrinsics_from_fov(SIZE, SIZE, 20))
DISTANCE, RADIUS = 5.0, 0.7
UP = np.array([0, -1, 0], dtype=np.float32)


def sphere_view(limit: float = 0.0) -> ObjectView:
    direction = rays(CROP.intrinsics)
    length = np.linalg.norm(direction, axis=-1)
    along = direction[..., 2] / length * DISTANCE
    inside = DISTANCE**2 - along**2 < RADIUS**2
    root = np.sqrt(np.maximum(RADIUS**2 - (DISTANCE**2 - along**2), 0))
    depth = np.where(inside, (along - root) / length, 0)
    return view(inside.astype(np.float32), depth.astype(np.float32), limit)


def view(mask: np.ndarray, depth: np.ndarray, limit: float = 0.0) -> ObjectView:
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    return ObjectView(picture, mask, depth, np.full((SIZE, SIZE), limit, np.float32), UP, CROP)


def silhouette(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    directions = rays(CROP.intrinsics).reshape(-1, 3)
    hits = RayCaster(vertices, faces).cast(np.zeros_like(directions), directions)
    return (hits.triangle >= 0).reshape(SIZE, SIZE)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def test_the_profile_of_a_disc_is_a_sphere() -> None:
    y, x = np.mgrid[-60:61, -60:61]
    profile = poisson_profile(x**2 + y**2 < 50**2)
    expected = np.maximum(50**2 - x**2 - y**2, 0)
    inner = x**2 + y**2 < 40**2
    np.testing.assert_allclose(profile[inner], expected[inner], rtol=0.06)


def test_a_sphere_comes_back() -> None:
    shape = inflate(sphere_view(), 0, InflateConfig())
    assert is_closed(shape.faces)
    assert shape.warnings == ()
    assert len(shape.faces) <= 5000
    away = np.linalg.norm(shape.vertices - [0, 0, DISTANCE], axis=1)
    assert np.percentile(np.abs(away / RADIUS - 1), 90) < 0.12  # the hidden underside is filled down a little
    assert np.ptp(shape.vertices[:, 2]) == pytest.approx(2 * RADIUS, rel=0.1)
    assert volume(shape.vertices, shape.faces) == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.15)
    assert iou(silhouette(shape.vertices, shape.faces), sphere_view().mask > 0.5) > 0.97


def test_the_visible_side_lies_on_the_depth_map() -> None:
    given_view = sphere_view()
    shape = inflate(given_view, 0, InflateConfig())
    directions = rays(CROP.intrinsics)
    core = cv2.erode((given_view.mask > 0.5).astype(np.uint8), np.ones((25, 25))) > 0
    hits = RayCaster(shape.vertices, shape.faces).cast(np.zeros((core.sum(), 3)), directions[core])
    np.testing.assert_allclose(hits.distance, given_view.depth[core], atol=0.02 * RADIUS)


def test_nothing_reaches_behind_the_background() -> None:
    limit = DISTANCE + 0.2
    shape = inflate(sphere_view(limit), 0, InflateConfig(max_faces=100_000))
    assert np.percentile(shape.vertices[:, 2], 99.5) < limit + 0.03


def test_the_seed_changes_the_hidden_side_only() -> None:
    shapes = [inflate(sphere_view(), seed, InflateConfig()) for seed in (0, 1, 2, 1)]
    fronts = [shape.vertices[:, 2].min() for shape in shapes]
    backs = [shape.vertices[:, 2].max() for shape in shapes]
    assert np.ptp(fronts) < 0.01 * RADIUS
    assert len({round(float(back), 3) for back in backs}) == 3
    np.testing.assert_array_equal(shapes[1].vertices, shapes[3].vertices)


def test_a_standing_box_is_filled_below_its_visible_top() -> None:
    """Seen from above, a box's hidden back is as far away low down as at the top: columns, not a dome."""
    tilt = np.radians(35)
    up = np.array([0, -np.cos(tilt), -np.sin(tilt)], dtype=np.float32)
    right = np.array([1.0, 0, 0])
    ahead = np.cross(right, up)  # level, away from the camera
    centre = np.array([0, 0, 5.0])
    half = 0.5
    corners = [centre + half * (a * right + b * up + c * ahead) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]
    faces = np.array(
        [
            [0, 1, 3],
            [0, 3, 2],
            [4, 6, 7],
            [4, 7, 5],
            [0, 4, 5],
            [0, 5, 1],
            [2, 3, 7],
            [2, 7, 6],
            [0, 2, 6],
            [0, 6, 4],
            [1, 5, 7],
            [1, 7, 3],
        ],
        dtype=np.int32,
    )
    directions = rays(CROP.intrinsics).reshape(-1, 3)
    hits = RayCaster(np.array(corners), faces).cast(np.zeros_like(directions), directions)
    depth = np.where(hits.triangle >= 0, hits.distance, 0).reshape(SIZE, SIZE).astype(np.float32)
    slope = directions @ up
    floor = np.where(slope < 0, (up @ centre - half) / np.minimum(slope, -1e-9), 0).reshape(SIZE, SIZE)
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    seen = ObjectView(picture, (depth > 0).astype(np.float32), depth, floor.astype(np.float32), up, CROP)
    shape = inflate(seen, 0, InflateConfig())
    assert is_closed(shape.faces)
    relative = shape.vertices - centre
    low = relative[(relative @ up < -0.5 * half) & (np.abs(relative[:, 0]) < 0.3)]
    assert (low @ ahead).max() > 0.5 * half  # vertices: a flat side has few
    assert volume(shape.vertices, shape.faces) == pytest.approx(1.0, rel=0.25)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_any_blob_gives_a_closed_mesh_on_its_silhouette(seed: int, blobs: int) -> None:
    random = np.random.default_rng(seed)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(blobs):
        centre = tuple(int(value) for value in random.integers(50, 206, 2))
        axes = tuple(int(value) for value in random.integers(10, 50, 2))
        cv2.ellipse(mask, centre, axes, float(random.uniform(0, 180)), 0, 360, 1, -1)
    depth = (4 + 0.2 * random.standard_normal() * np.mgrid[0:SIZE, 0:SIZE][0] / SIZE).astype(np.float32)
    shape = inflate(view(mask.astype(np.float32), depth), 0, InflateConfig())
    assert is_closed(shape.faces)
    assert volume(shape.vertices, shape.faces) > 0
    assert np.isfinite(shape.vertices).all()
    assert iou(silhouette(shape.vertices, shape.faces), mask > 0) > 0.93
    assert (project(CROP.intrinsics, shape.vertices.astype(float)) > 0).all()


def test_nothing_to_go_by_is_an_input_error() -> None:
    empty = np.zeros((SIZE, SIZE), np.float32)
    dot = empty.copy()
    dot[100, 100] = 1
    with pytest.raises(InputError, match="too small"):
        inflate(view(dot, empty + 2), 0, InflateConfig())
    with pytest.raises(InputError, match="no depth"):
        inflate(view(sphere_view().mask, empty), 0, InflateConfig())
