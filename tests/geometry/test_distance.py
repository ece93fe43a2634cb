from __future__ import annotations

import functools

import numpy as np
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from scenegen.geometry.distance import Distances, distances

MIDDLE = np.array([1.0, 2, 3])


@functools.cache
def ball_distances() -> Distances:
    ball = trimesh.creation.icosphere(4, radius=0.5)
    return distances(ball.vertices + MIDDLE, ball.faces.astype(np.int32))


def test_distances_are_those_of_the_ball() -> None:
    found = ball_distances()
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (500, 3))
    true = np.linalg.norm(points, axis=1) - 0.5
    assert np.abs(found.at(points + MIDDLE) - true).max() < 0.02


@given(st.tuples(*[st.floats(-3, 3)] * 3))
def test_distances_keep_growing_beyond_the_grid(point: tuple[float, float, float]) -> None:
    true = float(np.linalg.norm(point)) - 0.5
    found = float(ball_distances().at(np.array([point]) + MIDDLE)[0])
    assert true - 0.02 <= found <= 1.42 * max(true, 0) + 0.03


def test_the_hollow_of_a_ring_is_outside() -> None:
    ring = trimesh.creation.torus(1.0, 0.3)
    found = distances(ring.vertices, ring.faces.astype(np.int32))
    np.testing.assert_allclose(found.at(np.array([[0.0, 0, 0], [1, 0, 0]])), [0.7, -0.3], atol=0.04)
