from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from scenegen.camera import intrinsics_from_fov, pixel_centres, rays
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import RayCaster, render, sample_texture

CAMERA = intrinsics_from_fov(160, 120, 60)


def wall(z: float, half: float, texture: np.ndarray) -> TexturedMesh:
    """A square that faces the camera."""
    corners = np.array([[-half, -half, z], [half, -half, z], [half, half, z], [-half, half, z]], np.float32)
    faces = np.array([[0, 2, 1], [0, 3, 2]], np.int32)
    return TexturedMesh(corners, faces, np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32), texture)


def test_the_nearer_wall_hides_the_farther() -> None:
    red, blue = (np.full((2, 2, 3), colour, np.uint8) for colour in ((200, 10, 10), (10, 10, 200)))
    picture = render([wall(4, 9, blue), wall(2, 0.5, red)], CAMERA)
    centres = pixel_centres(160, 120)
    inside = (np.abs(rays(CAMERA)[..., :2]).max(axis=-1) * 2) < 0.5
    np.testing.assert_array_equal(picture.ids == 1, inside)
    np.testing.assert_allclose(picture.depth[inside], 2, atol=1e-5)
    np.testing.assert_allclose(picture.depth[~inside], 4, atol=1e-5)
    assert centres.shape == (120, 160, 2)
    assert (picture.color[inside] == (200, 10, 10)).all()
    assert (picture.color[~inside] == (10, 10, 200)).all()


def test_an_empty_scene_is_background() -> None:
    picture = render([], CAMERA, background=7)
    assert (picture.ids == -1).all()
    assert (picture.depth == 0).all()
    assert (picture.color == 7).all()


def test_the_texture_is_upright() -> None:
    texture = np.zeros((2, 2, 3), np.uint8)
    texture[0, 0] = (255, 0, 0)  # top left
    picture = render([wall(2, 0.8, texture)], CAMERA)
    left, right = picture.color[45, 65].astype(int), picture.color[75, 95].astype(int)
    assert left[0] > 100 > right[0]


def test_texels_are_interpolated_and_clamped() -> None:
    texture = np.array([[[0, 0, 0], [100, 100, 100]]], np.uint8)
    at = np.array([[0.25, 0.5], [0.5, 0.5], [0.75, 0.5], [-3.0, 0.5], [3.0, 0.5]])
    np.testing.assert_array_equal(sample_texture(texture, at)[:, 0], [0, 50, 100, 0, 100])


def test_distances_are_in_units_of_the_direction() -> None:
    square = wall(3, 1, np.zeros((1, 1, 3), np.uint8))
    hits = RayCaster(square.vertices, square.faces).cast(np.zeros((2, 3)), np.array([[0, 0, 0.5], [0, 0, -1.0]]))
    assert hits.distance[0] == pytest.approx(6)
    assert np.isinf(hits.distance[1])
    assert hits.triangle[1] == -1


MANY_CASTERS = """
import numpy as np
from scenegen.geometry.render import RayCaster
triangle, ahead = np.eye(3, dtype=np.float32), np.ones((1, 3))
casters = [RayCaster(triangle + index, np.array([[0, 1, 2]], np.int32)) for index in range(4000)]
for index, caster in enumerate(casters):
    assert np.isclose(caster.cast(0 * ahead, ahead).distance[0], index + 1 / 3), index
"""


def test_thousands_of_casters_live_side_by_side() -> None:
    """In a process of its own: what this guards against is a segmentation fault."""
    done = subprocess.run([sys.executable, "-c", MANY_CASTERS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_casters_are_made_and_used_in_many_threads() -> None:
    ahead = np.ones((1, 3))

    def distance(index: int) -> float:
        caster = RayCaster(np.eye(3, dtype=np.float32) + index, np.array([[0, 1, 2]], np.int32))
        return float(caster.cast(0 * ahead, ahead).distance[0])

    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(distance, range(400)))
    np.testing.assert_allclose(found, np.arange(400) + 1 / 3, rtol=1e-5)
