"""What an object looks like, from another picture of it than the photo."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy import ndimage

SOLID = 128
"""Alpha from which on a pixel of the picture shows the object."""


def repainted(
    image: UInt8[np.ndarray, "s s 3"], mask: Float32[np.ndarray, "s s"], picture: UInt8[np.ndarray, "h w c"]
) -> UInt8[np.ndarray, "s s 3"]:
    """`image` with the object in the colours of `picture`: what that shows fills the box around the object.

    Where the picture is transparent, the object has the colour that is nearest in the picture. What is around it stays.

    Args:
        image: the object's crop, sRGB.
        mask: share of the pixel that the object covers, 0..1.
        picture: RGB or RGBA, of the object as it is seen in the crop.

    Examples:
        >>> crop, mask = np.zeros((3, 3, 3), np.uint8), np.float32([[0, 0, 0], [0, 1, 1], [0, 0, 0]])
        >>> repainted(crop, mask, np.uint8([[[9, 9, 9], [50, 60, 70]]]))[1].tolist()
        [[0, 0, 0], [9, 9, 9], [50, 60, 70]]
    """
    shown = _shown(picture)
    window = ndimage.find_objects((mask > 0).astype(np.uint8))[0]
    height, width = mask[window].shape
    rows, columns = ndimage.find_objects(shown.astype(np.uint8))[0]
    # Transparent pixels have any colour: it must not be mixed into that of those beside them.
    nearest = ndimage.distance_transform_edt(~shown, return_distances=False, return_indices=True)
    colours = picture[nearest[0], nearest[1], :3][rows, columns]
    larger = height > colours.shape[0] or width > colours.shape[1]
    fitted = cv2.resize(colours, (width, height), interpolation=cv2.INTER_LINEAR if larger else cv2.INTER_AREA)
    made = image.copy()
    share = mask[window][..., None]
    made[window] = np.round(share * fitted + (1 - share) * image[window]).astype(np.uint8)
    return made


def enlargement(picture: UInt8[np.ndarray, "h w c"], mask: Bool[np.ndarray, "H W"]) -> int:
    """How many pixels of a picture that fills the box around an object there are for each of the photo's.

    Args:
        picture: RGB or RGBA.
        mask: where the photo shows the object.

    Examples:
        >>> enlargement(np.zeros((40, 40, 3), np.uint8), np.ones((10, 10), bool))
        4
    """
    sides = [max(np.ptp(axis) + 1 for axis in np.nonzero(shown)) for shown in (_shown(picture), mask)]
    return max(1, round(float(sides[0] / sides[1])))


def _shown(picture: UInt8[np.ndarray, "h w c"]) -> Bool[np.ndarray, "h w"]:
    """Where the picture shows the object: everywhere, unless something of it is transparent and something is not."""
    shown = picture[..., 3] >= SOLID if picture.shape[2] == 4 else np.ones(picture.shape[:2], bool)
    return shown if shown.any() else ~shown
