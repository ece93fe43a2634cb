"""What stays under gravity, against what must."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from physics.bowls import RADIUS, WALL, bowl

from scenegen.errors import WeightsError
from scenegen.physics.body import body
from scenegen.physics.settle import Placed, settle

pytest.importorskip("mujoco")


def placed(
    solid: trimesh.Trimesh, at: tuple[float, float, float] = (0, 0, 0), hulls: int = 1, fixed: bool = False
) -> Placed:
    made = body(solid.vertices.astype(np.float32), solid.faces.astype(np.int32), hulls)
    pose = np.eye(4)
    pose[:3, 3] = at
    return Placed(made, pose, mass=500 * made.volume, friction=0.5, fixed=fixed)


def box(size: tuple[float, float, float] = (0.1, 0.1, 0.1)) -> trimesh.Trimesh:
    """Its origin is the middle of its base."""
    made = trimesh.creation.box(size)
    made.apply_translation([0, size[1] / 2, 0])
    return made


def ball(radius: float) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(3, radius=radius)


def test_a_stack_stays_and_what_hangs_in_the_air_falls() -> None:
    below, above, high = settle(
        [placed(box()), placed(box((0.06, 0.06, 0.06)), (0, 0.1, 0)), placed(box(), (1, 0.5, 0))]
    )
    assert below.stays
    assert above.stays
    assert not high.stays
    assert high.displacement_m == pytest.approx(0.5, abs=0.02)


@settings(max_examples=6, deadline=None)
@given(st.floats(-0.4, 0.4).filter(lambda lean: abs(abs(lean) - 0.2) > 0.05))
def test_a_block_tips_over_from_the_lean_at_which_its_centre_leaves_its_base(lean: float) -> None:
    """A sheared box: its centre of mass lies `lean` times half its height beside the middle of its base."""
    made = box((0.04, 0.2, 0.04))
    made.vertices[:, 0] += lean * made.vertices[:, 1]
    (found,) = settle([placed(made)])
    assert found.stays == (abs(lean) * 0.1 < 0.02)


def test_what_is_in_another_is_measured_and_what_is_held_stays() -> None:
    held, other = settle([placed(box(), (0, 0.5, 0), fixed=True), placed(box(), (0.09, 0.5, 0))])
    assert held.stays
    assert held.penetration_m == pytest.approx(0.01, abs=1e-3)
    assert other.penetration_m == held.penetration_m
    assert not other.stays


def test_a_ball_falls_into_a_bowl_of_parts_where_its_hull_has_no_room() -> None:
    radius, drop = 0.03, 0.045
    start = (0.02, RADIUS - WALL - 0.02, 0.01)
    _, dropped = settle([placed(bowl(), hulls=24), placed(ball(radius), start)])
    assert dropped.penetration_m < 0.001
    assert drop < dropped.displacement_m < drop + radius
    _, dropped = settle([placed(bowl(), hulls=1), placed(ball(radius), start)])
    assert dropped.penetration_m > radius


def test_the_same_scene_ends_the_same() -> None:
    scene = [placed(bowl(), hulls=16), placed(ball(0.02), (0.01, 0.06, 0))]
    assert settle(scene) == settle(scene)


def test_without_mujoco_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(WeightsError, match="physics"):
        settle([placed(box())])
