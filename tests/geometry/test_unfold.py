from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scenegen.geometry.unfold import unfolded

SIZE = 160
Y, X = np.mgrid[:SIZE, :SIZE] + 0.5
DISC = np.hypot(X - SIZE / 2, Y - SIZE / 2) < 60
BAR = np.abs(X - SIZE / 2) < 12


def on_rim(angle: float) -> np.ndarray:
    return 0.5 + 58 / SIZE * np.array([[np.cos(angle), np.sin(angle)]])


@given(st.floats(0, 6.3))
def test_what_lies_behind_the_rim_is_looked_up_farther_in_the_deeper_it_is(angle: float) -> None:
    behind = np.array([0.0, 0.05, 0.1, 0.2])
    found = unfolded(np.repeat(on_rim(angle), 4, axis=0), behind, DISC)
    radius = np.linalg.norm(found - 0.5, axis=1)
    np.testing.assert_allclose(found[0], on_rim(angle)[0])
    np.testing.assert_allclose(radius[0] - radius[:3], behind[:3] / 2, atol=0.02)
    assert (np.diff(radius) < 0).all()


@given(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1), st.floats(0, 2))
def test_it_is_looked_up_on_the_object(row: int, column: int, behind: float) -> None:
    for inside in (DISC, BAR):
        if inside[row, column]:
            pixel = np.array([[column + 0.5, row + 0.5]]) / SIZE
            x, y = (unfolded(pixel, np.array([behind]), inside)[0] * SIZE).astype(int)
            assert inside[y, x]


def test_a_mask_that_fills_the_picture_has_no_outline_to_unfold_from() -> None:
    pixels = np.random.default_rng(0).random((20, 2))
    np.testing.assert_allclose(unfolded(pixels, np.full(20, 0.3), np.ones((SIZE, SIZE), bool)), pixels)
