"""What is not seen of an object takes after what is: its surface goes on behind its outline as if unfolded from the front."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float

from scenegen.geometry.fill import outline_distance

SIDE = 96
"""Most pixels across the mask in which ways in from its outline are found."""
SMOOTHING = 2.0
"""Standard deviation of the distance to the outline, in these pixels, before its slope is taken."""
INWARDS = 0.5
"""Least share of a way that leads away from the outline; a longer one would come out on the other side."""


def unfolded(
    pixels: Float[np.ndarray, "n 2"], behind: Float[np.ndarray, "n"], inside: Bool[np.ndarray, "s s"]
) -> Float[np.ndarray, "n 2"]:
    """Where the visible side shows what a hidden point may look like: as far in from the outline as the point is behind it.

    So what is painted there goes on without a seam, and without being drawn out along the rays.

    Args:
        pixels: of hidden points, in shares of the picture's side.
        behind: how far they lie behind the visible surface, in shares of the picture's side at their distance.
        inside: the object.

    Returns:
        Places in shares of the picture's side.
    """
    size = inside.shape[0]
    inwards = cv2.resize(_ways_inwards(inside), (size, size), interpolation=cv2.INTER_LINEAR)
    column, row = np.clip((pixels * size).astype(int), 0, size - 1).T
    way = inwards[row, column]
    longest = np.linalg.norm(way, axis=1)
    # Half of the way round is before the outline's own depth, half behind it.
    return pixels + (np.minimum(1, behind / 2 / np.maximum(longest, 1e-6)))[:, None] * way


def _ways_inwards(inside: Bool[np.ndarray, "s s"]) -> Float[np.ndarray, "r r 2"]:
    """For each pixel of a coarser picture, the longest way that leads away from the outline, in shares of its side."""
    side = min(SIDE, inside.shape[0])
    small = cv2.resize(inside.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA) > 0.5
    distance = cv2.GaussianBlur(outline_distance(small).astype(np.float32), (0, 0), SMOOTHING)
    slope = np.stack(np.gradient(distance)[::-1], axis=-1)
    slope /= np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-6)
    place = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).astype(np.float32)
    longest, open_still = np.zeros((side, side), np.float32), np.ones((side, side), dtype=bool)
    for step in range(1, side // 2):
        at = place + step * slope
        there = cv2.remap(distance, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        open_still &= there >= distance + INWARDS * step
        if not open_still.any():
            break
        longest[open_still] = step
    return cv2.GaussianBlur(longest[..., None] * slope, (0, 0), SMOOTHING) / side
