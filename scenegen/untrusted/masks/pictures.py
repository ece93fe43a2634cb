"""Masks as pictures: one of ids or colours, or one for each object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer, UInt, UInt32
from PIL import Image

from scenegen.errors import InputError
from scenegen.untrusted.fit import checked_size
from scenegen.untrusted.photo import HALF, UprightPhoto
from scenegen.untrusted.picture import open_picture, parsing

LOSSY_FORMATS = ("JPEG", "MPO", "HEIF", "AVIF", "JPEG2000")
WEBP_HEAD = 1 << 16
"""Bytes in which the part of a WebP with the pixels begins."""
GREY = 0x010101
"""The colour of the grey value 1."""
BLACK, WHITE = 32, 223
"""Grey up to and from which a lossy picture is black or white; in between it is an edge."""
MOST_GREY = 0.05
"""Share of a lossy picture that may be in between, if it is to be black on white or white on black."""


def read_object(path: Path, what: str, photo: UprightPhoto) -> Bool[np.ndarray, "h w"]:
    """The mask of one object, as stored: what is opaque or, in a picture without transparency, what is not black.

    Raises:
        InputError: if the picture is damaged or of another shape than the photo.
    """
    with open_picture(path, what) as picture:
        threshold = HALF if _is_lossy(picture, path) else 0
        _load(picture, what, photo)
    opaque = _opaque(picture)
    if opaque is not None:
        return opaque
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        return np.asarray(np.asarray(picture) > threshold)
    if picture.mode == "P":  # the first index is the background, whatever its colour
        return np.asarray(np.asarray(picture) > 0)
    if picture.mode in ("1", "L", "LA"):
        return np.asarray(np.asarray(picture.getchannel(0)) > threshold)
    return np.asarray(np.asarray(picture.convert("RGB")).max(axis=2) > threshold)


@dataclass(frozen=True, eq=False)
class Values:
    """A picture of all objects, as stored."""

    numbers: Integer[np.ndarray, "h w"]
    colours: bool = False
    """Whether they are colours (0xBBGGRR, 0 where transparent) rather than ids."""
    opaque: Bool[np.ndarray, "h w"] | None = None
    """What is opaque, in a picture with transparency."""


def read_values(path: Path, what: str, photo: UprightPhoto) -> Values:
    """The values of a picture of ids or colours. Colours that are all grey are ids.

    Raises:
        InputError: if the picture is damaged, of another shape than the photo, or lossy with more than two values.
    """
    with open_picture(path, what) as picture:
        lossy = _is_lossy(picture, path)
        _load(picture, what, photo)
    if lossy:
        return Values(_two_valued(picture, what))
    if picture.mode in ("1", "L", "LA", "P", "PA") or picture.mode.startswith("I;16"):
        # Pillow cannot split a 16-bit picture into channels.
        values = picture if picture.mode.startswith("I;16") else picture.getchannel(0)
        return Values(np.asarray(values).astype(np.uint16), opaque=_opaque(picture))
    if picture.mode in ("I", "F"):
        numbers = np.asarray(picture)
        if (numbers != np.round(numbers)).any() and 0 <= numbers.min() <= numbers.max() <= 1:  # probabilities
            return Values(np.where(numbers > 0.5, np.uint16(255), np.uint16(0)))
        if not np.isfinite(numbers).all() or (numbers != np.round(numbers)).any():
            raise InputError(f"{what} holds numbers that are no ids; allowed: whole numbers.")
        return Values(numbers.astype(np.int64))
    found = colours(picture)
    grey = found & 255
    if (found == grey * GREY).all():
        return Values(grey.astype(np.uint16))
    return Values(found, colours=True, opaque=_opaque(picture))


def _opaque(picture: Image.Image) -> Bool[np.ndarray, "h w"] | None:
    """What is opaque in a picture; None if all of it is equally so.

    Where no pixel is wholly opaque, as in a picture to be laid over the photo, whatever is not transparent counts.
    """
    alpha = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else None
    low, high = (255, 255) if alpha is None else alpha.getextrema()
    return None if low == high else np.asarray(np.asarray(alpha) > (HALF if high == 255 else 0))


def colours(picture: Image.Image) -> UInt32[np.ndarray, "h w"]:
    """Each pixel's colour as one number, 0 where it is transparent."""
    found = np.asarray(picture.convert("RGBA")).view("<u4")[..., 0] & 0xFFFFFF
    opaque = _opaque(picture)
    return found if opaque is None else np.where(opaque, found, np.uint32(0))


def _is_lossy(picture: Image.Image, path: Path) -> bool:
    """Whether the format of a picture changes values along edges. WebP says so in the name of the part with the pixels."""
    if picture.format == "WEBP":
        with path.open("rb") as file:
            return b"VP8L" not in file.read(WEBP_HEAD)
    return picture.format in LOSSY_FORMATS


def _load(picture: Image.Image, what: str, photo: UprightPhoto) -> None:
    checked_size(picture.size, what, photo)
    with parsing(what):
        picture.load()


def _two_valued(picture: Image.Image, what: str) -> UInt[np.ndarray, "h w"]:
    """A lossy picture of black and white."""
    grey = np.asarray(picture.convert("RGB"))
    low, high = grey.min(axis=2), grey.max(axis=2)
    between = ((high > BLACK) & (low < WHITE)).mean()
    if between > MOST_GREY:
        raise InputError(
            f"{what} is a {picture.format}, which changes ids along every edge. Save it from its source as PNG."
        )
    return np.where(low > HALF, np.uint16(255), np.uint16(0))
