from __future__ import annotations

import numpy as np

from scenegen.geometry.exemplar import continued_texture

HEIGHT, WIDTH = 96, 128
HOLE = np.zeros((HEIGHT, WIDTH), dtype=bool)
HOLE[30:66, 44:84] = True
EVERYWHERE = np.ones_like(HOLE)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2).astype(np.uint8)


def stripes() -> np.ndarray:
    """Upright stripes, 8 pixels from one to the next."""
    return grey(np.broadcast_to(128 + 80 * np.sin(np.arange(WIDTH) * 2 * np.pi / 8), (HEIGHT, WIDTH)))


def test_a_pattern_goes_on_behind_what_hides_it() -> None:
    pattern = stripes()
    made = continued_texture(np.where(HOLE[..., None], 255, pattern).astype(np.uint8), ~HOLE, EVERYWHERE)
    error = np.abs(made[HOLE].astype(float) - pattern[HOLE])
    assert np.median(error) < 0.3 * np.abs(pattern[HOLE].astype(float) - 128).mean()
    np.testing.assert_array_equal(made[~HOLE], pattern[~HOLE])


def test_where_it_is_not_wanted_there_is_no_texture() -> None:
    made = continued_texture(stripes(), ~HOLE, np.zeros_like(HOLE))
    inner = made[40:56, 54:74]
    assert np.ptp(inner.astype(int)) < 30


def test_the_rim_of_what_hides_a_wall_does_not_run_into_it() -> None:
    wall = grey(np.full((HEIGHT, WIDTH), 200))
    wall[28:30, 44:84] = wall[66:68, 44:84] = 10
    made = continued_texture(wall, ~HOLE, EVERYWHERE)
    assert made[HOLE].min() > 180


def test_one_colour_stays_one_and_too_little_that_is_seen_is_no_texture() -> None:
    picture = np.full((HEIGHT, WIDTH, 3), (10, 90, 200), np.uint8)
    speck = np.zeros_like(HOLE)
    speck[:2, :3] = True
    for known in (~HOLE, speck):
        made = continued_texture(np.where(known[..., None], picture, 255).astype(np.uint8), known, EVERYWHERE)
        assert np.abs(made.astype(int) - picture).max() <= 1


def test_nothing_known_or_nothing_hidden_changes_nothing() -> None:
    picture = stripes()
    for known in (EVERYWHERE, np.zeros_like(HOLE)):
        np.testing.assert_array_equal(continued_texture(picture, known, EVERYWHERE), picture)


def test_the_same_picture_is_filled_in_the_same_way() -> None:
    picture = np.random.default_rng(4).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    first, second = (continued_texture(picture, ~HOLE, EVERYWHERE) for _ in range(2))
    np.testing.assert_array_equal(first, second)
