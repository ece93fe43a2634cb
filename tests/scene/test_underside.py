"""Objects are made to stand without any pixel of theirs moving."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms import Room, plain, room

from scenegen.camera import project
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import render
from scenegen.geometry.solid import is_closed, welded
from scenegen.scene.layout import Floor
from scenegen.scene.scoring import intersection_over_union
from scenegen.scene.underside import LEAST_STEADY_DEG, base, centre_of_mass, standing

ROOM = room([((0.1, 0.1, 0.1), (0, 0, -2))], pitch_deg=25, height=1.0)
FLOOR = Floor(ROOM.up, ROOM.height, "ransac")


def seen(solid: trimesh.Trimesh, where: Room = ROOM) -> TexturedMesh:
    """A solid of the world (its base at height 0), in the camera's frame."""
    return plain(solid, (200, 60, 50)).transformed(where.camera_from_world)


def egg(squeeze: float = 1.0) -> trimesh.Trimesh:
    """Round all over, so that it touches the floor in a point."""
    made = trimesh.creation.icosphere(4, radius=0.15)
    made.apply_scale([1, squeeze, 1])
    made.apply_translation([0, 0.15 * squeeze, -2])
    return made


def leaning(degrees: float) -> trimesh.Trimesh:
    """A pillar that leans towards the camera, the lowest edge of its base on the floor."""
    made = trimesh.creation.cylinder(0.08, 0.5, sections=48).subdivide().subdivide()
    made.apply_transform(trimesh.transformations.rotation_matrix(np.radians(90 + degrees), [1, 0, 0]))
    made.apply_translation([0, -made.vertices[:, 1].min(), -2])
    return made


def steady(mesh: TexturedMesh) -> float:
    return base(mesh.vertices, centre_of_mass(mesh.vertices, mesh.faces), FLOOR).steady_deg


@settings(max_examples=8, deadline=None)
@given(st.floats(0.6, 1.4), st.floats(-0.02, 0.003))
def test_what_is_round_stands_and_no_pixel_moves(squeeze: float, lift: float) -> None:
    solid = egg(squeeze)
    solid.apply_translation([0, lift, 0])
    mesh = seen(solid)
    found = standing(mesh, FLOOR, 0.0).mesh
    assert steady(found) >= LEAST_STEADY_DEG
    assert FLOOR.heights(found.vertices).min() == pytest.approx(0, abs=1e-5)
    before, after = (render([item], ROOM.camera).ids >= 0 for item in (mesh, found))
    assert intersection_over_union(before, after) > 0.998
    _, place = welded(found.vertices)
    assert is_closed(place[found.faces])


def test_what_leans_too_much_to_stand_is_set_upright_where_depth_may_be_wrong() -> None:
    mesh = seen(leaning(25))
    kept, found = standing(mesh, FLOOR, 0.0), standing(mesh, FLOOR, 20.0)
    assert steady(kept.mesh) < 0 < LEAST_STEADY_DEG - 1 < steady(found.mesh)
    assert 3 <= found.lean_deg <= 20
    before, after = (render([item], ROOM.camera).ids >= 0 for item in (mesh, found.mesh))
    assert intersection_over_union(before, after) > 0.998


def test_what_tips_over_however_it_is_set_up_is_left_as_it_leans() -> None:
    mesh = seen(leaning(50))
    kept, found = standing(mesh, FLOOR, 0.0), standing(mesh, FLOOR, 4.0)
    assert found.lean_deg == 0
    assert found.base.steady_deg < 0
    np.testing.assert_array_equal(found.mesh.vertices, kept.mesh.vertices)


def test_vertices_stay_on_their_rays() -> None:
    mesh = seen(egg())
    mesh = replace(mesh, vertices=mesh.vertices + np.float32(0.01))
    found = standing(mesh, FLOOR, 10.0).mesh
    count = len(mesh.vertices)
    np.testing.assert_allclose(
        project(ROOM.camera, found.vertices[:count].astype(float)),
        project(ROOM.camera, mesh.vertices.astype(float)),
        atol=1e-2,
    )


def test_what_stands_already_stays_as_it_is() -> None:
    mesh = ROOM.boxes[0]
    found = standing(mesh, FLOOR, 20.0)
    assert found.lean_deg == 0
    np.testing.assert_allclose(found.mesh.vertices, mesh.vertices, atol=1e-5)
    assert found.base.area == pytest.approx(0.01, rel=1e-3)
    assert found.base.steady_deg == pytest.approx(45, abs=0.5)


def test_the_centre_of_mass_is_that_of_the_solid_or_of_an_open_surface() -> None:
    cone = trimesh.creation.cone(0.5, 1.0, sections=64)
    faces = cone.faces.astype(np.int32)
    np.testing.assert_allclose(centre_of_mass(cone.vertices, faces), [0, 0, 0.25], atol=1e-6)
    box = trimesh.creation.box((1, 1, 1))
    lid = np.abs(box.triangles_center[:, 2] - 0.5) < 1e-6
    found = centre_of_mass(box.vertices, box.faces[~lid].astype(np.int32))
    np.testing.assert_allclose(found, [0, 0, -0.1], atol=1e-6)
