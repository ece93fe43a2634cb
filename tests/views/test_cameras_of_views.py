"""Where the photos of a scene were taken from: found, checked, and brought to metres."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.camera import intrinsics_from_fov, project, rays, transform
from scenegen.errors import LimitError, WeightsError
from scenegen.records import Intrinsics
from scenegen.store.png import write_png
from scenegen.views import structure
from scenegen.views.agreement import DepthOf, agreed, metres_per_unit
from scenegen.views.cameras import PLENTY, cannot_be_found, contradicting, is_rigid, one_camera
from scenegen.views.duplicates import crops, duplicates
from scenegen.views.features import Matches, SeenFrom, at_pixels, explained, find_matches, moving, tie_points
from scenegen.views.structure import structure_from_motion
from tests.views.photographed import Photographed, looking, photograph, turned_by_deg


@cache
def photos() -> tuple[Photographed, ...]:
    return tuple(photograph([looking(angle) for angle in (0, 18, 36)]))


def seen(unit: float = 1.0) -> list[SeenFrom]:
    views = []
    for photo in photos():
        pose = photo.world_from_camera
        pose[:3, 3] /= unit
        views.append(SeenFrom(photo.image, photo.camera, pose))
    return views


@cache
def matches() -> tuple:
    return find_matches([photo.image for photo in photos()])


def test_shared_points_lie_where_the_cameras_put_them() -> None:
    for each in matches():
        assert explained(each, seen()).mean() > 0.9
        tie = tie_points(each, seen())
        true = at_pixels(photos()[tie.first].depth, tie.pixels[0])
        assert len(true) > 20
        assert np.median(np.abs(tie.depths[0][true > 0] / true[true > 0] - 1)) < 0.005


@pytest.mark.parametrize("unit", [0.01, 1.0, 30.0])
def test_metres_come_from_the_depth_maps_whatever_the_unit(unit: float) -> None:
    views = seen(unit)
    ties = [tie_points(each, views) for each in matches()]
    maps = [DepthOf(photo.depth, photo.ids, 0.01) for photo in photos()]
    assert metres_per_unit(maps, ties, views) == pytest.approx(unit, rel=0.01)


def test_metres_without_shared_points_come_from_the_overlap() -> None:
    maps = [DepthOf(photo.depth, photo.ids, 0.01) for photo in photos()]
    assert metres_per_unit(maps, [], seen(3.0)) == pytest.approx(3.0, rel=0.015)


def floor_depth(pose: np.ndarray, camera: Intrinsics) -> np.ndarray:
    """z-depth of the plane at height 0."""
    world_from_camera = np.linalg.inv(pose)
    down = -(rays(camera) @ world_from_camera[1, :3])
    z = np.where(down > 0.05, world_from_camera[1, 3] / np.maximum(down, 0.05), 0)
    return z.astype(np.float32)


def test_a_bare_floor_leaves_given_metres_as_they_are() -> None:
    camera = intrinsics_from_fov(96, 72, 48)
    maps, views = [], []
    for pose in (looking(angle) for angle in (0, 60, 150)):
        maps.append(DepthOf(floor_depth(pose, camera), np.zeros((72, 96), int), 0.01))
        views.append(SeenFrom(np.zeros((72, 96, 3), np.uint8), camera, np.linalg.inv(pose)))
    assert metres_per_unit(maps, [], views, metric=True) == 1
    assert metres_per_unit(maps, [], views) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("unit", [0.1, 0.8, 1.0, 3.0])
def test_objects_seen_from_all_round_tell_the_unit_without_shared_points(unit: float) -> None:
    maps, views = [], []
    for photo in photograph([looking(angle) for angle in (0, 60, 150)], size=(160, 120)):
        pose = photo.world_from_camera
        pose[:3, 3] /= unit
        maps.append(DepthOf(photo.depth, photo.ids, 0.01))
        views.append(SeenFrom(photo.image, photo.camera, pose))
    found = metres_per_unit(maps, [], views, metric=True)
    assert found == (1 if unit == 1 else pytest.approx(unit, rel=0.015))


@pytest.mark.parametrize(("off", "expected"), [(1.02, 1.0), (1.1, 1.1)])
def test_measured_depth_close_to_given_metres_confirms_them(off: float, expected: float) -> None:
    ties = [tie_points(each, seen()) for each in matches()]
    maps = [DepthOf(off * photo.depth, photo.ids, 0.01) for photo in photos()]
    assert metres_per_unit(maps, ties, seen(), metric=True) == pytest.approx(expected, rel=0.005)


def test_an_estimated_depth_is_corrected_as_a_whole_and_by_object() -> None:
    views = seen()
    ties = [tie_points(each, views) for each in matches()]
    wrong = photos()[0].depth * np.where(photos()[0].ids == 2, 1.3, 1.1).astype(np.float32)
    found = agreed(0, DepthOf(wrong, photos()[0].ids, 0.2), ties, 1.0)
    assert found.uncertainty < 0.1
    for number in (1, 2):
        here = photos()[0].ids == number
        assert np.median(found.z[here] / photos()[0].depth[here]) == pytest.approx(1, abs=0.01)


def test_a_measured_depth_stays_as_it_is() -> None:
    views = seen()
    ties = [tie_points(each, views) for each in matches()]
    found = agreed(0, DepthOf(1.05 * photos()[0].depth, photos()[0].ids, 0.01), ties, 1.0)
    assert np.array_equal(found.z, 1.05 * photos()[0].depth)


def test_a_camera_that_contradicts_the_pictures_is_told() -> None:
    views = seen()
    assert contradicting(matches(), views) == {}
    narrow = views[1].intrinsics.model_copy(update={"fx": 900.0, "fy": 900.0})
    views[1] = SeenFrom(views[1].image, narrow, views[1].world_from_camera)
    wrong = contradicting(matches(), views)
    assert set(wrong) == {1}
    assert "focal length" in wrong[1]


@given(st.integers(0, 2), st.floats(-10, 10))
@settings(max_examples=20, deadline=None)
def test_only_rotations_with_a_position_are_poses(row: int, factor: float) -> None:
    pose = photos()[0].world_from_camera
    assert is_rigid(pose)
    pose[row, :3] *= factor
    assert is_rigid(pose) == (abs(factor - 1) < 4e-4)


def test_estimated_focal_lengths_of_pictures_of_one_size_become_one() -> None:
    wide, middle, long = (intrinsics_from_fov(640, 480, fov) for fov in (70, 60, 50))
    other = intrinsics_from_fov(800, 640, 55)
    found = one_camera([wide, middle, other, long, wide], [False, False, False, False, True])
    assert found == [middle, middle, other, middle, wide]


def test_a_picture_again_is_no_other_view() -> None:
    first, second = photos()[0].image, photos()[1].image
    small = cv2.resize(first, (300, 225), interpolation=cv2.INTER_AREA)
    brighter = np.clip(second * 1.25, 0, 255).astype(np.uint8)
    given = [first, second, first[:, ::-1], np.rot90(first), small, second[::-1], brighter]
    assert duplicates(given, list("abcdefg")) == {
        2: "is a, mirrored",
        3: "is a, turned by a quarter",
        4: "is the same picture as a",
        5: "is b, mirrored top to bottom",
        6: "is the same picture as b",
    }


def test_a_crop_is_no_other_view() -> None:
    first, second = photos()[0].image, photos()[1].image
    height, width = first.shape[:2]
    crop = cv2.resize(first[8 : height - 22, 10 : width - 30], (width, height), interpolation=cv2.INTER_AREA)
    said = {1: "shows a part of a, from the same place, and nothing more"}
    assert crops(find_matches([first, crop, second]), ["a", "b", "c"]) == said
    assert list(crops(find_matches([crop, first]), ["a", "b"])) == [0]


def test_a_small_object_before_a_plain_wall_is_another_view_when_it_moves() -> None:
    wall = np.full((240, 320, 3), 200, np.uint8)
    views = []
    for left in (150, 160):
        views.append(wall.copy())
        views[-1][100:140, left : left + 30] = 60
    assert duplicates(views, ["a", "b"]) == {}
    assert list(duplicates([views[0], np.fliplr(cv2.resize(views[0], (200, 150)))], ["a", "b"])) == [1]


def test_what_would_help_is_said() -> None:
    few, many = (np.zeros((count, 2)) for count in (9, PLENTY))
    said = cannot_be_found([Matches(0, 1, (few, few))], ["a", "b", "c"])
    assert "30 degrees" in said
    assert "--camera" in said
    assert "no two of them" in cannot_be_found((), ["a", "b"])
    near = cannot_be_found([Matches(0, 1, (many, many))], ["a", "b"])
    assert "almost the same place" in near
    assert "in between" not in near


def test_a_photo_on_its_side_has_the_camera_of_the_others() -> None:
    lying = Intrinsics(width=640, height=480, fx=500, fy=500, cx=320, cy=240)
    upright = Intrinsics(width=480, height=640, fx=600, fy=600, cx=240, cy=320)
    other = lying.model_copy(update={"width": 800, "fx": 900.0})
    found = one_camera([lying, upright, other, lying], [False, False, False, True])
    assert [camera.fx for camera in found] == [550, 550, 900, 500]


def written(folder: Path) -> list[str]:
    names = [f"{number}.png" for number in range(len(photos()))]
    for name, photo in zip(names, photos(), strict=True):
        write_png(folder / name, photo.image)
    return names


@pytest.mark.parametrize(("own", "off"), [(True, 1.12), (False, 0.67)])
def test_cameras_are_found_with_a_guessed_focal_length(tmp_path: Path, own: bool, off: float) -> None:
    """By COLMAP's own features, and by given matches."""
    pytest.importorskip("pycolmap")
    guess = photos()[0].camera
    guess = guess.model_copy(update={"fx": off * guess.fx, "fy": off * guess.fy})
    found = structure_from_motion(
        tmp_path, written(tmp_path), [guess] * 3, [False] * 3, 120, None if own else matches()
    )
    assert sorted(found) == [0, 1, 2]
    for number in (1, 2):
        made = np.linalg.inv(found[0].world_from_camera) @ found[number].world_from_camera
        true = photos()[0].camera_from_world @ photos()[number].world_from_camera
        assert turned_by_deg(made, true) < 0.5
        assert found[number].focal == pytest.approx(photos()[0].camera.fx, rel=0.02)


