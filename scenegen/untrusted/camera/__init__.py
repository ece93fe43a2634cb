"""The user's camera: what the file states, fitted to the photo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from PIL import Image

from scenegen.errors import InputError, one_line
from scenegen.untrusted.camera.colmap import is_colmap, read_colmap
from scenegen.untrusted.camera.matrices import from_matrix, from_numbers
from scenegen.untrusted.camera.named_values import MATRICES, read_named_values
from scenegen.untrusted.camera.parsed import ParsedCamera
from scenegen.untrusted.camera.scenes import read_gltf, read_usd
from scenegen.untrusted.decoding import DecodedCamera
from scenegen.untrusted.fit import same_shape
from scenegen.untrusted.formats import CAMERA_SUFFIXES
from scenegen.untrusted.photo import SIDEWAYS, UprightPhoto
from scenegen.untrusted.picture import parsing

WHAT = "`camera`"
FOCAL_RANGE = (0.1, 60.0)
"""Focal lengths, in longer sides of the picture, that cameras can have."""
VISIBLE_DISTORTION = 0.005
"""Of the longer side: what a lens may bend a corner without a word."""
MAX_BYTES = 1 << 28


@dataclass(frozen=True, eq=False)
class _Turn:
    """What makes a stored picture of a size upright, on pixels: p -> `by` p + `to`."""

    by: Float64[np.ndarray, "2 2"]
    to: tuple[float, float]


def read_camera(paths: Sequence[Path], photo: UprightPhoto, name: str) -> tuple[DecodedCamera, list[str]]:
    """The camera of the photo, for its upright size before downsampling; and warnings.

    Args:
        paths: the file, and with COLMAP's cameras its images, if there are any.
        photo: the photo.
        name: its name, which picks one of several cameras.

    Raises:
        InputError: if no camera of the photo is there, or it cannot be the photo's.
    """
    path = paths[0]
    size = path.stat().st_size
    if not 0 < size <= MAX_BYTES:
        raise InputError(f"{WHAT} has {size} bytes; allowed: 1 to {MAX_BYTES}.")
    with parsing(WHAT):
        camera = _parsed(path, paths[1] if len(paths) > 1 else None, photo, name)
    return _fitted(camera, photo)


def archived_camera(path: Path, photo: UprightPhoto, notes: list[str]) -> DecodedCamera | None:
    """The camera in the archive of a depth map; None if it has none that fits the photo, which is said."""
    with parsing(WHAT), np.load(path, allow_pickle=False) as archive:
        if not any(name in archive for name in MATRICES):
            return None
    try:
        with parsing(WHAT):
            camera, said = _fitted(_archived(path, photo.size), photo)
    except InputError as error:
        notes.append(f"depth: the camera beside it is not used: {error}")
        return None
    notes += said
    return camera


def _parsed(path: Path, images: Path | None, photo: UprightPhoto, name: str) -> ParsedCamera:
    if path.suffix in (".json", ".yaml", ".yml"):
        return read_named_values(path, name, photo.size)
    if path.suffix in (".glb", ".gltf"):
        return read_gltf(path, photo.size)
    if path.suffix in (".usd", ".usda", ".usdc", ".usdz"):
        return read_usd(path, photo.size)
    if path.suffix == ".npz":
        return _archived(path, photo.size)
    if path.suffix == ".npy":
        return from_numbers(np.load(path, allow_pickle=False).astype(float).ravel().tolist(), photo.size)
    if path.suffix not in (".txt", ".bin"):
        raise InputError(
            f"{WHAT} is a {path.suffix or 'file without suffix'}; allowed: {', '.join(sorted(CAMERA_SUFFIXES))}."
        )
    if is_colmap(path):
        return read_colmap(path, images, name)
    lines = path.read_text(encoding="utf-8-sig").replace(",", " ").splitlines()
    numbers = " ".join(line.partition("#")[0] for line in lines).split()
    words = [word for word in numbers if not _is_number(word)]
    if words:
        raise InputError(
            f"{WHAT} holds words ({one_line(' '.join(words[:4]), 60)}); allowed in a .txt: the numbers fx fy cx cy, with "
            "width height, or K; `#` begins a comment. Keep the numbers of this photo's camera."
        )
    return from_numbers([float(number) for number in numbers], photo.size)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _archived(path: Path, size: tuple[int, int]) -> ParsedCamera:
    """The intrinsics that Depth Anything 3, MoGe and VGGT write beside a depth map, whose size they are for."""
    with np.load(path, allow_pickle=False) as archive:
        name = next((name for name in MATRICES if name in archive), None)
        if name is None:
            raise InputError(f"{WHAT} has {', '.join(archive.files[:8])}; looked for one of {', '.join(MATRICES)}.")
        matrix = np.asarray(archive[name], float).reshape(-1, 3, 3)
        shape = tuple(side for side in archive["depth"].shape if side > 1) if "depth" in archive else None
    if len(matrix) != 1:
        raise InputError(f"{WHAT} has the intrinsics of {len(matrix)} pictures; allowed: one.")
    return from_matrix(matrix[0].tolist(), size if shape is None else (shape[-1], shape[-2]))


def _fitted(camera: ParsedCamera, photo: UprightPhoto) -> tuple[DecodedCamera, list[str]]:
    """The camera at the photo's upright size."""
    warnings = [*camera.notes]
    numbers = (*camera.distortion, camera.fx, camera.fy, camera.cx, camera.cy, *camera.size)
    if not all(map(math.isfinite, numbers)) or min(camera.size) < 1:
        raise InputError(f"{WHAT} holds numbers that no camera has: {', '.join(f'{number:g}' for number in numbers)}.")
    pixels = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1.0]])
    pose, size = camera.world_from_camera, camera.size
    if not same_shape(size, photo.size) and photo.transpose in SIDEWAYS and same_shape(size, photo.stored_size):
        turn = _turn(photo.transpose, size)
        rotation = np.eye(3)
        rotation[:2, :2] = turn.by
        moved = np.eye(3)
        moved[:2] = np.column_stack([turn.by, turn.to])
        pixels, size = moved @ pixels @ rotation.T, size[::-1]
        pose = None if pose is None or np.linalg.det(rotation) < 0 else pose @ _rigid(rotation.T)
        warnings.append("camera: it is that of the photo before its EXIF rotation, and was turned with it")
    if not same_shape(size, photo.size):
        raise InputError(
            f"{WHAT} is for a picture of {size[0]}x{size[1]} and the photo is {photo.size[0]}x{photo.size[1]}; allowed: the same "
            "shape. A crop has another principal point: give the camera of this picture."
        )
    x, y = photo.size[0] / size[0], photo.size[1] / size[1]
    fx, fy, cx, cy = pixels[0, 0] * x, pixels[1, 1] * y, pixels[0, 2] * x, pixels[1, 2] * y
    width, height = photo.size
    shortest, longest = (share * max(width, height) for share in FOCAL_RANGE)
    if not (shortest < min(fx, fy) and max(fx, fy) < longest):
        raise InputError(
            f"{WHAT} has the focal lengths {fx:g} and {fy:g} pixels for a picture of {width}x{height}; allowed: {shortest:g} to "
            f"{longest:g}. Give them in pixels, and the size they are for."
        )
    if not (-width < cx < 2 * width and -height < cy < 2 * height):
        raise InputError(f"{WHAT} has its principal point at ({cx:g}, {cy:g}), far outside {width}x{height} pixels.")
    bent = _distortion(camera)
    if bent > VISIBLE_DISTORTION * max(camera.size):
        warnings.append(
            f"camera: its lens bends the corners by {bent:.0f} pixels, which is not undone; undistort the photo for exact results"
        )
    if pose is not None and (pose.shape != (4, 4) or not np.isfinite(pose).all()):
        raise InputError(f"{WHAT} has a pose of shape {pose.shape}; allowed: a 4x4 matrix of finite numbers.")
    placed = None if pose is None else tuple(pose.ravel().tolist())
    return DecodedCamera(float(fx), float(fy), float(cx), float(cy), placed), warnings


