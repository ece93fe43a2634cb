"""Makes the image network's input from a cut-out picture (Pixal3D, arXiv 2605.10922).

A single picture is cropped to a square around its object and composed on black in 8 bits before it is resized. Several
views of one object keep their framing, and are resized before they are composed.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from scenegen.errors import InputError

MAX_SIDE = 1024
"""Larger pictures are shrunk to this side before the object is looked for."""
MARGIN = 1.1
"""Side of the square crop over the longer side of the object's box."""
SOLID_ALPHA = 204
"""Pixels with an alpha above this (0.8 of 255) belong to the object's box."""


def object_picture(rgba: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "s s 3"]:
    """The square picture of one object on black, as Pixal3D's single-view network saw it in training.

    Args:
        rgba: sRGB with the object cut out by its alpha.

    Raises:
        InputError: if nothing is cut out, or nothing is left.
    """
    return on_black(square_cutout(rgba))


def square_cutout(rgba: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "s s 4"]:
    """The square around the object, `MARGIN` times as wide as its box; transparent black outside the picture.

    As in the reference, the side is even, and the box runs between pixel centres, so that an object of up to 30 pixels may lose
    its border.

    Raises:
        InputError: if nothing is cut out, or less than two pixels are solid.
    """
    if (rgba[..., 3] == 255).all():
        raise InputError(
            "`rgba` is opaque everywhere, so no object is cut out; give a picture whose alpha is the object's mask."
        )
    picture = Image.fromarray(rgba)
    scale = min(1.0, MAX_SIDE / max(picture.size))
    if scale < 1:
        width, height = (max(1, int(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    rows, columns = np.nonzero(np.asarray(picture)[..., 3] > SOLID_ALPHA)
    extent = max(np.ptp(rows), np.ptp(columns)) if len(rows) else 0
    half = int(extent * MARGIN) // 2
    if half == 0:
        raise InputError(
            f"`rgba` has {len(rows)} pixels of alpha above {SOLID_ALPHA}; an object needs a box at least two pixels "
            "wide. Give a larger picture or a more solid mask."
        )
    # Half-integer centres round to even on both sides alike, so that the crop stays square.
    centre_u = (int(columns.min()) + int(columns.max())) / 2
    centre_v = (int(rows.min()) + int(rows.max())) / 2
    box = (round(centre_u - half), round(centre_v - half), round(centre_u + half), round(centre_v + half))
    return np.asarray(picture.crop(box))


def on_black(rgba: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 3"]:
    """Colour times alpha, rounded down to 8 bits."""
    unit = rgba.astype(np.float32) / 255
    return (unit[..., :3] * unit[..., 3:] * 255).astype(np.uint8)


def image_tensor(rgb: UInt8[np.ndarray, "h w 3"], size: int) -> Float[Tensor, "3 size size"]:
    """A picture resized (Lanczos) to `size` x `size`, in [0, 1], not normalised."""
    return _unit_tensor(Image.fromarray(rgb), size)


def view_tensor(rgba: UInt8[np.ndarray, "h w 4"], size: int) -> Float[Tensor, "3 size size"]:
    """One of several views of an object, whole, on black, `size` x `size`, in [0, 1], not normalised.

    Its framing belongs to its camera and is left alone. Colour is multiplied by alpha after the resize, in float.
    """
    resized = _unit_tensor(Image.fromarray(rgba), size)
    return resized[:3] * resized[3:]


def _unit_tensor(picture: Image.Image, size: int) -> Float[Tensor, "c size size"]:
    resized = np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS), np.float32) / 255
    return torch.from_numpy(resized).permute(2, 0, 1)
