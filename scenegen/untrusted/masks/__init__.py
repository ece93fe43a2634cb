"""The user's masks: pictures, arrays or JSON, and the rules by which they become one id per pixel (docs/inputs.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer, UInt16

from scenegen.errors import InputError
from scenegen.ids import BACKGROUND, UNKNOWN
from scenegen.untrusted.fit import fitted
from scenegen.untrusted.formats import MASK_SUFFIXES
from scenegen.untrusted.masks.annotations import read_annotations
from scenegen.untrusted.masks.ids import (
    MAX_OBJECTS,
    ONE_VALUE,
    background_value,
    distinct,
    in_pieces,
    matte,
    numbered,
    unmixed,
    unstretched,
    with_background,
    without_transparent,
)
from scenegen.untrusted.masks.layer import Layer, Masks
from scenegen.untrusted.masks.layers import MOST, merged
from scenegen.untrusted.masks.outlines import following
from scenegen.untrusted.masks.pictures import read_object, read_values
from scenegen.untrusted.masks.stacks import read_stack
from scenegen.untrusted.photo import UprightPhoto
from scenegen.untrusted.picture import parsing

WHAT = "`masks`"


def read_masks(
    paths: Sequence[Path], photo: UprightPhoto, name: str = "", names: Sequence[str] = (), labels: Sequence[str] = ()
) -> Masks:
    """The id of the object each pixel of the photo shows, 0 for background, at working size.

    One picture or two-dimensional array holds ids: its grey value or palette index, 0 for background. 65535 is unknown, as in the
    `masks.png` of a scene. In a colour picture each distinct colour is an object, black or transparent is background, and ids
    count from 1 in order of first appearance, row by row; of a cut-out photo, what is opaque is an object. Several pictures, a
    stack of masks and JSON show one object each, with ids from 1 in the given order.

    Args:
        paths: the files.
        photo: the photo of the masks.
        name: its name, which picks the picture of a COCO file.
        names: those of the files, for messages.
        labels: what the objects of several pictures are called.

    Raises:
        InputError: if a file is damaged, of another kind or of another shape, or if there is no object, or too many.
    """
    notes: dict[str, None] = {}
    found = _read(paths, photo, name, names, labels, notes)
    ids = following(found.ids, photo, notes)
    return replace(found, ids=ids, notes=tuple(notes))


def _read(
    paths: Sequence[Path],
    photo: UprightPhoto,
    name: str,
    names: Sequence[str],
    labels: Sequence[str],
    notes: dict[str, None],
) -> Masks:
    path = paths[0]
    if len(paths) > MOST:
        raise InputError(f"{WHAT} has {len(paths)} pictures, one per object; at most {MOST} are allowed.")
    if len(paths) > 1:
        called = [*labels, *[""] * len(paths)]
        shown = [*names, *(f"picture {number}" for number in range(len(names) + 1, len(paths) + 1))]
        layers = []
        for place, file in enumerate(paths):
            what = f"{shown[place]} of {WHAT}"
            layers.append(
                Layer.of(shown[place], called[place], fitted(read_object(file, what, photo), what, photo, notes))
            )
        return merged(layers, notes)
    if path.stat().st_size == 0:
        raise InputError(f"{WHAT} is an empty file. Copy or save it again.")
    if path.suffix == ".json":
        with parsing(WHAT):
            return merged(read_annotations(path, photo, name, notes), notes)
    if path.suffix in (".npy", ".npz"):
        stack = read_stack(path, photo, notes)
        if isinstance(stack, list):
            return merged(stack, notes)
        return _of_colours(stack, photo, notes) if stack.dtype == np.uint32 else _of_ids(stack, photo, notes)
    try:
        picture = read_values(path, f"the id picture of {WHAT}", photo)
    except InputError as error:
        if path.suffix in ("", *MASK_SUFFIXES):
            raise
        raise InputError(f"{WHAT} is a {path.suffix}; allowed: {', '.join(sorted(MASK_SUFFIXES))}.") from error
    soft = None if picture.colours else matte(picture.numbers, notes)
    if soft is not None:
        return _of_one(fitted(soft, WHAT, photo, notes), notes)
    said: dict[str, None] = {}
    numbers = picture.numbers if picture.colours else numbered(picture.numbers, said)
    if picture.opaque is not None and not picture.colours:
        numbers = without_transparent(numbers, picture.opaque, said)
    values = unmixed(numbers, picture.colours, said)
    if picture.opaque is not None and len(np.unique(values)) > MAX_OBJECTS + 1:  # a photo, cut out
        return _of_one(fitted(picture.opaque, WHAT, photo, notes), notes)
    notes |= said
    return _of_colours(values, photo, notes) if picture.colours else _of_ids(values, photo, notes)


def _of_ids(
    values: Integer[np.ndarray, "h w"] | Bool[np.ndarray, "h w"], photo: UprightPhoto, notes: dict[str, None]
) -> Masks:
    if values.dtype == bool:
        return _of_one(fitted(values, WHAT, photo, notes), notes)
    values = unstretched(values, notes)
    drawn = distinct(values)
    ids = fitted(values, WHAT, photo, notes).astype(np.uint16)
    if BACKGROUND in drawn and len(drawn) == 2 and max(drawn) in ONE_VALUE:
        return _of_one(ids != BACKGROUND, notes)
    _check_left([value for value in drawn if value not in (BACKGROUND, UNKNOWN)], ids, notes)
    ids = with_background(ids, notes)
    in_pieces(ids, {}, notes)
    return Masks(ids)


def _of_colours(values: Integer[np.ndarray, "h w"], photo: UprightPhoto, notes: dict[str, None]) -> Masks:
    drawn = distinct(values)
    small = fitted(values, WHAT, photo, notes)
    background = background_value(values)
    if background:
        notes[
            f"masks: the colour {_hexadecimal(background)} has nearly the whole border of the picture, so it is the background"
        ] = None
    objects = [value for value in drawn if value != background]
    known = np.array([background, *objects], dtype=np.uint32)
    order = np.argsort(known)
    ids = order[np.searchsorted(known, small, sorter=order)].astype(np.uint16)
    _check_left(range(1, len(known)), ids, notes)
    if len(objects) == 1:
        return _of_one(ids != BACKGROUND, notes)
    in_pieces(ids, {}, notes)
    return Masks(ids)


def _of_one(mask: Bool[np.ndarray, "h w"], notes: dict[str, None]) -> Masks:
    return merged([Layer.of("the mask", "", mask)], notes)


def _hexadecimal(colour: int) -> str:
    return f"#{colour & 255:02x}{colour >> 8 & 255:02x}{colour >> 16:02x}"


def _check_left(expected: Sequence[int], ids: UInt16[np.ndarray, "h w"], notes: dict[str, None]) -> None:
    """Says which objects are too small for the working size.

    Raises:
        InputError: if all are.
    """
    lost = sorted(set(expected) - set(np.unique(ids).tolist()))
    if len(lost) == len(expected):
        raise InputError("`masks` has no object with a pixel left at working size. Mark at least one larger object.")
    if lost:
        notes[f"masks: at working size no pixel is left of object {', '.join(map(str, lost))}"] = None
