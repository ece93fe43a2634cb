"""Pictures of an object anywhere in the cameras' world, framed about it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.camera import GLTF_CAMERA_FROM_CAMERA, rays, transform
from scenegen.errors import InputError
from scenegen.pixal3d.framing import MARGIN, framed
from scenegen.pixal3d.projection import focal_pixels
from scenegen.pixal3d.views import View, check_cut_out
from scenegen.records import Intrinsics

SIZE = 96


def looking(place: np.ndarray, at: np.ndarray) -> np.ndarray:
    """World from an OpenGL camera, upright in a Z-up world."""
    back = (place - at) / np.linalg.norm(place - at)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(back, right), back], axis=1)
    pose[:3, 3] = place
    return pose


def ball_view(centre: np.ndarray, radius: float, pose: np.ndarray, fov: float, size: int = SIZE) -> View:
    focal = focal_pixels(fov, size)
    camera = Intrinsics(width=size, height=size, fx=focal, fy=focal, cx=size / 2, cy=size / 2)
    direction = rays(camera)
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    mine = transform(GLTF_CAMERA_FROM_CAMERA @ np.linalg.inv(pose), centre)
    inside = (direction @ mine > 0) & (mine @ mine - (direction @ mine) ** 2 < radius**2)
    return View(np.dstack([np.full((size, size, 3), 90), 255 * inside]).astype(np.uint8), pose, fov)


def around(centre: np.ndarray, radius: float, angles: list[float], off: float = 0.0) -> list[View]:
    """Views from cameras at some height around the ball, looking `off` of its radii beside it."""
    views = []
    for number, angle in enumerate(angles):
        place = centre + radius * np.array([6 * np.cos(angle), 6 * np.sin(angle), 1.5 + number])
        aim = centre + off * radius * np.array([np.sin(angle), -np.cos(angle), 0.3])
        views.append(ball_view(centre, radius, looking(place, aim), 0.7 + 0.1 * number))
    return views


@settings(max_examples=10, deadline=None)
@given(
    st.tuples(*3 * (st.floats(-5, 5),)),
    st.floats(0.05, 4),
    st.lists(st.integers(0, 11), min_size=2, max_size=4, unique=True),
    st.floats(-0.5, 0.5),
)
def test_a_ball_is_found_where_it_is(place: tuple[float, ...], radius: float, hours: list[int], off: float) -> None:
    centre = np.array(place)
    angles = [hour * np.pi / 6 for hour in hours]
    if len(angles) == 2 and abs(hours[0] - hours[1]) == 6:
        angles[1] += 0.6  # from opposite sides nothing bounds it along the axis but its outline
    found = framed(around(centre, radius, angles, off))
    edge = 1 / found.mesh_scale
    assert np.linalg.norm(found.world_from_framed[:3, 3] - centre) < 1.2 * radius
    assert 1.9 * radius < edge < 6 * radius
    for view in found.views:
        mine = transform(GLTF_CAMERA_FROM_CAMERA @ np.linalg.inv(view.world_from_camera), np.zeros(3))
        np.testing.assert_allclose(mine[:2], 0, atol=1e-9 * edge + 1e-9)  # every camera looks at the middle
        assert 2 * np.tan(view.fov / 2) * mine[2] == pytest.approx(MARGIN * edge)


def test_from_all_sides_the_cube_fits_and_the_pictures_are_exact() -> None:
    centre, radius = np.array([1.0, -2.0, 0.5]), 0.8
    given_views = around(centre, radius, [0.3, 1.9, 3.5, 5.1], off=0.4)
    found = framed(given_views)
    np.testing.assert_allclose(found.world_from_framed[:3, 3], centre, atol=0.06 * radius)
    assert 1 / found.mesh_scale == pytest.approx(2 * radius, rel=0.12)
    for view in found.views:
        true = ball_view(
            centre - found.world_from_framed[:3, 3], radius, view.world_from_camera, view.fov, len(view.picture)
        )
        apart = (view.picture[..., 3] >= 128) ^ (true.picture[..., 3] >= 128)
        assert apart.mean() < 0.02  # the outline, from pixels twice as large
        assert (view.picture[view.picture[..., 3] > 200][:, :3] == 90).all()


def test_what_is_hidden_bounds_nothing() -> None:
    centre, radius = np.zeros(3), 1.0
    views = around(centre, radius, [0.3, 1.9, 3.5])
    columns = np.arange(SIZE) < SIZE // 2
    cut = views[1].picture.copy()
    cut[:, columns, 3] = 0
    before = np.broadcast_to(columns, (SIZE, SIZE))
    half = framed([views[0], replace(views[1], picture=cut), views[2]])
    whole = framed([views[0], replace(views[1], picture=cut, hidden=before), views[2]])
    assert 1 / whole.mesh_scale > 1.05 / half.mesh_scale or np.linalg.norm(half.world_from_framed[:3, 3]) > 0.2
    assert np.linalg.norm(whole.world_from_framed[:3, 3]) < 0.2


def test_views_of_different_things_have_no_place_in_common() -> None:
    first, second, third = around(np.zeros(3), 1.0, [0.0, 1.6, 3.0])
    elsewhere = ball_view(np.array([0.0, 0.0, 3.0]), 0.5, second.world_from_camera, 1.2)
    with pytest.raises(InputError, match="no place is inside the object's outlines"):
        framed([first, elsewhere, third])


def test_a_camera_that_looks_away_is_named() -> None:
    first, second = around(np.zeros(3), 1.0, [0.0, 1.6])
    back = second.world_from_camera @ np.diag([-1.0, 1, -1, 1])
    with pytest.raises(InputError, match=r"`views`\[1\] looks away"):
        framed([first, replace(second, world_from_camera=back)])


@pytest.mark.parametrize(("alpha", "message"), [(255, r"`views`\[1\] is opaque"), (0, r"`views`\[1\] shows nothing")])
def test_pictures_that_cut_nothing_out_are_refused(alpha: int, message: str) -> None:
    first, second = around(np.zeros(3), 1.0, [0.0, 1.6])
    picture = second.picture.copy()
    picture[..., 3] = alpha
    with pytest.raises(InputError, match=message):
        check_cut_out([first, replace(second, picture=picture)])
