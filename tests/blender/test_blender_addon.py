"""The add-on for Blender: what it reads of a scene, what is in its zip, and, where Blender is, what it does there."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from scenegen.cli import commands
from scenegen.export import figures
from scenegen.store.png import write_png

BLENDER = Path(__file__).parents[2] / "blender"
ROOT = BLENDER.parent


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


published = module(BLENDER / "scenegen_blender" / "published.py")
build = module(BLENDER / "build.py").build


def graph(*edges: tuple[str, str, str]) -> dict[str, object]:
    names = {"mug", "table", "bowl", "apple"}
    nodes = [{"id": "camera", "kind": "camera"}, {"id": "floor", "kind": "background"}]
    nodes += [{"id": name, "kind": "object"} for name in sorted(names)]
    return {"nodes": nodes, "edges": [{"source": a, "target": b, "relations": {kind: {}}} for a, kind, b in edges]}


def test_an_object_is_in_the_collection_of_what_carries_it() -> None:
    found = published.collections(
        graph(
            ("floor", "supports", "table"),
            ("table", "supports", "bowl"),
            ("table", "supports", "apple"),
            ("bowl", "contains", "apple"),
            ("bowl", "occludes", "mug"),
        )
    )
    assert found == {
        "floor": ("background",),
        "table": ("on floor",),
        "bowl": ("on floor", "on table"),
        "apple": ("on floor", "on table", "in bowl"),  # what contains it says more than what supports it
        "mug": ("carried by nothing",),
    }


def test_objects_that_carry_each_other_end_somewhere() -> None:
    found = published.collections(graph(("mug", "supports", "bowl"), ("bowl", "supports", "mug")))
    assert found["mug"] == ("carried by nothing", "on mug", "on bowl")


def test_the_lens_moves_the_picture_where_the_principal_point_is() -> None:
    # Blender: a positive shift moves what is seen to the left and down, in widths of the picture.
    centred = {"fx": 500.0, "fy": 500.0, "cx": 320.0, "cy": 240.0, "width": 640, "height": 480}
    assert published.lens(centred) == (500 / 640, 0, 0)
    assert published.lens({**centred, "cx": 384.0, "cy": 216.0}) == (
        500 / 640,
        pytest.approx(-0.1),
        pytest.approx(-0.0375),
    )


def test_the_photo_is_the_one_of_the_report(tmp_path: Path) -> None:
    assert published.photo(tmp_path) is None
    picture = np.full((8, 8, 3), 90, np.uint8)
    uri = figures.data_uri(picture, "jpeg")
    (tmp_path / "report.html").write_text(
        f'<img src="{uri}" alt="The photo."><img src="data:image/jpeg;base64,AA" alt="x">'
    )
    assert published.photo(tmp_path) == base64.b64decode(uri.partition(",")[2])


def test_a_folder_without_a_scene_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scene.glb").touch()
    with pytest.raises(published.SceneError, match=r"has no scene_graph\.json; choose a folder"):
        published.read_graph(tmp_path)
    (tmp_path / "scene_graph.json").write_text("{")
    with pytest.raises(published.SceneError, match="cannot be read"):
        published.read_graph(tmp_path)


def test_the_zip_is_what_blender_installs(tmp_path: Path) -> None:
    build(tmp_path / "a.zip")
    build(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        assert set(packed.namelist()) >= {"__init__.py", "blender_manifest.toml", "LICENSE"}
        manifest = tomllib.loads(packed.read("blender_manifest.toml").decode())
    assert (manifest["schema_version"], manifest["type"], manifest["blender_version_min"]) == (
        "1.0.0",
        "add-on",
        "4.2.0",
    )
    # What Blender's validator demands of these texts.
    assert len(manifest["tagline"]) <= 64
    assert manifest["tagline"][-1].isalnum()
    assert all(len(text) <= 64 and text[-1].isalnum() for text in manifest["permissions"].values())


IN_BLENDER = """
import json, sys
from pathlib import Path
import bpy
package, folder, program = sys.argv[1:]
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.extensions.package_install_files(filepath=package, repo="user_default", enable_on_install=True)
name = "bl_ext.user_default.scenegen_blender"
bpy.context.preferences.addons[name].preferences.program = program
assert bpy.ops.scenegen.import_scene(filepath=folder + "/scene.glb") == {"FINISHED"}
paths = {}
def walk(collection, above):
    for item in collection.objects:
        paths[item.name] = above + [collection.name]
    for child in collection.children:
        walk(child, above + [collection.name])
