from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.camera import intrinsics_from_fov, rays
from scenegen.geometry.planes import depth_normals, fit_plane, plane_facing

POINTS = 20_000


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def cluttered(seed: int, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points and normals of a plane a metre from the origin, both noisy, among stray ones; and the plane's normal."""
    random = np.random.default_rng(seed)
    normal = unit(random.standard_normal(3))
    flat, stray = round(share * POINTS), POINTS - round(share * POINTS)
    across = np.linalg.svd(normal[None])[2][1:]
    on_plane = random.uniform(-2, 2, (flat, 2)) @ across + normal * (1 + 0.005 * random.standard_normal((flat, 1)))
    points = np.concatenate([on_plane, random.uniform(-3, 3, (stray, 3))])
    normals = unit(
        np.concatenate([normal + 0.2 * random.standard_normal((flat, 3)), random.standard_normal((stray, 3))])
    )
    return points, normals * random.choice([-1, 1], (POINTS, 1)), normal


@pytest.mark.parametrize("share", [0.05, 0.09, 0.5])
def test_a_plane_in_clutter_is_found_nineteen_times_in_twenty(share: float) -> None:
    right = 0
    for seed in range(20):
        points, normals, normal = cluttered(seed, share)
        plane = fit_plane(points, normals, 0.02, seed)
        assert plane is not None
        sign = np.sign(plane.normal @ normal)
        tilt = np.degrees(np.arccos(min(1.0, abs(plane.normal @ normal))))
        if tilt < 0.5 and abs(sign * plane.offset + 1) < 0.01:
            right += 1
            assert plane.near[: round(share * POINTS)].mean() > 0.99
    assert right >= 19


def test_normals_tell_a_plane_from_more_points_by_chance() -> None:
    """A thin layer of stray points has twice the points of the plane beside it, but they face all ways."""
    random = np.random.default_rng(1)
    plane = np.column_stack([random.uniform(-1, 1, (1000, 2)), np.zeros(1000)])
    layer = np.column_stack([random.uniform(-1, 1, (2000, 2)), 1 + random.uniform(-0.01, 0.01, 2000)])
    normals = np.concatenate([np.tile([0.0, 0, 1], (1000, 1)), unit(random.standard_normal((2000, 3)))])
    found = fit_plane(np.concatenate([plane, layer]), normals, 0.02)
    assert found is not None
    assert found.near[:1000].all()
    assert not found.near[1000:].any()


def test_the_same_again() -> None:
    points, normals, _ = cluttered(5, 0.1)
    one, other = fit_plane(points, normals, 0.02, 3), fit_plane(points, normals, 0.02, 3)
    assert one is not None
    assert other is not None
    assert (one.normal.tobytes(), one.offset, one.near.tobytes()) == (
        other.normal.tobytes(),
        other.offset,
        other.near.tobytes(),
    )


@pytest.mark.parametrize("what", ["a line", "a point", "no normals"])
def test_where_no_three_points_agree_there_is_no_plane(what: str) -> None:
    points = np.random.default_rng(0).standard_normal((100, 3))
    normals = unit(points)
    if what == "a line":
        points = points[:, :1] * np.array([1.0, 0, 0])
    elif what == "a point":
        points = np.ones_like(points)
    else:
        normals = np.zeros_like(points)
    assert fit_plane(points, normals, 0.01) is None


@given(st.floats(-60, 60), st.floats(-60, 60), st.floats(0.3, 30), st.floats(30, 90))
@settings(max_examples=30)
def test_the_normals_of_a_plane_are_its_own(yaw: float, pitch: float, distance: float, fov: float) -> None:
    a, b = np.radians(yaw), np.radians(pitch)
    normal = -np.array([np.sin(a) * np.cos(b), np.sin(b), np.cos(a) * np.cos(b)])
    camera = intrinsics_from_fov(120, 90, fov)
    slope = rays(camera) @ normal
    depth = np.where(slope < -0.05, -distance / np.minimum(slope, -0.05), 0)
    depth[20:30, 40:43] = 0  # a hole
    normals = depth_normals(depth, camera)
    assert not normals[depth == 0].any()
    whole = cv2.erode((depth > 0).astype(np.uint8), np.ones((9, 9)), borderValue=0) > 0
    np.testing.assert_allclose(normals[whole], np.broadcast_to(normal, normals[whole].shape), atol=1e-6)


@given(st.floats(0.3, 30), st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_a_plane_of_known_direction_is_found_at_its_distance_whatever_that_is(distance: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    rays_ = np.concatenate([random.uniform(-0.5, 0.5, (900, 2)), np.ones((900, 1))], axis=1)
    normal = unit(np.array([0.2, -0.1, 1.0]))
    depth = distance / (rays_ @ normal) * np.exp(random.uniform(-0.02, 0.02, 900))
    depth[600:] *= random.uniform(1.5, 4, 300)
    normals = np.broadcast_to(-normal, rays_.shape).copy()
    count, found = plane_facing(rays_ * depth[:, None], normals, normal, 0.9, 0.03)
    assert 600 <= count <= 640
    assert abs(found / distance - 1) < 0.02
    normals[:600] = -normals[:600]  # seen from behind
    assert plane_facing(rays_ * depth[:, None], normals, normal, 0.9, 0.03)[0] < 150
    assert plane_facing(rays_ * depth[:, None], 0 * normals, normal, 0.9, 0.03) == (0, 1.0)
