"""The rules for pictures of ids: smoothed edges, what is background, one value for several things."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Integer, Shaped, UInt16
from scipy import ndimage

from scenegen.errors import InputError
from scenegen.ids import BACKGROUND, UNKNOWN
from scenegen.untrusted.masks.layer import Masks

MAX_OBJECTS = 254
ROWS = 256
"""Rows checked at a time, to save memory."""
PLAIN_SHARE = 0.1
"""Share of a value's pixels that have it on all sides, from which on it is drawn rather than mixed."""
FEWEST_MIXED = 3
"""Values that lie between their neighbours only: so many, and the picture was smoothed."""
REACH = 13
"""Pixels across in which a mixed value has the values that it is mixed from."""
RINGING = 0.15
"""By how much of their difference a mixed value may lie beyond them."""
ONE_VALUE = (1, 255, UNKNOWN)
"""The value of a picture that says what is an object, but not which."""
IGNORED = 255
"""VOC and Cityscapes have it where they do not say, beside ids that count from 1."""
BORDER_SHARE = 0.9
"""Of the picture's border: a value that has so much of it is background, whatever it is."""
SURFACE_SHARE = 0.2
"""Of the picture's border: a value that has so much of it is floor, wall or sky, where no pixel is 0."""
FEWEST_GREYS = 64
"""Values of a mask with soft edges."""
PIECE_SHARE = 0.01
"""Below this share of what a value covers, a separate piece is a speck of the next one."""
SHOWN = 5
"""How many values a line names."""

EIGHT = np.ones((3, 3), dtype=bool)


def numbered(values: Integer[np.ndarray, "h w"], notes: dict[str, None]) -> UInt16[np.ndarray, "h w"]:
    """Ids of any size in 16 bits: those that do not fit are numbered from 1, in the order in which they appear.

    Raises:
        InputError: if they do not fit, and there are more than `MAX_OBJECTS`.
    """
    if not values.size or (values.min() >= 0 and values.max() <= UNKNOWN):
        return values.astype(np.uint16)
    notes[f"masks: ids beyond 0 to {UNKNOWN} are numbered from 1, in the order in which they appear"] = None
    order = np.array([0, *(value for value in distinct(values) if value != 0)], values.dtype)
    places = np.argsort(order)
    return places[np.searchsorted(order, values, sorter=places)].astype(np.uint16)


def without_transparent(
    values: UInt16[np.ndarray, "h w"], opaque: Bool[np.ndarray, "h w"], notes: dict[str, None]
) -> UInt16[np.ndarray, "h w"]:
    """Ids of a picture with 0 where it is transparent. An opaque 0 that has less of the border is an object."""
    black = opaque & (values == BACKGROUND)
    if not black.any() or border_share(black) > border_share(~opaque):
        return np.where(opaque, values, np.uint16(BACKGROUND))
    present = np.unique(values[opaque])
    free = next(number for number in range(1, UNKNOWN) if number not in present)
    notes[f"masks: what is transparent is background, and 0 is object {free}"] = None
    return np.where(opaque, np.where(black, np.uint16(free), values), np.uint16(BACKGROUND))


