from __future__ import annotations

import numpy as np
import pytest
from solids import box, joined

from scenegen.camera import intrinsics_from_fov
from scenegen.errors import InputError
from scenegen.evaluate.sampling import Triangles, sample_outside, sample_surface, visible
from scenegen.geometry.render import RayCaster

CAMERA = intrinsics_from_fov(160, 120, 60)


def test_samples_are_uniform_by_area_and_lie_on_the_surface() -> None:
    mesh = box((0, 0, 0), (1, 2, 4))
    drawn = sample_surface(mesh, 20_000, np.random.default_rng(0))
    half = np.array([0.5, 1, 2])
    on_face = np.isclose(np.abs(drawn.points), half, atol=1e-9)
    assert on_face.any(axis=1).all()
    areas = np.array([8, 4, 2]) / 14
    np.testing.assert_allclose(on_face.mean(axis=0), areas, atol=0.015)
    np.testing.assert_allclose(np.abs(drawn.normals).mean(axis=0), areas, atol=0.015)
    # Uniform within a face too: the mean of |z| over the faces that z runs along is a quarter of its length.
    assert np.abs(drawn.points[~on_face[:, 2], 2]).mean() == pytest.approx(1, abs=0.02)


def test_what_is_inside_is_not_sampled() -> None:
    mesh = joined(box((0, 0, 0), (1, 1, 1)), box((0, 0, 0), (0.5, 0.5, 0.5)))
    assert (np.abs(sample_surface(mesh, 500, np.random.default_rng(0)).points).max(axis=1) < 0.3).any()
    drawn = sample_outside(mesh, 3000, np.random.default_rng(0))
    assert len(drawn.points) == 3000
    np.testing.assert_allclose(np.abs(drawn.points).max(axis=1), 0.5, atol=1e-6)


def test_the_inside_of_an_open_box_is_seen_from_outside() -> None:
    whole = box((0, 0, 0), (1, 1, 1))
    corners = whole.vertices[whole.faces]
    top = (corners[:, :, 2] > 0.49).all(axis=1)
    drawn = sample_outside(Triangles(whole.vertices, whole.faces[~top]), 2000, np.random.default_rng(0))
    assert (drawn.points[:, 2] < -0.49).mean() == pytest.approx(1 / 5, abs=0.03)


def test_the_same_seed_draws_the_same() -> None:
    mesh = box((0, 0, 0), (1, 1, 1))
    first, second = (sample_outside(mesh, 100, np.random.default_rng(4)).points for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_camera_sees_the_front_of_a_box() -> None:
    mesh = box((0, 0, 4), (1, 1, 1))
    drawn = sample_surface(mesh, 3000, np.random.default_rng(0))
    seen = visible(drawn.points, RayCaster(mesh.vertices, mesh.faces.astype(np.int32)), CAMERA)
    behind = drawn.points[:, 2] - 3.5
    sure = (behind < 1e-9) | (behind > 1e-3)  # a point of a side this near the front may count as of the front
    np.testing.assert_array_equal(seen[sure], behind[sure] < 1e-9)


def test_nothing_is_seen_behind_an_occluder_beside_the_picture_or_behind_the_camera() -> None:
    points = np.array([[0, 0, 3.0], [9, 0, 3.0], [0, 0, -3.0], [0.6, 0, 3.0]])
    assert visible(points, None, CAMERA).tolist() == [True, False, False, True]
    blocker = box((0, 0, 1), (0.1, 0.1, 0.1))
    seen = visible(points, RayCaster(blocker.vertices, blocker.faces.astype(np.int32)), CAMERA)
    assert seen.tolist() == [False, False, False, True]


def test_a_mesh_without_area_is_refused() -> None:
    flat = Triangles(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    with pytest.raises(InputError, match="none with an area"):
        sample_surface(flat, 10, np.random.default_rng(0))
