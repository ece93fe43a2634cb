import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from scenegen import camera
from scenegen.errors import UsageError
from scenegen.pixal3d.projection import (
    bilinear_taps,
    dense_coords,
    distance_from_fov,
    focal_pixels,
    fov_from_focal,
    front_cameras,
    front_pose,
    lattice_points,
    project,
    relative_cameras,
    sample,
    sampling_points,
    world_from_latent,
)
from scenegen.records import CropCamera, Intrinsics

RELEASED_FOV = 0.8575560450553894


def square_crop(fov: float, size: int) -> CropCamera:
    focal = focal_pixels(fov, size)
    intrinsics = Intrinsics(width=size, height=size, fx=focal, fy=focal, cx=size / 2, cy=size / 2)
    return CropCamera(crop_from_camera=((1, 0, 0), (0, 1, 0), (0, 0, 1)), intrinsics=intrinsics)


def random_pose(rng: np.random.Generator) -> torch.Tensor:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    pose[:3, 3] = rng.normal(size=3)
    return torch.from_numpy(pose).float()


@settings(deadline=None)
@given(st.floats(0.1, 1.4), st.sampled_from([64, 512, 1024]), st.integers(0, 9))
def test_latent_points_fall_where_the_crop_camera_of_the_scene_sees_them(fov, size, seed):
    crop = square_crop(fov, size)
    latent = np.random.default_rng(seed).uniform(-0.5, 0.5, (40, 3)).astype(np.float32)
    seen = camera.transform(camera.crop_from_latent(crop.intrinsics), latent.astype(float))
    cameras = front_cameras(torch.tensor([fov]), torch.tensor([distance_from_fov(fov)]), torch.ones(1))
    world = world_from_latent(torch.from_numpy(latent), cameras.mesh_scale[0])
    uv, depth = project(world, cameras.world_from_camera[0, 0], cameras.fov[0, 0], size)
    assert np.allclose(uv.numpy(), camera.project(crop.intrinsics, seen), atol=2e-3 * size / 512)
    assert np.allclose(depth.numpy(), seen[:, 2], rtol=1e-5)


@settings(deadline=None)
@given(st.floats(0.1, 3.0))
def test_the_distance_is_that_of_the_crop_camera(fov):
    crop = square_crop(fov, 512)
    assert distance_from_fov(fov) == pytest.approx(camera.latent_distance(crop))
    assert fov_from_focal(crop.intrinsics.fx / 512) == pytest.approx(fov)


def test_the_distance_of_the_released_field_of_view():
    assert distance_from_fov(RELEASED_FOV) == pytest.approx(1.09375, abs=1e-5)
    assert distance_from_fov(0.2) == pytest.approx(4.983, abs=1e-3)


@pytest.mark.parametrize("extend", [0.0, 7.0, -20.0])
@pytest.mark.parametrize("scale", [0.8, 1.0, 1.37])
def test_the_left_face_of_the_cube_falls_where_asked(extend, scale):
    distance = distance_from_fov(RELEASED_FOV, scale, extend, 512)
    cameras = front_cameras(*(torch.tensor([value]) for value in (RELEASED_FOV, distance, scale)))
    world = world_from_latent(torch.tensor([[-0.5, 0.0, 0.0]]), scale)
    uv, _ = project(world, cameras.world_from_camera[0, 0], cameras.fov[0, 0], 512)
    assert uv.numpy() == pytest.approx(np.array([[-extend, 256]]), abs=1e-3)


def test_sampling_is_shifted_by_half_a_pixel():
    assert sampling_points(torch.tensor([[0.0, 511.5]]), 512).tolist() == [[0.5 / 512 * 2 - 1, 1.0]]


def test_points_behind_the_camera_are_mirrored():
    pose = front_pose(torch.tensor([1.0]))[0]
    ahead, behind = torch.tensor([[0.2, 0.0, 0.1]]), torch.tensor([[-0.2, -2.0, -0.1]])
    (uv, depth), (mirrored, negative) = (project(point, pose, torch.tensor(1.0), 100) for point in (ahead, behind))
    assert torch.allclose(uv, mirrored)
    assert depth.item() == -negative.item() == 1


def test_the_lattice_ends_on_the_faces_of_the_cube():
    points = lattice_points(dense_coords(5), 5)
    assert points.shape == (125, 3)
    assert points[0].tolist() == [-0.5, -0.5, -0.5]
    assert points[1].tolist() == [-0.5, -0.5, -0.25]
    assert points[-1].tolist() == [0.5, 0.5, 0.5]


