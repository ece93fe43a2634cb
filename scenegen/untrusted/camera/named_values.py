"""Cameras in JSON and YAML: `fx fy cx cy`, a matrix, NeRF's `transforms.json`, what OpenCV, ROS, Kalibr, Open3D and Gaussian
splatting write."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scenegen.errors import InputError
from scenegen.untrusted.camera.matrices import K_SIZES, from_numbers
from scenegen.untrusted.camera.parsed import CV_FROM_GL, ParsedCamera, centred
from scenegen.untrusted.documents import parse_yaml, read_json
from scenegen.untrusted.names import entry_of

MATRICES = ("K", "intrinsics", "intrinsic", "camera_matrix", "intrinsic_matrix", "cam_K")
SPELLINGS = (("fx", "fy"), ("fl_x", "fl_y"), ("focal_x", "focal_y"))
CENTRES = (("cx", "cy"), ("ppx", "ppy"))
ANGLES = ("camera_angle_x", "camera_angle_y", "fov", "fov_deg")
FOCAL = frozenset({*MATRICES, *ANGLES, *(name for pair in SPELLINGS for name in pair)})
"""Names under which a file states a focal length."""
LENS = FOCAL | {name for pair in CENTRES for name in pair}
DISTORTION = ("k1", "k2", "p1", "p2", "k3")
DISTORTIONS = ("dist_coeffs", "distortion_coefficients", "distortion_coeffs", "distortion", "dist", "D")
"""Lists of the same, in OpenCV's order."""
NO_PINHOLES = ("FISHEYE", "EQUIRECT", "SPHERICAL", "PANORAMA", "ORTHO", "OMNI", "EQUIDISTANT")
"""In names of camera and distortion models."""
OPENCV_TAG = re.compile(r"!!opencv-\w+")
"""What makes YAML of OpenCV unreadable for others, as its first line does."""
KALIBR_CAMERA = re.compile(r"cam\d+")


def read_named_values(path: Path, photo: str, size: tuple[int, int]) -> ParsedCamera:
    """The camera of `photo` in a JSON or YAML file.

    Args:
        path: the file.
        photo: name of the photo, which picks one of several frames.
        size: of the upright photo, where the file does not say.

    Raises:
        InputError: if there is no such camera.
        ValueError: if it is not JSON, or YAML.
    """
    value = read_json(path) if path.suffix == ".json" else _yaml(path.read_text(encoding="utf-8-sig"))
    if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        return _listed(value, photo, size)
    if isinstance(value, list):
        numbers = np.asarray(value, float).ravel().tolist()
        return from_numbers(numbers, size)
    if not isinstance(value, dict):
        raise InputError(f"`camera` holds a {type(value).__name__}; allowed: an object or a list of numbers.")
    if "frames" in value:
        return _of_frame(value, photo, size)
    return _camera(value, size)


def _yaml(text: str) -> Any:
    if text.startswith("%YAML:"):
        text = OPENCV_TAG.sub("", text.partition("\n")[2])
    value = parse_yaml(text)
    cameras = [value[name] for name in value if KALIBR_CAMERA.fullmatch(str(name))] if isinstance(value, dict) else []
    if len(cameras) > 1:
        raise InputError(f"`camera` has {len(cameras)} cameras; allowed: one. Keep that of the photo.")
    return cameras[0] if cameras else value


def _of_frame(transforms: Mapping[str, Any], photo: str, size: tuple[int, int]) -> ParsedCamera:
    """The frame of NeRF's `transforms.json` that is named after the photo. Its poses have OpenGL's axes."""
    frame = entry_of(photo, list(transforms["frames"]), "file_path", "`camera` has {} frames")
    own = {name for name, value in frame.items() if name in FOCAL and value is not None}
    # A frame that states its lens in any way does not have that of the others.
    shared = {name: value for name, value in transforms.items() if name != "frames" and not (own and name in LENS)}
    if "transform_matrix" not in frame:
        raise InputError(
            f"`camera` has a frame with {', '.join(list(frame)[:6])}; looked for its `transform_matrix`, which is its pose."
        )
    pose = np.array(frame["transform_matrix"], float)
    if pose.shape == (3, 4):
        pose = np.vstack([pose, [0, 0, 0, 1]])
    if pose.shape != (4, 4):
        raise InputError(f"`camera` has a `transform_matrix` of shape {pose.shape}; allowed: 4x4 or 3x4.")
    return _camera({**shared, **frame}, size, pose @ CV_FROM_GL)


