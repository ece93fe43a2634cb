"""Prepares id pictures of any segmenter for the later stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, UInt8, UInt16
from scipy import ndimage
from skimage.segmentation import watershed

from scenegen.ids import BACKGROUND, UNKNOWN, object_ids, shows_object

SPECK_SHARE = 0.06
"""A component below this share of its object is a stray speck: in photographs, mostly a bit of something else, which would float
beside it."""
HOLE_SHARE = 0.01
"""A hole below this share is a tiny one."""
MIN_DRAWN_AREA = 64
"""Smallest object, in pixels, that somebody can draw or point at: smaller ones have no shape."""
NOTHING_FOUND = (
    "no object was found, so the scene has a background only; give --masks, or try another segmenter, "
    "for example with --preset pixal3d."
)
HALF = 127
"""Alpha up to which a pixel counts as transparent."""


@dataclass(frozen=True, eq=False)
class Masks:
    """Objects that the later stages can use."""

    ids: UInt16[np.ndarray, "h w"]
    dropped: tuple[int, ...]
    """Ids of the objects that were too small."""


def clean_masks(ids: UInt16[np.ndarray, "h w"], min_area: int) -> Masks:
    """Drops stray specks, then objects below `min_area` pixels, then closes tiny holes. Ids stay as they are.

    What is dropped becomes unknown. A hole is closed only if it shows no other object.
    """
    clean = ids.copy()
    for number, window in _windows(ids):
        clean[window][_specks(ids[window] == number)] = UNKNOWN
    clean = without_small(clean, min_area).ids
    for number, window in _windows(clean):
        view = clean[window]
        view[_tiny_holes(view == number) & ~shows_object(view)] = number
    return Masks(clean, tuple(sorted(set(object_ids(ids)) - set(object_ids(clean)))))


def without_small(ids: UInt16[np.ndarray, "h w"], min_area: int) -> Masks:
    """Drops the objects below `min_area` pixels, which become unknown; leaves all others as they are."""
    small = tuple(number for number, _, area in boxes_and_areas(ids) if area < min_area)
    return Masks(np.where(np.isin(ids, small), np.uint16(UNKNOWN), ids), small)


def renumbered(ids: UInt16[np.ndarray, "h w"]) -> tuple[UInt16[np.ndarray, "h w"], tuple[int, ...]]:
    """The id picture with ids 1..n in the old order, and the old id of each."""
    present = object_ids(ids)
    table = np.zeros(UNKNOWN + 1, dtype=np.uint16)
    table[UNKNOWN] = UNKNOWN
    table[present] = np.arange(1, len(present) + 1)
    return table[ids], tuple(present)


def alpha_components(alpha: UInt8[np.ndarray, "h w"], max_objects: int) -> UInt16[np.ndarray, "h w"]:
    """The connected parts of what is more than half opaque, as ids 1..n, the largest first.

    Parts beyond the `max_objects` largest are unknown.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats((alpha > HALF).astype(np.uint8), connectivity=8)
    largest = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:max_objects]
    table = np.full(len(stats), UNKNOWN, dtype=np.uint16)
    table[0] = BACKGROUND
    table[largest] = np.arange(1, len(largest) + 1)
    return table[labels]


def without_transparent(ids: UInt16[np.ndarray, "h w"], alpha: UInt8[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
    """The id picture in which transparent pixels are unknown rather than background: they show nothing that lies there."""
    return np.where((ids == BACKGROUND) & (alpha <= HALF), np.uint16(UNKNOWN), ids)


def paint(masks: Bool[np.ndarray, "n h w"]) -> tuple[UInt16[np.ndarray, "h w"], list[int]]:
    """One id per pixel, smaller masks on top.

    Returns:
        The ids, 1..m in the order of `masks`, and the index in `masks` of each. Masks that are completely hidden have no
        id.
    """
    count = len(masks)
    top = np.full(masks.shape[1:], count)
    for index in np.argsort(-masks.sum((1, 2)), kind="stable"):
        top[masks[index]] = index
    order = [index for index in np.unique(top).tolist() if index < count]
    number = np.zeros(count + 1, np.uint16)
    number[order] = np.arange(1, len(order) + 1)
    return number[top], order


def snap_to_edges(
    image: UInt8[np.ndarray, "h w 3"], ids: UInt16[np.ndarray, "h w"], reach: int
) -> UInt16[np.ndarray, "h w"]:
    """Moves the outlines of `ids` by up to `reach` pixels, to where `image` has its strongest edge (watershed).

    An object too thin to keep a core at that reach stays as it is.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    band = cv2.morphologyEx(ids, cv2.MORPH_GRADIENT, kernel) > 0
    band &= np.isin(ids, ids[~band])
    step = np.ones((3, 3), dtype=np.uint8)
    edges = cv2.morphologyEx(cv2.GaussianBlur(image, (0, 0), 1.0), cv2.MORPH_GRADIENT, step).max(axis=-1)
    # Markers are needed only along the band; 0 is none, so ids are raised by one.
    markers = np.where(band, 0, ids.astype(np.int32) + 1)
    flooded = watershed(edges, markers, mask=cv2.dilate(band.astype(np.uint8), step) > 0)
    return np.where(flooded > 0, flooded - 1, ids).astype(np.uint16)


def boxes_and_areas(ids: UInt16[np.ndarray, "h w"]) -> Iterator[tuple[int, tuple[int, int, int, int], int]]:
    """Id, tight box (x0, y0, x1, y1, the latter two exclusive) and area in pixels of every object, by id."""
    for number, (rows, columns) in _windows(ids):
        area = int(np.count_nonzero(ids[rows, columns] == number))
        yield number, (columns.start, rows.start, columns.stop, rows.stop), area


def _windows(ids: UInt16[np.ndarray, "h w"]) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """Every object present, with its bounding box."""
    for index, window in enumerate(ndimage.find_objects(np.where(shows_object(ids), ids, BACKGROUND))):
        if window is not None:
            yield index + 1, window


def _specks(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    stray = stats[:, cv2.CC_STAT_AREA] < SPECK_SHARE * np.count_nonzero(mask)
    stray[0] = False
    return stray[labels]


def _tiny_holes(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Small parts of the background that the object surrounds."""
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    tiny = stats[:, cv2.CC_STAT_AREA] < HOLE_SHARE * np.count_nonzero(mask)
    tiny[[0, labels[0, 0]]] = False
    return tiny[labels][1:-1, 1:-1]
