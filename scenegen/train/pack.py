"""Archives of reduced training pictures, for training on a machine without network access."""

from __future__ import annotations

import csv
import io
import json
import logging
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from scenegen.errors import InputError
from scenegen.train.pictures import INDEX, LABELS, read_picture

logger = logging.getLogger(__name__)

QUALITY = 70
"""Quality of WebP."""


def pack_pictures(*, data: Path, out: Path, side: int = 448) -> None:
    """Write a folder of scenes or photographs as one archive, which training reads in its place.

    Parameters
    ----------
    data
        The folder; see `scenegen.train.pictures`. Photographs of the split `test` are left out.
    out
        The zip file.
    side
        Longest side of the pictures, pixels.

    Raises
    ------
    InputError
        If there is no picture, or one is damaged.
    """
    rows = _photographs(data / INDEX)
    names = [row["name"] for row in rows] or sorted(path.parent.name for path in data.glob("*/camera.json"))
    if not names:
        raise InputError(
            f"`data` {data} has no pictures; give a folder with an {INDEX} of photographs, or with scenes."
        )
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, ThreadPoolExecutor() as threads:
        for entries in threads.map(lambda name: list(_reduced(data / name, side)), names):
            for name, content in entries:
                archive.writestr(name, content)
        if rows:
            table = io.StringIO()
            writer = csv.DictWriter(table, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
            archive.writestr(INDEX, table.getvalue())
            if (data / LABELS).is_file():
                archive.writestr(LABELS, (data / LABELS).read_text(encoding="utf-8"))
    logger.info("%s: %d pictures, %.1f MB", out, len(names), out.stat().st_size / 1e6)


def _photographs(index: Path) -> list[dict[str, str]]:
    """The rows of the photographs to train on; none if the folder holds scenes."""
    if not index.is_file():
        return []
    with index.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if "masks" in row and row["split"] == "train"]


def _reduced(folder: Path, side: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of a picture's folder that training reads."""
    image = read_picture(next(folder.glob("image.*"), folder / "image.webp"), cv2.IMREAD_COLOR)
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (round(width * scale), round(height * scale))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    yield f"{folder.name}/image.webp", _encoded(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    for name in ("masks.png", "depth.png"):
        if (folder / name).is_file():
            values = read_picture(folder / name, cv2.IMREAD_UNCHANGED)
            if max(values.shape) > max(size):
                values = cv2.resize(values, size, interpolation=cv2.INTER_NEAREST)
            if name == "depth.png":
                values = _rounded(values)
            yield f"{folder.name}/{name}", _encoded(".png", values, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    camera = folder / "camera.json"
    if camera.is_file():
        known = json.loads(camera.read_text(encoding="utf-8"))
        for key in ("fx", "cx"):
            known[key] *= size[0] / width
        for key in ("fy", "cy"):
            known[key] *= size[1] / height
        yield (
            f"{folder.name}/camera.json",
            json.dumps({key: known[key] for key in ("fx", "fy", "cx", "cy", "camera_to_world")}).encode(),
        )
    described = folder / "scene.json"
    if described.is_file():
        objects = json.loads(described.read_text(encoding="utf-8")).get("objects", [])
        names = [{key: each[key] for key in ("id", "category")} for each in objects]
        yield f"{folder.name}/scene.json", json.dumps({"objects": names}).encode()


def _rounded(depth: np.ndarray) -> np.ndarray:
    """Depth to about one part in 500, which compresses better."""
    step = np.maximum(1, 2 ** np.floor(np.log2(np.maximum(depth, 1) / 400.0)))
    return (np.round(depth / step) * step).clip(0, 65535).astype(depth.dtype)


def _encoded(suffix: str, picture: np.ndarray, options: list[int]) -> bytes:
    return cv2.imencode(suffix, picture, options)[1].tobytes()
