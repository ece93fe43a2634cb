"""Several pictures of one object, each with its camera: the input of Pixal3D's weights for several views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from scenegen.camera import is_rotation
from scenegen.errors import InputError
from scenegen.pixal3d.projection import Cameras, relative_cameras
from scenegen.untrusted.documents import read_json

RIGID = 1e-3
"""How far a camera's axes may be from orthonormal."""
LARGEST_SIDE = 8192
SOLID_ALPHA, OPAQUE = 128, 255
"""Alpha from which on a pixel belongs to the silhouette, and that of a picture without transparency."""


@dataclass(frozen=True, eq=False)
class View:
    """One of several pictures of an object. The first of them is the front: the object comes out upright in it."""

    picture: UInt8[np.ndarray, "h w 4"]
    """sRGB, square, the object cut out by alpha."""
    world_from_camera: Float[np.ndarray, "4 4"]
    """Rigid. Camera: OpenGL's, x right, y up, looking down -z. World: any that the views share."""
    fov: float
    """Horizontal field of view in radians."""
    hidden: Bool[np.ndarray, "h w"] | None = None
    """Where the object may be without being seen, behind something or beyond the photo's border."""


def check_cut_out(views: Sequence[View]) -> None:
    """Raises `InputError` for a picture whose alpha shows nothing, or cuts nothing out."""
    for number, view in enumerate(views):
        alpha = view.picture[..., 3]
        if not (alpha >= SOLID_ALPHA).any():
            raise InputError(
                f"`views`[{number}] shows nothing: no pixel has an alpha of {SOLID_ALPHA} or more. Cut the object out, or "
                "leave the view out."
            )
        if alpha.min() == OPAQUE:
            raise InputError(
                f"`views`[{number}] is opaque: its alpha cuts nothing out, so its background would become part of the object. "
                "Cut the object out: transparent where it is not."
            )


def cameras_of_views(views: Sequence[View], mesh_scale: float) -> Cameras:
    """The cameras of one object's pictures, the first in front of it.

    Args:
        views: at least one, the object's middle at the origin of their world.
        mesh_scale: one over the edge of the cube that holds the object, in world units.

    Raises:
        InputError: for no views, a picture that is not square, a camera that is not rigid or is at the origin, a field of view
            outside (0, pi), or a scale not above 0.
    """
    if not views:
        raise InputError("`views` is empty; give at least one picture of the object.")
    if not mesh_scale > 0:
        raise InputError(f"`mesh_scale` is {mesh_scale}; it must be above 0.")
    for number, view in enumerate(views):
        height, width = view.picture.shape[:2]
        if height != width:
            raise InputError(f"`views`[{number}] is {width}x{height}; its picture must be square.")
        if (
            not is_rotation(view.world_from_camera[:3, :3], RIGID)
            or not np.linalg.norm(view.world_from_camera[:3, 3]) > 0
        ):
            raise InputError(
                f"`views`[{number}] has the camera {view.world_from_camera.tolist()}; it must be a rotation and a position "
                "other than the origin."
            )
        if not 0 < view.fov < math.pi:
            raise InputError(
                f"`views`[{number}] has a field of view of {view.fov}; it must be in radians, between 0 and pi."
            )
    poses = torch.tensor(np.stack([view.world_from_camera for view in views]), dtype=torch.float32)
    distance = torch.tensor([float(np.linalg.norm(views[0].world_from_camera[:3, 3]))])
    fov = torch.tensor([[view.fov for view in views]], dtype=torch.float32)
    return relative_cameras(poses[None], fov, distance, torch.tensor([mesh_scale]))


def read_views(path: Path) -> tuple[tuple[View, ...], float | None]:
    """Views and their `mesh_scale` from a `transforms.json` as NeRF's datasets and Pixal3D's examples have it.

    It holds `camera_angle_x` in radians (once, or in each frame), and `frames`, each with `file_path`, relative to the file, and
    `transform_matrix`, world from camera. Pictures that are framed about an object at the origin, as Pixal3D's examples are, have
    a `mesh_scale`, too; without one it is None.

    Raises:
        InputError: if the file or a picture cannot be read, or lacks what it must have.
    """
    try:
        document = read_json(path)
        views = tuple(
            View(
                _picture(path.parent / frame["file_path"], path.parent),
                np.array(frame["transform_matrix"], dtype=np.float64).reshape(4, 4),
                float(frame.get("camera_angle_x", document.get("camera_angle_x"))),
            )
            for frame in document["frames"]
        )
        scale = document.get("mesh_scale")
        return views, None if scale is None else float(scale)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path} gives no views ({type(error).__name__}: {error}); it must hold `camera_angle_x` and `frames` with "
            "`file_path` and `transform_matrix`."
        ) from error


def _picture(path: Path, folder: Path) -> UInt8[np.ndarray, "h w 4"]:
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path} lies outside {folder}")
    with Image.open(path) as picture:
        if max(picture.size) > LARGEST_SIDE:
            raise ValueError(f"{path} is {picture.size[0]}x{picture.size[1]}; its sides may be at most {LARGEST_SIDE}")
        return np.asarray(picture.convert("RGBA"))
