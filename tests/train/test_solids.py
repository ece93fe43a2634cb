"""Signed distances of meshes that are closed, open, thin or full of hidden parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from scenegen.train.meshes import ColoredMesh
from scenegen.train.solids import Solid, cached_solid, mesh_solid, resampled, resampled_colors, sphere_directions

CELLS = 32


def colored(mesh: trimesh.Trimesh, color: tuple[int, int, int] = (10, 120, 240)) -> ColoredMesh:
    vertices = np.asarray(mesh.vertices, np.float32)
    colors = np.tile(np.array(color, np.uint8), (len(vertices), 1))
    return ColoredMesh(vertices, np.asarray(mesh.faces, np.int32), colors)


def distance_at(solid: Solid, points: np.ndarray) -> np.ndarray:
    """In units of the longest side, at the nearest samples."""
    index = np.round((points - solid.origin) / solid.cell).astype(int)
    return solid.distance[tuple(index.T)].astype(float)


def test_a_box_has_the_distance_of_a_box() -> None:
    solid = mesh_solid(colored(trimesh.creation.box(extents=(2, 1, 1))), CELLS)
    axes = [solid.origin[axis] + solid.cell * np.arange(n) for axis, n in enumerate(solid.distance.shape)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    beyond = np.abs(points) - np.array([1, 0.5, 0.5])
    expected = np.linalg.norm(np.maximum(beyond, 0), axis=-1) + np.minimum(beyond.max(axis=-1), 0)
    np.testing.assert_allclose(solid.distance * solid.longest_side, expected, atol=0.01)
    assert (solid.colors == (10, 120, 240)).all()


def test_winding_does_not_matter() -> None:
    ball = trimesh.creation.icosphere(3)
    flipped = trimesh.Trimesh(ball.vertices, ball.faces[:, ::-1], process=False)
    first, second = (mesh_solid(colored(mesh), CELLS).distance for mesh in (ball, flipped))
    np.testing.assert_allclose(first, second, atol=1e-3)  # between triangles as near, either may be taken


def test_a_cup_stays_open_and_a_missing_underside_is_closed() -> None:
    wall = trimesh.creation.annulus(r_min=0.7, r_max=1.0, height=2.0)
    wall.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))  # its axis upright
    bottom = trimesh.creation.cylinder(radius=0.8, height=0.4)
    bottom.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
    bottom.apply_translation([0, -0.8, 0])
    cup = mesh_solid(colored(trimesh.util.concatenate([wall, bottom])), CELLS)
    assert distance_at(cup, np.array([[0, 0.4, 0]])) > 0
    assert (distance_at(cup, np.array([[0.85, 0.4, 0], [0, -0.85, 0]])) < 0).all()
    box = trimesh.creation.box(extents=(1, 1, 1))
    open_below = trimesh.Trimesh(box.vertices, box.faces[box.face_normals[:, 1] > -0.5], process=False)
    assert distance_at(mesh_solid(colored(open_below), CELLS), np.array([[0.0, 0, 0]])) < -0.3


def test_a_closed_cavity_is_solid_and_what_is_buried_leaves_no_surface() -> None:
    hollow = trimesh.util.concatenate(
        [trimesh.creation.icosphere(3, radius=1), trimesh.creation.icosphere(3, radius=0.5)]
    )
    solid = mesh_solid(colored(hollow), CELLS)
    assert distance_at(solid, np.array([[0.0, 0, 0]])) * solid.longest_side < -0.9


def test_a_sheet_gets_a_thickness_that_no_grid_can_miss() -> None:
    sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    solid = mesh_solid(colored(sheet), CELLS)
    inside = solid.distance < 0
    assert inside.any(axis=2)[6:-6, 6:-6].all()
    assert inside.sum(axis=2).max() <= 3


def test_resampled_in_another_frame() -> None:
    solid = mesh_solid(colored(trimesh.creation.icosphere(4, radius=2.0)), CELLS)
    cube_from_mesh = np.diag([0.1, 0.1, 0.1, 1.0])
    cube_from_mesh[:3, 3] = [0.1, -0.05, 0.02]
    values = resampled(solid, cube_from_mesh, 24, truncation=0.2)
    axis = (np.arange(24) + 0.5) / 24 - 0.5
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    expected = np.linalg.norm(points - cube_from_mesh[:3, 3], axis=-1) - 0.2
    near = expected < 0.1
    np.testing.assert_allclose(values[near], np.clip(expected, -0.2, 0.2)[near], atol=0.01)
    assert values[~near].min() > 0.08
    assert values.max() <= 0.2
    assert (resampled_colors(solid, cube_from_mesh, 8) == (10, 120, 240)).all()


def test_what_was_computed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = colored(trimesh.creation.box(extents=(1, 1, 1)))
    first = cached_solid(mesh, tmp_path)
    monkeypatch.setattr("scenegen.train.solids.mesh_solid", None)
    again = cached_solid(mesh, tmp_path)
    np.testing.assert_array_equal(first.distance, again.distance)
    assert first.longest_side == again.longest_side
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


def test_directions_are_spread_evenly() -> None:
    directions = sphere_directions(64)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    np.testing.assert_allclose(directions.mean(axis=0), 0, atol=0.02)
    closest = np.sort(directions @ directions.T - 2 * np.eye(64), axis=1)[:, -1]
    assert np.degrees(np.arccos(closest)).min() > 15
