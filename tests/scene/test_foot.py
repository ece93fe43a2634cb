"""Feet that are hidden are made; feet that would be seen are not."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from rooms import Room, plain, room

from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import render
from scenegen.geometry.solid import is_closed, welded
from scenegen.scene.foot import STEADY_DEG, with_hidden_foot
from scenegen.scene.layout import Floor
from scenegen.scene.scoring import intersection_over_union
from scenegen.scene.underside import base, centre_of_mass

WALL, CABINET = ((1.6, 0.7, 0.3), (0, 0, -1.8)), ((0.6, 1.2, 0.5), (0, 0, -2.9))


def cut(scene: Room, height: float) -> TexturedMesh:
    """The cabinet as it is seen: without what is below a height."""
    (width, tall, depth), (x, _, z) = CABINET
    solid = trimesh.creation.box((width, tall - height, depth))
    solid.apply_translation([x, height + (tall - height) / 2, z])
    return plain(solid, (90, 90, 90)).transformed(scene.camera_from_world)


def test_what_is_seen_to_be_cut_off_goes_on_down_to_the_floor_out_of_sight() -> None:
    scene = room([WALL, CABINET], pitch_deg=15)
    floor = Floor(scene.up, scene.height, "ransac")
    mesh = cut(scene, 0.3)
    found = with_hidden_foot(mesh, 2, scene.ids, scene.boxes[:1], scene.camera, floor)
    assert found is not None
    np.testing.assert_array_equal(found.vertices[: len(mesh.vertices)], mesh.vertices)
    assert floor.heights(found.vertices).min() == pytest.approx(0, abs=1e-5)
    assert base(found.vertices, centre_of_mass(found.vertices, found.faces), floor).steady_deg > STEADY_DEG
    _, place = welded(found.vertices)
    assert is_closed(place[found.faces])
    before, after = (render([item, scene.boxes[0]], scene.camera).ids == 0 for item in (mesh, found))
    assert intersection_over_union(before, after) > 0.998


def test_a_foot_that_would_be_seen_is_not_made() -> None:
    scene = room([WALL, CABINET], pitch_deg=15)
    floor = Floor(scene.up, scene.height, "ransac")
    bare = np.where(scene.ids == 1, 0, scene.ids)
    assert with_hidden_foot(cut(scene, 0.3), 2, bare, scene.boxes[:1], scene.camera, floor) is None
    assert with_hidden_foot(cut(scene, 0.3), 2, scene.ids, [], scene.camera, floor) is None
