from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from true_scenes import CAMERA, in_camera, solids, world_from_camera, write_photo, write_scene

from scenegen.errors import InputError, UsageError
from scenegen.evaluate.ground_truth import find_folders, load_depth, load_masks, load_scene, read_truth
from scenegen.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_scene_is_read_as_it_was_written(tmp_path: Path, store: Store) -> None:
    write_scene(tmp_path / "a")
    truth = read_truth(tmp_path / "a", store)
    assert (truth.name, truth.layout, truth.intrinsics) == ("a", "scene", CAMERA)
    assert [(item.id, item.category, item.support) for item in truth.objects][1] == (2, "thing 2", 0)
    scene = load_scene(truth, store.path)
    np.testing.assert_allclose(scene.world_from_camera, world_from_camera())
    for i, mesh in in_camera(solids()).items():
        corners = scene.meshes[i].vertices[scene.meshes[i].faces]
        np.testing.assert_allclose(corners, mesh.vertices[mesh.faces], atol=1e-6)
        assert (scene.amodal[i] | (scene.ids != i)).all()


def test_a_photo_has_other_units_and_pixel_centres(tmp_path: Path, store: Store) -> None:
    write_photo(tmp_path / "a")
    write_scene(tmp_path / "b")
    photo, scene = (read_truth(tmp_path / name, store) for name in "ab")
    assert (photo.layout, photo.intrinsics, photo.objects) == ("photo", CAMERA, ())
    found, wanted = load_depth(photo, store.path), load_depth(scene, store.path)
    assert found is not None
    assert wanted is not None
    np.testing.assert_allclose(found, wanted, atol=1.01e-4)
    np.testing.assert_array_equal(load_masks(photo, store.path), load_masks(scene, store.path))
    with pytest.raises(InputError, match="does not describe objects"):
        load_scene(photo, store.path)


def test_a_photo_may_lack_everything(tmp_path: Path, store: Store) -> None:
    write_photo(tmp_path / "a", masks=False)
    for name in ("depth.png", "camera.json"):
        (tmp_path / "a" / name).unlink()
    truth = read_truth(tmp_path / "a", store)
    assert (load_depth(truth, store.path), load_masks(truth, store.path), truth.intrinsics) == (None, None, None)


def test_supports_name_objects(tmp_path: Path, store: Store) -> None:
    write_scene(tmp_path / "a")
    rows = json.loads((tmp_path / "a" / "scene.json").read_text())["objects"]
    for row, support in zip(rows, ("table", "object 1", "object 02"), strict=True):
        row["support"] = support
    edit(tmp_path / "a" / "scene.json", objects=rows)
    assert [item.support for item in read_truth(tmp_path / "a", store).objects] == [0, 1, 2]


def test_an_object_needs_no_more_than_an_id_and_a_mesh(tmp_path: Path, store: Store) -> None:
    write_scene(tmp_path / "a")
    rows = json.loads((tmp_path / "a" / "scene.json").read_text())["objects"]
    edit(tmp_path / "a" / "scene.json", objects=[{"id": row["id"], "mesh": row["mesh"]} for row in rows])
    truth = read_truth(tmp_path / "a", store)
    assert [(item.category, item.amodal, item.support) for item in truth.objects] == [("", None, 0)] * 3
    assert load_scene(truth, store.path).amodal == {}


def test_folders_are_found_in_a_folder_or_alone(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_scene(tmp_path / "all" / name)
    (tmp_path / "all" / "readme").mkdir()
    assert [path.name for path in find_folders(tmp_path / "all")] == ["a", "b"]
    assert find_folders(tmp_path / "all" / "b") == [tmp_path / "all" / "b"]
    with pytest.raises(UsageError, match="must hold folders"):
        find_folders(tmp_path / "all" / "readme")
    with pytest.raises(UsageError, match="must hold folders"):
        find_folders(tmp_path / "nowhere")


def test_a_mesh_outside_the_folder_is_refused(tmp_path: Path, store: Store) -> None:
    write_scene(tmp_path / "a")
    rows = json.loads((tmp_path / "a" / "scene.json").read_text())["objects"]
    rows[0]["mesh"] = "../../secret.glb"
    edit(tmp_path / "a" / "scene.json", objects=rows)
    with pytest.raises(InputError, match="outside the folder"):
        read_truth(tmp_path / "a", store)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("camera.json", b"{", "cannot be read"),
        ("camera.json", b'{"width": 4, "height": 3}', "camera_to_world"),
        ("scene.json", b'{"objects": [{"id": 1}]}', "cannot be read"),
        ("depth.npy", b"no array", "a: the true depth cannot be read"),
        ("masks.png", b"no picture", "a: the true masks cannot be read"),
        ("objects/02.glb", b"no mesh", "mesh of object 2 cannot be read"),
        ("masks/03_amodal.png", b"", "silhouette of object 3 cannot be read"),
    ],
)
def test_what_is_damaged_is_named(tmp_path: Path, store: Store, name: str, content: bytes, message: str) -> None:
    write_scene(tmp_path / "a")
    (tmp_path / "a" / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_scene(read_truth(tmp_path / "a", store), store.path)


def test_what_is_missing_is_named(tmp_path: Path, store: Store) -> None:
    write_scene(tmp_path / "a")
    (tmp_path / "a" / "objects" / "02.glb").unlink()
    with pytest.raises(InputError, match=r"02\.glb"):
        read_truth(tmp_path / "a", store)
