"""A solid on a grid is made whole: one piece for each part of the mask, no tunnels, nothing hollow."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from scenegen.geometry.field import Field, cell_centres, surface
from scenegen.geometry.pieces import closing, whole
from scenegen.geometry.solid import topology, volume
from scenegen.records import Topology

R = 32
CELLS = cell_centres(R)
NOWHERE = np.zeros(3 * (R,), bool)
EVERYWHERE = ~NOWHERE


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    return (np.linalg.norm(CELLS - np.float32(centre), axis=-1) - radius).astype(np.float32)


def box(low: tuple[float, float, float], high: tuple[float, float, float]) -> np.ndarray:
    return np.maximum(np.float32(low) - CELLS, CELLS - np.float32(high)).max(axis=-1)


def parts_of(*solids: np.ndarray) -> np.ndarray:
    return sum(
        ((solid < 0) * (number + 1) for number, solid in enumerate(solids)), np.zeros(CELLS.shape[:3], int)
    ).astype(np.int32)


@given(seed=st.integers(0, 2**32 - 1), radius=st.integers(1, 3), share=st.floats(0.01, 0.6))
@settings(max_examples=20, deadline=None)
def test_the_closing_is_that_with_a_ball(seed: int, radius: int, share: float) -> None:
    solid = np.random.default_rng(seed).random((10, 10, 10)) < share
    element = (np.indices(3 * (2 * radius + 1,)) - radius) ** 2
    expected = ndimage.binary_closing(np.pad(solid, radius), element.sum(axis=0) <= radius**2)
    np.testing.assert_array_equal(closing(solid, radius), expected[3 * (slice(radius, -radius),)])


def test_crumbs_and_unseen_pieces_become_outside() -> None:
    body, arm, chip, ghost = (
        ball((0.1, 0, 0), 0.25),
        ball((-0.3, -0.3, 0), 0.12),
        ball((0.4, 0.4, 0), 0.04),
        ball((-0.3, 0.3, 0), 0.15),
    )
    value = np.minimum.reduce([body, arm, chip, ghost])
    part = parts_of(body, arm)
    part[chip < 0] = 1
    made = whole(value, part, NOWHERE, NOWHERE)
    np.testing.assert_array_equal(made < 0, (body < 0) | (arm < 0))
    unseen = whole(value, np.zeros_like(part), NOWHERE, NOWHERE)
    np.testing.assert_array_equal(unseen < 0, body < 0)


def test_two_parts_may_share_a_piece_behind_what_hides_it() -> None:
    bar = box((-0.4, -0.1, -0.1), (0.4, 0.1, 0.1))
    part = np.where(bar < 0, np.where(CELLS[..., 0] < 0, 1, 2), 0).astype(np.int32)
    np.testing.assert_array_equal(whole(bar, part, NOWHERE, NOWHERE), whole(bar, parts_of(bar), NOWHERE, NOWHERE))


def test_a_part_too_small_has_no_piece() -> None:
    body, speck = ball((0.05, 0, 0), 0.38), ball((-0.44, 0.44, 0), 0.04)
    made = whole(np.minimum(body, speck), parts_of(body, speck), NOWHERE, NOWHERE)
    np.testing.assert_array_equal(made < 0, body < 0)


def test_steps_join_pieces_and_are_left_open_elsewhere() -> None:
    near, far = box((-0.3, -0.2, 0.1), (0, 0.2, 0.2)), box((0, -0.2, -0.3), (0.3, 0.2, -0.2))
    riser = (box((-0.05, -0.2, -0.3), (0.001, 0.2, 0.2)) < 0) & (near >= 0) & (far >= 0)
    fin = box((0.2, -0.1, -0.1), (0.25, 0.1, 0)) < 0
    both = np.minimum(near, far)
    made = whole(both, np.where(both < 0, 1, 0).astype(np.int32), NOWHERE | riser | fin, riser | fin)
    np.testing.assert_array_equal(made < 0, (both < 0) | riser)
    vertices, faces = surface(Field(made))
    assert topology(vertices, faces) == Topology(closed=True, pieces=1, genus=0)


def test_a_narrow_tunnel_is_closed_and_a_handle_is_not() -> None:
    block = box((-0.3, -0.3, -0.1), (0.3, 0.3, 0.1))

    def drilled(radius: float) -> np.ndarray:
        return np.maximum(block, radius - np.linalg.norm(CELLS[..., :2], axis=-1)).astype(np.float32)

    for radius, genus in ((1.5 / R, 0), (5 / R, 1)):
        value = drilled(radius)
        made = whole(value, parts_of(value), EVERYWHERE, NOWHERE)
        assert topology(*surface(Field(made))) == Topology(closed=True, pieces=1, genus=genus)
        kept = whole(value, parts_of(value), NOWHERE, NOWHERE)
        assert topology(*surface(Field(kept))).genus == 1


def test_what_is_enclosed_is_filled_and_what_is_open_is_not() -> None:
    radius = np.linalg.norm(CELLS, axis=-1)
    shell = (np.abs(radius - 0.3) - 0.08).astype(np.float32)
    np.testing.assert_array_equal(whole(shell, parts_of(shell), NOWHERE, NOWHERE) < 0, radius < 0.38)
    mouth = (np.abs(CELLS[..., 0]) < 0.08) & (np.abs(CELLS[..., 1]) < 0.08) & (CELLS[..., 2] > 0)
    cup = np.where(mouth, 0.05, shell).astype(np.float32)
    np.testing.assert_array_equal(whole(cup, parts_of(cup), NOWHERE, NOWHERE), cup)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(-0.6, 0.6))
def test_any_field_becomes_closed_pieces_one_for_each_part(seed: int, bias: float) -> None:
    """Noise has every ambiguous cell, values at 0 included."""
    rng = np.random.default_rng(seed)
    value = np.round(ndimage.gaussian_filter(rng.standard_normal((14, 14, 14)), 0.6) + bias * 0.3, 1).astype(np.float32)
    if not (value < 0).any():
        return
    part = np.where(value < 0, 1, 0).astype(np.int32)
    vertices, faces = surface(Field(whole(value, part, rng.random(value.shape) < 0.5, NOWHERE[:14, :14, :14])))
    found = topology(vertices, faces)
    assert found.closed
    assert found.pieces == 1
    assert len(np.unique(vertices, axis=0)) == len(vertices)
    assert volume(vertices, faces) > 0
