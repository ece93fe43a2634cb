from __future__ import annotations

import cv2
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms import DESK, room
from scipy.spatial.transform import Rotation

from scenegen.camera import rays, transform, unproject
from scenegen.config import LayoutConfig
from scenegen.records import Support
from scenegen.scene.background import background_depth, continued
from scenegen.scene.layout import FLOOR, Floor, find_floor, find_supports, without_cycles, world_from_camera

CONFIG = LayoutConfig()


@settings(max_examples=12, deadline=None)
@given(st.floats(18, 60), st.floats(0.8, 2.5), st.floats(35, 75))
def test_the_floor_and_gravity_come_back(pitch: float, height: float, fov: float) -> None:
    scene = room(DESK, pitch, height, fov)
    if np.count_nonzero(scene.ids) < 200:
        return
    floor = find_floor(scene.depth, scene.ids, scene.camera, CONFIG)
    assert floor.source == "ransac"
    assert np.degrees(np.arccos(min(1.0, float(floor.normal @ scene.up)))) < 0.5
    assert floor.offset == pytest.approx(height, abs=0.02)


def test_a_wall_is_no_floor() -> None:
    """Looking level at a wall that fills the picture, the strip of floor is found, or said not to be seen."""
    scene = room([((0.5, 0.6, 0.5), (0, 0, -3))], pitch_deg=4, height=1.0)
    floor = find_floor(scene.depth, scene.ids, scene.camera, CONFIG)
    assert np.degrees(np.arccos(min(1.0, float(floor.normal @ scene.up)))) < 6


def test_without_a_floor_gravity_is_assumed_and_said_so() -> None:
    depth = np.zeros((240, 320), np.float32)
    ids = np.zeros((240, 320), np.uint16)
    ids[80:160, 100:200] = 1
    depth[ids == 1] = 2.0
    scene = room(DESK)
    floor = find_floor(depth, ids, scene.camera, CONFIG)
    assert floor.source == "assumed"
    assert "no floor was found" in floor.warnings[-1]
    lowest = unproject(scene.camera, depth)[ids == 1][:, 1].max()
    assert floor.offset == pytest.approx(lowest, rel=0.02)


def test_gravity_tells_a_floor_from_a_wall() -> None:
    """A room seen by a camera that lies on its side: by the picture's vertical alone its floor would be a wall."""
    scene = room(DESK, pitch_deg=30)
    camera = scene.camera
    side = camera.model_copy(
        update={
            "width": camera.height,
            "height": camera.width,
            "fx": camera.fy,
            "fy": camera.fx,
            "cx": camera.cy,
            "cy": camera.cx,
        }
    )
    depth, ids = np.rot90(scene.depth).copy(), np.rot90(scene.ids).copy()
    # np.rot90 takes the picture's right to its top: x' = y, y' = -x.
    turn = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]])
    up = turn @ scene.up
    floor = find_floor(depth, ids, side, CONFIG, gravity=tuple(-up))
    assert floor.source == "ransac"
    assert np.degrees(np.arccos(min(1.0, float(floor.normal @ up)))) < 0.5


def test_without_a_floor_the_estimated_gravity_counts() -> None:
    depth = np.zeros((240, 320), np.float32)
    ids = np.zeros((240, 320), np.uint16)
    ids[80:160, 100:200] = 1
    depth[ids == 1] = 2.0
    down = np.array([0.6, 0.8, 0.0])
    camera = room(DESK).camera
    floor = find_floor(depth, ids, camera, CONFIG, gravity=(0.6, 0.8, 0.0))
    assert floor.source == "assumed"
    assert "as estimated from the picture" in floor.warnings[-1]
    assert np.allclose(floor.normal, -down)
    assert floor.heights(unproject(camera, depth)[ids == 1]).min() == pytest.approx(0, abs=0.1)


def test_an_empty_depth_map_still_has_a_floor() -> None:
    scene = room(DESK)
    nothing = np.zeros_like(scene.depth)
    assert find_floor(nothing, np.zeros_like(scene.ids), scene.camera, CONFIG).offset == 1.0


