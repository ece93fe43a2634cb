"""Several pictures of an object, framed as Pixal3D's weights for several expect them, wherever the object is.

Their cube holds the object about its middle, and every camera looks at that middle with the same margin. Pictures of a scene
are not so: the object's place and size are found as those of the hull that all silhouettes leave, and each picture is seen
through its own camera turned to it, which is exact (a homography).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from scenegen.camera import GLTF_CAMERA_FROM_CAMERA, matrix3, project, rotation_to_axis, transform, warp_to_crop
from scenegen.errors import InputError
from scenegen.geometry.field import cell_centres
from scenegen.pixal3d.projection import focal_pixels
from scenegen.pixal3d.views import SOLID_ALPHA, View
from scenegen.records import CropCamera, Intrinsics

MARGIN = 1.1
"""Width of a picture at the object's distance, in edges of its cube (the released examples)."""
CELLS = 48
"""Cells along an edge of the cube in which the hull is carved."""
ROUNDS = 3
"""How often, each time in a cube that fits better."""
ROOM = 1.15
"""Edge of that cube over the hull found before."""
SMALLEST, LARGEST = 64, 1024
"""Sides of the framed pictures: at least this, and no more than the networks look at."""


@dataclass(frozen=True, eq=False)
class Framed:
    """Pictures whose cameras look at the object's middle, which is the origin of their world."""

    views: tuple[View, ...]
    mesh_scale: float
    """One over the edge of the cube that holds the object."""
    world_from_framed: Float[np.ndarray, "4 4"]
    """To the world that the cameras were given in; a shift."""


def framed(views: Sequence[View]) -> Framed:
    """Finds the object that `views` show, and frames it in each.

    Args:
        views: at least two, of known cameras; the first is the front.

    Raises:
        InputError: if the silhouettes leave no place that all cameras have in front of them, or a camera is inside the object.

    Examples:
        >>> views, _ = read_views(Path("transforms.json"))  # doctest: +SKIP
        >>> shown = framed(views)  # doctest: +SKIP
        >>> shown.world_from_framed[:3, 3]  # where the object is  # doctest: +SKIP
        array([ 1.02, -0.4 ,  0.31])
    """
    middle, edge = _hull(views)
    shift = np.eye(4)
    shift[:3, 3] = middle
    return Framed(tuple(_about(view, middle, edge, number) for number, view in enumerate(views)), 1 / edge, shift)


def _hull(views: Sequence[View]) -> tuple[Float[np.ndarray, "3"], float]:
    """Middle and edge of the cube, along the front camera's axes, around what is inside all silhouettes."""
    middle = _meeting_point(views)
    edge = 2 * max(_radius(view, middle) for view in views)
    cells = cell_centres(CELLS).reshape(-1, 3).astype(np.float64)
    for _ in range(ROUNDS):
        world_from_axes = views[0].world_from_camera[:3, :3] @ np.diag([1, -1, -1]) @ _turn(views[0], middle).T
        points = middle + edge * cells @ world_from_axes.T
        left = cells[np.logical_and.reduce([_allowed(view, points) for view in views])]
        if not len(left):
            raise InputError(
                "no place is inside the object's outlines in all of its views; check that their cameras and pictures belong "
                "together, and that all show the same object."
            )
        low, high = left.min(axis=0) - 0.5 / CELLS, left.max(axis=0) + 0.5 / CELLS
        middle = middle + edge * world_from_axes @ ((low + high) / 2)
        found = edge * float((high - low).max())
        edge = ROOM * found
    return middle, found


