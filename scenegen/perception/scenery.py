"""Tells what objects stand before from objects: a wall is no thing, though it may have an outline like one."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

SIDES = 3
"""Sides of the picture that scenery reaches, at least."""
BEHIND = 0.5
"""Share of its surroundings that must be nearer than scenery is there."""
CLEARLY = 0.02
"""Difference of the logarithms of two depths that tells which is nearer."""
RIM, REACH = 2, 4
"""Cells beside an outline where depth is a mixture, and up to which surroundings reach."""


def is_scenery(mask: Bool[np.ndarray, "h w"], log_depth: Float32[np.ndarray, "h w"]) -> bool:
    """Whether a mask reaches most sides of the picture and lies behind what is around it.

    Args:
        mask: on the cells of the depth.
        log_depth: logarithm of the z-depth, up to a constant.

    Examples:
        >>> depth = np.zeros((12, 16), np.float32)
        >>> depth[8:] = -1.0
        >>> is_scenery(depth == 0, depth), is_scenery(depth < 0, depth)
        (True, False)
    """
    sides = sum(bool(side.any()) for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    inner = ndimage.binary_erosion(mask, border_value=1)
    around = ndimage.binary_dilation(mask, iterations=REACH) & ~ndimage.binary_dilation(mask, iterations=RIM)
    if sides < SIDES or not inner.any() or not around.any():
        return False
    nearest = ndimage.distance_transform_edt(~inner, return_distances=False, return_indices=True)
    beside = log_depth[nearest[0], nearest[1]]
    return bool(np.mean(log_depth[around] < beside[around] - CLEARLY) > BEHIND)