@given(st.floats(0, 89), st.floats(-30, 30))
def test_the_world_is_rigid_upright_and_ahead(pitch: float, roll: float) -> None:
    a, b = np.radians(pitch), np.radians(roll)
    normal = np.array([np.sin(b) * np.cos(a), -np.cos(b) * np.cos(a), -np.sin(a)])
    floor = Floor(normal, 1.5, "ransac")
    matrix = world_from_camera(floor, np.array([0.2, 0.1, 3.0]))
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    assert transform(matrix, np.zeros(3))[1] == pytest.approx(1.5)  # the camera's height
    np.testing.assert_allclose(matrix[:3, :3] @ normal, [0, 1, 0], atol=1e-12)
    assert (matrix[:3, :3] @ [0, 0, 1])[2] <= 1e-9  # it looks towards -Z
    foot = transform(matrix, np.array([0.2, 0.1, 3.0]))
    np.testing.assert_allclose(foot[[0, 2]], 0, atol=1e-9)


def test_straight_down_the_pictures_top_is_ahead() -> None:
    matrix = world_from_camera(Floor(np.array([0.0, 0, -1]), 2.0, "ransac"), np.array([0, 0, 1.0]))
    np.testing.assert_allclose(matrix[:3, :3] @ [0, -1, 0], [0, 0, -1], atol=1e-9)


def test_supports_are_read_off_the_picture() -> None:
    scene = room(DESK)
    floor = find_floor(scene.depth, scene.ids, scene.camera, CONFIG)
    found = {support.child: support for support in find_supports(scene.depth, scene.ids, scene.camera, floor)}
    assert [found[i].parent for i in (1, 2, 3)] == [0, 0, 2]
    assert all(support.contact_share > 0.5 for support in found.values())


@given(st.lists(st.tuples(st.integers(0, 8), st.floats(0, 1)), min_size=1, max_size=8))
def test_only_the_weakest_contact_of_a_circle_is_broken(drawn: list[tuple[int, float]]) -> None:
    supports = [
        Support(child=child, parent=parent % (len(drawn) + 1), contact_share=share)
        for child, (parent, share) in enumerate(drawn, start=1)
        if parent % (len(drawn) + 1) != child
    ]
    circles = list(nx.simple_cycles(nx.DiGraph((support.parent, support.child) for support in supports)))
    share = {support.child: support.contact_share for support in supports}
    found = without_cycles(supports)
    assert nx.is_directed_acyclic_graph(nx.DiGraph((support.parent, support.child) for support in found))
    moved = {support.child for support, before in zip(found, supports, strict=True) if support != before}
    assert len(moved) == len(circles)
    for circle in circles:
        (broken,) = moved & set(circle)
        assert share[broken] == min(share[child] for child in circle)
    assert all(support.parent == FLOOR for support in found if support.child in moved)


def test_an_object_behind_another_stands_on_the_floor() -> None:
    scene = room([((0.6, 0.3, 0.3), (0, 0, -2.0)), ((0.3, 0.9, 0.3), (0, 0, -2.8))])
    floor = find_floor(scene.depth, scene.ids, scene.camera, CONFIG)
    found = {support.child: support for support in find_supports(scene.depth, scene.ids, scene.camera, floor)}
    assert found[2].parent == 0
    assert found[2].contact_share < 0.2  # its base is hidden


def test_the_background_is_known_behind_the_objects() -> None:
    scene = room(DESK)
    empty = room([])
    floor = find_floor(scene.depth, scene.ids, scene.camera, CONFIG)
    behind, is_floor = background_depth(scene.depth, scene.ids, scene.camera, floor, CONFIG)
    hidden = scene.ids > 0
    error = np.abs(behind[hidden] / empty.depth[hidden] - 1)
    assert np.percentile(error, 90) < 0.05
    assert (behind > 0).all()
    assert is_floor[230, 160]
    assert not is_floor[5, 160]


