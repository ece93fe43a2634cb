"""A rendered scene with its ground truth, made here: two boxes and a ball on a floor, seen from above."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import trimesh
from solids import textured

from scenegen.camera import intrinsics_from_fov, transform
from scenegen.evaluate.record import TrueObject
from scenegen.evaluate.sampling import Triangles
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import render
from scenegen.records import Artifact
from scenegen.store.png import write_png

CAMERA = intrinsics_from_fov(160, 120, 50)
HEIGHT_M, DOWN_DEG = 0.5, 25.0
COLOURS = ((200, 60, 40), (40, 90, 200), (230, 190, 50))
NOWHERE = Artifact(path="nowhere", sha256="", bytes=0)


def world_from_camera() -> np.ndarray:
    """The camera looks along -Z of the world and down."""
    down = np.radians(DOWN_DEG)
    right, ahead = np.array([1.0, 0, 0]), np.array([0, -np.sin(down), -np.cos(down)])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(ahead, right), ahead], axis=1)
    pose[:3, 3] = [0, HEIGHT_M, 0]
    return pose


def solids() -> dict[int, Triangles]:
    """World frame, by id, each on the floor."""
    shapes = {
        1: trimesh.creation.box(extents=(0.16, 0.2, 0.14)),
        2: trimesh.creation.box(extents=(0.14, 0.1, 0.18)),
        3: trimesh.creation.icosphere(subdivisions=3, radius=0.08),
    }
    places = {1: (-0.22, 0.1, -1.0), 2: (0.02, 0.05, -0.85), 3: (0.24, 0.08, -1.0)}
    return {i: Triangles(np.asarray(shapes[i].vertices) + places[i], np.asarray(shapes[i].faces)) for i in shapes}


def true_objects() -> tuple[TrueObject, ...]:
    """On the floor."""
    return tuple(
        TrueObject(id=i, category=f"thing {i}", mesh=NOWHERE, amodal=None, support=0) for i in sorted(solids())
    )


def in_camera(meshes: dict[int, Triangles], pose: np.ndarray | None = None) -> dict[int, Triangles]:
    """From the world frame, to that of the camera at `pose`."""
    camera_from_world = np.linalg.inv(world_from_camera() if pose is None else pose)
    return {i: Triangles(transform(camera_from_world, mesh.vertices), mesh.faces) for i, mesh in meshes.items()}


def coloured(mesh: Triangles, colour: tuple[int, int, int]) -> TexturedMesh:
    """With a texture of one colour."""
    grey = textured(mesh)
    return TexturedMesh(grey.vertices, grey.faces, grey.uv, np.array([[colour]], np.uint8))


def write_scene(folder: Path) -> None:
    """Writes the scene in the layout `scene`, its masks, depth and picture rendered."""
    folder.mkdir(parents=True)
    for name in ("masks", "objects"):
        (folder / name).mkdir()
    world = solids()
    order = sorted(world)
    meshes = [coloured(in_camera(world)[i], colour) for i, colour in zip(order, COLOURS, strict=True)]
    ids = write_picture(folder, world_from_camera())
    rows = []
    for i, mesh in zip(order, meshes, strict=True):
        write_png(folder / "masks" / f"{i:02}.png", ((ids == i) * 255).astype(np.uint8))
        alone = render([mesh], CAMERA).ids >= 0
        write_png(folder / "masks" / f"{i:02}_amodal.png", (alone * 255).astype(np.uint8))
        trimesh.Trimesh(world[i].vertices, world[i].faces, process=False).export(folder / "objects" / f"{i:02}.glb")
        row = {"id": i, "category": f"thing {i}", "mesh": f"objects/{i:02}.glb", "mask": f"masks/{i:02}.png"}
        rows.append({**row, "support": "ground", "more": "is ignored"})
    (folder / "scene.json").write_text(json.dumps({"objects": rows}))


def write_view(folder: Path, degrees: float) -> None:
    """Adds a further photo to the scene in `folder`, from so far round it."""
    turn, middle = np.eye(4), np.array([0.0, 0, -0.95])
    angle = np.radians(degrees)
    turn[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    turn[:3, 3] = middle - turn[:3, :3] @ middle
    view = folder / "views" / f"{degrees:g}"
    view.mkdir(parents=True)
    write_picture(view, turn @ world_from_camera())


def write_picture(folder: Path, pose: np.ndarray) -> np.ndarray:
    """Writes what the camera at `pose` sees of the scene, and the camera; the ids are returned."""
    floor = Triangles(np.array([[-3.0, 0, 1], [3, 0, 1], [3, 0, -5], [-3, 0, -5]]), np.array([[0, 1, 2], [0, 2, 3]]))
    placed = in_camera(solids(), pose)
    order = sorted(placed)
    meshes = [coloured(placed[i], colour) for i, colour in zip(order, COLOURS, strict=True)]
    picture = render([*meshes, coloured(in_camera({0: floor}, pose)[0], (120, 120, 118))], CAMERA)
    ids = np.array([*order, 0, 0], np.uint8)[picture.ids]
    rng = np.random.default_rng(0)
    image = (picture.color + rng.integers(-6, 7, picture.color.shape)).clip(0, 255).astype(np.uint8)
    write_png(folder / "image.png", image)
    write_png(folder / "masks.png", ids)
    np.save(folder / "depth.npy", picture.depth)
    camera = CAMERA.model_dump() | {"camera_to_world": pose.tolist()}
    (folder / "camera.json").write_text(json.dumps(camera))
    return ids


def write_photo(folder: Path, masks: bool = True) -> None:
    """Writes the same picture in the layout `photo`: depth in 1/5000 m, pixel centres at integers."""
    write_scene(folder)
    depth = np.load(folder / "depth.npy")
    write_png(folder / "depth.png", np.round(depth * 5000).clip(0, 65535).astype(np.uint16))
    camera = CAMERA.model_dump() | {"cx": CAMERA.cx - 0.5, "cy": CAMERA.cy - 0.5}
    (folder / "camera.json").write_text(json.dumps(camera))
    for name in ("scene.json", "depth.npy", *(() if masks else ("masks.png",))):
        (folder / name).unlink()
