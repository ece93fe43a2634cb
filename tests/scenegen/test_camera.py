"""Closed forms of the cameras: what is projected comes back, and a crop is the photo seen through a turned camera."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.camera import (
    GLTF_CAMERA_FROM_CAMERA,
    USD_FROM_WORLD,
    camera_from_crop,
    camera_matrix,
    crop_camera,
    crop_from_latent,
    crop_from_photo,
    fov_x_deg,
    intrinsics_from_focal_35mm,
    intrinsics_from_fov,
    latent_distance,
    pixel_centres,
    project,
    rays,
    resized,
    transform,
    unproject,
    warp_depth_to_crop,
    warp_to_crop,
)
from scenegen.errors import InputError
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import render

CAMERA = intrinsics_from_fov(320, 240, 60)


def box_mask(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((240, 320), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


@given(st.floats(2, 169), st.integers(2, 4000), st.integers(2, 4000))
def test_field_of_view_comes_back(fov: float, width: int, height: int) -> None:
    assert fov_x_deg(intrinsics_from_fov(width, height, fov)) == pytest.approx(fov)


@pytest.mark.parametrize("fov", [0.0, 1.0, 170.0, -20.0])
def test_impossible_fields_of_view_are_refused(fov: float) -> None:
    with pytest.raises(InputError, match="more than 1 and less than 170"):
        intrinsics_from_fov(640, 480, fov)


def test_focal_length_is_taken_on_the_longer_side() -> None:
    assert intrinsics_from_focal_35mm(3600, 2400, 50).fx == pytest.approx(5000)
    assert intrinsics_from_focal_35mm(2400, 3600, 50).fx == pytest.approx(5000)


def test_the_first_pixel_centre_is_half_a_pixel_in() -> None:
    np.testing.assert_allclose(pixel_centres(3, 2)[0, 0], [0.5, 0.5])
    np.testing.assert_allclose(pixel_centres(3, 2)[1, 2], [2.5, 1.5])


@given(st.lists(st.tuples(*[st.floats(-3, 3)] * 2, st.floats(0.1, 50)), min_size=1, max_size=20))
def test_projection_undoes_unprojection(points: list[tuple[float, float, float]]) -> None:
    cloud = np.array(points)
    back = rays(CAMERA, project(CAMERA, cloud)) * cloud[:, 2:]
    np.testing.assert_allclose(back, cloud, atol=1e-9)


def test_unproject_gives_every_pixel_its_depth() -> None:
    depth = np.linspace(1, 5, 240 * 320).reshape(240, 320)
    points = unproject(CAMERA, depth)
    np.testing.assert_allclose(points[..., 2], depth)
    np.testing.assert_allclose(project(CAMERA, points), pixel_centres(320, 240), atol=1e-9)


def test_a_resized_camera_sees_the_same_rays() -> None:
    small = resized(CAMERA, 160, 120)
    np.testing.assert_allclose(rays(small, np.array([[80.0, 30.0]])), rays(CAMERA, np.array([[160.0, 60.0]])))


@given(
    st.integers(0, 280),
    st.integers(0, 200),
    st.integers(4, 40),
    st.integers(4, 40),
    st.floats(5, 120),
    st.integers(0, 3),
)
def test_a_crop_is_centred_square_and_holds_its_object(
    x: int, y: int, width: int, height: int, fov: float, seed: int
) -> None:
    camera = intrinsics_from_fov(320, 240, fov)
    mask = box_mask(x, y, min(x + width, 320), min(y + height, 240))
    crop = crop_camera(camera, mask, 128, margin=1.1)
    rotation = np.array(crop.crop_from_camera)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    v, u = np.nonzero(mask)
    corners = np.concatenate([np.stack([u + du, v + dv], -1) for du in (0, 1) for dv in (0, 1)]).astype(float)
    seen = project(crop.intrinsics, rays(camera, corners) @ rotation.T)
    low, high = seen.min(0), seen.max(0)
    np.testing.assert_allclose((low + high) / 2, [64, 64], atol=0.05)
    assert np.max(high - low) == pytest.approx(128 / 1.1, abs=0.1)


def test_the_homography_is_the_rotation_of_rays() -> None:
    crop = crop_camera(CAMERA, box_mask(250, 20, 310, 90), 128)
    pixels = np.random.default_rng(0).uniform(0, 240, (50, 2))
    by_rays = project(crop.intrinsics, rays(CAMERA, pixels) @ np.array(crop.crop_from_camera).T)
    homogeneous = np.append(pixels, np.ones((50, 1)), axis=1) @ crop_from_photo(CAMERA, crop).T
    np.testing.assert_allclose(homogeneous[:, :2] / homogeneous[:, 2:], by_rays, atol=1e-9)


@given(st.floats(0.01, 100))
def test_scale_moves_an_object_along_its_rays_only(scale: float) -> None:
    crop = crop_camera(CAMERA, box_mask(10, 150, 90, 230), 128)
    points = transform(crop_from_latent(crop.intrinsics), np.random.default_rng(1).uniform(-0.5, 0.5, (40, 3)))
    once = project(CAMERA, transform(camera_from_crop(crop, 1.0), points))
    scaled = project(CAMERA, transform(camera_from_crop(crop, scale), points))
    np.testing.assert_allclose(scaled, once, atol=1e-7)


def test_the_latent_cube_fills_the_crop() -> None:
    crop = crop_camera(CAMERA, box_mask(100, 100, 150, 130), 128)
    side = transform(crop_from_latent(crop.intrinsics), np.array([[-0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0, 0, 0.5]]))
    seen = project(crop.intrinsics, side)
    np.testing.assert_allclose(seen[0], [0, 64], atol=1e-9)  # x: left is left
    np.testing.assert_allclose(seen[1], [64, 0], atol=1e-9)  # y: up is up
    assert side[2, 2] == pytest.approx(latent_distance(crop) - 0.5)  # z: towards the camera


def test_an_object_generated_in_its_crop_lies_on_its_pixels() -> None:
    """Render a known sphere, crop it, rebuild it in the crop's frame at another scale, place it, and project it again."""
    camera = intrinsics_from_fov(640, 480, 70)
    centre, radius = np.array([1.3, 0.7, 3.0]), 0.4
    sphere = uv_sphere(centre, radius)
    mask = render([sphere], camera).ids == 0
    crop = crop_camera(camera, mask, 256)
    in_crop = sphere.transformed(np.linalg.inv(camera_from_crop(crop, 1.0)))
    shrunk = in_crop.transformed(np.diag([0.25, 0.25, 0.25, 1]))
    placed = shrunk.transformed(camera_from_crop(crop, 4.0))
    apart = project(camera, placed.vertices.astype(float)) - project(camera, sphere.vertices.astype(float))
    assert np.abs(apart).max() < 1e-2
    in_warp = warp_to_crop(mask.astype(np.float32), camera, crop) > 0.5
    in_render = render([in_crop], crop.intrinsics).ids == 0
    v, u = np.nonzero(in_warp)
    rv, ru = np.nonzero(in_render)
    assert abs(u.mean() - ru.mean()) < 0.5
    assert abs(v.mean() - rv.mean()) < 0.5
    assert np.count_nonzero(in_warp & in_render) / np.count_nonzero(in_warp | in_render) > 0.97


