"""Masks as the page draws them, and as it sends what was painted."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool

from scenegen.errors import UsageError

TOLERANCE = 0.7
"""Pixels by which an outline may differ from the mask's border."""


def outline(mask: Bool[np.ndarray, "h w"]) -> str:
    """The border of a mask as the data of an SVG path through the centres of pixels, where the first pixel's is 0,0.

    Holes are drawn too: fill it by the rule `evenodd`. It is empty if the mask is.

    Examples:
        >>> outline(np.array([[False, True, True, True], [False, True, True, True]]))
        'M1 0L1 1L3 1L3 0Z'
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    corners = [cv2.approxPolyDP(contour, TOLERANCE, closed=True)[:, 0].tolist() for contour in contours]
    return "".join("M" + "L".join(f"{u} {v}" for u, v in each) + "Z" for each in corners)


def from_runs(runs: Sequence[int], width: int, height: int) -> Bool[np.ndarray, "h w"]:
    """The mask of this size that `runs` say: how many pixels are outside, then inside, then outside, row by row.

    Raises:
        UsageError: if they do not add up to the size.

    Examples:
        >>> from_runs([1, 2, 1], 2, 2).tolist()
        [[False, True], [True, False]]
    """
    lengths = np.array(runs, dtype=np.int64)
    if (lengths < 0).any() or lengths.sum() != width * height:
        raise UsageError(f"`runs` add up to {lengths.sum()} pixels; the photo has {width}x{height}.")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)
