from __future__ import annotations

from dataclasses import replace

import numpy as np
import trimesh
from scipy import ndimage

from scenegen.camera import intrinsics_from_fov
from scenegen.geometry.bake import bake, object_colours, rasterised
from scenegen.geometry.generator import ObjectView, OtherView, Shape
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


def test_what_faces_away_shows_the_mirror_image_of_what_is_before_it() -> None:
    shape, seen = painted_ball()
    mesh = bake(shape, unwrap(shape.vertices, shape.faces, 512, 60), seen, 512)
    behind = render([mesh.transformed(np.diag([-1.0, 1, -1, 1])).transformed(shift(8))], CROP.intrinsics)
    middle = (slice(96, 160), slice(96, 160))
    back, front = behind.color[:, ::-1][middle][..., :2].ravel(), seen.image[middle][..., :2].ravel()
    assert np.corrcoef(back, front)[0, 1] > 0.9


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


def test_a_chart_between_the_centres_of_texels_has_those_its_corners_lie_in() -> None:
    uv = np.array([[0.1, 0.501], [0.6, 0.503], [0.3, 0.505]], dtype=np.float32)
    owners, weights = rasterised(uv, np.array([[0, 1, 2]], dtype=np.int32), 64)
    column, row = (uv * 64).astype(int).T
    assert (owners[row, column] == 0).all()
    np.testing.assert_array_equal(weights[row, column], np.eye(3))
    assert np.count_nonzero(owners == 0) == 3


def sides(covered: bool = False) -> tuple[Shape, ObjectView]:
    """A ball, red before and blue to its right, seen from before and from the right; a green thing before its lower half there.

    The picture from the right is 40 darker.
    """
    ball = trimesh.creation.icosphere(4, radius=0.8)
    shape = Shape((np.add(ball.vertices, [0, 0, 4])).astype(np.float32), np.asarray(ball.faces, dtype=np.int32))
    # From the right: x of that camera is the depth of the first one.
    from_first = np.array([[0.0, 0, 1, -4], [0, 1, 0, 0], [-1, 0, 0, 4], [0, 0, 0, 1]])
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    mask = ((x - 128) ** 2 + (y - 128) ** 2 < 95**2).astype(np.float32)
    first = np.where((x > 128)[..., None], [160, 60, 160], [200, 60, 60]).astype(np.uint8)
    second = np.full((SIZE, SIZE, 3), [120, 20, 120], np.uint8)
    second[x > 128] = [40, 20, 160]
    lower = (y > 140) if covered else np.zeros_like(y, bool)
    second[lower] = [0, 255, 0]
    seen = replace(view(second, np.where(lower, 0, mask).astype(np.float32)))
    return shape, replace(view(first, mask), others=(OtherView(seen, from_first),))


def from_the_right(shape: Shape, seen: ObjectView, hidden: object = None) -> np.ndarray:
    mesh = bake(shape, unwrap(shape.vertices, shape.faces, 256, 60), seen, 256, hidden)  # type: ignore[arg-type]
    return render([mesh.transformed(seen.others[0].crop_from_main)], CROP.intrinsics).color


def test_each_side_is_taken_from_the_view_that_sees_it_in_the_light_of_the_first() -> None:
    shape, seen = sides()
    picture = from_the_right(shape, seen)
    # The side that faces away from the first camera, and the side that both see.
    np.testing.assert_allclose(np.median(picture[100:156, 150:190].reshape(-1, 3), axis=0), [80, 60, 200], atol=6)
    np.testing.assert_allclose(np.median(picture[100:156, 66:100].reshape(-1, 3), axis=0), [160, 60, 160], atol=6)


def test_what_covers_an_object_in_another_view_does_not_get_onto_it() -> None:
    shape, seen = sides(covered=True)
    picture = from_the_right(shape, seen, lambda points: np.full((len(points), 3), 90.0))
    assert picture[160:200, 100:190, 1].max() < 130
    # No view shows the covered part behind: there the given colours stay, in the light of the photo.
    behind = picture[175:195, 150:175].reshape(-1, 3)
    assert np.abs(behind - np.median(behind, axis=0)).max() < 40
