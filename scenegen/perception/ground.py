"""Depth from an assumed camera over a ground plane: objects are as far away as the point where they touch it.

The camera stands `camera_height_m` above the ground and looks down by `pitch_deg`, without roll. Behind the ground
stands a vertical backdrop. Along the ray (x, y, 1) the point at z-depth z lies z (cos p - y sin p) forward, which is
horizontally along the camera's heading, and z (sin p + y cos p) below the camera, for the pitch p. An upright body is
a surface of nearly constant forward distance.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Integer
from scipy import ndimage

from scenegen.camera import rays
from scenegen.config import GroundConfig
from scenegen.ids import BACKGROUND, shows_object
from scenegen.messages.remarks import note
from scenegen.perception import DepthEstimate
from scenegen.records import Intrinsics

UNCERTAINTY = 0.25
"""Relative: what a wrong guess of the height by a quarter does."""
RELIEF_ERROR = 0.2
"""Every object stands upright and flat: the error is its relief."""

CONTACT_PERCENTILE = 10.0
"""Of the forward distances along the lower outline: an object stands at its near edge, less a few stray pixels."""

MIN_APPROACH = 0.5
"""The body of an object at the backdrop is pulled in front of it, but not nearer than this share of its distance."""

STEEPEST_DEG = 60.0
"""Seen from steeper above, a body leans back so far that no ray to it is steeper: its upright faces are hidden."""


def estimate_ground(ids: Integer[np.ndarray, "h w"], camera: Intrinsics, config: GroundConfig) -> DepthEstimate:
    """z-depth of ground, backdrop and objects under the assumed camera.

    An object is upright and rounded: its front stands where its lower outline touches the ground, or what it stands
    on, and its outline is half a thickness behind; it is as thick as the largest circle inside its mask is wide. No
    point lies behind the ground or the backdrop.

    Args:
        ids: id of the object each pixel shows, of the camera's size.
        camera: of the photo.
        config: height and pitch of the camera, and how far away the backdrop is (horizontally).
    """
    room = room_depth(camera, config)
    z = room.copy()
    objects = np.where(shows_object(ids), ids, BACKGROUND).astype(np.int32)
    windows = {index + 1: window for index, window in enumerate(ndimage.find_objects(objects)) if window}
    placed: set[int] = set()
    # What carries others reaches further down in the picture, so it has its depth before they ask for it.
    for number in sorted(windows, key=lambda number: (-windows[number][0].stop, number)):
        _place(number, windows[number], ids, z, room, camera, config.pitch_deg, placed)
        placed.add(number)
    return DepthEstimate(
        depth=z.astype(np.float32),
        metric=False,
        uncertainty=UNCERTAINTY,
        relief_error=RELIEF_ERROR,
        backend="ground plane (assumed camera)",
        licence="none: no weights",
        assumption=f"metres are assumed: the camera is taken to be {config.camera_height_m:g} m above the ground; give --depth, "
        "or set depth.camera_height_m.",
        warnings=(
            note(
                f"depth is assumed, not measured: level ground, and a camera that looks down by {config.pitch_deg:g} degrees; "
                "give --depth, or set depth.pitch_deg."
            ),
        ),
    )


def room_depth(camera: Intrinsics, config: GroundConfig) -> Float[np.ndarray, "h w"]:
    """z-depth in metres of the ground and, where that is nearer, of the backdrop."""
    pitch = np.radians(config.pitch_deg)
    y = rays(camera)[..., 1]
    below = np.sin(pitch) + y * np.cos(pitch)
    forward = np.cos(pitch) - y * np.sin(pitch)
    with np.errstate(divide="ignore"):
        ground = np.where(below > 0, config.camera_height_m / below, np.inf)
        backdrop = np.where(forward > 0, config.max_depth_m / forward, np.inf)
    # Every ray meets one of the two: where it neither descends nor goes forward, it would point behind the camera.
    return np.minimum(ground, backdrop)


def _place(
    number: int,
    window: tuple[slice, slice],
    ids: Integer[np.ndarray, "h w"],
    z: Float[np.ndarray, "h w"],
    room: Float[np.ndarray, "h w"],
    camera: Intrinsics,
    pitch_deg: float,
    placed: set[int],
) -> None:
    """Writes the depth of object `number`, whose bounding box is `window`, into `z`."""
    mask = ids[window] == number
    y = (np.arange(camera.height)[:, None] + 0.5 - camera.cy) / camera.fy
    lowest = np.degrees(np.arctan(y[window[0].stop - 1, 0]))
    upright = np.radians(np.clip(STEEPEST_DEG - lowest, 0.0, pitch_deg))
    forward_per_z = np.cos(upright) - y * np.sin(upright)
    contact = _contact(number, window, ids, z * forward_per_z, room * forward_per_z, placed)
    radius, relief = _relief(number, window, ids)
    per_z = np.broadcast_to(forward_per_z[window[0]], mask.shape)
    half_thickness = radius / camera.fx * contact / float(np.median(per_z[mask]))
    behind = float((room[window] * per_z)[mask].max())
    front = np.clip(behind - 2 * half_thickness, MIN_APPROACH * contact, contact)
    z[window][mask] = np.minimum((front + half_thickness * relief) / per_z, room[window])[mask]


def _relief(
    number: int, window: tuple[slice, slice], ids: Integer[np.ndarray, "h w"]
) -> tuple[float, Float[np.ndarray, "box_h box_w"]]:
    """Radius in pixels of the largest circle inside an object, and how far behind its front each pixel lies.

    The latter is the profile of an ellipse over the distance to the outline: 0 in the middle, 1 at the outline. The
    picture's border cuts an object off, so it is not an outline.
    """
    rows, columns = window
    top, left = max(rows.start - 1, 0), max(columns.start - 1, 0)
    mask = ids[top : rows.stop + 1, left : columns.stop + 1] == number
    height, width = rows.stop - rows.start, columns.stop - columns.start
    # A mask without any outline has no distance to it.
    distance = np.full(mask.shape, np.inf) if mask.all() else ndimage.distance_transform_edt(mask)
    # From the pixel's centre to the outline, which runs half a pixel before the nearest centre outside.
    distance = np.maximum(distance[rows.start - top :, columns.start - left :][:height, :width] - 0.5, 0)
    radius = min(float(distance.max()), float(min(height, width)))
    return radius, 1 - np.sqrt(1 - np.square(1 - np.minimum(distance / radius, 1)))


def _contact(
    number: int,
    window: tuple[slice, slice],
    ids: Integer[np.ndarray, "h w"],
    forward: Float[np.ndarray, "h w"],
    room_forward: Float[np.ndarray, "h w"],
    placed: set[int],
) -> float:
    """Forward distance in metres of the place where an object stands: on the ground, or on a `placed` object."""
    mask = ids[window] == number
    columns = np.flatnonzero(mask.any(axis=0))
    rows = mask.shape[0] - 1 - np.argmax(mask[::-1, columns], axis=0) + window[0].start
    columns += window[1].start
    below = np.minimum(rows + 1, ids.shape[0] - 1)
    under = ids[below, columns]
    others, counts = np.unique(under[shows_object(under) & (under != number)], return_counts=True)
    if len(others):
        carrier = int(others[counts.argmax()])
        if counts.max() > len(columns) / 2 and carrier in placed:
            return float(np.median(forward[below, columns][under == carrier]))
    # Where the object is its own lower neighbour, the picture's border cuts it off.
    free = (under == BACKGROUND) | (under == number)
    grounded = free if free.any() else np.ones_like(free)
    return float(np.percentile(room_forward[rows, columns][grounded], CONTACT_PERCENTILE))