def test_values_are_continued_from_the_nearest() -> None:
    values = np.zeros((20, 30))
    known = np.zeros((20, 30), bool)
    values[:, :10], known[:, :10] = 3.0, True
    np.testing.assert_allclose(continued(values, known, 9.0), 3.0, rtol=1e-6)
    np.testing.assert_allclose(continued(values, np.zeros_like(known), 9.0), 9.0)


def test_rays_above_the_horizon_never_meet_the_floor() -> None:
    floor = Floor(np.array([0.0, -1, 0]), 1.0, "assumed")
    camera = room([]).camera
    depth = floor.depth(rays(camera))
    assert np.isinf(depth[:119]).all()
    np.testing.assert_allclose(floor.heights(rays(camera)[130:] * depth[130:, :, None]), 0, atol=1e-9)


def test_what_an_estimate_bends_is_floor_still() -> None:
    """A level floor whose depth is 6 % off at the sides: of an exact depth that is no floor, of an estimate it is."""
    scene = room(DESK, 35, 1.4, 55)
    level = find_floor(scene.depth, scene.ids, scene.camera, CONFIG)
    across = np.linspace(-1, 1, scene.depth.shape[1]) ** 2
    bent = (scene.depth * (1 + 0.06 * across)).astype(np.float32)
    true = background_depth(scene.depth, scene.ids, scene.camera, level, CONFIG)[1]
    shares = []
    for uncertainty in (0.01, 0.07):
        floor = find_floor(bent, scene.ids, scene.camera, CONFIG, uncertainty=uncertainty)
        found = background_depth(bent, scene.ids, scene.camera, floor, CONFIG, uncertainty)[1]
        shares.append(np.count_nonzero(found & true) / np.count_nonzero(true))
    assert shares[1] > 0.98 > shares[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_floor_that_is_little_of_what_is_seen_is_found_in_clutter(seed: int) -> None:
    """6 % of the picture shows the floor; all else is a relief without planes."""
    empty = room([], wall=False)
    random = np.random.default_rng(seed)
    relief = cv2.GaussianBlur(random.standard_normal(empty.depth.shape), (0, 0), 6)
    depth = 2.5 * np.exp(0.15 * relief / relief.std())
    left = random.integers(0, 240)
    depth[-58:, left : left + 80] = empty.depth[-58:, left : left + 80]
    floor = find_floor(depth, np.zeros(depth.shape, np.uint16), empty.camera, CONFIG)
    assert floor.source == "ransac"
    assert np.degrees(np.arccos(min(1.0, float(floor.normal @ empty.up)))) < 3
    assert floor.offset == pytest.approx(1.4, abs=0.05)


@pytest.mark.parametrize("lean", [0.0, 0.25, -0.25])
def test_a_floor_of_estimated_depth_is_level_though_the_depth_leans(lean: float) -> None:
    """The inverse depth of every plane gains a slope in the picture, which tips them all."""
    scene = room(DESK, 35, 1.4, 55)
    leaning = (1 / (1 / scene.depth + lean * rays(scene.camera)[..., 1] / 3)).astype(np.float32)
    floor = find_floor(leaning, scene.ids, scene.camera, CONFIG, tuple((-scene.up).tolist()), uncertainty=0.15)
    assert floor.source == "ransac"
    assert np.degrees(np.arccos(min(1.0, float(floor.normal @ scene.up)))) < 1.5
    assert floor.offset == pytest.approx(1.4, rel=0.25 if lean else 0.02)


@pytest.mark.parametrize(("pitch", "roll"), [(5, 0), (-5, 2), (0, 4), (0, 0)])
def test_what_stands_on_the_floor_mends_an_estimated_gravity(pitch: float, roll: float) -> None:
    scene = room(DESK, 25, 1.4, 55, size=(160, 120))
    turn = Rotation.from_euler("xz", [pitch, roll], degrees=True).as_matrix()
    floor = find_floor(scene.depth, scene.ids, scene.camera, CONFIG, tuple(-turn @ scene.up), uncertainty=0.05)
    before, after = (float(np.degrees(np.arccos(min(1.0, up @ scene.up)))) for up in (turn @ scene.up, floor.normal))
    assert after < max(0.5, 0.95 * before)
