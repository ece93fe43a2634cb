"""The dual grid's mesh, and what cleaning makes of bad ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.errors import InputError
from scenegen.geometry.solid import is_closed, volume
from scenegen.pixal3d import surface
from scenegen.pixal3d.surface import QUADS, DualGrid, clean_surface, dual_grid_to_mesh


def grid_of(solid: np.ndarray) -> DualGrid:
    """The dual grid of a block of solid cells [r, r, r] (none at its border), whose vertices are the cells' corners.

    A voxel's own edge along x runs between its corners (0, 1, 1) and (1, 1, 1), and so on: the cells stand at voxel corners.
    """
    r = len(solid)
    shifted = np.pad(solid, (0, 2))  # cell at lattice corner
    corner = {
        c: shifted[c[0] : c[0] + r, c[1] : c[1] + r, c[2] : c[2] + r] for c in itertools.product((0, 1), repeat=3)
    }
    crossed = np.stack([corner[1, 1, 1] ^ corner[c] for c in ((0, 1, 1), (1, 0, 1), (1, 1, 0))], axis=-1)
    mixed = sum(part.astype(int) for part in corner.values())
    coords = np.argwhere((mixed > 0) & (mixed < 8))
    return DualGrid(
        coords=torch.from_numpy(np.pad(coords, ((0, 0), (1, 0)))).int(),
        dual_vertices=torch.full((len(coords), 3), 0.5),
        intersected=torch.from_numpy(crossed[tuple(coords.T)]),
        split_weight=torch.ones(len(coords), 1),
    )


def mesh_of(solid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    vertices, faces = dual_grid_to_mesh(grid_of(solid), len(solid))
    return vertices.numpy(), faces.numpy()


def ball(r: int = 16, radius: float = 5.2) -> np.ndarray:
    place = np.stack(np.meshgrid(*[np.arange(r)] * 3, indexing="ij"), axis=-1) - r / 2
    return np.linalg.norm(place, axis=-1) < radius


def slow_mesh(grid: DualGrid) -> list[list[int]]:
    """The extraction with a dictionary and loops."""
    rows = {tuple(c): i for i, c in enumerate(grid.coords.tolist())}
    faces = []
    for voxel, (item, *place) in enumerate(grid.coords.tolist()):
        for axis in range(3):
            quad = [rows.get((item, *(p + s for p, s in zip(place, step, strict=True)))) for step in QUADS[axis]]
            if not grid.intersected[voxel, axis] or None in quad:
                continue
            w = [float(grid.split_weight[q]) for q in quad if q is not None]
            cut = ((0, 1, 2), (0, 2, 3)) if w[0] * w[2] > w[1] * w[3] else ((0, 1, 3), (3, 1, 2))
            faces += [[quad[k] for k in face] for face in cut]
    return faces


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_extraction_is_what_the_loops_give(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = np.argwhere(rng.random((2, 4, 4, 4)) < 0.7)
    rng.shuffle(cells)
    grid = DualGrid(
        coords=torch.from_numpy(cells).int(),
        dual_vertices=torch.from_numpy(rng.uniform(-0.5, 1.5, (len(cells), 3))).float(),
        intersected=torch.from_numpy(rng.random((len(cells), 3)) < 0.5),
        split_weight=torch.from_numpy(rng.choice([0.5, 1.0, 2.0], (len(cells), 1))).float(),
    )
    vertices, faces = dual_grid_to_mesh(grid, 4)
    assert faces.tolist() == slow_mesh(grid)
    expected = (grid.coords[:, 1:].double() + grid.dual_vertices.double()) / 4 - 0.5
    torch.testing.assert_close(vertices.double(), expected, atol=1e-6, rtol=0)


def test_an_item_is_the_part_of_it() -> None:
    grid = grid_of(ball(10, 3))
    two = DualGrid(
        torch.cat([grid.coords, grid.coords + torch.tensor([1, 0, 0, 0])]).int(),
        *(torch.cat([part, part]) for part in (grid.dual_vertices, grid.intersected, grid.split_weight)),
    )
    one, both = dual_grid_to_mesh(grid, 10)[1], dual_grid_to_mesh(two, 10)[1]
    assert len(both) == 2 * len(one)
    torch.testing.assert_close(dual_grid_to_mesh(two.item(1), 10)[1], one)


def test_voxels_outside_the_grid_are_refused() -> None:
    with pytest.raises(InputError, match=r"to \[7, 7, 7\] on a grid of 4"):
        dual_grid_to_mesh(grid_of(ball(10, 3)), 4)


def test_no_voxels_no_faces() -> None:
    vertices, faces = dual_grid_to_mesh(grid_of(np.zeros((4, 4, 4), bool)), 4)
    assert vertices.shape == (0, 3)
    assert faces.shape == (0, 3)


def test_faces_of_the_grid_do_not_know_the_outside_and_cleaning_finds_it() -> None:
    vertices, faces = mesh_of(ball())
    assert not is_closed(faces)
    clean = clean_surface(vertices, faces, max_faces=10**6)
    assert clean.closed
    assert clean.warnings == ()
    assert len(clean.faces) == len(faces)  # no second wall
    assert volume(clean.vertices, clean.faces) == pytest.approx(ball().sum() / 16**3, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.15, 0.85))
def test_any_solid_of_cells_comes_out_closed_with_its_volume(seed: int, share: float) -> None:
    """Random cells touch at edges and corners and enclose cavities: all that makes a mesh non-manifold."""
    solid = np.zeros((8, 8, 8), bool)
    solid[1:-1, 1:-1, 1:-1] = np.random.default_rng(seed).random((6, 6, 6)) < share
    if not solid.any():
        return
    vertices, faces = mesh_of(solid)
    shuffled = np.random.default_rng(seed).permutation(len(faces))
    clean = clean_surface(vertices, faces[shuffled], max_faces=10**6, min_piece=0)
    assert clean.closed
    assert volume(clean.vertices, clean.faces) == pytest.approx(
        solid.sum() / 8**3, rel=0.01
    )  # what touches is drawn apart


def test_a_cavity_faces_inwards() -> None:
    solid = ball(20, 8.2) & ~ball(20, 2.5)
    clean = clean_surface(*mesh_of(solid), max_faces=10**6, min_piece=0)
    assert volume(clean.vertices, clean.faces) == pytest.approx(solid.sum() / 20**3, rel=1e-5)


def test_specks_go_and_real_pieces_stay() -> None:
    solid = ball(24, 6.2)
    solid[1, 1, 1] = True
    solid[1:4, 20:23, 20:23] = True
    clean = clean_surface(*mesh_of(solid), max_faces=10**6, min_piece=0.15)
    assert trimesh.Trimesh(clean.vertices, clean.faces, process=False).body_count == 2
    assert volume(clean.vertices, clean.faces) == pytest.approx((solid.sum() - 1) / 24**3, rel=1e-5)


def test_small_holes_are_closed_and_large_ones_are_left_and_said() -> None:
    vertices, faces = mesh_of(ball())
    whole = clean_surface(vertices, faces, max_faces=10**6)
    pricked = clean_surface(whole.vertices, whole.faces[7:], max_faces=10**6, max_hole_perimeter=1)
    assert pricked.closed
    assert volume(pricked.vertices, pricked.faces) == pytest.approx(volume(whole.vertices, whole.faces), rel=0.02)
    cut = whole.faces[whole.vertices[whole.faces].mean(axis=1)[:, 2] < 0.1]
    opened = clean_surface(whole.vertices, cut, max_faces=10**6, max_hole_perimeter=0.1)
    assert not opened.closed
    assert "open" in opened.warnings[0]
    assert len(opened.faces) == len(cut)


def test_an_open_surface_faces_outwards_too() -> None:
    """A bowl: the inside of a wall is where most rays end in the surface."""
    mesh = trimesh.creation.icosphere(3)
    bowl = np.asarray(mesh.faces)[mesh.triangles_center[:, 2] < 0.5].astype(np.int32)
    flipped = bowl.copy()
    flipped[::2] = flipped[::2, ::-1]
    clean = clean_surface(np.asarray(mesh.vertices) / 3, flipped, max_faces=10**6)
    normals = trimesh.Trimesh(clean.vertices, clean.faces, process=False).face_normals
    centres = clean.vertices[clean.faces].mean(axis=1)
    assert ((normals * centres).sum(axis=1) > 0).all()


def test_degenerate_and_double_faces_go() -> None:
    vertices, faces = mesh_of(ball())
    extra = np.concatenate([faces, faces[:40, [1, 2, 0]], faces[40:60, ::-1], np.repeat(faces[:5, :1], 3, axis=1)])
    clean = clean_surface(vertices, extra, max_faces=10**6)
    assert clean.closed
    assert len(clean.faces) == len(faces)


def test_a_closed_surface_is_simplified_to_the_budget_and_stays_closed() -> None:
    mesh = trimesh.creation.icosphere(4)
    faces = np.asarray(mesh.faces, dtype=np.int32)
    faces[::3] = faces[::3, ::-1]
    clean = clean_surface(np.asarray(mesh.vertices), faces, max_faces=800)
    assert clean.closed
    assert len(clean.faces) <= 800
    assert volume(clean.vertices, clean.faces) == pytest.approx(4 / 3 * np.pi, rel=0.04)


def test_an_open_surface_is_simplified_between_its_boundaries() -> None:
    mesh = trimesh.creation.icosphere(5)
    faces = np.asarray(mesh.faces)[mesh.triangles_center[:, 2] < 0.5].astype(np.int32)
    few = clean_surface(np.asarray(mesh.vertices), faces, max_faces=2000)
    assert not few.closed
    assert len(few.faces) <= 2000
    np.testing.assert_allclose(np.linalg.norm(few.vertices, axis=1), 1, atol=0.01)
    edges = trimesh.Trimesh(few.vertices, few.faces, process=False)
    rim = edges.edges_sorted[trimesh.grouping.group_rows(edges.edges_sorted, require_count=1)]
    assert len(rim) > 20
    np.testing.assert_allclose(few.vertices[rim, 2], 0.5, atol=0.03)


def test_a_noisy_open_surface_comes_to_its_budget() -> None:
    mesh = trimesh.creation.icosphere(6)
    faces = np.asarray(mesh.faces)[mesh.triangles_center[:, 2] < 0.5].astype(np.int32)
    noisy = np.asarray(mesh.vertices) + np.random.default_rng(0).normal(0, 0.003, mesh.vertices.shape)
    few = clean_surface(noisy, faces, max_faces=3000, max_hole_perimeter=0)
    assert not few.closed
    assert 2700 < len(few.faces) <= 3000


def test_a_dense_surface_is_thinned_before_it_is_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces in any winding: they are turned alike first."""
    monkeypatch.setattr(surface, "DENSE", 10_000)
    mesh = trimesh.creation.icosphere(6)
    faces = np.asarray(mesh.faces, dtype=np.int32)
    faces[::3] = faces[::3, ::-1]
    few = clean_surface(np.asarray(mesh.vertices), faces, max_faces=2000)
    assert few.closed
    assert 1500 < len(few.faces) <= 2000
    assert volume(few.vertices, few.faces) == pytest.approx(4 / 3 * np.pi, rel=0.02)


def test_a_strip_with_one_side_is_cut_and_said() -> None:
    turns, width = 24, 0.1
    angle = np.arange(turns) * 2 * np.pi / turns
    across = np.stack([np.cos(angle / 2) * np.cos(angle), np.cos(angle / 2) * np.sin(angle), np.sin(angle / 2)], axis=1)
    circle = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    vertices = np.concatenate([circle + width * across, circle - width * across]) / 3
    here, there = np.arange(turns), np.arange(1, turns + 1) % turns
    swapped = there == 0
    up, down = np.where(swapped, there + turns, there), np.where(swapped, there, there + turns)
    faces = np.concatenate([np.stack([here, up, here + turns], 1), np.stack([up, down, here + turns], 1)]).astype(
        np.int32
    )
    clean = clean_surface(vertices, faces, max_faces=10**6, max_hole_perimeter=0)
    assert "one-sided" in clean.warnings[0]
    assert len(clean.faces) == len(faces)


def test_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="no faces"):
        clean_surface(np.zeros((3, 3)), np.zeros((1, 3), dtype=np.int32), max_faces=10)
