"""Placements chosen by what stays under gravity, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from rooms import DESK, room
from test_arrange import seen, unplaced

from scenegen.camera import project
from scenegen.records import BACKGROUND_SUPPORT
from scenegen.scene.arrange import Arranged, Unplaced, arrange
from scenegen.scene.steady import SHIFTS, steadied

UNCERTAIN, REACH = 0.1, 0.2


def carried(placed: Mapping[int, Arranged]) -> frozenset[int]:
    """A stand-in for the simulation: what nothing carries falls."""
    return frozenset(number for number, item in placed.items() if item.support not in (None, BACKGROUND_SUPPORT))


def test_what_floats_is_begun_farther_away_and_no_pixel_moves() -> None:
    scene = room(DESK)
    view = seen(scene, UNCERTAIN)
    objects = unplaced(scene, view, 0.8)
    before = arrange(objects, view, {}, REACH)
    assert carried(before) < set(objects)
    after = steadied(objects, set(objects), UNCERTAIN, lambda begun: arrange(begun, view, {}, REACH), carried)
    assert carried(before) < carried(after)
    for number, item in after.items():
        pixels = project(scene.camera, scene.boxes[number - 1].vertices.astype(float))
        moved = project(scene.camera, item.mesh.vertices[: len(pixels)].astype(float)) - pixels
        assert np.abs(moved).max() < 0.5
        told = objects[number].fit.scale
        assert np.isclose(item.scale / told - 1, item.evidence["moved"], atol=1e-5)
        assert item.evidence["scale_from_depth"] == round(told, 6)
    assert any(item.evidence.get("chosen_by_gravity") for item in after.values())


@pytest.mark.parametrize("free", [(), (1, 2, 3)])
def test_what_nothing_helps_is_left_as_it_is_and_the_search_ends(free: tuple[int, ...]) -> None:
    scene = room(DESK)
    objects = unplaced(scene, seen(scene, UNCERTAIN))
    left = {number: Arranged(1.0, item.mesh, None, None, {}) for number, item in objects.items()}
    asked: list[Mapping[int, Unplaced]] = []

    def arranged(begun: Mapping[int, Unplaced]) -> dict[int, Arranged]:
        asked.append(begun)
        return left

    assert steadied(objects, free, UNCERTAIN, arranged, lambda placed: frozenset()) == left
    assert len(asked) == 1 + len(SHIFTS) * len(free)
    for begun in asked:
        for number, item in begun.items():
            assert abs(item.fit.scale / objects[number].fit.scale - 1) <= UNCERTAIN * 1.001
