"""What lies behind the objects: a depth for every pixel, and the floor that must be there."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Integer
from scipy import ndimage

from scenegen.camera import project, rays
from scenegen.config import LayoutConfig
from scenegen.ids import BACKGROUND, UNKNOWN, object_ids, shows_object
from scenegen.records import Intrinsics
from scenegen.scene.layout import Floor, plane_tolerance

HORIZON = 1.5
"""The floor ends at this multiple of the farthest known depth; nothing farther can be told from the horizon."""
MOST_MOVED = 0.25
"""Largest relative change of an object's distance that the floor below it reaches for."""
NEAREST_FOOT = 0.1
"""Below this share of an object's depth the floor is not continued: it would be right under the camera."""


def background_depth(
    depth: Float[np.ndarray, "h w"],
    ids: Integer[np.ndarray, "h w"],
    camera: Intrinsics,
    floor: Floor,
    config: LayoutConfig,
    uncertainty: float = 0.0,
) -> tuple[Float32[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """z-depth of the background at every pixel, seen or hidden, and where it is the floor.

    Where the background is seen it is the depth map (snapped to the plane on the floor). Behind objects, holes and what is
    unknown it is the nearer of the floor and the backdrop continued from around them. One of these that comes clearly
    before what is seen of an object is wrong there, and gives way to the other: nothing lies before a visible surface.
    """
    known = (ids == BACKGROUND) & (depth > 0)
    visible = np.where(shows_object(ids), depth, 0.0)
    told = depth[(ids != UNKNOWN) & (depth > 0)]
    farthest = float(told.max()) if told.size else 1.0
    on_plane = floor.depth(rays(camera))
    on_plane = np.where(on_plane < HORIZON * farthest, on_plane, np.inf)
    tolerance = 3 * plane_tolerance(config, uncertainty)
    near_plane = known & (np.abs(depth - on_plane) < tolerance * depth)
    # Only what hangs together counts: a wall crosses the plane somewhere without being floor there.
    is_floor = ndimage.binary_propagation(ndimage.binary_opening(near_plane, iterations=2), mask=near_plane)
    wall = known & ~is_floor
    # The backdrop's own outline mixes with its neighbours, and specks are none: continue it from a little inside.
    backdrop = continued(depth, ndimage.binary_erosion(wall, iterations=2), fallback=HORIZON * farthest)
    nearest = (1 - tolerance) * visible
    backdrop = np.where(backdrop >= nearest, backdrop, HORIZON * farthest)
    filled_floor = ~known & (on_plane >= nearest) & (on_plane < backdrop)
    floor_everywhere = is_floor | filled_floor
    behind = np.where(floor_everywhere, on_plane, np.where(wall, depth, backdrop))
    return np.maximum(behind, visible).astype(np.float32), floor_everywhere


def continued(
    values: Float[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"], fallback: float
) -> Float[np.ndarray, "h w"]:
    """`values` where `known`, elsewhere continued from the nearest known pixels and smoothed; `fallback` where none is."""
    if not known.any():
        return np.full(values.shape, fallback)
    distance, nearest = ndimage.distance_transform_edt(~known, return_indices=True)
    spread = values[nearest[0], nearest[1]].astype(np.float32)
    smooth = cv2.GaussianBlur(spread, (0, 0), sigmaX=max(2.0, 0.02 * max(values.shape)))
    weight = np.clip(distance / (0.02 * max(values.shape)), 0, 1)
    return np.where(known, values, weight * smooth + (1 - weight) * spread)


def below_objects(
    depth: Float[np.ndarray, "h w"],
    ids: Integer[np.ndarray, "h w"],
    camera: Intrinsics,
    floor: Floor,
    uncertainty: float = 0.0,
) -> list[Float[np.ndarray, "_ 2"]]:
    """For each object, the convex outline in pixels, in the picture or not, of the floor below all that it may fill.

    It begins where the object is seen and is at most as deep as it is large. Its distance may yet change with its scale.

    Args:
        depth: z-depth, 0 where unknown.
        ids: which object each pixel shows.
        camera: the photo's camera.
        floor: its plane.
        uncertainty: of the depth, relative.
    """
    directions = rays(camera)
    moved = min(2 * uncertainty, MOST_MOVED)
    outlines = []
    for number in object_ids(ids):
        mask = (ids == number) & (depth > 0)
        if not mask.any():
            continue
        # A mask's rim may have the depth of what is behind it.
        near, far = np.percentile(depth[mask], (2, 98))
        seen = directions[mask] * np.clip(depth[mask], near, far)[:, None]
        size = float(np.ptp(seen, axis=0).max())
        points = np.concatenate([(1 - moved) * seen, (1 + moved) * (seen + size * directions[mask])])
        feet = points - floor.heights(points)[:, None] * floor.normal
        ahead = feet[feet[:, 2] > NEAREST_FOOT * near]
        if len(ahead):
            outlines.append(cv2.convexHull(project(camera, ahead).astype(np.float32))[:, 0].astype(float))
    return outlines
