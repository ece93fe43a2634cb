"""Photos that show nothing, or nothing new: the same picture again, also mirrored or turned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from scenegen.views.features import Matches

SIDE = 48
"""Pixels along each side of the small pictures that are compared."""
SAME = 3.0
"""Mean difference in grey levels below which two of them are the same: recompressed, resized, but not another view."""
GAIN = (0.5, 2.0)
"""How much brighter or darker the same picture may be."""
CLIPPED = (5, 250)
"""Grey levels up to and from which a picture does not say how bright it is."""
CROP_MATCHES = 100
"""Features that two photos must share for it to be told that one is cut out of the other."""
CROP_PIXELS = 0.7
"""How far features of a crop may lie from where turning, scaling and moving the other photo puts them."""
CROP_SHARE = 0.85
"""Share of the features that must lie so: crops have above 0.92, views a third of a degree apart 0.7, and others fewer."""
ANYWHERE = 30.0
"""Difference that the same picture has nowhere: a small object before a plain wall changes the mean little."""

TURNS: Mapping[str, Callable[[Any], Any]] = {
    "is the same picture as {}": lambda small: small,
    "is {}, mirrored": np.fliplr,
    "is {}, upside down": lambda small: np.rot90(small, 2),
    "is {}, mirrored top to bottom": np.flipud,
    "is {}, turned by a quarter": np.rot90,
    "is {}, turned by a quarter the other way": lambda small: np.rot90(small, 3),
    "is {}, mirrored and turned": np.transpose,
    "is {}, mirrored and turned the other way": lambda small: np.rot90(small.T, 2),
}


def is_blank(image: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Whether a photo is of one colour everywhere, as what was under a transparent picture often is."""
    return bool(np.ptp(_small(image)) < SAME)


def duplicates(images: Sequence[UInt8[np.ndarray, "_h _w 3"]], names: Sequence[str]) -> dict[int, str]:
    """What each photo that repeats an earlier one is, by its index."""
    small = [_small(image) for image in images]
    found: dict[int, str] = {}
    for later in range(len(images)):
        for earlier in range(later):
            if earlier in found:
                continue
            said = next(
                (text for text, turned in TURNS.items() if _is_same(turned(small[earlier]), small[later])),
                None,
            )
            if said is not None:
                found[later] = said.format(names[earlier])
                break
    return found


def crops(found: Sequence[Matches], names: Sequence[str]) -> dict[int, str]:
    """What each photo that is cut out of another one is, by its index.

    Such a photo has another principal point, and makes COLMAP find wrong cameras for all.
    """
    parts: dict[int, str] = {}
    for each in found:
        first, second = each.pixels
        if len(first) < CROP_MATCHES or each.first in parts or each.second in parts:
            continue
        moved, fits = cv2.estimateAffinePartial2D(first, second, ransacReprojThreshold=CROP_PIXELS)
        if moved is None or fits.mean() < CROP_SHARE:
            continue
        # What is shown larger shows less.
        larger = np.linalg.det(moved[:, :2]) >= 1
        part, whole = (each.second, each.first) if larger else (each.first, each.second)
        parts[part] = f"shows a part of {names[whole]}, from the same place, and nothing more"
    return parts


def _is_same(a: Float32[np.ndarray, "s s"], b: Float32[np.ndarray, "s s"]) -> bool:
    """Whether two pictures are the same, but for their brightness."""
    low, high = CLIPPED
    told = (a > low) & (a < high) & (b > low) & (b < high)
    if told.mean() > 0.5 and np.ptp(a[told]) > SAME:
        gain, offset = np.polyfit(a[told], b[told], 1)
        if GAIN[0] < gain < GAIN[1]:
            a = np.clip(gain * a + offset, 0, 255)
    off = np.abs(a - b)
    return bool(off.mean() < SAME and off.max() < ANYWHERE)


def _small(image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "s s"]:
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
