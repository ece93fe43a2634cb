"""Scenes in Blender: imported, and their objects exchanged."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy

from . import published

FOLDER, NUMBER = "scenegen_folder", "id"
"""Custom properties of an object: the scene that it is of, and its number there, which the GLB brings."""


def import_scene(context: Any, folder: Path) -> Any:
    """Imports a scene with its camera, its photo behind it, and collections by what carries what. Returns its collection.

    Raises:
        SceneError: if the folder is no scene.
    """
    graph = published.read_graph(folder)
    top = bpy.data.collections.new(folder.name)
    context.scene.collection.children.link(top)
    paths = published.collections(graph)
    for item in _imported(folder):
        name = item.name.split(".")[0]
        _move(item, _nested(top, paths.get(name, ())))
        if NUMBER in item:
            item[FOLDER] = str(folder)
        if item.type == "CAMERA" and name == "camera":
            _set_camera(context.scene, item, graph, published.photo(folder))
    return top


def exchange(item: Any) -> None:
    """Gives an object the mesh, the material and the place that its scene's folder has for it now.

    Raises:
        SceneError: if the scene has no such object any more.
    """
    folder, number = Path(item[FOLDER]), item[NUMBER]
    published.read_graph(folder)
    others = _imported(folder)
    new = next((other for other in others if other.get(NUMBER) == number), None)
    if new is not None:
        old, item.data = item.data, new.data
        item.matrix_world = new.matrix_world.copy()
        for key, value in new.items():
            item[key] = value
        if old.users == 0:
            bpy.data.meshes.remove(old)
    spare = [other.data for other in others if other.type == "MESH"]
    for other in others:
        bpy.data.objects.remove(other)
    for mesh in spare:
        if mesh.users == 0:
            bpy.data.meshes.remove(mesh)
    if new is None:
        raise published.SceneError(f"{folder} has no object {number} any more; import the scene again.")


def _imported(folder: Path) -> Sequence[Any]:
    """The objects that the GLB brings."""
    before = set(bpy.data.objects)
    bpy.ops.import_scene.gltf(filepath=str(folder / published.GLB))
    bpy.context.view_layer.update()
    return [item for item in bpy.data.objects if item not in before]


def _nested(top: Any, path: Sequence[str]) -> Any:
    for name in path:
        found = next((child for child in top.children if child.name.split(".")[0] == name), None)
        if found is None:
            found = bpy.data.collections.new(name)
            top.children.link(found)
        top = found
    return top


def _move(item: Any, collection: Any) -> None:
    for each in tuple(item.users_collection):
        each.objects.unlink(item)
    collection.objects.link(item)


def _set_camera(scene: Any, item: Any, graph: Any, photo: bytes | None) -> None:
    """glTF knows no principal point, and Blender's importer no picture size: both come from the scene graph."""
    intrinsics = published.camera_matrix(graph)
    focal, right, up = published.lens(intrinsics)
    camera = item.data
    camera.sensor_fit = "HORIZONTAL"
    camera.lens = focal * camera.sensor_width
    camera.shift_x, camera.shift_y = right, up
    scene.camera = item
    scene.render.resolution_x, scene.render.resolution_y = int(intrinsics["width"]), int(intrinsics["height"])
    if photo is None:
        return
    with tempfile.TemporaryDirectory(prefix="scenegen-") as folder:
        path = Path(folder) / "photo.jpg"
        path.write_bytes(photo)
        image = bpy.data.images.load(str(path))
        image.pack()
    camera.show_background_images = True
    camera.background_images.new().image = image
