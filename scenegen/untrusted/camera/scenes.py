"""The camera of a glTF or USD scene. Both look down -Z with Y up."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scenegen.errors import InputError
from scenegen.untrusted.camera.matrices import from_matrix
from scenegen.untrusted.camera.parsed import CV_FROM_GL, ParsedCamera, centred, unscaled
from scenegen.untrusted.documents import MAX_JSON_BYTES, parse_json, read_json

GLB_MAGIC, JSON_CHUNK = b"glTF", b"JSON"
STRETCHED = 1.025
"""Width over height of a pixel from which on the apertures of a USD camera are those of a picture of another shape: many programs
write the film's, whatever they render."""


def read_gltf(path: Path, size: tuple[int, int]) -> ParsedCamera:
    """The one perspective camera of a `.gltf` or `.glb` file. What scenegen itself has written keeps its principal point.

    Raises:
        InputError: if there is none, or more than one.
        ValueError: if the file is damaged.
    """
    document = _glb_json(path) if path.suffix == ".glb" else read_json(path)
    nodes = document.get("nodes", [])
    held = [index for index, node in enumerate(nodes) if "camera" in node]
    lenses = [camera for camera in document.get("cameras", []) if "perspective" in camera]
    if len(lenses) != 1 or len(held) > 1:
        raise InputError(f"`camera` is a glTF scene with {len(lenses)} perspective cameras; allowed: one.")
    pose = None if not held else unscaled(_world(nodes, held[0])) @ CV_FROM_GL
    extras = lenses[0].get("extras") or {}
    if {"K", "width", "height"} <= extras.keys():
        camera = from_matrix(extras["K"], (int(extras["width"]), int(extras["height"])))
    else:
        lens = lenses[0]["perspective"]
        width, height = size
        if "aspectRatio" in lens:
            # A camera of another shape is no stretched one: glTF has square pixels.
            width = round(height * float(lens["aspectRatio"]))
        camera = centred((width, height), float(lens["yfov"]), height)
    return ParsedCamera(camera.fx, camera.fy, camera.cx, camera.cy, camera.size, (), pose)


def _glb_json(path: Path) -> Any:
    with path.open("rb") as file:
        magic, _, _, length, kind = struct.unpack("<4sII I4s", file.read(20))
        if magic != GLB_MAGIC or kind != JSON_CHUNK or length > MAX_JSON_BYTES:
            raise ValueError("it has no header of a GLB")
        return parse_json(file.read(length))


def _world(nodes: list[Mapping[str, Any]], index: int) -> np.ndarray:
    """The transform of a node through all its parents."""
    parents = {child: number for number, node in enumerate(nodes) for child in node.get("children", [])}
    matrix = np.eye(4)
    for _ in range(len(nodes)):
        matrix = _local(nodes[index]) @ matrix
        if index not in parents:
            return matrix
        index = parents[index]
    raise ValueError("its nodes have a loop")


def _local(node: Mapping[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.array(node["matrix"], float).reshape(4, 4).T
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    turned = Rotation.from_quat(node.get("rotation", (0, 0, 0, 1))).as_matrix()
    matrix[:3, :3] = turned * np.array(node.get("scale", (1, 1, 1)), float)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix


def read_usd(path: Path, size: tuple[int, int]) -> ParsedCamera:
    """The one camera of a USD stage, of which only the root layer is read.

    Raises:
        InputError: if there is none, or more than one.
    """
    from pxr import Sdf, Usd, UsdGeom

    layer = Sdf.Layer.OpenAsAnonymous(str(path))
    stage = Usd.Stage.Open(layer, Usd.Stage.LoadNone)
    cameras = [prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Camera)]
    if len(cameras) != 1:
        raise InputError(f"`camera` is a USD stage with {len(cameras)} cameras; allowed: one.")
    camera = UsdGeom.Camera(cameras[0])
    if camera.GetProjectionAttr().Get() == UsdGeom.Tokens.orthographic:
        raise InputError("`camera` is an orthographic camera; allowed: a perspective one.")
    time = Usd.TimeCode.EarliestTime()
    focal, across, down, right, up = (
        float(attribute.Get(time))
        for attribute in (
            camera.GetFocalLengthAttr(),
            camera.GetHorizontalApertureAttr(),
            camera.GetVerticalApertureAttr(),
            camera.GetHorizontalApertureOffsetAttr(),
            camera.GetVerticalApertureOffsetAttr(),
        )
    )
    if min(focal, across, down) <= 0:
        raise InputError(
            f"`camera` has the focal length {focal:g} and the apertures {across:g} and {down:g}; allowed: positive ones."
        )
    width, height = size
    notes = []
    if camera.GetFocalLengthAttr().GetNumTimeSamples() > 1 or camera.TransformMightBeTimeVarying():
        notes.append("camera: it moves or zooms, and its first frame is used")
    if not 1 / STRETCHED < across * height / (down * width) < STRETCHED:
        notes.append(
            f"camera: its apertures, {across:g} and {down:g}, have another shape than the photo, {width}x{height}; the "
            "horizontal one is taken to span the photo, and pixels to be square"
        )
        down = across * height / width
    # Row vectors, and the unit of the stage.
    matrix = np.array(UsdGeom.XformCache(time).GetLocalToWorldTransform(cameras[0])).T
    matrix[:3, 3] *= UsdGeom.GetStageMetersPerUnit(stage)
    return ParsedCamera(
        focal / across * width,
        focal / down * height,
        width * (0.5 - right / across),
        height * (0.5 + up / down),
        size,
        (),
        unscaled(matrix) @ CV_FROM_GL,
        tuple(notes),
    )
