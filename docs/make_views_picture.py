"""Makes docs/views.jpg: four photos of a still life, and the scene made from the first of them and from all four.

python -m docs.make_views_picture [FOLDER]

The photos are rendered, the scenes made and compared with the truth as by benchmarks/scene_views.py, all in FOLDER.
"""

from __future__ import annotations

import itertools
import json
import logging
import sys
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image, ImageDraw, ImageFont

from benchmarks.scene_views import RUNS, TURNS, made, photographed
from scenegen.export.glb import read_glb
from scenegen.export.side_view import side_view
from scenegen.store.png import read_png

TARGET = Path(__file__).parent / "views.jpg"
SCENES = {"1 view": "v0", "4 views": "4v2"}
"""Runs of the benchmark, and the folders of what they make."""
SIDES = (-55.0, 60.0, 125.0)
"""Degrees to the right of the first camera."""
PANEL = 400, 300
PAPER, INK = (250, 250, 250), (40, 40, 40)
FONT = ImageFont.load_default(14)

MUG = ((0, 0), (0.038, 0), (0.042, 0.005), (0.042, 0.095), (0.038, 0.095), (0.037, 0.01), (0, 0.008))
BOTTLE = ((0, 0), (0.032, 0), (0.036, 0.006), (0.036, 0.13), (0.014, 0.175), (0.014, 0.22), (0, 0.22))
BOWL = ((0, 0), (0.03, 0), (0.055, 0.02), (0.08, 0.06), (0.076, 0.061), (0.05, 0.024), (0, 0.006))
"""Radii and heights in metres."""


def turned(profile: tuple[tuple[float, float], ...]) -> trimesh.Trimesh:
    """A body of revolution about the vertical."""
    line = np.array(profile)
    fine = np.concatenate([np.linspace(a, b, 12, endpoint=False) for a, b in itertools.pairwise(line)])
    body = trimesh.creation.revolve(np.vstack([fine, line[-1:]]), sections=72)
    return body.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0]))


def still_life() -> list[trimesh.Trimesh]:
    """Things on a table at height 0, Y up, each striped in its colour."""
    handle = trimesh.creation.torus(0.026, 0.006, major_sections=48, minor_sections=20)
    handle.apply_translation([0.044, 0.05, 0])
    handle.update_faces(np.linalg.norm(handle.triangles_center[:, [0, 2]], axis=1) > 0.04)
    book = trimesh.creation.box(extents=(0.2, 0.035, 0.14)).subdivide_to_size(0.01)
    apple = trimesh.creation.icosphere(subdivisions=4, radius=0.04)
    things = (
        (trimesh.util.concatenate([turned(MUG), handle]), (0.13, 0, 0.06), (60, 110, 190)),
        (turned(BOTTLE), (-0.02, 0, -0.1), (50, 130, 80)),
        (turned(BOWL), (-0.16, 0, 0.06), (215, 180, 90)),
        (book, (0.16, 0.0175, -0.12), (170, 60, 60)),
        (apple, (0.0, 0.04, 0.11), (200, 90, 40)),
    )
    for mesh, place, colour in things:
        stripes = 0.85 + 0.15 * np.sign(np.sin(160 * mesh.vertices.sum(axis=1)))
        mesh.visual.vertex_colors = np.clip(np.outer(stripes, colour), 0, 255).astype(np.uint8)
        mesh.apply_translation(place)
    return [mesh for mesh, _, _ in things]


def written(folder: Path) -> Path:
    """The still life in the layout of `scenegen evaluate`, seen from 25 degrees above."""
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for number, mesh in enumerate(still_life(), 1):
        mesh.export(folder / f"{number}.glb")
        items.append({"id": number, "mesh": f"{number}.glb"})
    (folder / "scene.json").write_text(json.dumps({"objects": items}))
    above, distance = np.radians(25), 0.95
    forward = -np.array([0, np.sin(above), np.cos(above)])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([[1, 0, 0], np.cross(forward, [1, 0, 0]), forward], axis=1)
    pose[:3, 3] = np.array([0, 0.07, 0]) - distance * forward
    camera = {"width": 640, "height": 480, "fx": 900, "fy": 900, "cx": 320, "cy": 240, "camera_to_world": pose.tolist()}
    (folder / "camera.json").write_text(json.dumps(camera))
    return folder


def panel(title: str, picture: np.ndarray) -> Image.Image:
    """A picture in a panel, with its title."""
    shown = Image.fromarray(picture).resize(PANEL, Image.Resampling.LANCZOS)
    ImageDraw.Draw(shown).text((8, 6), title, fill=INK, font=FONT, stroke_width=3, stroke_fill=PAPER)
    return shown


def sides(folder: Path, title: str) -> list[Image.Image]:
    """The exported objects on their floor, from the sides."""
    scene = read_glb(folder / "scene.glb")
    objects = [part.mesh.transformed(part.world_from_part) for part in scene.objects]
    floor = [part.mesh.transformed(part.world_from_part) for part in scene.background if part.name == "floor"]
    return [
        panel(
            f"{title}, from {angle:.0f} degrees",
            side_view(objects, floor, scene.world_from_camera, 2 * PANEL[0], 2 * PANEL[1], angle).color,
        )
        for angle in SIDES
    ]


def main(folder: Path) -> None:
    """Writes the picture, and logs the measures of both scenes."""
    shots = folder / "shots"
    truth = photographed(written(folder / "scene"), shots)
    rows = [[panel(f"photo {n + 1}, {turn} degrees", read_png(shots / f"v{n}.png")) for n, turn in enumerate(TURNS)]]
    for name, scene in SCENES.items():
        logging.info("%s: %s", name, json.dumps(made(name, *RUNS[name], truth, shots)))
        first = panel(f"{name}, over photo 1", read_png(shots / "out" / scene / "overlay.png")[..., :3])
        rows.append([first, *sides(shots / "out" / scene, name)])
    picture = Image.new("RGB", (4 * PANEL[0], len(rows) * PANEL[1]), PAPER)
    for row, panels in enumerate(rows):
        for column, each in enumerate(panels):
            picture.paste(each, (column * PANEL[0], row * PANEL[1]))
    picture.save(TARGET, quality=82)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/views_picture"))
