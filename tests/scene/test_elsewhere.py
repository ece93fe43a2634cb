"""Another photo shows what is hidden in this one, where both look at the same surface."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scenegen.camera import intrinsics_from_fov, rays
from scenegen.scene.elsewhere import OtherPhoto, filled_in

CAMERA = intrinsics_from_fov(80, 60, 60)
DISTANCE = 2.0
SHIFT = 0.5
"""Metres by which the other camera stands to the right."""


def wall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The colours of a wall across the view, smooth in metres."""
    red = 120 + 60 * np.sin(2 * x)
    return np.clip(np.stack([red, 140 + 30 * y, 90 + 20 * x], axis=-1), 0, 255)


def photo(shift: float, light: float = 1.0) -> np.ndarray:
    points = DISTANCE * rays(CAMERA)
    return np.round(light * wall(points[..., 0] + shift, points[..., 1])).astype(np.uint8)


def other(light: float = 1.0, distance: float = DISTANCE, hidden: bool = False) -> OtherPhoto:
    camera_from_main = np.eye(4)
    camera_from_main[0, 3] = -SHIFT
    shape = (CAMERA.height, CAMERA.width)
    return OtherPhoto(
        photo(SHIFT, light), np.full(shape, not hidden), np.full(shape, distance), CAMERA, camera_from_main
    )


def filled(beside: OtherPhoto) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The result, what is known then, and what was hidden."""
    hidden = np.zeros((CAMERA.height, CAMERA.width), bool)
    hidden[20:40, 40:60] = True
    image = np.where(hidden[..., None], 0, photo(0)).astype(np.uint8)
    result, known = filled_in(image, ~hidden, np.ones_like(hidden), np.full(hidden.shape, DISTANCE), CAMERA, [beside])
    assert np.array_equal(result[~hidden], image[~hidden])
    return result, known, hidden


@pytest.mark.parametrize("light", [1.0, 0.7])
def test_what_it_shows_comes_in_the_light_of_this_one(light: float) -> None:
    result, known, hidden = filled(other(light))
    assert known[hidden].all()
    assert np.abs(result[hidden].astype(int) - photo(0)[hidden]).mean() < 6


STILL = replace(other(), image=photo(0))
"""It shows the same at the same pixels: the wall stood still before the camera."""


@pytest.mark.parametrize("beside", [other(distance=1.5), other(hidden=True), other(light=0.3), STILL])
def test_what_shows_something_else_is_not_used(beside: OtherPhoto) -> None:
    _, known, hidden = filled(beside)
    assert np.array_equal(known, ~hidden)