def test_depth_in_the_crop_is_measured_along_its_own_axis() -> None:
    depth = np.full((240, 320), 2.0, dtype=np.float32)
    crop = crop_camera(CAMERA, box_mask(250, 100, 310, 140), 128)
    seen = warp_depth_to_crop(depth, CAMERA, crop)
    axis = np.array(crop.crop_from_camera)[2]
    assert seen[64, 64] == pytest.approx(2.0 / axis[2], rel=0.01)  # the plane z = 2 along the crop's axis


def test_empty_and_mismatched_masks_are_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        crop_camera(CAMERA, np.zeros((240, 320), dtype=bool), 64)
    with pytest.raises(InputError, match="must be 320x240"):
        crop_camera(CAMERA, np.ones((10, 10), dtype=bool), 64)


@pytest.mark.parametrize("fov", [90, 110, 120])
@pytest.mark.parametrize(("left", "right"), [(0, 321), (0, 240), (81, 321), (0, 20), (301, 321), (100, 300)])
def test_the_crop_of_a_strip_in_a_wide_picture_is_the_mean_of_its_angles(fov: int, left: int, right: int) -> None:
    camera = intrinsics_from_fov(321, 241, fov)
    mask = np.zeros((241, 321), dtype=bool)
    mask[120, left:right] = True
    crop = crop_camera(camera, mask, 128, margin=1.1)
    first, last = np.arctan((np.array([left, right]) - camera.cx) / camera.fx)
    axis = np.array(crop.crop_from_camera)[2]
    assert np.arctan2(axis[0], axis[2]) == pytest.approx((first + last) / 2, abs=1e-6)
    assert 64 / crop.intrinsics.fx == pytest.approx(1.1 * np.tan((last - first) / 2), rel=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(320, 240), (240, 320), (180, 320)]),
    st.floats(90, 120),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_the_crop_of_a_wide_picture_holds_any_box_with_its_margin(
    size: tuple[int, int], fov: float, ends: tuple[float, float, float, float]
) -> None:
    camera = intrinsics_from_fov(*size, fov)
    x0, x1 = sorted(round(end * size[0]) for end in ends[:2])
    y0, y1 = sorted(round(end * size[1]) for end in ends[2:])
    mask = np.zeros(size[::-1], dtype=bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    if not mask.any():
        return
    crop = crop_camera(camera, mask, 128, margin=1.1)
    box = np.array([[u, v] for u in (x0, x1 + 1) for v in (y0, y1 + 1)]).clip(0, size).astype(float)
    edges = np.concatenate([np.linspace(a, b, 50) for a in box for b in box])
    seen = rays(camera, edges) @ np.array(crop.crop_from_camera).T
    assert (seen[:, 2] > 0).all()
    pixels = project(crop.intrinsics, seen)
    np.testing.assert_allclose((pixels.min(0) + pixels.max(0)) / 2, [64, 64], atol=1e-3)
    assert np.ptp(pixels, axis=0).max() == pytest.approx(128 / 1.1, abs=1e-3)


@pytest.mark.parametrize("fov", [150, 169])
def test_a_crop_as_wide_as_a_half_space_is_refused(fov: int) -> None:
    camera = intrinsics_from_fov(320, 240, fov)
    with pytest.raises(InputError, match=r"spans 1\d\d degrees of the view"):
        crop_camera(camera, np.ones((240, 320), dtype=bool), 128)
    small = crop_camera(camera, box_mask(300, 100, 320, 140), 128)
    assert fov_x_deg(small.intrinsics) < 30


@pytest.mark.parametrize(("x0", "x1"), [(0, 320), (80, 320), (0, 100)])
def test_a_wide_crop_sees_every_ray_in_its_place_and_nothing_behind_the_photo(x0: int, x1: int) -> None:
    camera = intrinsics_from_fov(320, 240, 120)
    crop = crop_camera(camera, box_mask(x0, 0, x1, 240), 200)
    towards = rays(crop.intrinsics) @ np.array(crop.crop_from_camera)
    towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
    photo = rays(camera)
    photo = (photo / np.linalg.norm(photo, axis=-1, keepdims=True)).astype(np.float32)
    seen = warp_to_crop(photo, camera, crop)
    ahead = towards[..., 2] > 1e-3
    at = np.where(ahead[..., None], towards / np.where(ahead, towards[..., 2], 1)[..., None], 1e6)
    inside = (np.abs(at[..., :2]) < np.array([camera.cx - 3, camera.cy - 3]) / camera.fx).all(axis=-1)
    np.testing.assert_allclose(seen[inside], towards[inside], atol=0.02)
    outside = (np.abs(at[..., :2]) > np.array([camera.cx + 3, camera.cy + 3]) / camera.fx).any(axis=-1)
    assert not seen[outside].any()


def reduced(picture: np.ndarray, reduction: float) -> np.ndarray:
    """The middle of a square picture through a crop camera whose pixels are `reduction` of its pixels wide."""
    side = len(picture)
    camera = intrinsics_from_fov(side, side, 5)
    mask = np.zeros((side, side), dtype=bool)
    inner = slice(side // 4, side - side // 4)
    mask[inner, inner] = True
    return warp_to_crop(picture, camera, crop_camera(camera, mask, round(1.1 * side / 2 / reduction)))


@pytest.mark.parametrize("reduction", [2, 2.6, 4, 7.3, 10])
def test_a_reduced_picture_does_not_alias(reduction: float) -> None:
    """A checkerboard of single pixels becomes grey, and every pixel of a line counts."""
    side = 1200
    rows, columns = np.indices((side, side))
    board = (255 * ((rows + columns) % 2)).astype(np.uint8)
    grey = reduced(board, reduction).astype(float)
    assert grey.mean() == pytest.approx(127.5, abs=1)
    assert np.ptp(grey) < 40
    line = np.zeros((side, side), dtype=np.float32)
    line[:, side // 2 : side // 2 + 2] = 1
    assert reduced(line, reduction).sum(axis=1) == pytest.approx(2 / reduction, rel=0.06)


@pytest.mark.parametrize("reduction", [3, 8])
def test_a_reduced_mask_holds_shares_of_pixels(reduction: int) -> None:
    side = 1200
    mask = np.zeros((side, side), dtype=np.float32)
    edge = side // 2 + 2
    mask[:, :edge] = 1
    row = reduced(mask, reduction)[20]
    # The crop's middle is the photo's: its pixel on the edge is covered as far as the edge.
    at = len(row) / 2 + (edge - side / 2) / reduction
    expected = np.clip(at - np.arange(len(row)), 0, 1)
    np.testing.assert_allclose(row, expected, atol=0.5 / reduction)


def test_reduction_is_the_same_whatever_the_number_of_threads() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    threads = cv2.getNumThreads()
    made = []
    for number in (1, 4):
        cv2.setNumThreads(number)
        made.append(reduced(picture, 3.3))
    cv2.setNumThreads(threads)
    np.testing.assert_array_equal(*made)


def test_frame_changes_are_rotations() -> None:
    for matrix in (GLTF_CAMERA_FROM_CAMERA, USD_FROM_WORLD):
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3))
        assert np.linalg.det(matrix) == pytest.approx(1)
    np.testing.assert_allclose(USD_FROM_WORLD @ [0, 1, 0, 1], [0, 0, 1, 1])  # up is up
    assert camera_matrix(CAMERA)[2].tolist() == [0, 0, 1]


def uv_sphere(centre: np.ndarray, radius: float, steps: int = 48) -> TexturedMesh:
    """A sphere in the camera frame."""
    import trimesh

    ball = trimesh.creation.uv_sphere(radius=radius, count=[steps, steps])
    uv = np.zeros((len(ball.vertices), 2), dtype=np.float32)
    vertices = (np.asarray(ball.vertices) + centre).astype(np.float32)
    return TexturedMesh(vertices, np.asarray(ball.faces, dtype=np.int32), uv, np.full((2, 2, 3), 128, np.uint8))
