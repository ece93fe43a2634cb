"""A table with textured boxes, photographed by the project's ray caster from several sides, with the truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import trimesh

from scenegen.camera import intrinsics_from_fov
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import render
from scenegen.geometry.unwrap import face_atlas
from scenegen.records import Intrinsics
from scenegen.store.png import write_png

BOXES = (
    ((0.16, 0.24, 0.12), (-0.22, 0.0, 0.02)),
    ((0.20, 0.12, 0.20), (0.12, 0.0, 0.10)),
    ((0.12, 0.18, 0.14), (0.06, 0.0, -0.20)),
)
"""Extents, and the centre of the base on the table, metres."""


@dataclass(frozen=True, eq=False)
class Photographed:
    """One photo and what is true of it."""

    camera: Intrinsics
    camera_from_world: np.ndarray
    """World: Y up, the table at height 0."""
    image: np.ndarray
    ids: np.ndarray
    depth: np.ndarray

    @property
    def world_from_camera(self) -> np.ndarray:
        return np.linalg.inv(self.camera_from_world)


def speckled(mesh: trimesh.Trimesh, colour: tuple[int, int, int], seed: int, texels: int = 512) -> TexturedMesh:
    """The mesh with noise of several sizes on every face, different everywhere."""
    rng = np.random.default_rng(seed)
    atlas = face_atlas(np.asarray(mesh.faces, np.int32))
    noise = sum(
        cv2.resize(rng.normal(0, 1, (n, n)), (texels, texels), interpolation=cv2.INTER_CUBIC)
        for n in (24, 64, 160, 400)
    )
    texture = np.clip(np.array(colour) + 22 * np.asarray(noise)[..., None], 0, 255).astype(np.uint8)
    return TexturedMesh(np.asarray(mesh.vertices, np.float32)[atlas.source], atlas.faces, atlas.uv, texture)


def table(boxes: tuple = BOXES) -> tuple[list[TexturedMesh], TexturedMesh]:
    """The boxes and the table top, in the world."""
    colours = ((190, 90, 70), (80, 150, 90), (90, 110, 190), (200, 180, 80))
    meshes = []
    for number, (extents, base) in enumerate(boxes):
        box = trimesh.creation.box(extents=extents)
        box.apply_translation(np.add(base, [0, extents[1] / 2, 0]))
        meshes.append(speckled(box, colours[number % 4], number))
    top = trimesh.creation.box(extents=[3, 0.04, 3])
    top.apply_translation([0, -0.02, 0])
    return meshes, speckled(top, (150, 140, 130), 99, 2048)


def looking(azimuth_deg: float, elevation_deg: float = 30, distance: float = 1.1) -> np.ndarray:
    """camera_from_world of a camera that looks at the middle of the table."""
    a, e = np.radians([azimuth_deg, elevation_deg])
    place = distance * np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
    place[1] += 0.08
    forward = np.array([0, 0.08, 0]) - place
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 1, 0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ place
    return matrix


def photograph(
    poses: list[np.ndarray], size: tuple[int, int] = (480, 360), fov: float = 48, boxes: tuple = BOXES
) -> list[Photographed]:
    meshes, top = table(boxes)
    camera = intrinsics_from_fov(*size, fov)
    taken = []
    for pose in poses:
        seen = render([mesh.transformed(pose) for mesh in (*meshes, top)], camera, background=90)
        ids = np.where((seen.ids >= 0) & (seen.ids < len(meshes)), seen.ids + 1, 0).astype(np.uint16)
        taken.append(Photographed(camera, pose, seen.color, ids, seen.depth))
    return taken


def turned_by_deg(a: np.ndarray, b: np.ndarray) -> float:
    """Angle between two rotations."""
    return float(np.degrees(np.arccos(np.clip((np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2, -1, 1))))


def write_photographs(folder: Path, photos: Sequence[Photographed]) -> None:
    """Photos, masks with ids of their own, depth, and the cameras in decimetres."""
    for name in ("shots", "masks", "depth"):
        (folder / name).mkdir()
    frames = []
    for number, photo in enumerate(photos):
        write_png(folder / "shots" / f"v{number}.png", photo.image)
        write_png(folder / "masks" / f"v{number}.png", photo.ids)
        np.save(folder / "depth" / f"v{number}.npy", photo.depth)
        pose = photo.world_from_camera @ np.diag([1.0, -1, -1, 1])
        pose[:3, 3] *= 10
        frames.append({"file_path": f"v{number}.png", "transform_matrix": pose.tolist()})
    camera = photos[0].camera
    known = {
        "fl_x": camera.fx,
        "fl_y": camera.fy,
        "cx": camera.cx,
        "cy": camera.cy,
        "w": camera.width,
        "h": camera.height,
    }
    (folder / "transforms.json").write_text(json.dumps({**known, "frames": frames}))
