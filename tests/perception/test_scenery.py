"""Walls are told from things by the sides of the picture that they reach."""

from __future__ import annotations

import numpy as np
import pytest

from scenegen.perception.scenery import is_scenery

ROWS, COLUMNS = np.indices((60, 80))


@pytest.mark.parametrize(
    ("mask", "scenery"),
    [
        ((ROWS < 40) & ~((ROWS > 20) & (np.abs(COLUMNS - 40) < 20)), True),  # a wall behind something
        (ROWS >= 0, False),  # a thing that fills the picture
        (ROWS > 30, False),  # a table cut by the picture
        ((ROWS < 40) & (COLUMNS > 10), False),  # a tree at one side
        (np.hypot(ROWS - 30, COLUMNS - 40) < 20, False),
        (ROWS < 0, False),
    ],
)
def test_only_what_spans_the_picture_from_side_to_side_below_its_top_is_scenery(
    mask: np.ndarray, scenery: bool
) -> None:
    assert is_scenery(mask) == scenery
