"""Makes docs/table.jpg, the picture of the README: photo, masks, and the scene from two sides.

python -m scenegen examples/table.jpg --masks examples/table_masks.png
python docs/make_picture.py out/table
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from scenegen.camera import intrinsics_from_fov
from scenegen.export.glb import read_glb
from scenegen.geometry.render import render
from scenegen.store.png import read_png

HEIGHT = 480
TURNS = ((-26.0, 30.0), (32.0, 32.0))
"""Degrees around the scene's middle and above it."""


def view(folder: Path, turn: float, rise: float) -> np.ndarray:
    """The exported scene from another side."""
    scene = read_glb(folder / "scene.glb")
    parts = [*scene.objects, *scene.background]
    around, above = np.radians(turn), np.radians(rise)
    back = np.array([np.sin(around) * np.cos(above), np.sin(above), np.cos(around) * np.cos(above)])
    right = np.array([np.cos(around), 0.0, -np.sin(around)])
    camera_from_world = np.eye(4)
    camera_from_world[:3, :3] = np.stack([right, -np.cross(back, right), -back])
    distance = 1.0 * float(np.linalg.norm(scene.world_from_camera[:3, 3]))
    camera_from_world[:3, 3] = -camera_from_world[:3, :3] @ (distance * back + np.array([0, 0.12, 0]))
    meshes = [part.mesh.transformed(camera_from_world @ part.world_from_part) for part in parts]
    fine = render(meshes, intrinsics_from_fov(HEIGHT * 8 // 3, HEIGHT * 2, 42.0), background=245)
    return cv2.resize(fine.color, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def main(folder: Path) -> None:
    """Writes the picture."""
    photo = cv2.cvtColor(cv2.imread("examples/table.jpg"), cv2.COLOR_BGR2RGB)
    panels = [photo, read_png(folder / "overlay.png")[..., :3], *(view(folder, *turn) for turn in TURNS)]
    sized = [cv2.resize(panel, (HEIGHT * 4 // 3, HEIGHT), interpolation=cv2.INTER_AREA) for panel in panels]
    rows = [np.concatenate(sized[:2], axis=1), np.concatenate(sized[2:], axis=1)]
    picture = cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(Path(__file__).parent / "table.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
