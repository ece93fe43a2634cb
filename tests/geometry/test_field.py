"""Fields on the cube, on closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scenegen.camera import project
from scenegen.errors import InputError
from scenegen.geometry.field import (
    Field,
    cell_centres,
    cube_edge,
    metric_crop_from_latent,
    placed,
    surface,
)
from scenegen.geometry.solid import is_closed, volume
from tests.geometry.views import CENTRE, RADIUS, SIDE, WALL, sphere_view


def ball(resolution: int, radius: float = 0.3, centre: tuple[float, float, float] = (0.05, -0.1, 0.02)) -> Field:
    return Field((np.linalg.norm(cell_centres(resolution) - np.float32(centre), axis=-1) - radius).astype(np.float32))


def test_the_surface_of_a_ball_is_closed_turned_outwards_and_in_its_place() -> None:
    vertices, faces = surface(ball(48))
    assert is_closed(faces)
    assert volume(vertices, faces) == pytest.approx(4 / 3 * np.pi * 0.3**3, rel=0.01)
    np.testing.assert_allclose(np.linalg.norm(vertices - [0.05, -0.1, 0.02], axis=1), 0.3, atol=1e-3)


def test_a_body_that_leaves_the_cube_is_closed_at_its_faces() -> None:
    vertices, faces = surface(ball(32, centre=(0.4, 0, 0)))
    assert is_closed(faces)
    assert vertices[:, 0].max() <= 0.5 + 0.5 / 32


def test_a_linear_field_is_looked_up_exactly_between_the_centres() -> None:
    slope = np.array([0.3, -0.2, 0.5], np.float32)
    points = np.random.default_rng(0).uniform(-0.4, 0.4, (50, 3))
    np.testing.assert_allclose(Field(cell_centres(16) @ slope).at(points), points @ slope, atol=1e-6)


def test_nothing_inside_is_an_error_that_says_so() -> None:
    with pytest.raises(InputError, match="no inside"):
        surface(Field(np.ones((8, 8, 8), np.float32)))


def test_the_cube_fills_the_crop_and_holds_the_object() -> None:
    view = sphere_view()
    edge = cube_edge(view)
    matrix = metric_crop_from_latent(view, edge)
    corner = placed(np.array([[0.5, -0.5, 0.0]], np.float32), matrix)  # right and down, in the centre plane
    np.testing.assert_allclose(project(view.crop.intrinsics, corner.astype(float)), [[SIDE, SIDE]], atol=1e-3)
    seen = view.mask > 0.5
    latent_z = matrix[2, 3] / edge - view.depth[seen] / edge
    assert latent_z.max() <= 0.5
    assert CENTRE[2] + RADIUS < matrix[2, 3] + edge / 2


def test_a_view_without_depth_is_refused() -> None:
    view = sphere_view()
    with pytest.raises(InputError, match="depth"):
        cube_edge(replace(view, depth=np.zeros_like(view.depth)))
    assert view.depth.max() == WALL
