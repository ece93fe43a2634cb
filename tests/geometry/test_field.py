"""Fields on the cube, on closed forms."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from scenegen.camera import project
from scenegen.errors import InputError
from scenegen.geometry.field import (
    DEEPEST,
    Field,
    SeenCells,
    cell_centres,
    cube_edge,
    metric_crop_from_latent,
    nearest_depth,
    placed,
    surface,
    within_cube,
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


def test_a_finer_grid_is_what_cubic_splines_give_at_its_centres() -> None:
    values = np.random.default_rng(0).normal(size=(9, 9, 9)).astype(np.float32)
    place = np.moveaxis((cell_centres(20) + 0.5) * 9 - 0.5, -1, 0)
    expected = ndimage.map_coordinates(values, place, order=3, mode="nearest")
    np.testing.assert_allclose(Field(values).resampled(20), expected, atol=1e-5)


def test_the_cells_are_looked_up_between_pixels_and_past_the_border() -> None:
    cells = SeenCells(np.zeros((5, 3)), np.array([1.25, -3, 2, 7, 3]), np.array([0.5, 2, 2.75, 9, 1]))
    rows, columns = np.mgrid[:6, :6]
    np.testing.assert_allclose(cells.at(rows + 10.0 * columns), [6.25, 20, 29.5, 55, 13], atol=0.02)
    np.testing.assert_array_equal(cells.at(rows + 10.0 * columns, cv2.INTER_NEAREST)[1:], [20, 32, 55, 13])


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


def test_relief_that_the_cube_holds_is_left_alone() -> None:
    view = sphere_view()
    assert within_cube(view) is view


@given(st.floats(5, 30))
def test_relief_beyond_the_cube_is_flattened_and_keeps_its_order(stretch: float) -> None:
    view = sphere_view()
    inside = (view.mask > 0.5) & (view.depth > 0)
    near = float(view.depth[inside].min())
    deep = replace(view, depth=np.where(inside, near + stretch * (view.depth - near), view.depth).astype(np.float32))
    flat = within_cube(deep)
    reach = (np.percentile(flat.depth[inside], 97) - nearest_depth(flat)) / cube_edge(flat)
    assert reach == pytest.approx(DEEPEST, abs=0.01)
    np.testing.assert_array_equal(flat.depth[~inside], deep.depth[~inside])
    order = np.argsort(deep.depth[inside])
    assert (np.diff(flat.depth[inside][order]) >= 0).all()
