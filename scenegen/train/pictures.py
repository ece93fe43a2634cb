"""Pictures that the perception network is trained on, each with only what is known of it.

Two layouts are read, from a folder or a zip archive of one:

- scenes: one subfolder each, with `image.webp` or `image.png`; `masks.png`, object ids, 0 for background; `depth.png`, z-depth in
  millimetres, 0 for no surface; `camera.json` with fx, fy, cx, cy (the top-left pixel's centre at 0.5, 0.5) and the 4x4
  `camera_to_world` of an OpenCV camera in a world with Y up; and, if objects have names, `scene.json`.
- photographs: an `index.csv` that says of each subfolder what its masks hold (`exhaustive`, `partial`, `salient`, `none`),
  whether `depth.png` is there and its scale, and the horizontal field of view if known; `labels.csv` names objects. In
  `masks.png` 255 is unknown; in `depth.png` 0 is.
"""

from __future__ import annotations

import csv
import json
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from scenegen.errors import InputError
from scenegen.perception.nouns import noun_number

MILLIMETRE = 0.001
IMAGES = ("image.webp", "image.png", "image.jpg")
IGNORED = 255
"""Id of pixels about which nothing is known."""
INDEX, LABELS = "index.csv", "labels.csv"
Tree = Path | zipfile.Path


@dataclass(frozen=True, eq=False)
class TrainingPicture:
    """One picture and what is true of it."""

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    """sRGB."""
    ids: UInt8[np.ndarray, "h w"]
    """0 where no object is labelled, `IGNORED` where nothing is known."""
    exhaustive: bool
    """Whether what is labelled 0 shows no object."""
    log_depth: Float32[np.ndarray, "h w"] | None
    """Logarithm of the z-depth, up to a constant: -inf where unknown, +inf where there is no surface."""
    camera: Float[np.ndarray, "4"] | None
    """fx, fy, cx, cy in pixels."""
    down: Float[np.ndarray, "3"] | None
    """Unit vector of gravity in the camera's frame."""
    nouns: dict[int, int]
    """Number of the noun of each object that has a name."""
    group: str = ""
    """Pictures of one group show the same things."""
    split: str = "train"
    licence: str = ""


def read_pictures(source: Path) -> list[TrainingPicture]:
    """Every picture of a folder or archive, in the order of their names.

    Raises:
        InputError: if a file is missing or damaged, or there is no picture.
    """
    try:
        tree: Tree = zipfile.Path(source) if source.suffix == ".zip" else source
        index = tree / INDEX
        photographs = index.is_file() and "masks" in index.read_text(encoding="utf-8").partition("\n")[0].split(",")
        found = list(_photographs(tree) if photographs else _scenes(tree))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise InputError(f"`data` {source} is missing or damaged, or has another layout ({error!r}).") from error
    if not found:
        raise InputError(
            f"`data` {source} has no pictures; give a folder with an {INDEX} of photographs, or with scenes."
        )
    return found


def _photographs(tree: Tree) -> Iterator[TrainingPicture]:
    nouns: dict[str, dict[int, int]] = defaultdict(dict)
    labels = tree / LABELS
    if labels.is_file():
        for row in csv.DictReader(labels.read_text(encoding="utf-8").splitlines()):
            number = noun_number(row["category"])
            if number >= 0:
                nouns[row["name"]][int(row["id"])] = number

    def photograph(row: dict[str, str]) -> TrainingPicture:
        folder = tree / row["name"]
        image = _image(folder)
        height, width = image.shape[:2]
        ids = np.full((height, width), IGNORED, np.uint8)
        if row["masks"] != "none":
            ids = _ids(folder, image)
        log_depth = camera = None
        if row["depth"] != "none":
            depth = read_picture(folder / "depth.png", cv2.IMREAD_UNCHANGED) * np.float32(row["depth_scale"] or 1)
            depth = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST)
            with np.errstate(divide="ignore"):
                log_depth = np.log(depth)
        if row["fov_deg"]:
            focal = width / 2 / np.tan(np.radians(float(row["fov_deg"])) / 2)
            camera = np.array([focal, focal, width / 2, height / 2])
        return TrainingPicture(
            name=row["name"],
            image=image,
            ids=ids,
            exhaustive=row["masks"] == "exhaustive",
            log_depth=log_depth,
            camera=camera,
            down=None,
            nouns=nouns[row["name"]],
            group=row["group"],
            split=row["split"],
            licence=row["licence"],
        )

    with ThreadPoolExecutor() as threads:
        yield from threads.map(photograph, csv.DictReader((tree / INDEX).read_text(encoding="utf-8").splitlines()))


def _scenes(tree: Tree) -> Iterator[TrainingPicture]:
    def scene(folder: Tree) -> TrainingPicture:
        camera = json.loads((folder / "camera.json").read_text(encoding="utf-8"))
        described = folder / "scene.json"
        objects = json.loads(described.read_text(encoding="utf-8")).get("objects", []) if described.is_file() else []
        numbers = {int(each["id"]): noun_number(each["category"]) for each in objects}
        depth = read_picture(folder / "depth.png", cv2.IMREAD_UNCHANGED) * np.float32(MILLIMETRE)
        world_from_camera = np.array(camera["camera_to_world"], float)
        image = _image(folder)
        return TrainingPicture(
            name=folder.name,
            image=image,
            ids=_ids(folder, image),
            exhaustive=True,
            log_depth=np.log(depth, where=depth > 0, out=np.full_like(depth, np.inf)),
            camera=np.array([camera[key] for key in ("fx", "fy", "cx", "cy")]),
            down=-world_from_camera[1, :3],
            nouns={key: number for key, number in numbers.items() if number >= 0},
            group=folder.name,
        )

    folders = sorted((entry for entry in tree.iterdir() if entry.is_dir()), key=lambda entry: entry.name)
    with ThreadPoolExecutor() as threads:
        yield from threads.map(scene, [folder for folder in folders if (folder / "camera.json").is_file()])


def _image(folder: Tree) -> UInt8[np.ndarray, "h w 3"]:
    present = [folder / name for name in IMAGES if (folder / name).is_file()]
    if not present:
        raise InputError(f"`data`: {folder} has none of {', '.join(IMAGES)}.")
    return np.ascontiguousarray(read_picture(present[0], cv2.IMREAD_COLOR)[..., ::-1])


def _ids(folder: Tree, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    path = folder / "masks.png"
    ids = read_picture(path, cv2.IMREAD_UNCHANGED)
    if ids.shape != image.shape[:2] or ids.max() > IGNORED:
        raise InputError(f"`data`: {path} must hold one id of 0 to {IGNORED} for each pixel of the image next to it.")
    return ids.astype(np.uint8)


def read_picture(path: Tree, flags: int) -> np.ndarray:
    """One picture of a folder or archive, as OpenCV reads it.

    Raises:
        InputError: if it is missing or damaged.
    """
    try:
        picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), flags)
    except (OSError, KeyError, cv2.error):
        picture = None
    if picture is None:
        raise InputError(f"`data`: {path} is not a readable picture; save it again.")
    return picture
