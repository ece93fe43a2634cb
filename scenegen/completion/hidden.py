"""Which objects are partly hidden, and where they may go on unseen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt16
from scipy import ndimage

from scenegen.ids import object_ids

RIM_SHARE = 0.004
"""Share of the picture's longer side by which outlines of neighbours may be apart."""
NEARER = 0.01
"""An object stands before another if it is nearer by this share of the depth along the outline that they share."""
HIDDEN_SHARE = 0.04
"""An object is partly hidden if this share of its outline is: below it, neighbours only touch it."""
LEAST_OUTLINE = 6
"""Pixels of the outline that must be hidden, too."""


@dataclass(frozen=True, eq=False)
class HiddenPart:
    """Where an object may go on."""

    behind: Bool[np.ndarray, "h w"]
    """Pixels of the objects before it."""
    sides: tuple[bool, bool, bool, bool]
    """Whether the picture's left, top, right and bottom border cuts it."""
    share: float
    """Of its outline that is hidden or cut."""


def hidden_part(ids: UInt16[np.ndarray, "h w"], z: Float[np.ndarray, "h w"], number: int) -> HiddenPart | None:
    """Where the object `number` may go on behind others or beyond the border; None if it is whole.

    It is partly hidden if at least `HIDDEN_SHARE` of its outline, and at least `LEAST_OUTLINE` pixels, lie along objects that
    are nearer there, or on the picture's border. Objects beside it that are as near hide nothing.

    Examples:
        >>> ids = np.zeros((40, 40), np.uint16)
        >>> ids[10:30, 5:20], ids[10:30, 20:35] = 1, 2
        >>> z = np.where(ids == 2, 1.0, 2.0)
        >>> part = hidden_part(ids, z, 1)
        >>> part.share > 0.2, hidden_part(ids, z, 2) is None
        (True, True)
    """
    mask = ids == number
    if not mask.any():
        return None
    rim = max(2, round(RIM_SHARE * max(mask.shape)))
    around = ndimage.binary_dilation(mask, iterations=rim)
    outline = mask & ~ndimage.binary_erosion(mask, border_value=1)
    behind = np.zeros_like(mask)
    hidden = np.zeros_like(mask)
    for other in object_ids(np.where(around, ids, np.uint16(0))):
        other_mask = ids == other
        if other == number or not _is_nearer(other_mask, mask, z, rim):
            continue
        behind |= other_mask
        hidden |= ndimage.binary_dilation(other_mask & around, iterations=rim)
    border = np.ones_like(mask)
    border[1:-1, 1:-1] = False
    outline |= mask & border
    cut = outline & (hidden | border)
    count = int(np.count_nonzero(cut))
    share = count / max(1, int(np.count_nonzero(outline)))
    if share < HIDDEN_SHARE or count < LEAST_OUTLINE:
        return None
    sides = mask[:, 0], mask[0], mask[:, -1], mask[-1]
    left, top, right, bottom = (bool(np.count_nonzero(side) >= LEAST_OUTLINE) for side in sides)
    return HiddenPart(behind, (left, top, right, bottom), share)


def completed_depth(
    z: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"], whole: Bool[np.ndarray, "h2 w2"], pad: int
) -> Float[np.ndarray, "h2 w2"]:
    """The depth with `pad` more pixels on each side, unknown (0) there and where the object is hidden: others are seen there."""
    depth = np.pad(z, pad)
    depth[whole & ~np.pad(mask, pad)] = 0
    return depth


def _is_nearer(
    other: Bool[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"], z: Float[np.ndarray, "h w"], rim: int
) -> bool:
    """Whether `other` is nearer than `mask` along the outline that they share."""
    reach = 3 * rim
    beside = other & ndimage.binary_dilation(mask, iterations=reach) & (z > 0)
    own = mask & ndimage.binary_dilation(other, iterations=reach) & (z > 0)
    if not beside.any() or not own.any():
        return False
    return bool(np.log(np.median(z[own])) - np.log(np.median(z[beside])) > NEARER)
