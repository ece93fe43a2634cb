"""What carries what, against rooms in which it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms import DESK, Room, plain, room, room_of, standing_box

from scenegen.camera import project
from scenegen.geometry.mesh import joined
from scenegen.scene.arrange import (
    LEAN_MEASURED_DEG,
    Arranged,
    Told,
    Unplaced,
    View,
    arrange,
    lowest_point,
    overlapping_pairs,
)
from scenegen.scene.layout import Floor, find_supports
from scenegen.scene.placement import fit_scale, surface_depth
from scenegen.scene.room import MOST_ROOM


def seen(scene: Room, uncertainty: float = 0.05) -> View:
    floor = Floor(scene.up, scene.height, "ransac")
    return View(
        ids=scene.ids,
        z=scene.depth,
        limit=np.where(scene.ids == 0, scene.depth, 1.2 * scene.depth),
        camera=scene.camera,
        floor=floor,
        supports=find_supports(scene.depth, scene.ids, scene.camera, floor),
        uncertainty=uncertainty,
        relief_error=0.0,
    )


def unplaced(scene: Room, view: View, wrong: float = 1.0) -> dict[int, Unplaced]:
    """Its boxes, at a scale that depth gets wrong by a factor."""
    items = {}
    for number, mesh in enumerate(scene.boxes, start=1):
        mask = scene.ids == number
        own = surface_depth(mesh.vertices, mesh.faces, scene.camera, mask)
        fit = fit_scale(own, scene.depth, mask)
        assert fit is not None
        items[number] = Unplaced(mesh, own, replace(fit, scale=fit.scale * wrong), "", None)
    return items


NOTHING = Told()


def arranged(
    scene: Room,
    wrong: float = 1.0,
    reach: float = 0.1,
    kept: Mapping[int, Arranged] = MappingProxyType({}),
    told: Told = NOTHING,
) -> dict[int, Arranged]:
    view = seen(scene)
    return arrange(unplaced(scene, view, wrong), view, kept, reach, told)


@settings(max_examples=5, deadline=None)
@given(st.floats(0.95, 1.05))
def test_a_stack_stands_on_the_floor(wrong: float) -> None:
    scene = room(DESK)
    found = arranged(scene, wrong)
    assert {number: item.support for number, item in found.items()} == {1: 0, 2: 0, 3: 2}
    assert found[3].level == pytest.approx(0.3, abs=0.02)
    floor = seen(scene).floor
    for number, item in found.items():
        assert item.evidence["steady_deg"] > 10
        assert floor.heights(item.mesh.vertices).min() == pytest.approx(item.level, abs=1e-3)
        before = project(scene.camera, scene.boxes[number - 1].vertices.astype(float))
        np.testing.assert_allclose(
            project(scene.camera, item.mesh.vertices[: len(before)].astype(float)), before, atol=0.02
        )


@pytest.mark.parametrize(("height", "upright"), [(0.6, True), (0.15, False)])
def test_only_what_is_tall_is_set_upright(height: float, upright: bool) -> None:
    """A post and a slab that lean so far to the camera that their hidden undersides cannot be finished to stand."""
    solid = standing_box((0.16, height, 0.16), (0, 0, -2)).subdivide().subdivide().subdivide()
    solid.vertices[:, 2] += np.tan(np.radians(25)) * solid.vertices[:, 1]
    scene = room_of([solid])
    view = replace(seen(scene), relief_error=0.5)
    (item,) = arrange(unplaced(scene, view), view, {}, 0.1).values()
    assert (abs(item.evidence["set_upright_deg"]) > LEAN_MEASURED_DEG) == upright


def test_what_hangs_on_a_wall_is_held_by_the_background() -> None:
    picture = [((0.6, 0.5, 0.05), (0.3, 1.2, -3.95))]
    (item,) = arranged(room(picture, pitch_deg=5)).values()
    assert item.support == "background"
    assert item.level is None


def test_what_nothing_carries_says_so() -> None:
    (item,) = arranged(room([((0.3, 0.3, 0.3), (0.2, 0.9, -2.0))], pitch_deg=5)).values()
    assert item.support is None
    assert "steady_deg" not in item.evidence


def test_a_known_size_moves_nothing_into_the_background() -> None:
    scene = room([((0.3, 0.3, 0.3), (0.2, 0.9, -2.0))], pitch_deg=5)
    view = seen(scene, uncertainty=0.3)
    (item,) = unplaced(scene, view).values()
    named = replace(item, label="car", label_confidence=0.9)
    (found,) = arrange({1: named}, view, {}, reach=0.25).values()
    assert found.evidence["moved"] == pytest.approx(MOST_ROOM, abs=1e-3)


def test_what_is_kept_stays_whatever_depth_says() -> None:
    scene = room(DESK)
    first = arranged(scene)
    again = arranged(scene, wrong=1.04, kept={number: replace(first[number], evidence={}) for number in (1, 3)})
    for number in (1, 3):
        assert again[number].mesh is first[number].mesh
        assert (again[number].scale, again[number].support) == (first[number].scale, first[number].support)
        assert again[number].evidence["steady_deg"] == first[number].evidence["steady_deg"]


def test_without_reach_objects_stay_where_depth_says() -> None:
    scene = room(DESK)
    for number, item in arranged(scene, wrong=1.03, reach=0.0).items():
        np.testing.assert_allclose(item.mesh.vertices, scene.boxes[number - 1].vertices * item.scale, rtol=1e-5)
        assert item.evidence["moved"] == pytest.approx(0, abs=1e-6)


def test_only_silhouettes_that_overlap_make_a_pair() -> None:
    scene = room(DESK)
    assert overlapping_pairs(dict(enumerate(scene.boxes, start=1)), scene.camera) == [(2, 3)]


def test_a_spike_of_the_outline_is_nothing_to_stand_on() -> None:
    scene = room([((0.4, 0.4, 0.4), (0, 0.2, -2.5))], pitch_deg=10)
    view = seen(scene)
    (box,) = scene.boxes
    corner = int((box.vertices @ view.floor.normal).argmin())
    spike = box.vertices[corner] - 0.15 * view.floor.normal
    thin = np.concatenate([box.vertices, [spike, box.vertices[corner] + [0.004, 0, 0]]]).astype(np.float32)
    faces = np.concatenate([box.faces, [[corner, 8, 9]]]).astype(np.int32)
    mesh = replace(box, vertices=thin, faces=faces, uv=np.zeros((10, 2), np.float32))
    assert lowest_point(mesh, view) == pytest.approx(lowest_point(box, view), abs=0.03)


def test_what_stands_on_an_uneven_top_stands_where_it_ends() -> None:
    """What was made of the box below is uneven by 2 cm where the upper one hides it."""
    scene = room(DESK)
    view = seen(scene)
    items = unplaced(scene, view)
    solid = trimesh.Trimesh(items[2].mesh.vertices, items[2].mesh.faces).subdivide().subdivide().subdivide()
    top = view.floor.heights(solid.vertices) > 0.29
    bumps = np.random.default_rng(3).uniform(-0.02, 0.02, int(top.sum()))
    solid.vertices[top] += bumps[:, None] * view.floor.normal
    items[2] = replace(items[2], mesh=plain(solid, (0, 0, 0)))
    found = arrange(items, view, {}, 0.1)[3]
    assert found.support == 2
    assert found.level == pytest.approx(0.3, abs=0.02)
    assert found.evidence["steady_deg"] > 10


def test_legs_that_end_at_the_floor_are_no_spikes() -> None:
    legs = [((0.02, 0.5, 0.02), (x, 0, z)) for x in (-0.4, 0.4) for z in (-2.2, -2.6)]
    scene = room([((0.9, 0.05, 0.5), (0, 0.5, -2.4)), *legs], pitch_deg=20)
    vertices, faces = joined([box.vertices for box in scene.boxes], [box.faces for box in scene.boxes])
    table = replace(scene.boxes[0], vertices=vertices, faces=faces, uv=np.zeros((len(vertices), 2), np.float32))
    scene = replace(scene, boxes=(table,), ids=np.minimum(scene.ids, 1))
    (item,) = arranged(scene).values()
    assert item.support == 0
    assert item.evidence["steady_deg"] > 10


def test_what_something_nearer_hides_stands_on_a_foot_that_is_made() -> None:
    scene = room([((1.6, 0.7, 0.3), (0, 0, -1.8)), ((0.6, 1.2, 0.5), (0, 0, -2.9))], pitch_deg=15)
    cut = scene.boxes[1]
    lifted = np.where(scene.height + cut.vertices @ scene.up < 0.1, 0.3, 0.0)
    raised = replace(cut, vertices=(cut.vertices + lifted[:, None] * scene.up).astype(np.float32))
    found = arranged(replace(scene, boxes=(scene.boxes[0], raised)))[2]
    assert found.support == 0
    assert found.evidence["foot_made"]


IN_THE_AIR = [((0.3, 0.3, 0.3), (0.2, 0.25, -2.0))]


@pytest.mark.parametrize(("on", "support"), [(0, 0), ("background", "background"), (None, None)])
def test_what_the_user_says_carries_an_object_does(on: int | str | None, support: int | str | None) -> None:
    scene = room(IN_THE_AIR)
    (before,) = arranged(scene).values()
    assert before.support is None
    (item,) = arranged(scene, told=Told(stands={1: on})).values()  # type: ignore[dict-item]
    assert item.support == support
    assert item.evidence["told"]
    if on == 0:
        assert seen(scene).floor.heights(item.mesh.vertices).min() == pytest.approx(0, abs=0.01)


def test_an_object_stands_on_that_which_the_user_says_though_a_circle_is_seen() -> None:
    scene = room(DESK)
    found = arranged(scene, told=Told(stands={2: 3}))
    assert (found[2].support, found[3].support != 2) == (3, True)
    # What is said of objects that are not there says nothing.
    gone = arranged(scene, told=Told(stands={3: 9, 8: 1}, before=((9, 1),), distances={9: 2.0}))
    assert {number: item.scale for number, item in gone.items()} == {
        number: item.scale for number, item in arranged(scene).items()
    }


@given(st.floats(0.5, 1.5))
@settings(max_examples=4, deadline=None)
def test_a_moved_object_stays_where_it_was_put(factor: float) -> None:
    scene = room(DESK)
    view = seen(scene)
    fit = unplaced(scene, view)[1].fit.scale
    found = arranged(scene, told=Told(distances={1: factor}))
    assert found[1].scale == pytest.approx(factor * fit, rel=1e-6)
    assert found[1].evidence["scale_from_depth"] == pytest.approx(fit, rel=1e-5)


def test_what_the_user_puts_before_another_is_before_it() -> None:
    scene = room([((0.3, 0.4, 0.3), (-0.4, 0.3, -2.4)), ((0.3, 0.4, 0.3), (0.4, 0.3, -2.0))])
    distances = {}
    for before in ((), ((1, 2),)):
        found = arranged(scene, told=Told(before=before))
        distances[before] = [float(np.median(found[number].mesh.vertices[:, 2])) for number in (1, 2)]
    assert distances[()][0] > distances[()][1]
    assert distances[((1, 2),)][0] < 1.03 * distances[((1, 2),)][1]
