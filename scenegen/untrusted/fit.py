"""Fits masks, depth maps and cameras to the photo: other sizes of the same shape, and what is of the photo as stored."""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from scenegen.errors import InputError
from scenegen.untrusted.photo import SIDEWAYS, UprightPhoto
from scenegen.untrusted.resample import nearest

ASPECT_TOLERANCE = 0.01


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes have the same aspect ratio, within `ASPECT_TOLERANCE`."""
    return abs(size[0] * other[1] - size[1] * other[0]) <= ASPECT_TOLERANCE * size[1] * other[0]


def checked_size(size: tuple[int, int], what: str, photo: UprightPhoto) -> bool:
    """Whether a mask of `size` must be turned to be upright.

    Raises:
        InputError: if it has too many pixels, or another shape than the photo, upright and as stored.
    """
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and size[0] * size[1] > most:
        raise InputError(
            f"{what} is {size[0]}x{size[1]}, more than {most} pixels. Make it smaller, or raise `read.max_pixels`."
        )
    if same_shape(size, photo.size):
        return False
    if photo.transpose in SIDEWAYS and same_shape(size, photo.stored_size):
        return True
    raise InputError(
        f"{what} is {size[0]}x{size[1]} pixels and the photo {photo.size[0]}x{photo.size[1]}; they must have the same shape. "
        "Make the masks from the full photo."
    )


def fitted(
    values: Shaped[np.ndarray, "h w"], what: str, photo: UprightPhoto, notes: dict[str, None]
) -> Shaped[np.ndarray, "h2 w2"]:
    """A mask upright and at working size, without mixing its values.

    Args:
        values: the mask.
        what: its name in messages.
        photo: its photo.
        notes: gets a line, once for all masks, if it has another size than the photo.

    Raises:
        InputError: if it is not of the photo's shape.
    """
    size = values.shape[1], values.shape[0]
    sideways = checked_size(size, what, photo)
    expected = photo.stored_size if sideways else photo.size
    if size != expected:
        notes[
            f"masks: they are {size[0]}x{size[1]} and the photo {expected[0]}x{expected[1]}; resampled without mixing"
        ] = None
    return nearest(turned(values, photo.transpose) if sideways else values, photo.rgb.size)


def turned(values: Shaped[np.ndarray, "h w"], transpose: Image.Transpose | None) -> Shaped[np.ndarray, "h2 w2"]:
    """What Pillow's transposition makes of a picture."""
    match transpose:
        case None:
            return values
        case Image.Transpose.FLIP_LEFT_RIGHT:
            return values[:, ::-1]
        case Image.Transpose.FLIP_TOP_BOTTOM:
            return values[::-1]
        case Image.Transpose.ROTATE_180:
            return values[::-1, ::-1]
        case Image.Transpose.ROTATE_90:
            return np.rot90(values)
        case Image.Transpose.ROTATE_270:
            return np.rot90(values, -1)
        case Image.Transpose.TRANSPOSE:
            return values.T
        case Image.Transpose.TRANSVERSE:
            return np.rot90(values, 2).T