@dataclass(frozen=True)
class Model:
    """What is asked of a reconstruction of one photo."""

    focal: float
    points: int
    off: float = 0.1

    def num_reg_images(self) -> int:
        return 1

    def num_points3D(self) -> int:  # noqa: N802 (pycolmap's name)
        return self.points

    def compute_mean_reprojection_error(self) -> float:
        return self.off

    def reg_image_ids(self) -> list[int]:
        return [1]

    def image(self, number: int) -> SimpleNamespace:
        import pycolmap

        return SimpleNamespace(name="0.png", camera_id=1, cam_from_world=pycolmap.Rigid3d)

    def camera(self, number: int) -> SimpleNamespace:
        return SimpleNamespace(mean_focal_length=lambda: self.focal)


def mapped_focal(
    monkeypatch: pytest.MonkeyPatch, known: Sequence[bool], mapped: Callable[[float, bool], Model]
) -> float:
    """Of the model that counts, of those that `mapped` gives for a start and for one camera for all or not."""
    pytest.importorskip("pycolmap")
    monkeypatch.setattr(
        structure,
        "_mapped",
        lambda folder, pictures, groups, features, start: [mapped(start, len(groups) < len(pictures))],
    )
    camera = photos()[0].camera.model_dump()
    pictures = [structure.Picture(f"{number}.png", camera, sure) for number, sure in enumerate(known)]
    return float(structure.run_colmap(Path(), pictures, [])[0]["focal"])