def _listed(cameras: list[Mapping[str, Any]], photo: str, size: tuple[int, int]) -> ParsedCamera:
    """The camera of Gaussian splatting's `cameras.json` that is named after the photo. Its poses have OpenCV's axes."""
    camera = entry_of(photo, cameras, "img_name", "`camera` has {} cameras")
    pose = None
    if {"rotation", "position"} <= camera.keys():
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = camera["rotation"], camera["position"]
    return _camera(camera, size, pose)


def _camera(value: Mapping[str, Any], size: tuple[int, int], pose: np.ndarray | None = None) -> ParsedCamera:
    value = {name: each for name, each in value.items() if each is not None}
    if isinstance(value.get("intrinsic"), Mapping):  # Open3D's PinholeCameraParameters
        extrinsic = np.array(value["extrinsic"], float).reshape(4, 4).T if "extrinsic" in value else None
        return _camera(value["intrinsic"], size, None if extrinsic is None else np.linalg.inv(extrinsic))
    if isinstance(value.get("intrinsics"), Mapping):
        return _camera({**value, **value["intrinsics"], "intrinsics": None}, size, pose)
    said = [str(value.get(name, "")) for name in ("camera_model", "model", "distortion_model")]
    model = " ".join(name for name in said if name).upper()
    if value.get("is_fisheye") or any(name in model for name in NO_PINHOLES):
        raise InputError(
            f"`camera` has the model {model or 'fisheye'}; allowed: pinhole cameras. Undistort the photo first."
        )
    size = _size(value) or size
    if pose is None:
        pose = next(
            (np.array(value[name], float) for name in ("camera_to_world", "world_from_camera") if name in value), None
        )
    camera = _intrinsics(value, size)
    return replace(camera, distortion=_distortion(value), world_from_camera=pose)


def _intrinsics(value: Mapping[str, Any], size: tuple[int, int]) -> ParsedCamera:
    for name in MATRICES:
        matrix = _data(value.get(name))
        if isinstance(matrix, list):
            numbers = np.asarray(matrix, float).ravel()
            if name == "intrinsic_matrix" and numbers.size == 9:  # Open3D writes its nine numbers column by column
                numbers = numbers.reshape(3, 3).T.ravel()
            if numbers.size not in (4, *K_SIZES):
                raise InputError(
                    f"`camera` has {numbers.size} numbers in `{name}`; allowed: fx fy cx cy, or 3x3, 3x4 or 4x4."
                )
            return from_numbers(numbers.tolist(), size)
    width, height = size
    for x, y in SPELLINGS:
        if x in value:
            fx = float(value[x])
            cx, cy = next(
                ((float(value[u]), float(value[v])) for u, v in CENTRES if u in value and v in value),
                (width / 2, height / 2),
            )
            return ParsedCamera(fx, float(value.get(y, fx)), cx, cy, size)
    if "camera_angle_x" in value:
        return centred(size, float(value["camera_angle_x"]))
    if "camera_angle_y" in value:
        return centred(size, float(value["camera_angle_y"]), size[1])
    if "fov" in value or "fov_deg" in value:
        return centred(size, math.radians(float(value.get("fov", value.get("fov_deg")))))
    raise InputError(
        f"`camera` has {', '.join(map(str, list(value)[:8]))}; allowed: fx, fy, cx, cy; fl_x, fl_y, cx, cy; camera_angle_x; fov; "
        f"or one of {', '.join(MATRICES)}."
    )


def _data(value: Any) -> Any:
    """A list of numbers, or what OpenCV and ROS write for one."""
    return value.get("data") if isinstance(value, Mapping) else value


def _distortion(value: Mapping[str, Any]) -> tuple[float, ...]:
    listed = next((_data(value[name]) for name in DISTORTIONS if isinstance(_data(value.get(name)), list)), None)
    if listed is None:
        found = tuple(float(value.get(name, 0)) for name in DISTORTION)
    else:
        found = tuple(np.asarray(listed, float).ravel()[: len(DISTORTION)].tolist())
    return found if any(found) else ()


def _size(value: Mapping[str, Any]) -> tuple[int, int] | None:
    for width, height in (("width", "height"), ("w", "h"), ("image_width", "image_height")):
        if width in value and height in value:
            return int(value[width]), int(value[height])
    resolution = value.get("resolution")
    return (int(resolution[0]), int(resolution[1])) if isinstance(resolution, list) and len(resolution) == 2 else None
