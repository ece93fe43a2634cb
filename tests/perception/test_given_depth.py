"""Depth of any kind comes to the same z-depth, and what is swapped is seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.camera import intrinsics_from_fov, rays
from scenegen.errors import InputError
from scenegen.perception.given_depth import FARTHEST, MIDDLE_M, given_depth, order

WIDTH, HEIGHT = 96, 72
CAMERA = intrinsics_from_fov(WIDTH, HEIGHT, 60)


def scene(tilt: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A floor that rises into the distance, and two discs that stand before it; `tilt` 0 is a wall."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    z = 3 - tilt * 1.5 * v / HEIGHT
    ids = np.zeros((HEIGHT, WIDTH), np.uint16)
    for number, (x, y, r) in enumerate(((30, 40, 12), (70, 30, 10)), start=1):
        disc = np.hypot(u - x, v - y) < r
        ids[disc] = number
        z[disc] = z[disc].min() - 0.2
    return z.astype(np.float32), ids


def test_every_kind_comes_to_the_same_depth() -> None:
    z, ids = scene()
    z[:5] = 0
    inverse = np.divide(1, z, out=np.zeros_like(z), where=z > 0)
    distance = (z * np.linalg.norm(rays(CAMERA), axis=-1)).astype(np.float32)
    for kind, values in (("auto", z), ("z", z), ("inverse", inverse), ("distance", distance)):
        found = given_depth(values, kind, ids, CAMERA)
        np.testing.assert_allclose(found.depth, z, rtol=1e-5)
        assert (found.metric, found.warnings) == (True, ())
    scaled = z * (MIDDLE_M / np.median(z[z > 0]))
    for kind, values in (("disparity", 7 * inverse), ("relative", 0.1 * z)):
        found = given_depth(values, kind, ids, CAMERA)
        np.testing.assert_allclose(found.depth, scaled, rtol=1e-5)
        assert (found.metric, found.any_scale) == (False, True)


def test_values_with_a_shift_span_a_room() -> None:
    values = np.linspace(0, 255, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.float32)
    for kind, nearest in (("disparity", -1), ("relative", 1)):
        z = given_depth(values, kind, np.zeros((HEIGHT, WIDTH), np.uint16), CAMERA).depth.ravel()
        assert z[0] == 0  # unknown
        assert z[1:].max() / z[1:].min() == pytest.approx(FARTHEST, rel=1e-3)
        assert z[nearest] == z[1:].min()


@pytest.mark.parametrize("tilt", [1.0, 0.0])
def test_swapped_depth_is_asked_back_unless_the_user_has_said(tilt: float) -> None:
    z, ids = scene(tilt)
    with pytest.raises(InputError, match=r"near and far look swapped.*--depth-kind disparity"):
        given_depth((1 / z).astype(np.float32), "auto", ids, CAMERA)
    assert "taken as given" in given_depth((1 / z).astype(np.float32), "z", ids, CAMERA).warnings[0]
    assert given_depth(z, "auto", ids, CAMERA).warnings == ()


@settings(max_examples=50, deadline=None)
@given(st.floats(0.05, 20), st.floats(0, 1), st.integers(0, 99))
def test_the_order_does_not_depend_on_the_scale_and_turns_round_with_the_depth(
    scale: float, tilt: float, seed: int
) -> None:
    z, ids = scene(tilt)
    noisy = z + np.random.default_rng(seed).normal(0, 0.01, z.shape).astype(np.float32)
    there, back = order(noisy * np.float32(scale), ids), order((1 / noisy).astype(np.float32), ids)
    assert not there.swapped
    assert back.swapped
    assert there.rows == pytest.approx(-back.rows, abs=1e-3)


def test_nothing_is_said_of_depth_without_relief() -> None:
    flat = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    assert not order(flat, scene()[1]).swapped
    assert order(np.zeros_like(flat), scene()[1]).objects is None
