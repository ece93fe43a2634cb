"""A room with boxes in it, and its exact photo, masks and depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import trimesh

from scenegen.camera import intrinsics_from_fov
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import render
from scenegen.records import Intrinsics

COLOURS = ((200, 60, 50), (60, 160, 80), (60, 90, 200), (220, 180, 60))


@dataclass(frozen=True)
class Room:
    camera: Intrinsics
    camera_from_world: np.ndarray
    """World: Y up, the floor at height 0."""
    boxes: tuple[TexturedMesh, ...]
    """Camera frame."""
    image: np.ndarray
    ids: np.ndarray
    depth: np.ndarray

    @property
    def up(self) -> np.ndarray:
        return self.camera_from_world[:3, 1]

    @property
    def height(self) -> float:
        """Of the camera above the floor."""
        return float(-self.up @ self.camera_from_world[:3, 3])


def plain(mesh: trimesh.Trimesh, colour: tuple[int, int, int]) -> TexturedMesh:
    vertices = np.asarray(mesh.vertices, dtype=np.float32)
    uv = np.zeros((len(vertices), 2), np.float32)
    return TexturedMesh(vertices, np.asarray(mesh.faces, np.int32), uv, np.full((2, 2, 3), colour, np.uint8))


def room(
    boxes: list[tuple[tuple[float, float, float], tuple[float, float, float]]],
    pitch_deg: float = 25,
    height: float = 1.4,
    fov: float = 55,
    wall: bool = True,
    size: tuple[int, int] = (320, 240),
) -> Room:
    """`boxes` are (extents, centre of the base) in the world; the camera looks along -Z, `pitch_deg` down."""
    return room_of([standing_box(*box) for box in boxes], pitch_deg, height, fov, wall, size)


def standing_box(extents: tuple[float, float, float], base: tuple[float, float, float]) -> trimesh.Trimesh:
    """`base` is the centre of its base."""
    box = trimesh.creation.box(extents=extents)
    box.apply_translation(np.array(base) + np.array([0, extents[1] / 2, 0]))
    return box


def room_of(
    solids: Sequence[trimesh.Trimesh],
    pitch_deg: float = 25,
    height: float = 1.4,
    fov: float = 55,
    wall: bool = True,
    size: tuple[int, int] = (320, 240),
) -> Room:
    """As `room`, with any solids in the world."""
    pitch = np.radians(pitch_deg)
    # Columns: the world's axes in the camera's frame (x right, y down, z forward).
    camera_from_world = np.eye(4)
    camera_from_world[:3, 0] = [1, 0, 0]
    camera_from_world[:3, 1] = [0, -np.cos(pitch), -np.sin(pitch)]
    camera_from_world[:3, 2] = [0, np.sin(pitch), -np.cos(pitch)]
    camera_from_world[:3, 3] = -camera_from_world[:3, :3] @ [0, height, 0]
    meshes = [
        plain(solid, COLOURS[index % len(COLOURS)]).transformed(camera_from_world) for index, solid in enumerate(solids)
    ]
    ground = trimesh.creation.box(extents=[40, 0.2, 40])
    ground.apply_translation([0, -0.1, 0])
    stuff = [plain(ground, (150, 140, 130)).transformed(camera_from_world)]
    if wall:
        back = trimesh.creation.box(extents=[40, 20, 0.2])
        back.apply_translation([0, 0, -4.1])
        stuff.append(plain(back, (190, 195, 200)).transformed(camera_from_world))
    camera = intrinsics_from_fov(size[0], size[1], fov)
    picture = render([*meshes, *stuff], camera)
    ids = np.where(picture.ids < len(meshes), picture.ids + 1, 0).astype(np.uint16)
    return Room(camera, camera_from_world, tuple(meshes), picture.color, ids, picture.depth)


DESK = [((0.4, 0.5, 0.4), (-0.6, 0, -2.6)), ((0.5, 0.3, 0.5), (0.4, 0, -2.2)), ((0.2, 0.2, 0.2), (0.4, 0.3, -2.2))]
"""Two boxes on the floor, a third on the second."""
