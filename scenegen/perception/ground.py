"""Depth from an assumed camera over a ground plane: objects are as far away as the place where they touch it.

The camera stands `camera_height_m` above the ground and looks down by `pitch_deg`, without roll. Behind the ground
stands a vertical backdrop. Distances below are `forward`: horizontal, along the camera's heading, so that a
vertical wall has one of them. Along the ray (x, y, 1) the point at z-depth z lies z (cos p - y sin p) forward and
z (sin p + y cos p) below the camera, for the pitch p.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Integer
from scipy import ndimage

from scenegen.camera import rays
from scenegen.config import GroundConfig
from scenegen.perception import DepthEstimate
from scenegen.records import Intrinsics

UNCERTAINTY = 0.25
"""Relative: what a wrong guess of the height by a quarter does."""

CONTACT_PERCENTILE = 10.0
"""Of the forward distances along the lower outline: an object stands at its near edge, less a few stray pixels."""

MIN_APPROACH = 0.5
"""The body of an object at the backdrop is pulled in front of it, but not nearer than this share of its distance."""

MIN_FORWARD = 0.1
"""Least forward metres per metre of z-depth assumed where pixels are turned into metres: a camera looking straight
down has none."""


@dataclass(frozen=True)
class Room:
    """The ground and the backdrop as the camera sees them."""

    z: Float[np.ndarray, "h w"]
    """z-depth in metres of the nearer of the two."""
    forward_per_z: Float[np.ndarray, "h w"]
    """cos p - y sin p: forward metres per metre of z-depth; not positive where the ray points backwards."""
    backdrop: float
    """Forward distance of the backdrop in metres."""


def estimate_ground(ids: Integer[np.ndarray, "h w"], camera: Intrinsics, config: GroundConfig) -> DepthEstimate:
    """z-depth of ground, backdrop and objects under the assumed camera.

    An object is upright and rounded: its front stands where its lower outline touches the ground, or what it stands
    on, and its outline is half a thickness behind; it is as thick as the largest circle inside its mask is wide. No
    point lies behind the ground or the backdrop.

    Args:
        ids: id of the object each pixel shows, 0 for none, of the camera's size.
        camera: of the photo.
        config: height and pitch of the camera, and how far away the backdrop is (horizontally).
    """
    room = _room(camera, config)
    z = room.z.copy()
    windows = {index + 1: window for index, window in enumerate(ndimage.find_objects(ids.astype(np.int32))) if window}
    placed: set[int] = set()
    # What carries others reaches further down in the picture, so it has its depth before they ask for it.
    for number in sorted(windows, key=lambda number: (-windows[number][0].stop, number)):
        _place(number, windows[number], ids, z, room, camera, placed)
        placed.add(number)
    return DepthEstimate(
        depth=z.astype(np.float32),
        metric=False,
        uncertainty=UNCERTAINTY,
        backend="ground plane (assumed camera)",
        licence="none: no weights",
        warnings=(
            f"depth is assumed, not measured: a camera {config.camera_height_m:g} m above the ground, looking down by "
            f"{config.pitch_deg:g} degrees; give --depth, or set depth.camera_height_m and depth.pitch_deg.",
        ),
    )


def _room(camera: Intrinsics, config: GroundConfig) -> Room:
    pitch = np.radians(config.pitch_deg)
    y = rays(camera)[..., 1]
    below_per_z = np.sin(pitch) + y * np.cos(pitch)
    forward_per_z = np.cos(pitch) - y * np.sin(pitch)
    with np.errstate(divide="ignore"):
        ground = np.where(below_per_z > 0, config.camera_height_m / below_per_z, np.inf)
        backdrop = np.where(forward_per_z > 0, config.max_depth_m / forward_per_z, np.inf)
    # Every ray meets one of the two: where it neither descends nor goes forward, it would point behind the camera.
    return Room(np.minimum(ground, backdrop), forward_per_z, config.max_depth_m)


def _place(
    number: int,
    window: tuple[slice, slice],
    ids: Integer[np.ndarray, "h w"],
    z: Float[np.ndarray, "h w"],
    room: Room,
    camera: Intrinsics,
    placed: set[int],
) -> None:
    """Writes the depth of object `number`, whose bounding box is `window`, into `z`."""
    mask = ids[window] == number
    forward_per_z = room.forward_per_z[window]
    contact = _contact(number, window, ids, z, room, placed)
    radius, relief = _relief(number, window, ids)
    half_thickness = radius / camera.fx * contact / float(np.median(np.maximum(forward_per_z[mask], MIN_FORWARD)))
    front = np.clip(room.backdrop - 2 * half_thickness, MIN_APPROACH * contact, contact)
    with np.errstate(divide="ignore", invalid="ignore"):
        body = np.where(forward_per_z > 0, (front + half_thickness * relief) / forward_per_z, np.inf)
    z[window][mask] = np.minimum(body, room.z[window])[mask]


def _relief(
    number: int, window: tuple[slice, slice], ids: Integer[np.ndarray, "h w"]
) -> tuple[float, Float[np.ndarray, "box_h box_w"]]:
    """Radius in pixels of the largest circle inside an object, and how far behind its front each pixel lies.

    The latter is the profile of an ellipse over the distance to the outline: 0 in the middle, 1 at the outline. The
    picture's border cuts an object off; it is no outline.
    """
    rows, columns = window
    top, left = max(rows.start - 1, 0), max(columns.start - 1, 0)
    mask = ids[top : rows.stop + 1, left : columns.stop + 1] == number
    height, width = rows.stop - rows.start, columns.stop - columns.start
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance = distance[rows.start - top :, columns.start - left :][:height, :width]
    # A mask without any outline has no largest circle.
    radius = min(float(distance.max()), float(min(height, width)))
    return radius, 1 - np.sqrt(1 - np.square(1 - np.minimum(distance / radius, 1)))


def _contact(
    number: int,
    window: tuple[slice, slice],
    ids: Integer[np.ndarray, "h w"],
    z: Float[np.ndarray, "h w"],
    room: Room,
    placed: set[int],
) -> float:
    """Forward distance in metres of the place where an object stands."""
    mask = ids[window] == number
    columns = np.flatnonzero(mask.any(axis=0))
    rows = mask.shape[0] - 1 - np.argmax(mask[::-1, columns], axis=0) + window[0].start
    columns += window[1].start
    below = np.minimum(rows + 1, ids.shape[0] - 1)
    under = ids[below, columns]
    others, counts = np.unique(under[(under != 0) & (under != number)], return_counts=True)
    if len(others):
        carrier = int(others[counts.argmax()])
        if counts.max() > len(columns) / 2 and carrier in placed:
            on = under == carrier
            return float(np.median((z * room.forward_per_z)[below, columns][on]))
    # Where the object is its own lower neighbour, the picture's border cuts it off.
    free = (under == 0) | (under == number)
    grounded = free if free.any() else np.ones_like(free)
    return float(np.percentile((room.z * room.forward_per_z)[rows, columns][grounded], CONTACT_PERCENTILE))
