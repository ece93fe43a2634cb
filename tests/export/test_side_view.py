from __future__ import annotations

import numpy as np
import pytest
from export.toy_scene import box, camera_pose, sheet

from scenegen.export.side_view import GROUND, side_view
from scenegen.geometry.mesh import TexturedMesh


def placed(mesh: TexturedMesh, x: float, y: float, z: float) -> TexturedMesh:
    matrix = np.eye(4)
    matrix[:3, 3] = [x, y, z]
    return mesh.transformed(matrix)


@pytest.mark.parametrize(("width", "height"), [(160, 120), (90, 150)])
def test_every_object_is_in_view_and_large(width: int, height: int) -> None:
    objects = [placed(box((0.2, 0.3, 0.2), (200, 30, 30)), x, 0, -2 - x) for x in (-0.6, 0.0, 0.9)]
    ids = side_view(objects, [], camera_pose(), width, height).ids
    assert set(np.unique(ids)) == {-1, 0, 1, 2}
    border = np.concatenate([ids[0], ids[-1], ids[:, 0], ids[:, -1]])
    assert (border == -1).all()
    v, u = np.nonzero(ids >= 0)
    assert max(np.ptp(u) / width, np.ptp(v) / height) > 0.5


def test_it_looks_from_the_right_and_above() -> None:
    left, right = (placed(box((0.2, 0.2, 0.2), (200, 30, 30)), x, 0, -2) for x in (-0.5, 0.5))
    picture = side_view([left, right], [], camera_pose(), 160, 120)
    nearest = [np.min(picture.depth[picture.ids == i]) for i in (0, 1)]
    assert nearest[1] < nearest[0], "the right one is the nearer one"
    rows = [np.nonzero(picture.ids == i)[0].mean() for i in (0, 1)]
    assert rows[1] > rows[0], "seen from above the nearer one is lower"


def test_it_looks_from_the_left_and_from_far_above() -> None:
    left, right = (placed(box((0.2, 0.2, 0.2), (200, 30, 30)), x, 0, -2) for x in (-0.5, 0.5))
    picture = side_view([left, right], [], camera_pose(), 160, 120, azimuth_deg=-50)
    assert np.min(picture.depth[picture.ids == 0]) < np.min(picture.depth[picture.ids == 1])
    above = side_view([left, right], [], camera_pose(), 160, 120, azimuth_deg=0, elevation_deg=80)
    v, u = (np.array([np.nonzero(above.ids == i)[axis].mean() for i in (0, 1)]) for axis in (0, 1))
    assert np.ptp(v) < 3 < u[1] - u[0]


def test_a_wall_before_the_objects_is_left_out_and_the_floor_is_shown() -> None:
    objects = [placed(box((0.4, 0.4, 0.4), (200, 30, 30)), 0, 0, -2)]
    floor = sheet([(-2, 0, 0), (2, 0, 0), (2, 0, -4), (-2, 0, -4)], (90, 90, 90))
    wall = sheet([(0.4, -1, 1), (0.4, -1, -4), (0.4, 3, -4), (0.4, 3, 1)], (10, 10, 250))
    picture = side_view(objects, [floor, wall], camera_pose(), 160, 120)
    alone = side_view(objects, [], camera_pose(), 160, 120)
    assert np.count_nonzero(picture.ids == 0) > 0.95 * np.count_nonzero(alone.ids == 0)
    assert (picture.color == (90, 90, 90)).all(axis=-1).any()
    assert not (picture.color == (10, 10, 250)).all(axis=-1).any()


def test_without_objects_it_shows_the_background_and_without_anything_the_ground() -> None:
    floor = sheet([(-2, 0, 0), (2, 0, 0), (2, 0, -4), (-2, 0, -4)], (90, 90, 90))
    assert (side_view([], [floor], camera_pose(), 80, 60).ids == 0).any()
    assert (side_view([], [], camera_pose(), 80, 60).color == GROUND).all()