def test_of_two_beginnings_the_one_that_explains_more_points_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A focal length that is refined from too short an estimate may stay there, with few points."""

    def mapped(start: float, shared: bool) -> Model:
        return Model(400 * start, round(1000 * start))

    assert mapped_focal(monkeypatch, [False], mapped) == 600
    assert mapped_focal(monkeypatch, [True], mapped) == 400


@pytest.mark.parametrize(
    ("points", "off", "focal"), [(1000, 0.03, 500), (1000, 0.09, 400), (500, 0.03, 400), (1000, 0.2, 400)]
)
def test_each_photo_has_a_zoom_of_its_own_only_where_that_explains_much_more(
    points: int, off: float, focal: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mapped(start: float, shared: bool) -> Model:
        return Model(400, 1000) if shared else Model(500, points, off)

    assert mapped_focal(monkeypatch, [False, False], mapped) == focal
    assert mapped_focal(monkeypatch, [True, True], mapped) == 400


def test_photos_of_one_size_may_have_been_zoomed(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    zoom, camera = (1.0, 1.25, 0.85), photos()[0].camera
    middle = np.array([camera.cx, camera.cy])

    def zoomed(number: int, pixels: np.ndarray) -> np.ndarray:
        return middle + zoom[number] * (pixels - middle)

    shared = [
        Matches(a.first, a.second, (zoomed(a.first, a.pixels[0]), zoomed(a.second, a.pixels[1]))) for a in matches()
    ]
    found = structure_from_motion(tmp_path, written(tmp_path), [camera] * 3, [False] * 3, 120, shared)
    for number, photo in enumerate(photos()):
        made = np.linalg.inv(found[0].world_from_camera) @ found[number].world_from_camera
        assert turned_by_deg(made, photos()[0].camera_from_world @ photo.world_from_camera) < 1
        assert found[number].focal == pytest.approx(zoom[number] * camera.fx, rel=0.04)


def seen_by(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Pixels of points of the world, off by a fifth of a pixel."""
    noise = np.random.default_rng(len(points)).normal(0, 0.2, (len(points), 2))
    return project(photos()[0].camera, transform(pose, points)) + noise


