"""Folders of small coloured meshes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh


def save_glb(path: Path, mesh: trimesh.Trimesh, color: tuple[int, int, int]) -> None:
    """Writes `mesh`, standing on the ground, in one colour."""
    placed = mesh.copy()
    placed.apply_translation([0, -placed.bounds[0, 1], 0])
    placed.visual = trimesh.visual.ColorVisuals(placed, vertex_colors=np.array([*color, 255], np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    placed.export(path)


def small_folder(folder: Path) -> Path:
    """A ball and a bar, red and green."""
    save_glb(folder / "ball.glb", trimesh.creation.icosphere(3, radius=0.5), (220, 30, 30))
    save_glb(folder / "bar.glb", trimesh.creation.box(extents=(1.0, 0.5, 0.3)), (30, 200, 40))
    return folder
