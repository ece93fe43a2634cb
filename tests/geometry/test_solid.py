"""Solids that touch themselves are closed, are taken apart, and keep their volume."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from scenegen.geometry.mesh import joined
from scenegen.geometry.solid import (
    HAIR,
    connected,
    is_closed,
    topology,
    untouching,
    volume,
    welded,
    without_crumbs,
)
from scenegen.records import Topology


def blocks(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The surface of unit cubes at the true `cells`: neighbours share no wall, but edges and corners."""
    corners, faces = [], []
    for axis in range(3):
        for side in (0, 1):
            beyond = np.roll(np.pad(cells, 1), 1 - 2 * side, axis)[1:-1, 1:-1, 1:-1]
            across = np.eye(3, dtype=int)[[(axis + 1) % 3, (axis + 2) % 3]]
            for cell in np.argwhere(cells & ~beyond):
                start = cell + side * np.eye(3, dtype=int)[axis]
                quad = [start, start + across[0], start + across[0] + across[1], start + across[1]]
                base = len(corners)
                corners += quad if side else quad[::-1]
                faces += [[base, base + 1, base + 2], [base, base + 2, base + 3]]
    return np.array(corners, np.float32).reshape(-1, 3), np.array(faces, np.int32).reshape(-1, 3)


def two_cubes(second: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    cells = np.zeros((2, 2, 2), bool)
    cells[0, 0, 0] = cells[second] = True
    return blocks(cells)


def edge_counts(faces: np.ndarray) -> np.ndarray:
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    return np.unique(edges, axis=0, return_counts=True)[1]


@pytest.mark.parametrize("second", [(1, 1, 0), (1, 1, 1)], ids=["edge", "corner"])
def test_cubes_that_touch_are_closed_and_come_apart(second: tuple[int, int, int]) -> None:
    vertices, faces = two_cubes(second)
    _, place = welded(vertices)
    assert is_closed(place[faces])
    assert topology(vertices, faces) == Topology(closed=True, pieces=2, genus=0)
    apart, split = untouching(vertices, faces)
    _, place = welded(apart)
    assert (edge_counts(place[split]) == 2).all()
    assert connected(place[split])[0] == 2
    assert volume(apart, split) == pytest.approx(2, rel=0.02)
    assert np.linalg.norm(apart[:, None] - vertices[None], axis=2).min(axis=1).max() < HAIR


@settings(deadline=None, max_examples=60)
@given(arrays(bool, (3, 3, 3), elements=st.booleans()).filter(np.any))
def test_any_solid_of_blocks_becomes_a_manifold(cells: np.ndarray) -> None:
    vertices, faces = blocks(cells)
    apart, split = untouching(vertices, faces)
    _, place = welded(apart)
    merged = place[split]
    assert (edge_counts(merged) == 2).all()
    assert is_closed(merged)
    # One fan a vertex: nothing is left to split.
    assert untouching(*(np.unique(apart, axis=0), merged))[0].shape == np.unique(apart, axis=0).shape
    # What is empty joins across edges, where the solid comes apart, but not across corners.
    empty = np.pad(~cells, 1, constant_values=True)
    outside = ndimage.label(empty, ndimage.generate_binary_structure(3, 2))[1]
    assert connected(merged)[0] == ndimage.label(cells)[1] + outside - 1
    assert volume(vertices, faces) == pytest.approx(cells.sum())
    assert volume(apart, split) == pytest.approx(cells.sum(), rel=0.05)


@pytest.mark.parametrize(
    ("mesh", "genus"),
    [
        (trimesh.creation.icosphere(2), 0),
        (trimesh.creation.torus(1, 0.3), 1),
        (trimesh.creation.annulus(0.5, 1, 1), 1),
    ],
    ids=["ball", "ring", "pipe"],
)
def test_genus_counts_the_handles_whatever_the_seams(mesh: trimesh.Trimesh, genus: int) -> None:
    vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32)
    assert topology(vertices, faces) == Topology(closed=True, pieces=1, genus=genus)
    doubled, own = vertices[faces].reshape(-1, 3), np.arange(faces.size, dtype=np.int32).reshape(-1, 3)
    assert topology(doubled, own) == Topology(closed=True, pieces=1, genus=genus)
    twice, both = joined([vertices, vertices + 5], [faces, faces])
    assert topology(twice, both) == Topology(closed=True, pieces=2, genus=2 * genus)
    assert topology(vertices, faces[1:]) == Topology(closed=False, pieces=1, genus=None)


def test_a_manifold_comes_back_as_it_is() -> None:
    ball = trimesh.creation.icosphere(2)
    vertices, faces = np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.int32)
    same, same_faces = untouching(vertices, faces)
    assert same is vertices
    assert same_faces is faces


def test_faces_without_area_and_faces_back_to_back_leave_no_gap() -> None:
    ball = trimesh.creation.icosphere(1)
    vertices, faces = np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.int32)
    flap = faces[:1]
    crowded = np.concatenate([faces, flap, flap[:, ::-1], [[3, 3, 7]]]).astype(np.int32)
    apart, split = untouching(vertices, crowded)
    corners, expected = (np.sort(p[f].sum(axis=1), axis=0) for p, f in ((apart, split), (vertices, faces)))
    np.testing.assert_allclose(corners, expected, atol=1e-6)
    assert volume(apart, split) == pytest.approx(volume(vertices, faces))


def test_pieces_are_kept_in_their_order_but_for_crumbs() -> None:
    meshes = [
        trimesh.creation.icosphere(1, radius=radius).apply_translation([4 * n, 0, 0])
        for n, radius in enumerate((0.05, 1, 0.5, 0.1))
    ]
    vertices, faces = joined([m.vertices for m in meshes], [m.faces for m in meshes])
    few, kept = without_crumbs(vertices, faces, 2)
    np.testing.assert_array_equal(few[kept], vertices[faces[len(meshes[0].faces) :]])
    assert without_crumbs(vertices, faces, 4)[1] is faces