def _turn(transpose: Image.Transpose, size: tuple[int, int]) -> _Turn:
    """How the pixels of a stored picture of `size` move when it is laid upright."""
    width, height = size
    matrix, offset = {
        Image.Transpose.TRANSPOSE: ([[0, 1], [1, 0]], (0, 0)),
        Image.Transpose.ROTATE_270: ([[0, -1], [1, 0]], (height, 0)),
        Image.Transpose.TRANSVERSE: ([[0, -1], [-1, 0]], (height, width)),
        Image.Transpose.ROTATE_90: ([[0, 1], [-1, 0]], (0, width)),
    }[transpose]
    return _Turn(np.array(matrix, float), offset)


def _rigid(rotation: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "4 4"]:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    return matrix


def _distortion(camera: ParsedCamera) -> float:
    """How far the lens moves the corner it moves most, in pixels."""
    k1, k2, p1, p2, k3 = (*camera.distortion, *[0.0] * 5)[:5]
    most = 0.0
    for u in (0, camera.size[0]):
        for v in (0, camera.size[1]):
            x, y = (u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy
            r = x * x + y * y
            radial = k1 * r + k2 * r * r + k3 * r**3
            dx = x * radial + 2 * p1 * x * y + p2 * (r + 2 * x * x)
            dy = y * radial + p1 * (r + 2 * y * y) + 2 * p2 * x * y
            most = max(most, math.hypot(dx * camera.fx, dy * camera.fy))
    return most
