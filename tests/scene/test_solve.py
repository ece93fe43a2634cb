"""Scales of all objects at once, against what is true."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scenegen.geometry.distance import distances
from scenegen.scene.solve import Candidate, Order, gap, overlap, solve_scales

CAMERA_HEIGHT = 1.0


def candidate(mesh: trimesh.Trimesh, scale: float = 1.0, spread: float = 0.1, solid: bool = False) -> Candidate:
    """A mesh in a level camera's frame (y down, the floor at y = 1), of which depth says `scale`."""
    points = np.asarray(mesh.sample(600, seed=0) if len(mesh.vertices) < 600 else mesh.vertices)
    return Candidate(
        scale=scale,
        spread=spread,
        smallest=scale / 1.3,
        largest=scale * 1.3,
        size=float(np.ptp(mesh.vertices, axis=0).max()),
        lowest=float(-mesh.vertices[:, 1].max()),
        on_floor=True,
        supporter=None,
        points=np.concatenate([mesh.vertices, points]),
        solid=distances(mesh.vertices, mesh.faces.astype(np.int32)) if solid else None,
    )


def box(size: tuple[float, float, float], at: tuple[float, float, float]) -> trimesh.Trimesh:
    """`at` is the middle of its base."""
    made = trimesh.creation.box(size)
    made.apply_translation([at[0], at[1] - size[1] / 2, at[2]])
    return made


@given(st.floats(0.8, 1.25))
def test_what_stands_on_the_floor_is_set_down(wrong: float) -> None:
    item = candidate(box((0.3, 0.3, 0.3), (0, 1, 3)), scale=wrong)
    assert solve_scales({1: item}, [], [], CAMERA_HEIGHT)[1] == pytest.approx(1, abs=0.02)


@given(st.floats(0.8, 0.99))
def test_depth_alone_says_where_a_thing_in_the_air_is(scale: float) -> None:
    item = replace(candidate(box((0.3, 0.3, 0.3), (0, 1, 3)), scale=scale), on_floor=False)
    assert solve_scales({1: item}, [], [], CAMERA_HEIGHT)[1] == pytest.approx(scale, rel=1e-3)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.9, 1.1), st.floats(0.9, 1.1))
@example(1.0485, 0.90275)  # so far apart that the cup is beyond the grid around the table
def test_a_stack_is_put_together(table_scale: float, cup_scale: float) -> None:
    table = candidate(box((0.8, 0.4, 0.8), (0, 1, 3)), scale=table_scale, solid=True)
    cup = candidate(box((0.2, 0.2, 0.2), (0, 0.6, 3)), scale=cup_scale, solid=True)
    cup = replace(cup, on_floor=False, supporter=1)
    found = solve_scales({1: table, 2: cup}, [(1, 2)], [], CAMERA_HEIGHT)
    assert found[1] == pytest.approx(1, abs=0.02)
    assert abs(gap(cup, table, found[2], found[1])) < 0.02


def test_things_make_room_for_one_another() -> None:
    near = replace(candidate(box((0.4, 0.4, 0.4), (0, 0.2, 2.0)), solid=True), on_floor=False)
    far = replace(candidate(box((0.4, 0.4, 0.4), (0, 0.2, 2.3)), solid=True), on_floor=False)
    assert overlap(near, far, 1, 1) > 0.05
    found = solve_scales({1: near, 2: far}, [(1, 2)], [], CAMERA_HEIGHT)
    assert overlap(near, far, found[1], found[2]) < 0.02
    assert found[1] < 1 < found[2]


def test_what_is_seen_before_another_stays_before_it() -> None:
    one = replace(candidate(box((0.4, 0.4, 0.4), (0, 0.2, 2.0)), scale=1.1), on_floor=False)
    other = replace(candidate(box((0.4, 0.4, 0.4), (0.5, 0.2, 2.0)), scale=0.95), on_floor=False)
    found = solve_scales({1: one, 2: other}, [], [Order(front=1, behind=2, ratio=1.0)], CAMERA_HEIGHT)
    assert found[1] < 1.1
    assert found[2] > 0.95
    assert found[1] < found[2] * 1.05


def test_a_usual_size_counts_where_depth_is_unsure() -> None:
    item = replace(candidate(box((0.3, 0.3, 0.3), (0, 0, 3)), spread=0.5), on_floor=False, known=(1.25, 1.05))
    assert solve_scales({1: item}, [], [], CAMERA_HEIGHT)[1] == pytest.approx(1.25, abs=0.02)


def test_bounds_are_kept_and_the_result_is_the_same_again() -> None:
    items = {
        number: candidate(box((0.2, 0.2, 0.2), (0.5 * number, 1, 3)), scale=0.6 + 0.05 * number)
        for number in range(1, 6)
    }
    orders = [Order(a, b, 1.0) for a, b in itertools.combinations(items, 2)]
    found = solve_scales(items, [], orders, CAMERA_HEIGHT)
    assert found == solve_scales(items, [], orders, CAMERA_HEIGHT)
    assert all(items[i].smallest <= scale <= items[i].largest for i, scale in found.items())
