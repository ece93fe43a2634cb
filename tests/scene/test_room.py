"""The background as surfaces: planes where planes are, cut at steps, the floor below everything, and the photo unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms import DESK, Room, room, room_of
from scipy import ndimage

from scenegen.camera import rays, resized, unproject
from scenegen.config import LayoutConfig
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import RayCaster, render
from scenegen.ids import UNKNOWN, object_ids
from scenegen.scene.backdrop import background_surfaces
from scenegen.scene.background import background_depth, below_objects
from scenegen.scene.elsewhere import OtherPhoto
from scenegen.scene.layout import Floor
from scenegen.scene.room import find_room

CONFIG = LayoutConfig()


def surfaces_of(
    scene: Room,
    depth: np.ndarray | None = None,
    ids: np.ndarray | None = None,
    uncertainty: float = 0.0,
    **more: object,
) -> dict[str, TexturedMesh]:
    depth, ids = scene.depth if depth is None else depth, scene.ids if ids is None else ids
    floor = Floor(scene.up, scene.height, "ransac")
    _, is_floor = background_depth(depth, ids, scene.camera, floor, CONFIG, uncertainty)
    found = find_room(depth, ids, is_floor, scene.camera, floor, CONFIG, uncertainty)
    below = below_objects(depth, ids, scene.camera, floor)
    return background_surfaces(scene.image, ids == 0, found, scene.camera, floor, below, **more)  # type: ignore[arg-type]


def heights(scene: Room, mesh: TexturedMesh) -> np.ndarray:
    return np.asarray(mesh.vertices @ scene.up + scene.height)


def test_a_room_is_its_floor_and_its_wall_and_they_meet() -> None:
    scene = room(DESK)
    surfaces = surfaces_of(scene)
    assert set(surfaces) == {"floor", "wall"}
    np.testing.assert_allclose(heights(scene, surfaces["floor"]), 0, atol=1e-4)
    ahead = scene.camera_from_world[:3, 2]
    np.testing.assert_allclose(surfaces["wall"].vertices @ ahead, surfaces["wall"].vertices[0] @ ahead, atol=1e-3)
    assert abs(heights(scene, surfaces["wall"]).min()) < 0.05
    reach = -(surfaces["floor"].vertices @ ahead).min()
    assert -(surfaces["wall"].vertices[0] @ ahead) <= reach + 0.05


@pytest.mark.parametrize("uncertainty", [0.0, 0.15])
def test_from_the_camera_it_is_the_photo_without_the_objects(uncertainty: float) -> None:
    scene, empty = room(DESK), room([])
    picture = render(list(surfaces_of(scene, uncertainty=uncertainty).values()), scene.camera)
    assert (picture.ids >= 0).mean() > 0.9999
    difference = np.abs(picture.color.astype(int) - empty.image).mean(axis=2)
    assert np.percentile(difference[scene.ids == 0], 99) < 4
    assert np.percentile(difference, 95) < 12
    objects = render([*scene.boxes, *surfaces_of(scene, uncertainty=uncertainty).values()], scene.camera)
    assert np.mean((objects.ids < len(scene.boxes)) == (scene.ids > 0)) > 0.99


@pytest.mark.parametrize("uncertainty", [0.0, 0.15])
def test_no_triangle_spans_a_step_of_the_depth(uncertainty: float) -> None:
    """A box that was not found stands before the wall: no triangle is drawn out between the two."""
    scene = room([((0.8, 0.9, 0.4), (0, 0, -2.0))])
    surfaces = surfaces_of(scene, ids=np.zeros_like(scene.ids), uncertainty=uncertainty)
    cell = 1 / CONFIG.grid * scene.camera.width / scene.camera.fx
    for mesh in surfaces.values():
        if len(mesh.faces) == 2:
            continue
        corners = mesh.vertices[mesh.faces]
        edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        middle = corners.mean(axis=1)
        along = np.abs(np.einsum("nd,nd->n", normal, middle / np.linalg.norm(middle, axis=1, keepdims=True)))
        stretched = edges * along > 3 * cell * middle[:, 2]
        assert not stretched.any()
        assert edges[along < 0.1].max(initial=0) < 12 * cell * middle[:, 2].max()


def test_what_is_far_lies_on_a_sphere() -> None:
    scene = room([((0.5, 0.5, 0.5), (0, 0, -2.5))], pitch_deg=5, wall=False)
    depth = np.where(scene.depth > 0, scene.depth, 500).astype(np.float32)
    surfaces = surfaces_of(scene, depth=depth)
    assert set(surfaces) == {"floor", "sky"}
    distance = np.linalg.norm(surfaces["sky"].vertices, axis=1)
    np.testing.assert_allclose(distance, np.median(distance), rtol=0.01)
    assert np.linalg.norm(surfaces["floor"].vertices, axis=1).max() < 1.2 * np.median(distance)


@pytest.mark.parametrize("bend", [-0.2, 0.2])
def test_a_wall_whose_estimated_depth_is_bent_is_one_upright_plane_on_the_floor(bend: float) -> None:
    scene = room([], pitch_deg=15)
    directions = rays(scene.camera)
    is_wall = np.abs(scene.depth * (directions @ scene.up) + scene.height) > 0.02
    across = np.linspace(-1, 1, scene.depth.shape[1]) ** 2
    depth = np.where(is_wall, scene.depth * (1 + bend * across), scene.depth).astype(np.float32)
    surfaces = surfaces_of(scene, depth=depth, uncertainty=0.15)
    walls = [mesh for name, mesh in surfaces.items() if name.startswith("wall")]
    assert len(walls) == 1
    (wall,) = walls
    corners = wall.vertices[wall.faces].astype(float)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    large = np.linalg.norm(normal, axis=1) > 0.2 * np.linalg.norm(normal, axis=1).max()
    normal = normal[large] / np.linalg.norm(normal[large], axis=1, keepdims=True)
    np.testing.assert_allclose(normal @ scene.up, 0, atol=1e-3)
    assert abs(heights(scene, wall).min()) < 0.1


@settings(max_examples=20, deadline=None)
@given(st.floats(8, 60), st.floats(0.8, 2.0), st.integers(0, 2**32 - 1))
def test_every_object_has_the_floor_below_it(pitch: float, height: float, seed: int) -> None:
    """Also where something that was not segmented, or is unknown, hides that floor, and beyond the picture."""
    rng = np.random.default_rng(seed)
    scene = room(DESK, pitch, height, 60, size=(160, 120))
    rows, columns = rng.integers(0, 100), rng.integers(0, 140)
    hole = np.s_[rows : rows + 30, columns : columns + 30]
    ids, depth = scene.ids.copy(), scene.depth.copy()
    ids[hole] = rng.choice([0, UNKNOWN])
    depth[hole] = 0.6
    surfaces = surfaces_of(scene, depth, ids)
    if not object_ids(ids):
        return
    floor = Floor(scene.up, scene.height, "ransac")
    caster = RayCaster(surfaces["floor"].vertices, surfaces["floor"].faces)
    cloud = unproject(scene.camera, depth.astype(float))
    for number in object_ids(ids):
        seen = cloud[ids == number]
        points = np.concatenate([seen, (1 + np.ptp(seen, axis=0).max() / seen[:, 2:]) * seen])
        points = points[floor.heights(points) >= 0]
        feet = points - floor.heights(points)[:, None] * floor.normal
        # What is right below the camera is not continued to.
        points = points[feet[:, 2] > 0.3 * seen[:, 2].min()]
        hits = caster.cast(points + 0.01 * floor.normal, np.broadcast_to(-floor.normal, points.shape))
        assert (hits.triangle >= 0).all()
    np.testing.assert_allclose(heights(scene, surfaces["floor"]), 0, atol=1e-4)


def outline(mesh: TexturedMesh) -> np.ndarray:
    """Lengths of the sides of a rectangle; two triangles make it one."""
    assert len(mesh.faces) == 2
    corners = mesh.vertices.astype(float)
    sides = np.roll(corners, -1, axis=0) - corners
    lengths = np.linalg.norm(sides, axis=1)
    np.testing.assert_allclose((sides * np.roll(sides, -1, axis=0)).sum(axis=1), 0, atol=1e-5 * lengths.max() ** 2)
    return lengths


@pytest.mark.parametrize("boxes", [[], DESK])
def test_planes_are_rectangles_around_all_that_is_seen_of_them(boxes: list) -> None:
    scene = room(boxes, pitch_deg=15)
    surfaces = surfaces_of(scene)
    for mesh in surfaces.values():
        outline(mesh)
        normal = np.cross(
            mesh.vertices[mesh.faces[0, 1]] - mesh.vertices[0], mesh.vertices[mesh.faces[0, 2]] - mesh.vertices[0]
        )
        assert normal @ mesh.vertices.mean(axis=0) < 0  # turned to the camera
    assert heights(scene, surfaces["wall"]).min() == pytest.approx(0, abs=0.05)
    true = room([], pitch_deg=15).image
    picture = render(list(surfaces.values()), scene.camera)
    assert np.percentile(np.abs(picture.color.astype(int) - true).max(axis=2), 97) < 12


def test_rectangles_too_show_what_another_photo_sees_behind_objects() -> None:
    scene, empty = room(DESK), room([])
    hidden = ndimage.binary_erosion(scene.ids > 0, iterations=6)
    other = np.where(hidden[..., None], empty.image // 2, empty.image)
    beside = OtherPhoto(other, np.ones_like(hidden), empty.depth, scene.camera, np.eye(4))
    surfaces = surfaces_of(scene, others=[beside])
    assert {len(mesh.faces) for mesh in surfaces.values()} == {2}
    shown = render(list(surfaces.values()), scene.camera).color
    difference = np.abs(shown.astype(int) - other).mean(axis=2)
    assert np.percentile(difference[hidden], 80) < 12
    assert np.percentile(difference[scene.ids == 0], 99) < 4


def test_an_opening_of_a_wall_is_not_walled_up() -> None:
    scene = room([], pitch_deg=10)
    depth = scene.depth.copy()
    door = np.zeros(depth.shape, dtype=bool)
    door[40:150, 130:190] = True
    depth[door & (heights_of(scene, depth) > 0.05)] = 9.0
    surfaces = surfaces_of(scene, depth=depth)
    picture = render(list(surfaces.values()), scene.camera)
    inside = np.zeros_like(door)
    inside[60:110, 140:180] = True
    assert (picture.depth[inside] > 7).all()
    assert len(surfaces["floor"].faces) == 2
    assert len(surfaces["wall_1"].faces) > 2


def heights_of(scene: Room, depth: np.ndarray) -> np.ndarray:
    return np.asarray(unproject(scene.camera, depth) @ scene.up + scene.height)


def test_nothing_is_made_where_the_picture_shows_no_background() -> None:
    scene = room(DESK)
    assert surfaces_of(scene, visible=np.zeros(scene.ids.shape, dtype=bool)) == {}
    left = np.broadcast_to(np.arange(scene.ids.shape[1]) < scene.ids.shape[1] // 2, scene.ids.shape)
    for mesh in surfaces_of(scene, visible=left).values():
        assert mesh.vertices[:, 0].max() <= 0.01


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.15]))
def test_any_depth_makes_finite_surfaces_that_cover_the_picture(seed: int, uncertainty: float) -> None:
    rng = np.random.default_rng(seed)
    scene = room(DESK, size=(96, 72))
    ids, depth = scene.ids.copy(), scene.depth * np.exp(rng.normal(0, rng.uniform(0, 0.5), scene.depth.shape))
    for number in (0, 1, UNKNOWN):
        top, left = rng.integers(0, 60), rng.integers(0, 80)
        box = np.s_[top : top + rng.integers(2, 40), left : left + rng.integers(2, 40)]
        ids[box], depth[box] = number, rng.choice([0.0, rng.uniform(0.3, 50)])
    surfaces = surfaces_of(scene, depth.astype(np.float32), ids, uncertainty)
    assert all(np.isfinite(mesh.vertices).all() and (mesh.vertices[:, 2] > 0).all() for mesh in surfaces.values())
    # Rays along the very line between two surfaces may miss both: not many are, if the pixels are not those of the grid.
    finer = resized(scene.camera, 311, 233)
    assert (render(list(surfaces.values()), finer).ids >= 0).mean() > 0.999


def test_what_an_estimate_smears_around_objects_is_no_wall() -> None:
    scene = room(DESK, pitch_deg=15)
    near = ndimage.binary_dilation(scene.ids > 0, iterations=12) & (scene.ids == 0)
    depth = np.where(near & (heights_of(scene, scene.depth) > 0.02), 2.5, scene.depth).astype(np.float32)
    surfaces = surfaces_of(scene, depth=depth, uncertainty=0.15)
    assert set(surfaces) == {"floor", "wall"}
    assert {len(mesh.faces) for mesh in surfaces.values()} == {2}


def test_a_wall_before_an_object_gives_way_to_it_as_a_whole() -> None:
    scene = room([((0.5, 0.8, 0.2), (0.2, 0.9, -3.7))], pitch_deg=5)  # on the wall, but estimated far behind it
    depth = np.where(scene.ids > 0, 1.4 * scene.depth, scene.depth).astype(np.float32)
    surfaces = surfaces_of(scene, depth=depth, uncertainty=0.2)
    wall = surfaces["wall"]
    assert len(wall.faces) == 2
    before = render([wall], scene.camera).depth
    assert (before[scene.ids > 0] >= depth[scene.ids > 0]).all()


@pytest.mark.parametrize("rounded", [4, 9])
def test_what_an_estimate_shows_on_the_floor_stands_there_but_a_rounded_corner_is_nothing(rounded: float) -> None:
    barrel = trimesh.creation.cylinder(0.45, 1.2)
    barrel.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
    barrel.apply_translation([-0.3, 0.6, -2.6])
    for solids in ([], [barrel]):
        scene = room_of(solids, pitch_deg=10)
        depth = np.exp(ndimage.gaussian_filter(np.log(scene.depth), rounded)).astype(np.float32)
        surfaces = surfaces_of(scene, depth, np.zeros_like(scene.ids), uncertainty=0.15)
        assert len(surfaces["floor"].faces) == 2
        assert len(surfaces) == 2 + len(solids)
    middle = ndimage.binary_erosion(scene.ids > 0, iterations=10)
    shown = render(list(surfaces.values()), scene.camera).depth
    np.testing.assert_allclose(np.median((shown / scene.depth)[middle]), 1, atol=0.1)