walk(bpy.context.scene.collection, [])
camera = bpy.context.scene.camera
from bpy_extras.object_utils import world_to_camera_view
def seen(item):
    at = [world_to_camera_view(bpy.context.scene, camera, item.matrix_world @ corner.co) for corner in item.data.vertices]
    across, down = [128 * x.x for x in at], [96 * (1 - x.y) for x in at]
    return [min(across), min(down), max(across), max(down)]
first, second = (next(item for item in bpy.data.objects if item.get("id") == number) for number in (1, 2))
def shape(item):
    return [tuple(item.matrix_world @ corner.co) for corner in item.data.vertices]
before, boxes = (shape(first), shape(second)), [seen(first), seen(second)]
bpy.context.view_layer.objects.active = first
done = bpy.ops.scenegen.regenerate(seed=5)
print(json.dumps({
    "paths": paths,
    "lens": [camera.data.lens / camera.data.sensor_width, camera.data.shift_x, camera.data.shift_y],
    "photo": [list(each.image.size) for each in camera.data.background_images],
    "size": [bpy.context.scene.render.resolution_x, bpy.context.scene.render.resolution_y],
    "boxes": boxes, "done": list(done), "seed": first["seed"], "meshes": len(bpy.data.meshes),
    "changed": [before[0] != shape(first), before[1] != shape(second)],
}))
"""


@pytest.mark.skipif(find_spec("bpy") is None, reason="`pip install bpy`")
@pytest.mark.slow  # Blender starts, and scenegen twice
def test_blender_imports_a_scene_and_has_an_object_remade(tmp_path: Path) -> None:
    image, ids = np.full((96, 128, 3), 170, np.uint8), np.zeros((96, 128), np.uint16)
    for number, left in enumerate((15, 75), start=1):
        image[30:70, left : left + 30] = (60 * number, 90, 250 - 60 * number)
        ids[30:70, left : left + 30] = number
    write_png(tmp_path / "photo.png", image)
    write_png(tmp_path / "masks.png", ids)
    (tmp_path / "camera.json").write_text(
        json.dumps({"fx": 120, "fy": 120, "cx": 70, "cy": 40, "width": 128, "height": 96})
    )
    command = [
        str(tmp_path / "photo.png"),
        "--camera",
        str(tmp_path / "camera.json"),
        "--masks",
        str(tmp_path / "masks.png"),
        "-o",
        str(tmp_path / "out"),
    ]
    assert commands.main([*command, "--preset", "training-free", "--set", "export.usdz=false"]) == 0
    folder = tmp_path / "out" / "photo"
    build(tmp_path / "addon.zip")
    script = tmp_path / "script.py"
    script.write_text(IN_BLENDER)
    paths = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    said = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "addon.zip"), str(folder), f"{sys.executable} -m scenegen"],
        env=os.environ | {"BLENDER_USER_RESOURCES": str(tmp_path / "blender"), "PYTHONPATH": paths},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = json.loads(said.strip().splitlines()[-1])
    assert found["done"] == ["FINISHED"]
    assert (found["size"], len(found["photo"]), found["seed"]) == ([128, 96], 1, 5)
    # The objects lie in the camera's picture where they lie in the photo, though the camera's axis is not in its middle.
    np.testing.assert_allclose(found["boxes"], [(15, 30, 45, 70), (75, 30, 105, 70)], atol=2)
    wanted = published.lens(published.camera_matrix(published.read_graph(folder)))
    assert found["lens"] == pytest.approx(wanted, rel=1e-4)
    for name, path in published.collections(published.read_graph(folder)).items():
        if name in found["paths"]:
            assert found["paths"][name][1:] == ["photo", *path]
    assert found["changed"][1] is False
