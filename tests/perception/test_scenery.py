"""Walls are told from things by what is before what."""

from __future__ import annotations

import numpy as np
import pytest

from scenegen.perception.scenery import is_scenery

HEIGHT, WIDTH = 60, 80


def before_a_wall(nearer: float) -> tuple[np.ndarray, np.ndarray]:
    """The mask of a wall, and the logarithm of the depth of it, of the ground below and of a box before both."""
    v, u = np.indices((HEIGHT, WIDTH))
    ground = v > 40
    box = (v > 20) & (v < 50) & (u > 25) & (u < 60)
    depth = np.where(ground, -0.02 * (v - 40), 0.0)
    return ~ground & ~box, np.where(box, -nearer, depth).astype(np.float32)


def test_a_wall_behind_things_is_scenery_and_the_things_are_not() -> None:
    wall, depth = before_a_wall(0.4)
    assert is_scenery(wall, depth)
    _, box = before_a_wall(0.4)
    assert not is_scenery(box == np.float32(-0.4), depth)


@pytest.mark.parametrize("turned", range(4))
def test_it_does_not_matter_which_side_is_up(turned: int) -> None:
    wall, depth = before_a_wall(0.4)
    assert is_scenery(np.rot90(wall, turned).copy(), np.rot90(depth, turned).copy())


def test_a_thing_that_fills_the_picture_is_none() -> None:
    """A sofa cut by three sides of the picture stands before what is around it; so does what fills everything."""
    wall, depth = before_a_wall(0.4)
    assert not is_scenery(wall, -depth)
    assert not is_scenery(np.ones_like(wall), depth)
    assert not is_scenery(np.zeros_like(wall), depth)


def test_at_one_depth_nothing_is_behind() -> None:
    wall, depth = before_a_wall(0.4)
    assert not is_scenery(wall, np.zeros_like(depth))
