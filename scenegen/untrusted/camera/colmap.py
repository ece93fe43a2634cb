"""COLMAP's cameras and images, as text and binary. Its pixels have their centres at +0.5 too."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float64

from scenegen.errors import InputError
from scenegen.untrusted.camera.parsed import ParsedCamera
from scenegen.untrusted.names import is_name_of

MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
    11: ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
    12: ("SIMPLE_DIVISION", 4),
    13: ("DIVISION", 5),
    14: ("SIMPLE_FISHEYE", 3),
    15: ("FISHEYE", 4),
    16: ("EUCM", 6),
    17: ("EQUIRECTANGULAR", 2),
}
"""Number of each model in binary files: its name, and how many parameters it has."""
ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
PINHOLES = (*ONE_FOCAL, "PINHOLE", "OPENCV")
_LISTED = re.compile(r"^\s*\d+\s+[A-Z][A-Z0-9_]+\s+\d", re.MULTILINE)
"""A line of `cameras.txt`: number, model, width."""
MOST = 1_000_000
"""Cameras or images of a file."""


@dataclass(frozen=True, eq=False)
class Image:
    """A photo of a reconstruction."""

    name: str
    camera: int
    camera_from_world: Float64[np.ndarray, "4 4"]


@dataclass(frozen=True)
class Lens:
    """A camera of a reconstruction, which may be that of other photos only."""

    number: int
    model: str
    size: tuple[int, int]
    values: tuple[float, ...]

    def parsed(self) -> ParsedCamera:
        """The camera.

        Raises:
            InputError: if it is no pinhole.
            ValueError: if it has more or fewer parameters than its model.
        """
        if self.model not in PINHOLES:
            raise InputError(
                f"`camera` has COLMAP's model {self.model}; allowed: {', '.join(PINHOLES)}. Undistort the photo first."
            )
        expected = dict(MODELS.values())[self.model]
        if len(self.values) != expected:
            raise ValueError(f"camera {self.number} has {len(self.values)} parameters, and {self.model} has {expected}")
        fx, fy, cx, cy, *distortion = (self.values[0], *self.values) if self.model in ONE_FOCAL else self.values
        return ParsedCamera(fx, fy, cx, cy, self.size, tuple(distortion) if any(distortion) else ())


def is_colmap(path: Path) -> bool:
    """Whether a text or binary file is COLMAP's list of cameras."""
    if path.suffix == ".bin":
        return True
    head = path.read_bytes()[: 1 << 16].decode(errors="replace")
    return _LISTED.search(head) is not None


def read_colmap(cameras: Path, images: Path | None, photo: str) -> ParsedCamera:
    """The camera of `photo`.

    Args:
        cameras: `cameras.txt` or `cameras.bin`.
        images: `images.txt` or `images.bin` beside it, which says whose each camera is, and where.
        photo: its name.

    Raises:
        InputError: if it has none, or one with a model that is no pinhole.
        struct.error, ValueError: if a file is damaged.
    """
    known = {lens.number: lens for lens in (_cameras_binary if cameras.suffix == ".bin" else _cameras_text)(cameras)}
    found = [] if images is None else list(_images_binary(images) if images.suffix == ".bin" else _images_text(images))
    named = [image for image in found if is_name_of(photo, image.name)]
    if len(named) == 1:
        camera = known[named[0].camera].parsed()
        return replace(camera, world_from_camera=np.linalg.inv(named[0].camera_from_world))
    if len(known) == 1:
        return next(iter(known.values())).parsed()
    listed = ", ".join(image.name for image in found[:4]) or "no images file lies beside it"
    raise InputError(
        f"`camera` has {len(known)} cameras and {len(named)} images named like photo {photo!r} ({listed}); one must be."
    )


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.startswith("#"):
                yield line.strip()


def _cameras_text(path: Path) -> Iterator[Lens]:
    for line in _lines(path):
        if line:
            number, model, width, height, *values = line.split()
            yield Lens(int(number), model, (int(width), int(height)), tuple(float(value) for value in values))


def _images_text(path: Path) -> Iterator[Image]:
    """Every image has two lines, the second of which holds its points and may be empty."""
    for line in [*_lines(path)][::2]:
        if line:
            parts = line.split(maxsplit=9)
            yield Image(parts[9], int(parts[8]), _pose([float(value) for value in parts[1:8]]))


def _cameras_binary(path: Path) -> Iterator[Lens]:
    with path.open("rb") as file:
        for _ in range(_count(file)):
            number, model, width, height = _unpacked(file, "<iiQQ")
            if model not in MODELS:
                raise InputError(
                    f"`camera` has COLMAP's model number {model}, which is not known. Undistort the photo first."
                )
            name, count = MODELS[model]
            yield Lens(number, name, (width, height), _unpacked(file, f"<{count}d"))


def _images_binary(path: Path) -> Iterator[Image]:
    with path.open("rb") as file:
        for _ in range(_count(file)):
            _, *pose, camera = _unpacked(file, "<i7di")
            name = bytearray()
            while (char := file.read(1)) not in (b"\0", b""):
                name += char
            (points,) = _unpacked(file, "<Q")
            file.seek(24 * points, 1)
            yield Image(name.decode(errors="replace"), camera, _pose(pose))


def _count(file: BinaryIO) -> int:
    (count,) = _unpacked(file, "<Q")
    if count > MOST:
        raise ValueError(f"it claims {count} entries")
    return count


def _unpacked(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _pose(values: list[float]) -> Float64[np.ndarray, "4 4"]:
    """From a quaternion (w, x, y, z) and a translation."""
    w, x, y, z = np.array(values[:4]) / np.linalg.norm(values[:4])
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = values[4:7]
    return matrix