def _meeting_point(views: Sequence[View]) -> Float[np.ndarray, "3"]:
    """The point nearest to the rays through the middles of all silhouettes.

    Raises:
        InputError: if the cameras look along one line, or the point is behind one.
    """
    across, along = np.zeros((3, 3)), np.zeros(3)
    for view in views:
        rows, columns = np.nonzero(_inside(view))
        pixel = np.array([np.ptp(columns) / 2 + columns.min(), np.ptp(rows) / 2 + rows.min()]) + 0.5
        camera = _intrinsics(view)
        ray = np.array([(pixel[0] - camera.cx) / camera.fx, (pixel[1] - camera.cy) / camera.fy, 1.0])
        world = view.world_from_camera @ GLTF_CAMERA_FROM_CAMERA
        direction = world[:3, :3] @ ray / np.linalg.norm(ray)
        beside = np.eye(3) - np.outer(direction, direction)
        across, along = across + beside, along + beside @ world[:3, 3]
    point = np.linalg.lstsq(across, along, rcond=1e-6)[0]
    for number, view in enumerate(views):
        if _seen(view, point[None])[0, 2] <= 0:
            raise InputError(f"`views`[{number}] looks away from where the others see the object; check its camera.")
    return point


def _radius(view: View, middle: Float[np.ndarray, "3"]) -> float:
    """How far from `middle` the silhouette reaches, in the plane there."""
    camera, centre = _intrinsics(view), _seen(view, middle[None])[0]
    rows, columns = np.nonzero(_inside(view))
    at = project(camera, centre)
    return float(np.hypot(columns + 0.5 - at[0], rows + 0.5 - at[1]).max() / camera.fx * centre[2])


def _allowed(view: View, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, "n"]:
    """Which points may be of the object as `view` sees it; its border goes on beside the picture."""
    mine = _seen(view, points)
    ahead = mine[:, 2] > 0
    column, row = project(_intrinsics(view), np.where(ahead[:, None], mine, [0.0, 0.0, 1.0])).T
    inside = _inside(view) if view.hidden is None else _inside(view) | view.hidden
    last = len(inside) - 1
    return ahead & inside[np.clip(row, 0, last).astype(int), np.clip(column, 0, last).astype(int)]


def _about(view: View, middle: Float[np.ndarray, "3"], edge: float, number: int) -> View:
    """The view through its camera turned to `middle`, which becomes the origin."""
    distance = float(np.linalg.norm(_seen(view, middle[None])))
    half = MARGIN / 2 * edge / distance
    if distance <= edge / 2:
        raise InputError(f"`views`[{number}] has its camera inside the object; check the cameras.")
    camera, turn = _intrinsics(view), _turn(view, middle)
    size = int(np.clip(round(2 * half * camera.fx), SMALLEST, LARGEST))
    focal = size / 2 / half
    crop = CropCamera(
        crop_from_camera=matrix3(turn),
        intrinsics=Intrinsics(width=size, height=size, fx=focal, fy=focal, cx=size / 2, cy=size / 2),
    )
    unit = view.picture.astype(np.float32) / 255
    # Colours count by their alpha, so that those of what was cut away do not bleed in.
    weighed = warp_to_crop(np.dstack([unit[..., :3] * unit[..., 3:], unit[..., 3:]]), camera, crop)
    colours = weighed[..., :3] / np.maximum(weighed[..., 3:], 1 / 255)
    picture = np.rint(255 * np.clip(np.dstack([colours, weighed[..., 3:]]), 0, 1)).astype(np.uint8)
    hidden = None if view.hidden is None else warp_to_crop(view.hidden.astype(np.uint8), camera, crop, nearest=True) > 0
    turned = np.eye(4)
    turned[:3, :3] = view.world_from_camera[:3, :3] @ np.diag([1, -1, -1]) @ turn.T @ np.diag([1, -1, -1])
    turned[:3, 3] = view.world_from_camera[:3, 3] - middle
    return View(picture, turned, 2 * math.atan(half), hidden)


def _turn(view: View, middle: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """From the camera (OpenCV) to the same turned to `middle`."""
    return rotation_to_axis(_seen(view, middle[None])[0])


def _seen(view: View, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Points of the world in the camera's frame (OpenCV)."""
    return transform(GLTF_CAMERA_FROM_CAMERA @ np.linalg.inv(view.world_from_camera), points)


def _inside(view: View) -> Bool[np.ndarray, "s s"]:
    return view.picture[..., 3] >= SOLID_ALPHA


def _intrinsics(view: View) -> Intrinsics:
    size = len(view.picture)
    focal = focal_pixels(view.fov, size)
    return Intrinsics(width=size, height=size, fx=focal, fy=focal, cx=size / 2, cy=size / 2)
