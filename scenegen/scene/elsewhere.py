"""What other photos of the scene show of a surface of the background where this photo shows something before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from scenegen.camera import project, rays, transform
from scenegen.records import Intrinsics

MOST_OFF = 0.1
"""Relative difference of depth up to which a point of the surface is what the other photo shows there."""
ENOUGH = 200
"""Pixels of the surface that both photos must show to tell how much lighter one is."""
MOST_LIGHTER = 2.0
"""Largest factor between the colours of two photos of one surface: beyond it they show different things."""

STANDING_STILL = 0.5
"""Difference of two photos of one size at the same pixels, over that where their cameras put the surface, below which the surface
stands still before the camera while the objects are turned: what was hidden in one is then hidden or moved in the other."""


@dataclass(frozen=True, eq=False)
class OtherPhoto:
    """Another photo of the scene."""

    image: UInt8[np.ndarray, "h w 3"]
    seen: Bool[np.ndarray, "h w"]
    """The pixels that show the background."""
    z: Float[np.ndarray, "h w"]
    camera: Intrinsics
    camera_from_main: Float[np.ndarray, "4 4"]
    """From the frame of the camera whose photo the background is made of. Rigid, metres."""


def filled_in(
    image: UInt8[np.ndarray, "h w 3"],
    known: Bool[np.ndarray, "h w"],
    wanted: Bool[np.ndarray, "h w"],
    depth: Float[np.ndarray, "h w"],
    camera: Intrinsics,
    others: Sequence[OtherPhoto],
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """The photo with the colours of a surface where others show it, in the light of this one, and where it is known then.

    Args:
        image: the photo.
        known: its pixels that show the surface.
        wanted: those that the surface is made for, shown or hidden.
        depth: z-depth of the surface at all pixels; 0 where it does not meet the ray.
        camera: of the photo.
        others: the other photos, the first of which is preferred.
    """
    result, told = image.copy(), known.copy()
    points = rays(camera) * depth[..., None]
    for other in others:
        columns, rows, shown = _shown(points, depth > 0, other)
        both = known & shown
        if np.count_nonzero(both) < ENOUGH:
            continue
        theirs = cv2.remap(other.image, columns, rows, cv2.INTER_LINEAR).astype(np.float32)
        # A ratio of medians: what lies on the surface in one of them only, as a shadow, counts for little.
        lighter = np.median(image[both], axis=0).clip(1) / np.median(theirs[both], axis=0).clip(1)
        if np.abs(np.log(lighter)).max() > np.log(MOST_LIGHTER) or _stands_still(
            image, other.image, theirs * lighter, both
        ):
            continue
        new = wanted & shown & ~told
        result[new] = np.clip(np.round(theirs[new] * lighter), 0, 255).astype(np.uint8)
        told |= new
    return result, told


def _stands_still(
    image: UInt8[np.ndarray, "h w 3"],
    there: UInt8[np.ndarray, "_h _w 3"],
    moved: Float[np.ndarray, "h w 3"],
    both: Bool[np.ndarray, "h w"],
) -> bool:
    """Whether another photo is clearly more like this one at the same pixels than where the cameras put the surface.

    Args:
        image: this photo.
        there: the other.
        moved: the other as the cameras put it.
        both: pixels of the surface that both show.
    """
    if there.shape != image.shape:
        return False
    mine = image[both].astype(np.float32)
    same, put = (float(np.abs(mine - theirs[both]).mean()) for theirs in (there, moved))
    return same < STANDING_STILL * put


def _shown(
    points: Float[np.ndarray, "h w 3"], met: Bool[np.ndarray, "h w"], other: OtherPhoto
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Where the points lie in another photo (columns and rows, pixel centres at integers), and which of them it shows."""
    there = transform(other.camera_from_main, points.reshape(-1, 3)).reshape(points.shape)
    ahead = met & (there[..., 2] > 1e-6)
    u, v = np.moveaxis(project(other.camera, np.where(ahead[..., None], there, [0.0, 0.0, 1.0])), -1, 0)
    inside = ahead & (u >= 0) & (v >= 0) & (u < other.camera.width) & (v < other.camera.height)
    row, column = (np.where(inside, at, 0).astype(int) for at in (v, u))
    z = other.z[row, column]
    shown = inside & other.seen[row, column] & (z > 0) & (np.abs(there[..., 2] - z) < MOST_OFF * z)
    return (u - 0.5).astype(np.float32), (v - 0.5).astype(np.float32), shown