def unmixed(values: Integer[np.ndarray, "h w"], colours: bool, notes: dict[str, None]) -> Integer[np.ndarray, "h w"]:
    """A picture whose edges were smoothed, with the nearest plain value instead of each mixed one.

    A value is plain if enough of its pixels have it on all four sides. Another one is mixed if it mostly lies between the plain
    values around it.
    """
    same = np.ones(values.shape, dtype=bool)
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        same &= values == np.roll(values, step, axis)
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    inner = np.bincount(where.ravel(), weights=same.ravel())
    plain = (inner >= PLAIN_SHARE * counts)[where.reshape(values.shape)]
    if plain.all() or not plain.any():
        return values
    between, differing = np.ones(values.shape, dtype=bool), np.zeros(values.shape, dtype=bool)
    for shift in (0, 8, 16) if colours else (0,):
        channel = ((values >> shift) & 255 if colours else values).astype(np.int32)
        low = ndimage.minimum_filter(np.where(plain, channel, 1 << 20), REACH)
        high = ndimage.maximum_filter(np.where(plain, channel, -1), REACH)
        slack = RINGING * (high - low)
        between &= (channel >= low - slack) & (channel <= high + slack)
        differing |= high > low
    between &= differing
    odd, where = np.unique(values[~plain], return_inverse=True)
    share = np.bincount(where.ravel(), weights=between[~plain]) / np.bincount(where.ravel())
    mixed = np.isin(values, odd[share > 0.5])
    count = int(np.count_nonzero(share > 0.5))
    if count < FEWEST_MIXED:
        return values
    notes[
        f"masks: {count} values lie only along edges, between those beside them: the picture was smoothed, and each such pixel "
        "takes the nearest plain value; save masks without smoothing"
    ] = None
    rows, columns = ndimage.distance_transform_edt(mixed, return_distances=False, return_indices=True)
    return values[rows, columns]


