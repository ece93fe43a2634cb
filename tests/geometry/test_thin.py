"""Things a few pixels wide keep their outline, and are solids."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.camera import intrinsics_from_fov, rays
from scenegen.errors import InputError
from scenegen.geometry.render import RayCaster
from scenegen.geometry.solid import topology, volume
from scenegen.geometry.thin import is_thin, mean_width, thin_solid
from stages.generate import THIN_CROP, THIN_ENLARGED, object_view

WIDTH, HEIGHT = 320, 240
CAMERA = intrinsics_from_fov(WIDTH, HEIGHT, 60)
UP = np.array([0.0, -1.0, 0.0])
Z = 2.0


def drawn(*points: tuple[int, int], width: int = 2) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.polylines(mask, [np.array(points)], isClosed=False, color=1, thickness=width)
    return mask > 0


def made(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices in the photo's camera frame, and faces."""
    depth = np.full(mask.shape, Z, np.float32)
    image = np.zeros((*mask.shape, 3), np.uint8)
    view = object_view(image, mask, depth, depth, UP, CAMERA, 0.01, THIN_CROP, THIN_ENLARGED)
    shape = thin_solid(view, 8000)
    return shape.vertices @ np.array(view.crop.crop_from_camera), shape.faces


def silhouette(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    directions = rays(CAMERA).reshape(-1, 3)
    hits = RayCaster(vertices, faces).cast(np.zeros_like(directions), directions)
    return np.isfinite(hits.distance).reshape(HEIGHT, WIDTH)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@settings(max_examples=4, deadline=None)
@given(
    st.lists(st.tuples(st.integers(10, WIDTH - 10), st.integers(10, HEIGHT - 10)), min_size=2, max_size=5, unique=True),
    st.integers(2, 4),
)
def test_any_cable_is_a_closed_solid_on_its_pixels(points: list[tuple[int, int]], width: int) -> None:
    mask = drawn(*points, width=width)
    if not is_thin(mask, 96):
        return
    vertices, faces = made(mask)
    assert topology(vertices, faces).closed
    assert volume(vertices, faces) > 0
    assert iou(silhouette(vertices, faces), mask) > 0.9


def test_a_bar_is_about_as_deep_as_wide() -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[40:200, 158:162] = True
    vertices, _ = made(mask)
    width = 4 / CAMERA.fx * Z
    assert np.ptp(vertices[:, 0]) == pytest.approx(width, rel=0.2)
    assert 0.5 * width < np.ptp(vertices[:, 2]) < 1.3 * width
    assert vertices[:, 2].min() == pytest.approx(Z, rel=0.01)


def test_what_is_thin_depends_on_the_grid() -> None:
    bar = np.zeros((200, 200), bool)
    bar[90:96, 10:190] = True
    assert mean_width(bar) == pytest.approx(2 * 6 * 180 / 372)
    assert is_thin(bar, 60)
    assert not is_thin(bar, 1024)
    assert not is_thin(np.zeros((9, 9), bool), 96)
    disc = np.hypot(*np.mgrid[-50:50, -50:50]) < 40
    assert not is_thin(disc, 96)


def test_what_is_left_of_nothing_is_refused() -> None:
    mask = drawn((20, 20), (200, 20))
    view = object_view(
        np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        mask,
        np.zeros((HEIGHT, WIDTH), np.float32),
        mask * 2.0,
        UP,
        CAMERA,
        0.01,
        512,
    )
    with pytest.raises(InputError, match="too small"):
        thin_solid(view, 8000)
