"""Which photos are used together, and where the stage puts their cameras."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from scenegen.camera import matrix4
from scenegen.compute.runtime import Runtime
from scenegen.config import ViewsConfig
from scenegen.errors import InputError
from scenegen.records import Depth, GivenCamera, Instance, Instances, Metres, Perceived, Photo, Registered, SeenView
from scenegen.store.png import write_png
from scenegen.store.store import Store
from scenegen.views.features import load_matches
from stages.register import REGISTER
from stages.stage import execute
from tests.views.photographed import Photographed, looking, photograph, turned_by_deg

ANGLES = (0, 18, 36)
ALL = photograph([looking(angle) for angle in ANGLES])
SIZE = ALL[0].image.shape[:2]


def noise(seed: int) -> Photographed:
    """A photo of something else."""
    pixels = np.random.default_rng(seed).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    return Photographed(ALL[0].camera, ALL[0].camera_from_world, pixels, ALL[0].ids, ALL[0].depth)


def perceived(
    store: Store, photos: Sequence[Photographed], given: bool, off: float = 1.0, unit: float = 1.0
) -> Perceived:
    """Photos as they were seen alone. Estimated depth is `off` by a factor, and given cameras count in `unit` metres."""
    items = []
    for number, photo in enumerate(photos):
        files = []
        for name, values in (("image", photo.image), ("masks", photo.ids)):
            write_png(store.root.parent / f"{number}-{name}.png", values)
            files.append(store.ingest(store.root.parent / f"{number}-{name}.png"))
        path = store.root.parent / f"{number}.npy"
        np.save(path, (photo.depth * off).astype(np.float32))
        pose = photo.world_from_camera
        pose[:3, 3] /= unit
        camera = GivenCamera(intrinsics=photo.camera, world_from_camera=matrix4(pose)) if given else None
        height, width = SIZE
        items.append(
            SeenView(
                photo=Photo(
                    name=f"v{number}",
                    image=files[0],
                    alpha=None,
                    masks=None,
                    depth=None,
                    width=width,
                    height=height,
                    original_width=width,
                    original_height=height,
                    focal_35mm=None,
                    camera=camera,
                ),
                instances=Instances(masks=files[1], items=(), backend="test", licence="none"),
                depth=Depth(
                    depth=store.ingest(path),
                    intrinsics=photo.camera,
                    intrinsics_source="camera" if given else "fov",
                    metres=Metres(source="assumed", factor=2),
                    uncertainty=0.2,
                    relief_error=0.1,
                    backend="test",
                    licence="none",
                ),
                main_from_camera=matrix4(np.eye(4)),
            )
        )
    return Perceived(scene="table", items=tuple(items))


def registered(store: Store, given: Perceived) -> Registered:
    return execute(REGISTER, (given,), ViewsConfig(), store, Runtime()).record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def pairs(found: Registered, store: Store) -> list[tuple[int, int]]:
    """The photos between which there are matches, by their places among those that are used."""
    return [(each.first, each.second) for each in load_matches(store.path(found.matches))]


def check_poses(found: Registered, store: Store, scale: float, tolerance_deg: float) -> None:
    """Each camera stands where it stood, up to the scale that the depth maps give."""
    assert len(found.items) == len(ANGLES)
    for seen, photo in zip(found.items, ALL, strict=True):
        made, true = np.array(seen.main_from_camera), ALL[0].camera_from_world @ photo.world_from_camera
        assert turned_by_deg(made, true) < tolerance_deg
        np.testing.assert_allclose(made[:3, 3], scale * true[:3, 3], atol=0.01 * scale)
        z = np.load(store.path(seen.depth.depth))
        known = photo.ids > 0
        assert np.median(z[known] / photo.depth[known]) == pytest.approx(scale, rel=0.02)
        assert seen.depth.uncertainty < 0.2


def test_given_cameras_come_to_the_metres_of_the_depth_maps(store: Store) -> None:
    found = registered(store, perceived(store, ALL, given=True, off=1.2, unit=0.01))
    assert found.backend == "given"
    assert pairs(found, store) == [(0, 1), (0, 2), (1, 2)]
    check_poses(found, store, 1.2, 0.01)


def test_unknown_cameras_are_found(store: Store) -> None:
    pytest.importorskip("pycolmap")
    found = registered(store, perceived(store, ALL, given=False, off=0.8))
    assert found.backend == "COLMAP"
    check_poses(found, store, 0.8, 0.5)


def test_a_photo_of_another_scene_is_left_out_and_named(store: Store) -> None:
    pytest.importorskip("pycolmap")
    found = registered(store, perceived(store, [ALL[0], ALL[1], noise(0)], given=False))
    assert [seen.photo.name for seen in found.items] == ["v0", "v1"]
    assert [failure.error[:25] for failure in found.left_out] == ["photo v2 shares too littl"]


def test_photos_of_different_scenes_are_refused_with_the_way_out(store: Store) -> None:
    pytest.importorskip("pycolmap")
    said = r"of the 2 photos .*at most 30 degrees apart.* Photo v1 is the same picture as v0\.$"
    with pytest.raises(InputError, match=said):
        registered(store, perceived(store, [ALL[0], ALL[0], noise(1)], given=False))


def test_a_photo_without_a_pose_is_left_out_where_others_have_one(store: Store) -> None:
    given = perceived(store, ALL, given=True)
    bare = given.items[1].photo.model_copy(update={"camera": None})
    items = (given.items[0], given.items[1].model_copy(update={"photo": bare}), given.items[2])
    found = registered(store, given.model_copy(update={"items": items}))
    assert [seen.photo.name for seen in found.items] == ["v0", "v2"]
    assert "v1 has no pose" in found.left_out[0].error
    assert pairs(found, store) == [(0, 1)]


def test_cameras_that_all_contradict_the_pictures_are_refused(store: Store) -> None:
    given = perceived(store, [ALL[0], ALL[2]], given=True)
    depth = given.items[1].depth
    wide = depth.model_copy(update={"intrinsics": depth.intrinsics.model_copy(update={"fx": 200.0, "fy": 200.0})})
    items = (given.items[0], given.items[1].model_copy(update={"depth": wide}))
    with pytest.raises(InputError, match="contradict the pictures"):
        registered(store, given.model_copy(update={"items": items}))


def changed(given: Perceived, index: int, **update: object) -> Perceived:
    """With something else in one of the photos."""
    items = list(given.items)
    items[index] = items[index].model_copy(
        update={"photo": items[index].photo.model_copy(update=update)} if "alpha" in update else update
    )
    return given.model_copy(update={"items": tuple(items)})


def cut_out(given: Perceived, index: int) -> Perceived:
    """With a photo that has an alpha channel, which no object was found in."""
    return changed(given, index, alpha=given.items[index].instances.masks)


def with_object(given: Perceived, index: int) -> Perceived:
    seen = given.items[index].instances
    item = Instance(id=1, label="thing", score=1, box=(0, 0, 9, 9), area=81)
    return changed(given, index, instances=seen.model_copy(update={"items": (item,)}))


def test_a_photo_of_one_colour_is_left_out(store: Store) -> None:
    black = Photographed(
        ALL[1].camera, ALL[1].camera_from_world, np.zeros((*SIZE, 3), np.uint8), ALL[1].ids, ALL[1].depth
    )
    found = registered(store, perceived(store, [ALL[0], black, black, ALL[2]], given=True))
    assert [seen.photo.name for seen in found.items] == ["v0", "v3"]
    assert ["one colour" in failure.error for failure in found.left_out] == [True, True]
    with pytest.raises(InputError, match=r"photo v0 is of one colour"):
        registered(store, perceived(store, [black, black], given=True))


def test_a_cut_out_of_nothing_is_left_out_and_an_opaque_photo_among_cut_outs_is_said(store: Store) -> None:
    given = cut_out(cut_out(perceived(store, ALL, given=True), 0), 1)
    found = registered(store, with_object(given, 0))
    assert [seen.photo.name for seen in found.items] == ["v0", "v2"]
    assert "v1 is cut out" in found.left_out[0].error
    assert found.warnings[-1].startswith("v2: opaque among photos that are cut out")


def test_of_the_same_photo_twice_one_is_left(store: Store) -> None:
    found = registered(store, perceived(store, [ALL[0], ALL[0]], given=False))
    assert [seen.photo.name for seen in found.items] == ["v0"]
    assert found.left_out[0].error == "photo v1 is the same picture as v0"
