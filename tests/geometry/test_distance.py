from __future__ import annotations

import numpy as np
import trimesh

from scenegen.geometry.distance import distances

MIDDLE = np.array([1.0, 2, 3])


def test_distances_are_those_of_the_ball() -> None:
    ball = trimesh.creation.icosphere(4, radius=0.5)
    found = distances(ball.vertices + MIDDLE, ball.faces.astype(np.int32))
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (500, 3))
    true = np.linalg.norm(points, axis=1) - 0.5
    assert np.abs(found.at(points + MIDDLE) - true).max() < 0.02


def test_the_hollow_of_a_ring_is_outside() -> None:
    ring = trimesh.creation.torus(1.0, 0.3)
    found = distances(ring.vertices, ring.faces.astype(np.int32))
    np.testing.assert_allclose(found.at(np.array([[0.0, 0, 0], [1, 0, 0]])), [0.7, -0.3], atol=0.04)
