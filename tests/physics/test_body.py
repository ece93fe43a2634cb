from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull, cKDTree

from scenegen.geometry.mesh import joined
from scenegen.geometry.solid import is_closed, welded
from scenegen.physics.body import MAX_HULL_VERTICES, THINNEST_M, body, hull


def arrays(solid: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray]:
    return solid.vertices.astype(np.float32), solid.faces.astype(np.int32)


def test_a_box_has_its_volume_and_centre() -> None:
    box = trimesh.creation.box((0.2, 0.3, 0.5))
    box.apply_translation([1, 2, 3])
    solid = body(*arrays(box))
    assert solid.closed
    assert solid.volume == pytest.approx(0.03, rel=1e-5)
    np.testing.assert_allclose(solid.centre_of_mass, [1, 2, 3], atol=1e-6)
    assert len(solid.hulls[0].vertices) == 8


def test_vertices_split_by_seams_are_one() -> None:
    vertices, faces = arrays(trimesh.creation.box((1, 1, 1)))
    solid = body(vertices[faces].reshape(-1, 3), np.arange(faces.size, dtype=np.int32).reshape(-1, 3))
    assert solid.closed
    assert solid.volume == pytest.approx(1)


def test_a_concave_solid_keeps_its_own_volume() -> None:
    solid = body(*arrays(trimesh.creation.annulus(0.5, 1.0, 1.0)))
    assert solid.closed
    assert solid.volume == pytest.approx(np.pi * 0.75, rel=0.01)


@pytest.mark.parametrize("shift", [(1, 1, 0), (1, 1, 1)], ids=["edge", "corner"])
def test_solids_that_touch_are_closed(shift: tuple[int, int, int]) -> None:
    """With an edge of four faces the mesh still encloses a volume, which is less than its hull's."""
    vertices, faces = arrays(trimesh.creation.box((1, 1, 1)))
    solid = body(*joined([vertices, vertices + np.float32(shift)], [faces, faces]))
    assert solid.closed
    assert solid.volume == pytest.approx(2)
    np.testing.assert_allclose(solid.centre_of_mass, np.array(shift) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("mesh", "volume"),
    [
        (trimesh.creation.torus(1, 0.3, 96, 48), 2 * np.pi**2 * 0.3**2),
        (trimesh.creation.icosphere(4), 4 / 3 * np.pi),
        (trimesh.creation.cone(0.5, 2, sections=96), np.pi * 0.25 * 2 / 3),
    ],
    ids=["ring", "ball", "cone"],
)
def test_volumes_are_those_of_the_closed_forms(mesh: trimesh.Trimesh, volume: float) -> None:
    assert body(*arrays(mesh)).volume == pytest.approx(volume, rel=0.01)


@pytest.mark.parametrize(("drop", "turn"), [(1, 0), (0, 3)], ids=["hole", "turned faces"])
def test_an_open_mesh_takes_its_hull(drop: int, turn: int) -> None:
    vertices, faces = arrays(trimesh.creation.box((1, 1, 1)))
    faces = faces[drop:].copy()
    faces[:turn] = faces[:turn, ::-1]
    solid = body(vertices, faces)
    assert not solid.closed
    assert solid.volume == pytest.approx(1)


def test_a_round_hull_is_kept_small_and_close() -> None:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=1.0)
    solid = body(*arrays(ball))
    hull = trimesh.Trimesh(solid.hulls[0].vertices, solid.hulls[0].faces)
    assert len(solid.hulls[0].vertices) == MAX_HULL_VERTICES
    assert hull.is_volume
    assert hull.volume > 0.87 * ball.volume
    heights = np.einsum("fnc,fc->fn", ball.vertices - hull.triangles[:, :1], hull.face_normals)
    assert heights.max() < 0.1  # how far the ball stands out
    assert solid.hulls[0].vertices[:, 1].min() == pytest.approx(-1)


def test_a_sheet_is_given_a_thickness() -> None:
    tilted = trimesh.transformations.rotation_matrix(0.3, [1, 2, 3])
    sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 2, 0], [0, 2, 0]], [[0, 1, 2], [0, 2, 3]])
    sheet.apply_transform(tilted)
    solid = body(*arrays(sheet))
    assert not solid.closed
    assert solid.volume == pytest.approx(2 * THINNEST_M, rel=1e-3)
    assert trimesh.Trimesh(solid.hulls[0].vertices, solid.hulls[0].faces).is_volume


@settings(max_examples=20, deadline=None)
@given(st.floats(-3.1, 3.1), st.tuples(*(st.floats(0.05, 0.4),) * 3))
def test_a_box_is_found_however_it_is_turned(yaw: float, size: tuple[float, float, float]) -> None:
    solid = trimesh.creation.box(size)
    solid.apply_transform(trimesh.transformations.rotation_matrix(yaw, [0, 1, 0]))
    solid.apply_translation([0.3, 0.2, -0.4])
    (found,) = body(solid.vertices.astype(np.float32), solid.faces.astype(np.int32)).hulls
    assert found.box is not None
    assert found.box.size.prod() == pytest.approx(solid.volume, rel=1e-3)
    corners = trimesh.creation.box(found.box.size).vertices @ found.box.turn.T + found.box.centre
    distance, _ = cKDTree(corners).query(solid.vertices)
    assert distance.max() < 1e-3
    assert trimesh.Trimesh(found.vertices, found.faces).volume == pytest.approx(solid.volume, rel=1e-3)


def test_what_is_round_is_no_box() -> None:
    for solid in (trimesh.creation.icosphere(3), trimesh.creation.cylinder(0.1, 0.2)):
        (found,) = body(solid.vertices.astype(np.float32), solid.faces.astype(np.int32)).hulls
        assert found.box is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-9, 1e-4]), st.integers(0, 3))
def test_a_hull_is_closed_wherever_it_was_cut(seed: int, rough: float, cuts: int) -> None:
    """Corners in planes, corners that single precision takes for one, and far from the origin."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (80, 3)) * rng.uniform(0.01, 1, 3)
    for _ in range(cuts):
        normal = rng.normal(size=3)
        normal /= np.linalg.norm(normal)
        over = np.maximum(points @ normal - 0.3 * np.abs(points @ normal).max(), 0)
        points = points - over[:, None] * normal  # onto the plane
    points = np.concatenate([points, points + rough]) + rng.uniform(-5, 5, 3)
    found = hull(points.astype(np.float32))
    assert is_closed(welded(found.vertices)[1][found.faces])
    assert len(found.vertices) <= MAX_HULL_VERTICES
    corners = found.vertices[found.faces].astype(float) - points.mean(axis=0)
    volume = float(np.einsum("nd,nd->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))) / 6
    assert volume == pytest.approx(ConvexHull(found.vertices.astype(float)).volume, rel=1e-3)
