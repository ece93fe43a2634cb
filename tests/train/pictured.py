"""Training pictures whose truth is known in closed form, and their folders."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np

from scenegen.perception.nouns import NOUNS
from scenegen.train.pictures import TrainingPicture

WIDTH, HEIGHT, FOCAL = 96, 72, 90.0
CAMERA = np.array([FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2])
NORMAL, OFFSET = np.array([0.1, 0.8, 0.6]) / np.linalg.norm([0.1, 0.8, 0.6]), 1.5
"""A plane n . X = d that fills the picture."""
DOWN = np.array([0.0, np.cos(0.3), np.sin(0.3)])
CUP = NOUNS.index("cup")


def plane_depth() -> np.ndarray:
    u, v = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    rays = np.stack([(u - WIDTH / 2) / FOCAL, (v - HEIGHT / 2) / FOCAL, np.ones_like(u)], axis=-1)
    return OFFSET / np.maximum(rays @ NORMAL, 1e-3)


def made_picture(name: str = "plane", **changes: object) -> TrainingPicture:
    """A plane with a red disc (object 1) and a blue box (object 2, a cup) drawn on it."""
    u, v = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[np.hypot(u - 30, v - 34) < 17] = 1
    ids[24:60, 56:86] = 2
    colours = np.array([(120, 130, 125), (220, 40, 30), (30, 60, 210)], np.uint8)
    values: dict[str, object] = {
        "name": name,
        "image": colours[ids],
        "ids": ids,
        "exhaustive": True,
        "log_depth": np.log(plane_depth()).astype(np.float32),
        "camera": CAMERA,
        "down": DOWN,
        "nouns": {2: CUP},
        "group": name,
        **changes,
    }
    return TrainingPicture(**values)  # type: ignore[arg-type]


def write_scenes(folder: Path, count: int) -> Path:
    """`count` scenes of the first layout; the camera's world is turned by 0.3 about x."""
    picture = made_picture()
    turn = np.eye(4)
    turn[1, :3] = -DOWN
    for number in range(count):
        scene = folder / f"{number:03}"
        scene.mkdir(parents=True)
        cv2.imwrite(str(scene / "image.png"), picture.image[..., ::-1])
        cv2.imwrite(str(scene / "masks.png"), picture.ids)
        depth = (1000 * plane_depth()).astype(np.uint16)
        depth[:4] = 0
        cv2.imwrite(str(scene / "depth.png"), depth)
        camera = {"fx": FOCAL, "fy": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2, "camera_to_world": turn.tolist()}
        (scene / "camera.json").write_text(json.dumps(camera))
        described = {"objects": [{"id": 2, "category": "mug", "more": 1}, {"id": 1, "category": "unheard-of thing"}]}
        (scene / "scene.json").write_text(json.dumps(described))
    return folder


def write_photographs(folder: Path) -> Path:
    """Photographs of the second layout, one of each kind of masks; `salient` has depth, `partial` a field of view."""
    picture = made_picture()
    rows = []
    for name, fov, depth, split, licence in (
        ("exhaustive", "", "none", "train", "CC BY 4.0"),
        ("partial", "55", "none", "train", "CC BY-NC 4.0"),
        ("salient", "", "relative", "train", "CC0"),
        ("none", "", "none", "test", ""),
    ):
        photograph = folder / name
        photograph.mkdir(parents=True)
        cv2.imwrite(str(photograph / "image.png"), picture.image[..., ::-1])
        if name != "none":
            cv2.imwrite(str(photograph / "masks.png"), np.where(picture.ids == 1, 255, picture.ids).astype(np.uint8))
        if depth != "none":
            values = (1000 * plane_depth()).astype(np.uint16)
            values[:4] = 0
            cv2.imwrite(str(photograph / "depth.png"), values)
        rows.append(
            {
                "name": name, "masks": name, "depth": depth, "depth_scale": "0.001" if depth != "none" else "",
                "fov_deg": fov, "group": f"of {name}", "split": split, "licence": licence,
            }
        )  # fmt: skip
    write_table(folder / "index.csv", rows)
    labels = [{"name": "partial", "id": "2", "category": "mug"}, {"name": "partial", "id": "1", "category": "thing"}]
    write_table(folder / "labels.csv", labels)
    return folder


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
