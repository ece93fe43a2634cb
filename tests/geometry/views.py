"""Objects with a known surface, as a crop camera sees them."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float

from scenegen.camera import matrix3, rays
from scenegen.geometry.generator import ObjectView, OtherView
from scenegen.records import CropCamera, Intrinsics

CENTRE, RADIUS, WALL = np.array([0.0, 0.0, 2.0]), 0.7, 3.0
SIDE = 128


def sphere_view(occluded: bool = False) -> ObjectView:
    """A sphere of `RADIUS` metres about `CENTRE` before a wall at `WALL`; its left third hidden by a nearer board."""
    camera = Intrinsics(width=SIDE, height=SIDE, fx=SIDE * 1.2, fy=SIDE * 1.2, cx=SIDE / 2, cy=SIDE / 2)
    directions = rays(camera)
    depth = sphere_depth(directions)
    mask = depth > 0
    depth = np.where(mask, depth, WALL)
    if occluded:
        board = np.arange(SIDE) < SIDE * 0.4
        mask &= ~board
        depth = np.where(board, 1.0, depth)
    return ObjectView(
        image=np.full((SIDE, SIDE, 3), 200, np.uint8),
        mask=mask.astype(np.float32),
        depth=depth.astype(np.float32),
        limit=np.full((SIDE, SIDE), WALL, np.float32),
        up=np.array([0, -1, 0], np.float32),
        crop=CropCamera(crop_from_camera=matrix3(np.eye(3)), intrinsics=camera),
    )


def turned_view(degrees: float) -> OtherView:
    """The sphere of `sphere_view` from a camera that goes so far around it to the right, at the same distance."""
    turn = cv2.Rodrigues(np.array([0.0, np.radians(degrees), 0.0]))[0]
    pose = np.eye(4)
    pose[:3, :3] = turn
    pose[:3, 3] = CENTRE - turn @ CENTRE
    return OtherView(sphere_view(), pose)


def sphere_depth(directions: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    """z-depth of the sphere's front along rays with z = 1; 0 beside it."""
    along, square = directions @ CENTRE, (directions**2).sum(axis=-1)
    inside = along**2 - square * (CENTRE @ CENTRE - RADIUS**2)
    return np.where(inside > 0, (along - np.sqrt(np.maximum(inside, 0))) / square, 0.0)
