"""The user's masks: one picture of ids, or one picture for each object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt, UInt16
from PIL import Image

from scenegen.errors import InputError
from scenegen.ids import BACKGROUND, UNKNOWN
from scenegen.untrusted.photo import HALF, UprightPhoto
from scenegen.untrusted.picture import open_picture, parsing
from scenegen.untrusted.resample import nearest

MAX_OBJECTS = 254
JPEG_FORMATS = ("JPEG", "MPO")
ROWS = 256
"""Rows checked at a time, to save memory and to refuse early a picture that is not a mask."""


def read_masks(paths: list[Path], photo: UprightPhoto) -> tuple[UInt16[np.ndarray, "h w"], list[str]]:
    """The id of the object each pixel of the photo shows, 0 for background, at working size; and warnings.

    One picture holds ids: its grey value or palette index, 0 for background. 65535 is unknown, as in the `masks.png` of a
    scene, unless it is the only value: white on black. In a colour picture each distinct colour is an object, black or
    transparent is background, and ids count from 1 in order of first appearance, row by row.
    Several pictures show one object each, with ids from 1 in the given order. The object is what is opaque or, in
    a picture without transparency, what is not black. If objects overlap, the earlier one keeps the pixel.

    Args:
        paths: pictures of the photo's size, upright or as stored.
        photo: the photo of the masks.

    Raises:
        InputError: if a picture is damaged or of another size, a JPEG holds ids, or there is no object or more objects than
            `MAX_OBJECTS`.
    """
    expected, ids = _from_ids(paths[0], photo) if len(paths) == 1 else _from_objects(paths, photo)
    lost = sorted(set(expected) - set(np.unique(ids).tolist()))
    if len(lost) == len(expected):
        raise InputError("`masks` has no object with a pixel left at working size. Mark at least one larger object.")
    return ids, [f"masks: at working size no pixel is left of object {', '.join(map(str, lost))}"] if lost else []


def _from_ids(path: Path, photo: UprightPhoto) -> tuple[list[int], UInt16[np.ndarray, "h w"]]:
    """The ids of one id picture, and the picture at working size."""
    what = "the id picture of `masks`"
    with open_picture(path, what) as stored:
        if stored.format in JPEG_FORMATS:
            raise InputError(f"{what} is a JPEG, which changes ids along every edge. Save it from its source as PNG.")
        picture = _upright(stored, what, photo)
    if picture.mode in ("1", "L", "LA", "P", "PA", "I;16"):
        # Pillow cannot split a 16-bit picture into channels.
        values = np.asarray(picture if picture.mode == "I;16" else picture.getchannel(0)).astype(np.uint16)
        drawn = _distinct(values, what)
        if drawn == [UNKNOWN]:
            values, drawn = np.minimum(values, 1), [1]
        return [value for value in drawn if value != UNKNOWN], nearest(values, photo.rgb.size)
    rgba = np.asarray(picture.convert("RGBA"))
    colours = rgba.view("<u4")[..., 0] & 0xFFFFFF
    colours[rgba[..., 3] <= HALF] = 0
    known = np.array([0, *_distinct(colours, what)], dtype=np.uint32)
    order = np.argsort(known)
    ids = order[np.searchsorted(known, nearest(colours, photo.rgb.size), sorter=order)]
    return list(range(1, len(known))), ids.astype(np.uint16)


def _from_objects(paths: list[Path], photo: UprightPhoto) -> tuple[list[int], UInt16[np.ndarray, "h w"]]:
    """The ids of several pictures, one object each, and their id picture at working size."""
    if len(paths) > MAX_OBJECTS:
        raise InputError(f"`masks` has {len(paths)} pictures, one per object; at most {MAX_OBJECTS} are allowed.")
    ids = np.zeros(photo.rgb.size[::-1], np.uint16)
    for number, path in enumerate(paths, start=1):
        what = f"picture {number} of `masks`"
        with open_picture(path, what) as stored:
            threshold = HALF if stored.format in JPEG_FORMATS else 0
            picture = _upright(stored, what, photo)
        shown = nearest(_object(picture, threshold), photo.rgb.size)
        ids[shown & (ids == BACKGROUND)] = number
    return list(range(1, len(paths) + 1)), ids


def _upright(stored: Image.Image, what: str, photo: UprightPhoto) -> Image.Image:
    """An opened mask, decoded, its size checked, and turned upright like the photo if it is stored like the photo."""
    if stored.size not in (photo.size, photo.stored_size):
        raise InputError(
            f"{what} is {stored.size[0]}x{stored.size[1]} pixels and the photo {photo.size[0]}x{photo.size[1]}; they must "
            "have the same size. Make the masks from the full photo."
        )
    with parsing(what):
        stored.load()
    if stored.size == photo.size or photo.transpose is None:
        return stored
    return stored.transpose(photo.transpose)


def _object(picture: Image.Image, threshold: int) -> Bool[np.ndarray, "h w"]:
    """The pixels of the object in a mask of one object."""
    alpha = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else None
    if alpha is not None and alpha.getextrema() != (255, 255):
        return np.asarray(np.asarray(alpha) > HALF)
    if picture.mode == "I;16":
        return np.asarray(np.asarray(picture) > threshold)
    return np.asarray(np.asarray(picture.convert("RGB")).max(axis=2) > threshold)


def _distinct(values: UInt[np.ndarray, "h w"], what: str) -> list[int]:
    """The distinct values other than 0, in order of first appearance.

    Raises:
        InputError: if there are more than `MAX_OBJECTS`.
    """
    seen: dict[int, None] = {}
    for top in range(0, len(values), ROWS):
        block = values[top : top + ROWS].ravel()
        # A mask has few runs of equal values; only their first pixels need sorting.
        runs = block[np.flatnonzero(np.diff(block, prepend=~block[:1]))]
        found, first = np.unique(runs, return_index=True)
        seen |= dict.fromkeys(found[np.argsort(first)].tolist())
        if len(seen.keys() - {0}) > MAX_OBJECTS:
            raise InputError(
                f"{what} has more than {MAX_OBJECTS} ids or colours. The usual cause is a mask with smoothed edges or "
                "one that was a JPEG: save it as PNG, without anti-aliasing."
            )
    return [value for value in seen if value]
