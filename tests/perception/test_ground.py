"""Closed forms of the assumed ground, and bodies rendered on it that must come back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.camera import intrinsics_from_fov, unproject
from scenegen.config import GroundConfig
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import Picture, render
from scenegen.perception.ground import estimate_ground
from scenegen.records import Intrinsics

CAMERA = intrinsics_from_fov(320, 240, 55.0)


def camera_from_world(config: GroundConfig) -> np.ndarray:
    """World: y up, the ground at 0, the camera above the origin, looking towards +z and down."""
    pitch = np.radians(config.pitch_deg)
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [-1, 0, 0],
        [0, -np.cos(pitch), -np.sin(pitch)],
        [0, -np.sin(pitch), np.cos(pitch)],
    ]
    matrix[:3, 3] = matrix[:3, :3] @ [0, -config.camera_height_m, 0]
    return matrix


def seen(config: GroundConfig, *bodies: trimesh.Trimesh, camera: Intrinsics = CAMERA) -> tuple[np.ndarray, Picture]:
    """Ids 1..n of the bodies (world frame) as the camera sees them, and the picture."""
    meshes = [
        TexturedMesh(
            vertices=trimesh.transform_points(body.vertices, camera_from_world(config)).astype(np.float32),
            faces=body.faces.astype(np.int32),
            uv=np.zeros((len(body.vertices), 2), dtype=np.float32),
            base_color=np.zeros((1, 1, 3), dtype=np.uint8),
        )
        for body in bodies
    ]
    picture = render(meshes, camera)
    return (picture.ids + 1).astype(np.uint16), picture


def box(size: tuple[float, float, float], x: float, y: float, z: float) -> trimesh.Trimesh:
    """Extents (width, height, depth); (x, y, z) is the centre of its base."""
    body = trimesh.creation.box(extents=size)
    body.apply_translation([x, y + size[1] / 2, z])
    return body


def in_world(depth: np.ndarray, config: GroundConfig, camera: Intrinsics = CAMERA) -> np.ndarray:
    """World coordinates of every pixel."""
    points = unproject(camera, depth.astype(float)).reshape(-1, 3)
    return trimesh.transform_points(points, np.linalg.inv(camera_from_world(config))).reshape(*depth.shape, 3)


@pytest.mark.parametrize("pitch", [0.0, 10.0, 25.0, 60.0, 89.0])
def test_every_pixel_of_an_empty_scene_lies_on_the_ground_or_the_backdrop(pitch: float) -> None:
    config = GroundConfig(camera_height_m=1.3, pitch_deg=pitch, max_depth_m=5.0)
    depth = estimate_ground(np.zeros((240, 320), np.uint16), CAMERA, config).depth
    world = in_world(depth, config)
    on_ground = np.abs(world[..., 1]) < 1e-4
    on_backdrop = np.abs(world[..., 2] - 5.0) < 1e-4
    assert (on_ground | on_backdrop).all()
    assert world[..., 1].min() > -1e-4
    assert world[..., 2].max() < 5.0 + 1e-4
    # They meet in one straight, level line.
    assert (on_ground == on_ground[:, :1]).all()


def test_ground_below_a_level_camera() -> None:
    config = GroundConfig(camera_height_m=1.0, pitch_deg=0.0, max_depth_m=100.0)
    depth = estimate_ground(np.zeros((240, 320), np.uint16), CAMERA, config).depth
    assert depth[239, 5] == pytest.approx(CAMERA.fy / 119.5, rel=1e-5)
    assert depth[10, 5] == pytest.approx(100.0)


@pytest.mark.parametrize("pitch", [10.0, 25.0, 40.0])
@pytest.mark.parametrize("distance", [1.0, 1.8])
@pytest.mark.parametrize("shape", ["box", "can"])
def test_upright_bodies_come_back(shape: str, distance: float, pitch: float) -> None:
    config = GroundConfig(camera_height_m=distance * np.tan(np.radians(pitch)) + 0.1, pitch_deg=pitch)
    body = box((0.3, 0.3, 0.3), 0.0, 0.0, distance)
    if shape == "can":
        body = trimesh.creation.cylinder(radius=0.12, height=0.3, sections=64)
        body.apply_transform(trimesh.geometry.align_vectors([0, 0, 1], [0, 1, 0]))
        body.apply_translation([0.1, 0.15, distance])
    ids, picture = seen(config, body)
    estimate = estimate_ground(ids, CAMERA, config)
    error = np.abs(estimate.depth - picture.depth)[ids == 1] / picture.depth[ids == 1]
    # The estimate is rounded and the box is not, so a pixel may be off by half a thickness; the body is not.
    assert np.median(error) < 0.06
    assert np.percentile(error, 95) < 0.17


@pytest.mark.parametrize("pitch", [15.0, 30.0])
def test_a_ball_comes_back(pitch: float) -> None:
    config = GroundConfig(camera_height_m=0.8, pitch_deg=pitch)
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.12)
    ball.apply_translation([0.1, 0.12, 0.8 / np.tan(np.radians(pitch + 4))])
    ids, picture = seen(config, ball)
    estimate = estimate_ground(ids, CAMERA, config)
    error = np.abs(estimate.depth - picture.depth)[ids == 1] / picture.depth[ids == 1]
    # Where a ball touches the ground is hidden below it: the ray past its lower outline meets the ground behind its
    # front, by less than the radius.
    assert np.median(error * picture.depth[ids == 1]) < 0.12
    # Rounded: the outline is farther away than the middle, by the radius less what half a pixel hides.
    rows, columns = np.nonzero(ids == 1)
    forward = in_world(estimate.depth, config)[..., 2]
    side = forward[round(rows.mean()), columns.min()]
    assert 0.6 * 0.12 < side - forward[round(rows.mean()), round(columns.mean())] < 1.05 * 0.12


def test_what_stands_on_an_object_is_as_far_away_as_that_object() -> None:
    config = GroundConfig(camera_height_m=0.9, pitch_deg=12.0)
    ids, picture = seen(config, box((0.4, 0.4, 0.3), 0, 0, 2.0), box((0.16, 0.2, 0.16), 0, 0.4, 1.95))
    depth = estimate_ground(ids, CAMERA, config).depth
    upper = ids == 2
    assert upper.any()
    error = np.abs(depth - picture.depth)[upper] / picture.depth[upper]
    assert np.median(error) < 0.1
    # Alone, it would be taken for something that stands on the ground, far behind.
    alone = estimate_ground(np.where(upper, ids, 0).astype(np.uint16), CAMERA, config).depth
    assert np.median(alone[upper]) > 1.25 * np.median(depth[upper])


def test_what_hangs_above_the_horizon_is_before_the_backdrop() -> None:
    ids = np.zeros((240, 320), np.uint16)
    ids[5:25, 150:190] = 1
    config = GroundConfig(pitch_deg=5.0)
    empty = estimate_ground(np.zeros_like(ids), CAMERA, config).depth
    depth = estimate_ground(ids, CAMERA, config).depth
    assert (depth <= empty).all()
    assert (depth[ids == 1] > 0.5 * empty[ids == 1]).all()
    assert (depth[ids == 1] < empty[ids == 1]).mean() > 0.7


def test_a_mask_over_the_whole_picture_has_depth() -> None:
    depth = estimate_ground(np.ones((240, 320), np.uint16), CAMERA, GroundConfig()).depth
    assert np.isfinite(depth).all()
    assert (depth > 0).all()


def test_it_says_that_depth_is_assumed() -> None:
    estimate = estimate_ground(np.zeros((240, 320), np.uint16), CAMERA, GroundConfig())
    assert not estimate.metric
    assert estimate.uncertainty == 0.25
    assert len(estimate.warnings) == 1
    assert "assumed, not measured" in estimate.warnings[0]


@st.composite
def id_pictures(draw: st.DrawFn) -> np.ndarray:
    ids = np.zeros((48, 64), dtype=np.uint16)
    for number in range(1, draw(st.integers(1, 4)) + 1):
        top, left = draw(st.integers(0, 45)), draw(st.integers(0, 61))
        bottom, right = draw(st.integers(top + 1, 48)), draw(st.integers(left + 1, 64))
        ids[top:bottom, left:right] = number
    return ids


@settings(deadline=None)
@given(
    ids=id_pictures(),
    pitch=st.floats(0, 89.9),
    height=st.floats(0.05, 20),
    backdrop=st.floats(0.1, 100),
    fov=st.floats(10, 150),
)
def test_depth_is_finite_and_never_behind_the_room(
    ids: np.ndarray, pitch: float, height: float, backdrop: float, fov: float
) -> None:
    camera = intrinsics_from_fov(64, 48, fov)
    config = GroundConfig(camera_height_m=height, pitch_deg=pitch, max_depth_m=backdrop)
    room = estimate_ground(np.zeros_like(ids), camera, config).depth
    depth = estimate_ground(ids, camera, config).depth
    assert np.isfinite(depth).all()
    assert (depth > 0).all()
    assert (depth <= room).all()
    assert (depth[ids == 0] == room[ids == 0]).all()


@settings(deadline=None)
@given(ids=id_pictures(), factor=st.floats(0.1, 10))
def test_a_larger_camera_height_is_a_larger_scene(ids: np.ndarray, factor: float) -> None:
    camera = intrinsics_from_fov(64, 48, 55.0)
    one = estimate_ground(ids, camera, GroundConfig(camera_height_m=1.0, max_depth_m=6.0)).depth
    other = estimate_ground(ids, camera, GroundConfig(camera_height_m=factor, max_depth_m=6.0 * factor)).depth
    np.testing.assert_allclose(other, factor * one, rtol=1e-4)


def test_the_same_bytes_wherever_arrays_lie_in_memory_and_on_any_number_of_threads() -> None:
    rows, columns = np.indices((150, 210))
    ids = ((rows - 75) ** 2 + 0.7 * (columns - 100) ** 2 < 60**2).astype(np.uint16)
    camera = intrinsics_from_fov(210, 150, 55.0)
    rng = np.random.default_rng(0)
    found, heap, threads = set(), [], cv2.getNumThreads()
    for count in (1, 3):
        cv2.setNumThreads(count)
        for _ in range(20):
            # What else lies on the heap moves what the estimate allocates.
            heap += [np.empty(size, np.uint8) for size in rng.integers(1, 2000, 3)]
            found.add(estimate_ground(ids, camera, GroundConfig()).depth.tobytes())
    cv2.setNumThreads(threads)
    assert len(found) == 1