def distinct(values: Integer[np.ndarray, "h w"]) -> list[int]:
    """The distinct values, in order of first appearance, row by row.

    Raises:
        InputError: if there are more than `MAX_OBJECTS` beside 0.
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
                f"`masks` has more than {MAX_OBJECTS} ids or colours. The usual cause is a photo, a depth map or a JPEG instead "
                "of masks: give a picture with one id or colour for each object, as PNG."
            )
    return list(seen)


def border_share(mask: Bool[np.ndarray, "h w"]) -> float:
    """The share of the picture's border that a mask has.

    >>> border_share(np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0]], bool))
    0.625
    """
    return float(_border(mask).mean())


def _border(values: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "n"]:
    return np.concatenate([values[0], values[-1], values[1:-1, 0], values[1:-1, -1]])


def background_value(values: Integer[np.ndarray, "h w"]) -> int:
    """The value that is background: 0, unless another one has nearly the whole border of the picture.

    Raises:
        InputError: if one value fills the picture.
    """
    if (values == values[0, 0]).all():
        raise InputError(
            f"`masks` has the same value everywhere ({values[0, 0]}). Mark each object with an id, and the rest with 0."
        )
    found, counts = np.unique(_border(values), return_counts=True)
    value = int(found[counts.argmax()])
    return value if value != UNKNOWN and counts.max() >= BORDER_SHARE * counts.sum() else BACKGROUND


def with_background(ids: UInt16[np.ndarray, "h w"], notes: dict[str, None]) -> UInt16[np.ndarray, "h w"]:
    """Ids with 0 for background and `UNKNOWN` for what a data set ignores, however the picture writes them.

    Raises:
        InputError: if one value fills the picture.
    """
    present = np.unique(ids)
    objects = [int(value) for value in present if value not in (BACKGROUND, IGNORED, UNKNOWN)]
    if IGNORED in present and objects and objects == list(range(1, len(objects) + 1)):
        notes["masks: 255 counts as unknown, as VOC and Cityscapes have it, because the other ids count from 1"] = None
        ids = np.where(ids == IGNORED, np.uint16(UNKNOWN), ids)
    value = background_value(ids)
    if value == BACKGROUND:
        whole = BACKGROUND not in present and UNKNOWN not in present
        return _without_surfaces(ids, objects, notes) if whole else ids
    free = next(number for number in range(1, UNKNOWN) if number not in present or number == value)
    named = f", and 0 is object {free}" if BACKGROUND in present else ""
    notes[f"masks: {value} has nearly the whole border of the picture, so it is the background{named}"] = None
    return np.where(ids == value, np.uint16(0), np.where(ids == BACKGROUND, np.uint16(free), ids))


def _without_surfaces(
    ids: UInt16[np.ndarray, "h w"], objects: Sequence[int], notes: dict[str, None]
) -> UInt16[np.ndarray, "h w"]:
    """Ids of a picture in which every pixel has one, with 0 for what has much of the border: floor, walls, sky."""
    surfaces = [value for value in objects if border_share(ids == value) >= SURFACE_SHARE]
    if not surfaces or len(surfaces) == len(objects):
        return ids
    listed = ", ".join(map(str, surfaces))
    notes[f"masks: no pixel is 0, so {listed} are background: they have much of the picture's border"] = None
    return np.where(np.isin(ids, surfaces), np.uint16(0), ids)


def matte(values: Integer[np.ndarray, "h w"], notes: dict[str, None]) -> Bool[np.ndarray, "h w"] | None:
    """What is more than half there in a grey picture of one object with soft edges; None for any other picture."""
    found, counts = np.unique(values, return_counts=True)
    if len(found) < FEWEST_GREYS or found[-1] != 255 or set(found[np.argsort(-counts)[:2]].tolist()) != {0, 255}:
        return None
    notes["masks: black and white with many greys between them: one mask with soft edges, cut at the middle"] = None
    return np.asarray(values > 127)


def unstretched(values: Integer[np.ndarray, "h w"], notes: dict[str, None]) -> Integer[np.ndarray, "h w"]:
    """Ids 1 to n that were stretched to 65535, as pictures are to be seen better, at their own values. Any other 65535 stays
    unknown."""
    present = np.unique(values)
    present = present[present > 0]
    count = len(present)
    if not count or present[-1] != UNKNOWN:
        return values
    steps = np.arange(1, count + 1) * (UNKNOWN / count)
    if count == 1 or (np.abs(present - steps) >= 1).any():
        if count > 1 and present[-2] > MAX_OBJECTS:
            notes["masks: 65535 counts as unknown, as in the masks.png of a scene"] = None
        return values
    notes[f"masks: the ids go up to 65535 in equal steps, so they were stretched; they are 1 to {count}"] = None
    return np.searchsorted(np.concatenate([[0], present]), values).astype(values.dtype)


def separated(mask: Bool[np.ndarray, "h w"], notes: dict[str, None]) -> Masks:
    """The things of one mask that do not touch, the largest first; specks belong to the nearest."""
    pieces, count = ndimage.label(mask, EIGHT)
    areas = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    large = np.flatnonzero(areas >= PIECE_SHARE * areas.sum()) + 1
    large = large[np.argsort(-areas[large - 1], kind="stable")][:MAX_OBJECTS]
    number = np.zeros(count + 1, np.uint16)
    number[large] = np.arange(1, len(large) + 1)
    ids = number[pieces]
    if count > len(large):
        rows, columns = ndimage.distance_transform_edt(ids == 0, return_distances=False, return_indices=True)
        ids = np.where(mask, ids[rows, columns], np.uint16(0))
    if len(large) > 1:
        notes[
            f"masks: one mask shows {len(large)} things that do not touch, and each is an object; give each object its "
            "own id or file to have them otherwise"
        ] = None
    return Masks(ids)


def in_pieces(ids: UInt16[np.ndarray, "h w"], names: dict[int, str], notes: dict[str, None]) -> None:
    """Says which objects are several things: large pieces that no other object, hiding what joins them, connects."""
    found = []
    taken = (ids != BACKGROUND) & (ids != UNKNOWN)
    for number, window in enumerate(ndimage.find_objects(np.where(taken, ids, 0)), start=1):
        if window is None:
            continue
        mask = ids[window] == number
        pieces, count = ndimage.label(mask, EIGHT)
        areas = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
        large = np.flatnonzero(areas >= 5 * PIECE_SHARE * areas.sum()) + 1
        if len(large) < 2:
            continue
        joined, _ = ndimage.label(mask | (taken[window] & ~mask), EIGHT)
        if len({int(joined[pieces == piece][0]) for piece in large}) > 1:
            found.append(names.get(number, str(number)))
    if found:
        more = ", ..." if len(found) > SHOWN else ""
        notes[
            f"masks: object {', '.join(found[:SHOWN])}{more} is in separate pieces, and no other object hides what joins them; "
            "if they are several things, give each its own id"
        ] = None
