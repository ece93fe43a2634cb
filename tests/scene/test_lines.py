"""What lines tell of a camera, against cameras that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.camera import intrinsics_from_fov, project
from scenegen.errors import UsageError
from scenegen.scene.lines import fov_by_horizon, fov_by_lengths, gravity_along, gravity_below

WIDTH, HEIGHT = 640, 480
FIELDS = st.floats(30, 100)
PITCHES = st.floats(5, 40)
ROLLS = st.floats(-20, 20)


def down_of(pitch_deg: float, roll_deg: float) -> np.ndarray:
    """Gravity in the frame of a camera that looks down by a pitch and is rolled."""
    pitch, roll = np.radians([pitch_deg, roll_deg])
    return np.array([np.sin(roll) * np.cos(pitch), np.cos(roll) * np.cos(pitch), np.sin(pitch)])


def seen(points: list[np.ndarray], fov: float) -> np.ndarray:
    return project(intrinsics_from_fov(WIDTH, HEIGHT, fov), np.stack(points))


@settings(max_examples=20)
@given(FIELDS, PITCHES, ROLLS, st.floats(-8, 8), st.floats(-8, 8))
def test_two_vertical_edges_are_gravity(fov: float, pitch: float, roll: float, off: float, other: float) -> None:
    down, camera = down_of(pitch, roll), intrinsics_from_fov(WIDTH, HEIGHT, fov)
    edges = [seen([foot, foot - 0.5 * down], fov) for foot in (np.array([-0.8, 0.4, 3.0]), np.array([0.9, 0.3, 2.5]))]
    estimate = down_of(pitch + off, roll + other)
    assert gravity_along(edges, camera, estimate) @ down == pytest.approx(1, abs=1e-3)
    # One edge brings gravity into its plane, and changes nothing else.
    found = gravity_along(edges[:1], camera, estimate)
    assert np.cross(*(np.append((end - [320, 240]) / camera.fx, 1) for end in edges[0])) @ found == pytest.approx(
        0, abs=1e-3
    )
    assert found @ down >= estimate @ down - 1e-3


def test_edges_that_are_square_to_each_other_are_not_both_vertical() -> None:
    camera = intrinsics_from_fov(WIDTH, HEIGHT, 60)
    edges = [np.array(ends, float) for ends in (((0, 0), (640, 10)), ((300, 0), (330, 480)), ((0, 480), (500, 0)))]
    with pytest.raises(UsageError, match="cannot all be vertical"):
        gravity_along(edges, camera, np.array([0.0, 1.0, 0.0]))
    with pytest.raises(UsageError, match="begins where it ends"):
        gravity_along([np.array([[5.0, 5.0], [5.0, 5.0]])], camera, np.array([0.0, 1.0, 0.0]))


@settings(max_examples=20)
@given(FIELDS, PITCHES, ROLLS)
def test_the_horizon_is_gravity_and_field_of_view(fov: float, pitch: float, roll: float) -> None:
    down = down_of(pitch, roll)
    level = np.cross(down, [0, 0, 1.0])
    ahead = np.cross(level, down)
    camera = intrinsics_from_fov(WIDTH, HEIGHT, fov)
    horizon = seen([ahead + 0.2 * level, ahead - 0.2 * level], fov)
    assert gravity_below(horizon, camera) @ down == pytest.approx(1)
    assert fov_by_horizon(horizon, intrinsics_from_fov(WIDTH, HEIGHT, 50), down) == pytest.approx(fov)
    # Whichever end was drawn first.
    assert fov_by_horizon(horizon[::-1], camera, down) == pytest.approx(fov)


@pytest.mark.parametrize("pitch", [0.5, -10])
def test_a_level_camera_or_the_wrong_side_tells_no_field_of_view(pitch: float) -> None:
    with pytest.raises(UsageError, match="does not tell the field of view"):
        fov_by_horizon(np.array([[0, 100.0], [640, 100]]), intrinsics_from_fov(WIDTH, HEIGHT, 50), down_of(pitch, 0))


@settings(max_examples=20)
@given(FIELDS, st.floats(0.3, 3))
def test_two_lengths_are_the_field_of_view(fov: float, unit: float) -> None:
    away = [np.array([-0.2, 0.5, 2.0]), np.array([0.1, 0.4, 3.5])]
    across = [np.array([-0.6, 0.3, 2.2]), np.array([0.7, 0.3, 2.4])]
    ends = np.stack([seen(away, fov), seen(across, fov)])
    depths = unit * np.array([[point[2] for point in line] for line in (away, across)])
    metres = np.array([np.linalg.norm(line[1] - line[0]) for line in (away, across)])
    assert fov_by_lengths(ends, depths, metres, intrinsics_from_fov(WIDTH, HEIGHT, 70)) == pytest.approx(fov, rel=0.01)


def test_lengths_that_tell_nothing_say_so() -> None:
    ends = np.array([[[100.0, 100], [300, 100]], [[100, 300], [300, 300]]])
    camera = intrinsics_from_fov(WIDTH, HEIGHT, 50)
    with pytest.raises(UsageError, match="do not tell"):
        fov_by_lengths(ends, np.full((2, 2), 2.0), np.array([1.0, 1.0]), camera)
    with pytest.raises(UsageError, match="no field of view"):
        fov_by_lengths(ends, np.array([[2.0, 4.0], [2.0, 2.0]]), np.array([1.0, 50.0]), camera)
