"""Colliders that keep clear of one another."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from physics.bowls import bowl
from scipy.spatial import ConvexHull

from scenegen.camera import transform
from scenegen.physics.body import Body, Hull, body
from scenegen.physics.clearance import CLEAR_M, Colliders, cleared


@functools.cache
def dish() -> tuple[trimesh.Trimesh, Body]:
    solid = bowl()
    return solid, body(solid.vertices.astype(np.float32), solid.faces.astype(np.int32), 8)


def colliders(
    solid: trimesh.Trimesh,
    at: tuple[float, float, float],
    parts: int = 1,
    solid_there: bool = True,
    fixed: bool = False,
) -> Colliders:
    made = body(solid.vertices.astype(np.float32), solid.faces.astype(np.int32))
    pose = np.eye(4)
    pose[:3, 3] = at
    points = np.concatenate([solid.vertices, solid.triangles_center]) if solid_there else np.zeros((0, 3))
    return Colliders(made.hulls, pose, points, fixed)


def in_world(hulls: tuple[Hull, ...], item: Colliders) -> list[trimesh.Trimesh]:
    return [trimesh.Trimesh(transform(item.world_from_body, each.vertices.astype(float)), each.faces) for each in hulls]


def overlap(first: list[trimesh.Trimesh], second: list[trimesh.Trimesh]) -> float:
    """Volume that the parts of two bodies share."""
    common = [trimesh.boolean.intersection([a, b], engine="manifold") for a in first for b in second]
    return sum(abs(each.volume) for each in common if not each.is_empty)


def depth_inside(points: np.ndarray, solid: trimesh.Trimesh) -> float:
    """Greatest depth of points inside a convex solid; negative if all are outside."""
    equations = ConvexHull(solid.vertices).equations
    return float(-(points @ equations[:, :3].T + equations[:, 3]).max(axis=1).min())


@settings(max_examples=8, deadline=None)
@given(
    st.tuples(st.floats(-0.15, 0.15), st.floats(0.0, 0.2), st.floats(-0.15, 0.15)),
    st.booleans(),
    st.booleans(),
)
def test_nothing_reaches_into_anything_else(at: tuple[float, float, float], one_there: bool, other_there: bool) -> None:
    ball = trimesh.creation.icosphere(2, radius=0.1)
    items = [
        Colliders(dish()[1].hulls, np.eye(4), dish()[0].vertices if one_there else np.zeros((0, 3))),
        colliders(ball, (at[0], 0.1 + at[1], at[2]), other_there),
    ]
    one, other = (in_world(hulls, item) for hulls, item in zip(cleared(items), items, strict=True))
    assert overlap(one, other) < 0.02**2 * 4 * CLEAR_M * len(one)
    assert all(part.is_volume for part in (*one, *other))


def test_what_is_empty_gives_way_and_what_is_there_stays() -> None:
    """A ball in a bowl that collides with its hull: the hull is empty where the ball is."""
    radius = 0.04
    items = [
        colliders(bowl(), (0, 0, 0)),
        colliders(trimesh.creation.icosphere(2, radius=radius), (0, 0.05, 0)),
    ]
    around, ball = cleared(items)
    assert ball == items[1].hulls
    assert overlap(in_world(around, items[0]), in_world(ball, items[1])) < 0.02 * 4 / 3 * np.pi * radius**3


@settings(max_examples=8, deadline=None)
@given(st.tuples(st.floats(-0.15, 0.15), st.floats(0.0, 0.2), st.floats(-0.15, 0.15)), st.booleans())
def test_what_is_kept_stays_and_all_others_give_way(at: tuple[float, float, float], first: bool) -> None:
    ball = colliders(trimesh.creation.icosphere(2, radius=0.1), (at[0], 0.1 + at[1], at[2]))
    kept = Colliders(dish()[1].hulls, np.eye(4), dish()[0].vertices, kept=True)
    items = [kept, ball] if first else [ball, kept]
    found = dict(zip(("kept", "ball") if first else ("ball", "kept"), cleared(items), strict=True))
    assert all(one is other for one, other in zip(found["kept"], kept.hulls, strict=True))
    if found["ball"] != ball.hulls:
        weights = np.random.default_rng(0).dirichlet(np.full(8, 0.3), 300)
        for piece in in_world(found["ball"], ball):
            corners = np.random.default_rng(1).choice(piece.vertices, (300, 8))
            points = np.concatenate([piece.vertices, np.einsum("nk,nkd->nd", weights, corners)])
            assert max(depth_inside(points, solid) for solid in in_world(found["kept"], kept)) < 2 * CLEAR_M


def test_what_is_kept_may_overlap_what_is_kept() -> None:
    cube = trimesh.creation.box((0.2, 0.2, 0.2))
    items = [replace(colliders(cube, (x, 0.1, 0)), kept=True) for x in (0, 0.15)]
    assert cleared(items) == [item.hulls for item in items]


def test_two_solids_that_overlap_give_way_by_half() -> None:
    cube = trimesh.creation.box((0.2, 0.2, 0.2))
    left, right = cleared([colliders(cube, (0, 0.1, 0)), colliders(cube, (0.18, 0.1, 0))])
    assert left[0].vertices[:, 0].max() == pytest.approx(0.09, abs=1e-5)
    assert right[0].vertices[:, 0].min() == pytest.approx(-0.09, abs=1e-5)


def test_nothing_reaches_below_the_floor_but_what_lies_below_it() -> None:
    cube = trimesh.creation.box((0.2, 0.2, 0.2))
    sunk, below = cleared([colliders(cube, (0, 0.05, 0)), colliders(cube, (1, -0.5, 0))])
    assert sunk[0].vertices[:, 1].min() == pytest.approx(-0.05, abs=1e-6)
    assert below[0].vertices[:, 1].min() == pytest.approx(-0.1, abs=1e-6)


def test_what_is_fixed_may_overlap_what_is_fixed() -> None:
    cube = trimesh.creation.box((0.2, 0.2, 0.2))
    items = [colliders(cube, (0, 0.1, 0), fixed=True), colliders(cube, (0.1, 0.1, 0), fixed=True)]
    assert cleared(items) == [items[0].hulls, items[1].hulls]


def test_what_carries_gives_way_to_what_it_carries() -> None:
    cube = trimesh.creation.box((0.2, 0.2, 0.2))
    below, above = colliders(cube, (0, 0.1, 0)), replace(colliders(cube, (0, 0.28, 0)), carrier=0)
    for order in ([below, above], [replace(above, carrier=1), below]):
        found = dict(zip(map(id, order), cleared(order), strict=True))
        lower, upper = (found[id(item)] for item in (below, next(item for item in order if item is not below)))
        assert upper == above.hulls
        assert max(part.vertices[:, 1].max() for part in lower) == pytest.approx(0.08, abs=1e-5)
