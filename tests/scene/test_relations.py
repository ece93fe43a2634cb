"""Stacks, things inside things, things that lean, things cut by the picture's border: what carries what, and the evidence."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from physics.bowls import bowl
from rooms import Room, plain, room, room_of, standing_box
from test_arrange import arranged, seen

from scenegen.geometry.mesh import TexturedMesh
from scenegen.scene.leaning import lean


def supports(scene: Room) -> dict[int, int]:
    return {each.child: each.parent for each in seen(scene).supports}


@settings(max_examples=3, deadline=None)
@given(st.floats(12, 35), st.floats(0.1, 0.25))
def test_every_storey_of_a_stack_stands_on_the_one_below(pitch: float, height: float) -> None:
    storeys = [((0.5 - 0.12 * n, height, 0.5 - 0.12 * n), (0.1, n * height, -2.4)) for n in range(3)]
    scene = room(storeys, pitch_deg=pitch)
    found = arranged(scene)
    assert {number: item.support for number, item in found.items()} == {1: 0, 2: 1, 3: 2}
    for number, item in found.items():
        assert item.level == pytest.approx((number - 1) * height, abs=0.01)
        assert abs(item.evidence["gap_m"]) < 0.01
        assert item.evidence["contact_share"] > 0.25
        assert item.evidence["steady_deg"] > 5


def test_what_is_far_back_on_a_table_stands_on_it_though_its_edge_is_nearer() -> None:
    """Seen at so flat an angle that just below the cup there is the table's front edge."""
    scene = room([((1.2, 0.7, 1.2), (0, 0, -2.4)), ((0.12, 0.15, 0.12), (0.1, 0.7, -2.7))], pitch_deg=10, height=0.85)
    assert supports(scene)[2] == 1
    assert arranged(scene)[2].support == 1


@pytest.mark.parametrize("pitch", [30, 45])
def test_what_lies_in_a_bowl_stands_on_the_bowl(pitch: float) -> None:
    dish, ball = bowl().apply_scale(2), trimesh.creation.icosphere(3, radius=0.08)
    for solid, height in ((dish, 0.0), (ball, 0.095)):
        solid.apply_translation([0, height, -1.6])
    scene = room_of([dish, ball], pitch_deg=pitch, height=1.2 if pitch < 40 else 1.7)
    assert supports(scene) == {1: 0, 2: 1}
    found = arranged(scene)
    assert found[2].support == 1
    assert seen(scene).floor.heights(found[2].mesh.vertices).min() > 0.01  # not through the bowl


def test_what_is_behind_a_bowl_is_not_in_it() -> None:
    dish = bowl().apply_scale(2)
    dish.apply_translation([0, 0, -1.6])
    scene = room_of([dish, standing_box((0.2, 0.3, 0.2), (0, 0, -2.2))], pitch_deg=30, height=1.2)
    assert supports(scene) == {1: 0, 2: 0}


def test_what_stands_on_something_in_the_air_is_carried_by_it() -> None:
    """As on a table whose legs nobody made."""
    scene = room([((0.8, 0.1, 0.6), (0, 0.5, -2.2)), ((0.2, 0.2, 0.2), (0.1, 0.6, -2.1))], wall=False)
    found = arranged(scene)
    assert found[1].support is None
    assert "gap_m" not in found[1].evidence
    assert found[2].support == 1
    assert found[2].level == pytest.approx(0.6, abs=0.01)


def test_an_object_seen_to_reach_the_floor_is_held_though_its_legs_were_not_made() -> None:
    legs = [((0.05, 0.5, 0.05), (x, 0, z)) for x in (-0.35, 0.35) for z in (-2.0, -2.5)]
    scene = room([((0.8, 0.1, 0.6), (0, 0.5, -2.25)), *legs], wall=False)
    ids = np.where(scene.ids > 0, 1, 0).astype(np.uint16)
    one = Room(scene.camera, scene.camera_from_world, scene.boxes[:1], scene.image, ids, scene.depth)
    assert arranged(one)[1].support == "background"


@pytest.mark.parametrize("at", [(0.0, 0, -1.05), (-1.2, 0, -2.0)])
def test_what_the_border_cuts_stands_on_the_floor_and_carries_others(at: tuple[float, float, float]) -> None:
    """Below, so that its foot is not in the picture, or at a side."""
    beside = (at[0] + 0.1, 0.6, at[2] - 0.1)
    scene = room([((0.9, 0.6, 0.6), at), ((0.15, 0.2, 0.15), beside)], pitch_deg=25)
    assert (scene.ids[-1] == 1).any() or (scene.ids[:, 0] == 1).any()
    found = arranged(scene)
    assert {number: item.support for number, item in found.items()} == {1: 0, 2: 1}


def leaning(lean_deg: float, gap: float) -> list[TexturedMesh]:
    """A board that leans to the right, and a box `gap` metres beside the corner it would touch."""
    board = standing_box((0.04, 0.6, 0.3), (0, 0, -2))
    board.apply_transform(trimesh.transformations.rotation_matrix(-np.radians(lean_deg), [0, 0, 1], [0.02, 0, -2]))
    right = board.vertices[board.vertices[:, 1] > 0.3][:, 0].max()
    return [plain(board, (0, 0, 0)), plain(standing_box((0.3, 0.7, 0.3), (right + gap + 0.15, 0, -2)), (0, 0, 0))]


@settings(max_examples=5, deadline=None)
@given(st.floats(8, 40))
def test_a_board_leans_on_what_it_touches_on_the_side_it_falls_to(lean_deg: float) -> None:
    board, box = leaning(lean_deg, 0.002)
    found = lean(board, box)
    assert found is not None
    assert found.distance_m < 0.03 * 0.6
    assert found.height_m > 0.2 * 0.6
    away, far = leaning(lean_deg, 0.05)
    assert lean(away, far) is None
    mirrored = board.transformed(np.diag([-1.0, 1, 1, 1]))
    beside = box.transformed(np.diag([1.0, 1, 1, 1]))
    assert lean(mirrored, beside) is None