@settings(deadline=None)
@given(st.integers(2, 96), st.integers(0, 9))
def test_points_of_active_voxels_are_those_of_the_dense_lattice(resolution, seed):
    coords = torch.from_numpy(np.random.default_rng(seed).integers(0, resolution, (7, 3)))
    axis = torch.linspace(-1, 1, resolution) / 2
    assert torch.equal(lattice_points(coords, resolution), torch.stack([axis[c] for c in coords.unbind(1)], 1))


@pytest.mark.parametrize("coords", [[[0, 0, 4]], [[-1, 0, 0]]])
def test_a_voxel_outside_the_grid_is_refused(coords):
    with pytest.raises(UsageError, match="a grid of resolution 4 allows 0 to 3"):
        lattice_points(torch.tensor(coords), 4)


@pytest.mark.parametrize("seed", range(4))
def test_the_first_of_several_cameras_becomes_the_front_and_takes_the_others_along(seed):
    rng = np.random.default_rng(seed)
    poses = torch.stack([random_pose(rng) for _ in range(3)])[None]
    fov, distance, scale = torch.full((1, 3), 0.4), torch.tensor([2.5]), torch.ones(1)
    cameras = relative_cameras(poses, fov, distance, scale)
    assert torch.allclose(cameras.world_from_camera[:, 0], front_pose(distance), atol=1e-5)
    between = torch.linalg.inv(poses[0, 1]) @ poses[0, 2]
    ours = torch.linalg.inv(cameras.world_from_camera[0, 1]) @ cameras.world_from_camera[0, 2]
    assert torch.allclose(ours, between, atol=1e-5)
    moved = relative_cameras(random_pose(rng) @ poses, fov, distance, scale)
    assert torch.allclose(moved.world_from_camera, cameras.world_from_camera, atol=1e-5)


def test_the_camera_behind_sees_left_and_right_exchanged():
    distance = 2.0
    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0]))  # about the vertical of the Z-up world
    front = front_pose(torch.tensor([distance]))[0]
    point = torch.tensor([[0.3, 0.0, 0.2]])
    (ahead, _), (behind, _) = (project(point, pose, torch.tensor(0.5), 200) for pose in (front, half_turn @ front))
    assert torch.allclose(behind, torch.tensor([200.0, 0.0]) + ahead * torch.tensor([-1.0, 1.0]), atol=1e-4)


def random_map(seed: int, channels: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(channels, height, width, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 99))
def test_the_taps_of_bilinear_sampling_are_those_of_torch(height, width, seed):
    feature_map = random_map(seed, 3, height, width)
    points = torch.rand(30, 2, generator=torch.Generator().manual_seed(seed)) * 3 - 1.5
    rows, columns, weights = bilinear_taps(points, height, width)
    by_taps = (feature_map[:, rows, columns] * weights).sum(-1).T
    assert torch.allclose(by_taps, sample(feature_map, points), atol=1e-5)
    assert torch.allclose(weights.sum(-1), torch.ones(30))


def test_a_linear_map_is_sampled_exactly():
    ramp = torch.arange(8.0).expand(1, 6, 8)
    points = torch.tensor([[0.0, 0.3], [-1.0, 0.0], [0.5, -2.0], [9.0, 0.0]])
    assert sample(ramp, points)[:, 0].tolist() == [3.5, 0.0, 5.5, 7.0]


def test_points_nowhere_read_some_pixel():
    nowhere = torch.tensor([[math.nan, math.inf], [-math.inf, math.nan], [1e30, -1e30]])
    rows, columns, weights = bilinear_taps(nowhere, 5, 6)
    assert set(rows.flatten().tolist()) <= set(range(5))
    assert set(columns.flatten().tolist()) <= set(range(6))
    assert torch.isfinite(weights).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fov": 49.0}, "`fov` is 49.0 radians.*math.radians"),
        ({"fov": 0.0}, "`fov` is 0.0 radians"),
        ({"fov": 1.0, "mesh_scale": 0.0}, "`mesh_scale` is 0.0"),
        ({"fov": 1.0, "extend_pixels": -256.0}, "`extend_pixels` is -256.0"),
    ],
)
def test_an_impossible_camera_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        distance_from_fov(**arguments)
