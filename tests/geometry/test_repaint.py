"""What an object looks like, from a picture of the user's."""

from __future__ import annotations

import numpy as np
import pytest

from scenegen.geometry.repaint import enlargement, repainted

RED, BLUE = (200, 10, 20), (10, 20, 200)


@pytest.fixture
def mask() -> np.ndarray:
    """Of an object at rows 4 to 11 and columns 2 to 13."""
    found = np.zeros((16, 16), np.float32)
    found[4:12, 2:14] = 1
    return found


@pytest.mark.parametrize("size", [(4, 6), (8, 12), (80, 120)])
def test_what_a_picture_shows_fills_the_box_of_the_object(mask: np.ndarray, size: tuple[int, int]) -> None:
    picture = np.full((*size, 3), RED, np.uint8)
    picture[:, size[1] // 2 :] = BLUE
    image = np.full((16, 16, 3), 90, np.uint8)
    made = repainted(image, mask, picture)
    assert (made[mask == 0] == 90).all()
    assert (made[4:12, 2:7] == RED).all()
    assert (made[4:12, 9:14] == BLUE).all()
    assert (image == 90).all()


def test_transparent_borders_do_not_count_and_transparent_holes_have_the_nearest_colour(mask: np.ndarray) -> None:
    picture = np.zeros((20, 30, 4), np.uint8)
    picture[6:14, 9:21] = (*RED, 255)
    picture[9, 14] = (0, 255, 0, 0)
    made = repainted(np.zeros((16, 16, 3), np.uint8), mask, picture)
    assert (made[mask == 1] == RED).all()
    # A picture of which nothing shows is taken as it is.
    empty = np.full((5, 5, 4), (*BLUE, 0), np.uint8)
    assert (repainted(np.zeros((16, 16, 3), np.uint8), mask, empty)[mask == 1] == BLUE).all()


def test_a_part_of_a_pixel_is_mixed(mask: np.ndarray) -> None:
    made = repainted(np.full((16, 16, 3), 100, np.uint8), mask / 2, np.full((3, 3, 3), 200, np.uint8))
    assert (made[mask == 1] == 150).all()


def test_a_finer_picture_enlarges_the_crop(mask: np.ndarray) -> None:
    assert [enlargement(np.zeros((side, 12, 3), np.uint8), mask > 0) for side in (8, 24, 120)] == [1, 2, 10]
