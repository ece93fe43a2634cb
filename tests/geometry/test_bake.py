from __future__ import annotations

from dataclasses import replace

import numpy as np
import trimesh
from scipy import ndimage

from scenegen.camera import intrinsics_from_fov
from scenegen.geometry.bake import bake, object_colours, rasterised
from scenegen.geometry.generator import ObjectView, Shape
from scenegen.geometry.render import render
from scenegen.geometry.unwrap import face_atlas, unwrap
from scenegen.records import CropCamera

SIZE = 256
CROP = CropCamera(crop_from_camera=((1, 0, 0), (0, 1, 0), (0, 0, 1)), intrinsics=intrinsics_from_fov(SIZE, SIZE, 30))


def painted_ball() -> tuple[Shape, ObjectView]:
    """A ball whose photo is a smooth pattern on black."""
    ball = trimesh.creation.icosphere(4, radius=0.8)
    shape = Shape(
        (np.asarray(ball.vertices) + np.array([0, 0, 4])).astype(np.float32), np.asarray(ball.faces, dtype=np.int32)
    )
    atlas = face_atlas(shape.faces)
    flat = bake(shape, atlas, view(np.full((SIZE, SIZE, 3), 255, np.uint8), np.ones((SIZE, SIZE), np.float32)), 64)
    mask = render([flat], CROP.intrinsics).ids == 0
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    pattern = np.stack([128 + 90 * np.sin(x / 14), 128 + 90 * np.sin(y / 17), np.full_like(x, 90)], -1).astype(np.uint8)
    return shape, view(np.where(mask[..., None], pattern, 0).astype(np.uint8), mask.astype(np.float32))


def view(image: np.ndarray, mask: np.ndarray) -> ObjectView:
    nothing = np.zeros((SIZE, SIZE), np.float32)
    return ObjectView(image, mask, nothing, nothing, np.array([0, -1, 0], np.float32), CROP)


def test_the_baked_object_looks_like_its_photo() -> None:
    shape, seen = painted_ball()
    mesh = bake(shape, unwrap(shape.vertices, shape.faces, 512, 60), seen, 512)
    picture = render([mesh], CROP.intrinsics)
    core = np.zeros((SIZE, SIZE), bool)
    core[80:176, 80:176] = True
    difference = np.abs(picture.color[core].astype(int) - seen.image[core])
    assert np.percentile(difference, 95) < 12


def test_nothing_is_black_and_the_back_takes_after_the_front() -> None:
    shape, seen = painted_ball()
    mesh = bake(shape, unwrap(shape.vertices, shape.faces, 256, 60), seen, 256)
    assert mesh.base_color.max(axis=2).min() > 40
    behind = render([mesh.transformed(np.diag([-1.0, 1, -1, 1])).transformed(shift(8))], CROP.intrinsics)
    back = behind.color[behind.ids == 0]
    front = seen.image[seen.mask > 0.5]
    np.testing.assert_allclose(back.mean(axis=0), front.mean(axis=0), atol=25)


def test_hidden_sides_take_given_colours_in_the_photos_light_and_seen_ones_do_not() -> None:
    """A grey ball, red behind, whose given colours are 60 darker than the photo on the side that it shows."""
    shape, seen = painted_ball()
    seen = replace(seen, image=np.where(seen.mask[..., None] > 0.5, 160, 0).astype(np.uint8).repeat(3, -1)[..., :3])

    def given(points: np.ndarray) -> np.ndarray:
        return np.where(points[:, 2:] < 4, [100.0, 100.0, 100.0], [150.0, 20.0, 20.0])

    mesh = bake(shape, unwrap(shape.vertices, shape.faces, 256, 60), seen, 256, given)
    behind = render([mesh.transformed(np.diag([-1.0, 1, -1, 1])).transformed(shift(8))], CROP.intrinsics)
    inner = ndimage.binary_erosion(behind.ids == 0, iterations=12)
    assert np.percentile(np.abs(behind.color[inner].astype(int) - [210, 80, 80]), 90) < 8
    front = render([mesh], CROP.intrinsics)
    assert np.percentile(np.abs(front.color[100:156, 100:156].astype(int) - seen.image[100:156, 100:156]), 90) < 8


def shift(z: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[2, 3] = z
    return matrix


def test_colours_come_from_inside_the_mask_only() -> None:
    image = np.full((SIZE, SIZE, 3), (255, 0, 255), np.uint8)
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[60:200, 60:200] = 1
    image[62:198, 62:198] = (20, 140, 60)  # a mixed rim of two pixels stays outside
    sharp, soft = object_colours(image, mask)
    for picture in (sharp, soft):
        assert np.abs(picture.astype(int) - (20, 140, 60)).max() <= 1


def test_rasterised_texels_know_their_triangle() -> None:
    uv = np.array([[0, 0], [1, 0], [0, 1]], dtype=np.float32)
    owners, weights = rasterised(uv, np.array([[0, 1, 2]], dtype=np.int32), 64)
    row, column = 10, 20
    assert owners[row, column] == 0
    np.testing.assert_allclose(weights[row, column] @ uv, [(column + 0.5) / 64, (row + 0.5) / 64], atol=1e-5)
    assert owners[63, 63] == -1