@given(st.integers(0, 1000), st.floats(15, 60), st.integers(40, 400))
@settings(max_examples=10, deadline=None)
def test_a_background_before_which_things_are_turned_is_left_aside(seed: int, turn: float, behind: int) -> None:
    rng = np.random.default_rng(seed)
    things, wall = rng.uniform(-0.2, 0.2, (100, 3)), rng.uniform([-2, -1, -3], [2, 2, -1], (behind, 3))
    first, last = looking(0), looking(turn)
    same, few = seen_by(first, wall), seen_by(first, wall[:9])
    pair = (np.vstack([seen_by(first, things), same]), np.vstack([seen_by(last, things), same]))
    kept = moving([pair, (few, few + 0.1)])
    assert kept[0][:100].mean() > 0.9  # near the axis, things stand still, too
    assert not kept[0][100:].any()
    assert not kept[1].any()


@given(st.integers(0, 1000), st.floats(0.05, 0.3))
@settings(max_examples=15, deadline=None)
def test_what_is_far_stands_still_and_yet_counts(seed: int, step: float) -> None:
    rng = np.random.default_rng(seed)
    near, far = rng.uniform(-0.2, 0.2, (100, 3)), rng.uniform([-500, 0, -1500], [500, 500, -1000], (200, 3))
    beside = looking(0)
    beside[0, 3] += step
    pair = tuple(np.vstack([seen_by(pose, near), seen_by(pose, far)]) for pose in (looking(0), beside))
    assert all(kept.all() for kept in moving([pair]))


def test_without_pycolmap_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(WeightsError, match=r"scenegen-3d\[views\]"):
        structure_from_motion(tmp_path, [], [], [], 1)


def test_a_child_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycolmap")
    monkeypatch.setattr(structure, "CHILD", "import time; time.sleep(60)")
    with pytest.raises(LimitError, match=r"views\.timeout_s"):
        structure_from_motion(tmp_path, [], [], [], 0.2)
