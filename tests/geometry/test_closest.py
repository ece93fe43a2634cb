from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.geometry.closest import closest_points


def found(mesh: trimesh.Trimesh, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    nearest = closest_points(np.asarray(mesh.vertices), np.asarray(mesh.faces, np.int32), queries)
    return nearest.points, nearest.distance


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_a_box_has_the_distance_of_a_box(seed: int) -> None:
    """Also where its two long faces are a thousand times the size of the others."""
    random = np.random.default_rng(seed)
    half = random.uniform([0.001, 0.1, 0.1], [1, 1, 1])
    queries = random.uniform(-2, 2, (200, 3))
    points, distance = found(trimesh.creation.box(extents=2 * half), queries)
    beyond = np.abs(queries) - half
    outside = np.linalg.norm(np.maximum(beyond, 0), axis=1)
    np.testing.assert_allclose(distance, np.where(outside > 0, outside, -beyond.max(axis=1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(points - queries, axis=1), distance, atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
@settings(max_examples=30)
def test_of_triangles_of_all_sizes_none_is_nearer(seed: int, count: int) -> None:
    """No point of any triangle, from its corners to 400 inside it, is nearer, and one is about as near."""
    random = np.random.default_rng(seed)
    sizes = 10.0 ** random.uniform(-3, 0, (count, 1, 1))
    corners = random.uniform(-1, 1, (count, 1, 3)) + sizes * random.standard_normal((count, 3, 3))
    weights = np.concatenate([np.eye(3), random.dirichlet([0.7, 0.7, 0.7], 400)])
    queries = random.uniform(-1.5, 1.5, (20, 3))
    nearest = closest_points(corners.reshape(-1, 3), np.arange(3 * count, dtype=np.int32).reshape(-1, 3), queries)
    samples = np.einsum("sc,fcd->fsd", weights, corners).reshape(-1, 3)
    sampled = np.linalg.norm(samples[None] - queries[:, None], axis=2).min(axis=1)
    assert (nearest.distance <= sampled + 1e-6).all()
    assert (sampled - nearest.distance < 0.35).all()


def test_winding_and_order_do_not_matter() -> None:
    ball = trimesh.creation.icosphere(3)
    queries = np.random.default_rng(3).uniform(-1.2, 1.2, (500, 3))
    points, distance = found(ball, queries)
    mixed = ball.faces[np.random.default_rng(4).permutation(len(ball.faces))][:, ::-1]
    other, again = found(trimesh.Trimesh(ball.vertices, mixed, process=False), queries)
    np.testing.assert_allclose(distance, again, atol=1e-6)
    np.testing.assert_allclose(points, other, atol=1e-4)


def test_what_is_farther_than_asked_for_is_not_searched() -> None:
    mesh = trimesh.util.concatenate([trimesh.creation.icosphere(3), trimesh.creation.box(extents=(4, 0.1, 0.1))])
    queries = np.random.default_rng(5).uniform(-2, 2, (500, 3))
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces, np.int32)
    everywhere, near = closest_points(vertices, faces, queries), closest_points(vertices, faces, queries, within=0.3)
    inside = everywhere.distance <= 0.3
    assert 0 < inside.sum() < 500
    np.testing.assert_array_equal(near.distance, np.where(inside, everywhere.distance, np.inf))
    np.testing.assert_array_equal(near.points[inside], everywhere.points[inside])


def test_triangles_without_area_are_segments_and_points() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0.5, 0, 0], [5, 5, 5]], float)
    faces = np.array([[0, 1, 2], [3, 3, 3]], np.int32)
    nearest = closest_points(vertices, faces, np.array([[0.3, 0.4, 0], [-3, 4, 0], [5, 5, 6]], float))
    np.testing.assert_allclose(nearest.points, [[0.3, 0, 0], [0, 0, 0], [5, 5, 5]], atol=1e-6)
    assert nearest.distance == pytest.approx([0.4, 5, 1])
