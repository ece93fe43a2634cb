"""Level plates below what stands on something."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.physics.seat import THICK_M, seat


def bumpy(seed: int) -> trimesh.Trimesh:
    """A table top of 1 m at a height of about 0.7."""
    made = trimesh.creation.box((1, 0.1, 1)).subdivide().subdivide().subdivide()
    made.apply_translation([0, 0.65, 0])
    top = made.vertices[:, 1] > 0.69
    made.vertices[top, 1] += np.random.default_rng(seed).uniform(-0.01, 0.01, top.sum())
    return made


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.floats(-0.3, 0.3), st.floats(0.69, 0.71))
def test_the_seat_is_where_the_base_is_and_below_it(seed: int, x: float, height: float) -> None:
    cup = trimesh.creation.box((0.2, 0.3, 0.1))
    cup.apply_translation([x, height + 0.15, 0])
    table = bumpy(seed)
    found = seat(cup.vertices, table.vertices, table.faces.astype(np.int32))
    assert found is not None
    low, high = found.vertices.min(axis=0), found.vertices.max(axis=0)
    np.testing.assert_allclose(high, [x + 0.1, height, 0.05], atol=1e-5)
    np.testing.assert_allclose(low, [x - 0.1, height - THICK_M, -0.05], atol=1e-5)


def test_what_is_not_over_it_or_ends_in_a_point_has_no_seat() -> None:
    table = bumpy(0)
    faces = table.faces.astype(np.int32)
    ball = trimesh.creation.icosphere(2, 0.1)
    ball.apply_translation([0, 0.8, 0])
    assert seat(ball.vertices, table.vertices, faces) is None
    cup = trimesh.creation.box((0.2, 0.3, 0.1))
    cup.apply_translation([2, 0.85, 0])
    assert seat(cup.vertices, table.vertices, faces) is None
    cup.apply_translation([-1.5, 0, 0])
    half = seat(cup.vertices, table.vertices, faces)
    assert half is None or half.vertices[:, 0].max() == pytest.approx(0.5, abs=0.1)
