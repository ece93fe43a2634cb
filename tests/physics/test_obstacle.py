"""Surfaces of the background as slabs."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from scenegen.physics.body import Hull
from scenegen.physics.obstacle import MOST_SLABS, THICK_M, obstacles

EYE = np.array([0.0, 1.0, 3.0])


def grid(depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A surface over a square of 2 m, its height over the plane z = -2 given on a grid."""
    side = len(depth)
    x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(0, 2, side))
    vertices = np.stack([x, y, depth - 2], axis=-1).reshape(-1, 3).astype(np.float32)
    first = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    faces = np.concatenate(
        [np.stack([first, first + 1, first + side + 1], 1), np.stack([first, first + side + 1, first + side], 1)]
    )
    return vertices, faces.astype(np.int32)


def holds(slabs: tuple[Hull, ...], points: np.ndarray) -> np.ndarray:
    return np.any([trimesh.Trimesh(slab.vertices, slab.faces).contains(points) for slab in slabs], axis=0)


def test_a_wall_is_one_slab_behind_it() -> None:
    vertices, faces = grid(np.zeros((9, 9)))
    (slab,) = obstacles(vertices, faces, EYE)
    assert slab.vertices[:, 2].max() == pytest.approx(-2, abs=1e-6)
    assert slab.vertices[:, 2].min() > -2 - THICK_M - 1e-6


def test_an_opening_of_a_wall_stays_open() -> None:
    vertices, faces = grid(np.zeros((17, 17)))
    middle = vertices[faces].mean(axis=1)
    door = (np.abs(middle[:, 0]) < 0.5) & (middle[:, 1] < 1.5)
    slabs = obstacles(vertices, faces[~door], EYE)
    assert 2 <= len(slabs) <= MOST_SLABS
    there = middle[~door] - [0, 0, THICK_M / 3]
    assert holds(slabs, there).all()
    inside = middle[(np.abs(middle[:, 0]) < 0.4) & (middle[:, 1] < 1.3)] - [0, 0, THICK_M / 3]
    assert holds(slabs, inside).mean() < 0.1


def test_a_relief_is_followed_by_slabs() -> None:
    side = np.linspace(0, np.pi, 25)
    depth = 0.3 * np.sin(side)[None, :] * np.sin(side)[:, None]
    vertices, faces = grid(depth)
    slabs = obstacles(vertices, faces, EYE)
    assert 4 <= len(slabs) <= MOST_SLABS
    away = vertices - EYE
    away /= np.linalg.norm(away, axis=1)[:, None]
    assert holds(slabs, vertices[faces].mean(axis=1) + 0.5 * THICK_M * away[faces].mean(axis=1)).mean() > 0.95
    assert not holds(slabs, vertices - 0.05 * away).any()
