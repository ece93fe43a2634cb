"""Cameras in JSON: `fx fy cx cy`, a matrix, NeRF's `transforms.json`, and what Open3D writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scenegen.errors import InputError
from scenegen.untrusted.camera.matrices import from_matrix, from_numbers
from scenegen.untrusted.camera.parsed import CV_FROM_GL, ParsedCamera, centred
from scenegen.untrusted.documents import read_json
from scenegen.untrusted.names import entry_of

MATRICES = ("K", "intrinsics", "camera_matrix", "intrinsic_matrix", "cam_K")
SPELLINGS = (("fx", "fy"), ("fl_x", "fl_y"), ("focal_x", "focal_y"))
DISTORTION = ("k1", "k2", "p1", "p2", "k3")


def read_json_camera(path: Path, photo: str, size: tuple[int, int]) -> ParsedCamera:
    """The camera of `photo` in a JSON file.

    Args:
        path: the file.
        photo: name of the photo, which picks one of several frames.
        size: of the upright photo, where the file does not say.

    Raises:
        InputError: if there is no such camera.
        ValueError: if it is not JSON.
    """
    value = read_json(path)
    if isinstance(value, list):
        numbers = np.asarray(value, float).ravel().tolist()
        return from_numbers(numbers, size)
    if not isinstance(value, dict):
        raise InputError(f"`camera` holds a {type(value).__name__}; allowed: an object or a list of numbers.")
    if "frames" in value:
        return _of_frame(value, photo, size)
    return _camera(value, size)


def _of_frame(transforms: Mapping[str, Any], photo: str, size: tuple[int, int]) -> ParsedCamera:
    """The frame of NeRF's `transforms.json` that is named after the photo. Its poses have OpenGL's axes."""
    frame = entry_of(photo, list(transforms["frames"]), "file_path", "`camera` has {} frames")
    shared = {name: value for name, value in transforms.items() if name != "frames"}
    pose = np.array(frame["transform_matrix"], float)
    return _camera({**shared, **frame}, size, pose @ CV_FROM_GL)


def _camera(value: Mapping[str, Any], size: tuple[int, int], pose: np.ndarray | None = None) -> ParsedCamera:
    if isinstance(value.get("intrinsic"), Mapping):  # Open3D's PinholeCameraParameters
        extrinsic = np.array(value["extrinsic"], float).reshape(4, 4).T if "extrinsic" in value else None
        return _camera(value["intrinsic"], size, None if extrinsic is None else np.linalg.inv(extrinsic))
    if isinstance(value.get("intrinsics"), Mapping):
        return _camera({**value, **value["intrinsics"], "intrinsics": None}, size, pose)
    size = _size(value) or size
    if pose is None:
        pose = next(
            (np.array(value[name], float) for name in ("camera_to_world", "world_from_camera") if name in value), None
        )
    camera = _intrinsics(value, size)
    distortion = tuple(float(value.get(name, 0)) for name in DISTORTION)
    return ParsedCamera(
        camera.fx, camera.fy, camera.cx, camera.cy, camera.size, distortion if any(distortion) else (), pose
    )


def _intrinsics(value: Mapping[str, Any], size: tuple[int, int]) -> ParsedCamera:
    for name in MATRICES:
        if isinstance(value.get(name), list):
            numbers = np.asarray(value[name], float)
            # Open3D writes its nine numbers column by column.
            rows = numbers.reshape(3, 3, order="F") if name == "intrinsic_matrix" else numbers.reshape(3, 3)
            return from_matrix(rows.tolist(), size)
    width, height = size
    for x, y in SPELLINGS:
        if x in value:
            fx = float(value[x])
            return ParsedCamera(
                fx, float(value.get(y, fx)), float(value.get("cx", width / 2)), float(value.get("cy", height / 2)), size
            )
    if "camera_angle_x" in value:
        return centred(size, float(value["camera_angle_x"]))
    if "fov" in value or "fov_deg" in value:
        return centred(size, math.radians(float(value.get("fov", value.get("fov_deg")))))
    raise InputError(
        f"`camera` has {', '.join(map(str, list(value)[:8]))}; allowed: fx, fy, cx, cy; fl_x, fl_y, cx, cy; camera_angle_x; fov; "
        f"or one of {', '.join(MATRICES)}."
    )


def _size(value: Mapping[str, Any]) -> tuple[int, int] | None:
    for width, height in (("width", "height"), ("w", "h")):
        if width in value and height in value:
            return int(value[width]), int(value[height])
    return None
