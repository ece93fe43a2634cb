"""Concave solids in convex parts."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from manifold3d import Manifold, Mesh
from physics.bowls import bowl

from scenegen.physics.decompose import _left, convex_parts


def arrays(solid: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray]:
    return solid.vertices.astype(np.float32), solid.faces.astype(np.int32)


def volume(parts: list[np.ndarray]) -> float:
    return sum(float(trimesh.convex.convex_hull(part).volume) for part in parts)


@pytest.mark.parametrize("solid", [trimesh.creation.box((1, 2, 3)), trimesh.creation.icosphere(3)])
def test_what_is_convex_stays_whole(solid: trimesh.Trimesh) -> None:
    assert convex_parts(*arrays(solid), 16) == []


def test_an_open_mesh_has_no_parts() -> None:
    vertices, faces = arrays(bowl())
    assert convex_parts(vertices, faces[1:], 16) == []


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 24))
def test_the_parts_cover_the_solid_and_little_else(most: int) -> None:
    solid = bowl()
    parts = convex_parts(*arrays(solid), most)
    assert len(parts) <= most
    low, high = (np.concatenate([getattr(part, side)(axis=0)[None] for part in parts]) for side in ("min", "max"))
    np.testing.assert_allclose(low.min(axis=0), solid.bounds[0], atol=0.01)
    np.testing.assert_allclose(high.max(axis=0), solid.bounds[1], atol=0.01)
    hull = float(solid.convex_hull.volume)
    assert volume(parts) <= hull * 1.001
    if most == 24:
        assert volume(parts) - solid.volume < 0.25 * (hull - solid.volume)


def test_an_l_is_two_boxes() -> None:
    lying, standing = trimesh.creation.box((1, 0.2, 0.2)), trimesh.creation.box((0.2, 1, 0.2))
    standing.apply_translation([-0.4, 0.6, 0])
    solid = trimesh.boolean.union([lying, standing], engine="manifold")
    parts = convex_parts(*arrays(solid), 8)
    assert volume(parts) < 1.15 * solid.volume


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2), st.floats(0.05, 0.95), st.booleans())
def test_what_a_cut_leaves_is_told_without_cutting(axis: int, place: float, turned: bool) -> None:
    solid = bowl()
    if turned:
        solid.apply_transform(trimesh.transformations.rotation_matrix(0.7, [1, 2, 3], [0.1, 0, 0]))
    low, high = solid.bounds[:, axis]
    offset = low + place * (high - low)
    part = Manifold(Mesh(solid.vertices.astype(np.float32), solid.faces.astype(np.uint32)))
    halves = part.split_by_plane(np.eye(3)[axis].tolist(), float(offset))
    exact = sum((half.hull().volume() - half.volume()) ** 2 for half in halves)
    corners = np.asarray(solid.triangles)
    doubled = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert _left(corners, doubled, solid.convex_hull.vertices, axis, offset) == pytest.approx(
        exact, rel=1e-3, abs=1e-12
    )
