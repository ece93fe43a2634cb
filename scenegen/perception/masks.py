"""Id pictures made fit for the later stages, whatever segmenter they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, UInt8, UInt16
from scipy import ndimage
from skimage.segmentation import watershed

SPECK_SHARE = 0.01
"""A component below this share of its object is a stray speck; a hole below it is a tiny one."""


@dataclass(frozen=True)
class Masks:
    """Objects that are fit for the later stages."""

    ids: UInt16[np.ndarray, "h w"]
    """Id of the object each pixel shows, 0 for none."""
    dropped: tuple[int, ...]
    """Ids of the objects that were too small."""


def clean_masks(ids: UInt16[np.ndarray, "h w"], min_area: int) -> Masks:
    """Drops stray specks, then objects below `min_area` pixels, then closes tiny holes. Ids stay as they are.

    A hole is closed only where it shows no other object.
    """
    clean = ids.copy()
    for number, window in _windows(ids):
        clean[window][_specks(ids[window] == number)] = 0
    areas = np.bincount(clean.ravel(), minlength=int(ids.max()) + 1)
    small = (areas < min_area) & (np.bincount(ids.ravel()) > 0)
    small[0] = False
    clean[small[clean]] = 0
    for number, window in _windows(clean):
        view = clean[window]
        view[_tiny_holes(view == number) & (view == 0)] = number
    return Masks(clean, tuple(np.flatnonzero(small).tolist()))


def renumbered(ids: UInt16[np.ndarray, "h w"]) -> tuple[UInt16[np.ndarray, "h w"], tuple[int, ...]]:
    """The id picture with ids 1..n in the old order, and the old id of each."""
    present = np.unique(ids[ids > 0])
    table = np.zeros(int(ids.max()) + 1, dtype=np.uint16)
    table[present] = np.arange(1, len(present) + 1)
    return table[ids], tuple(present.tolist())


def alpha_components(alpha: UInt8[np.ndarray, "h w"], max_objects: int) -> UInt16[np.ndarray, "h w"]:
    """The connected parts of what is more than half opaque (`alpha` above 127), as ids 1..n, the largest first.

    Parts beyond the `max_objects` largest are left out.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats((alpha > 127).astype(np.uint8), connectivity=8)
    largest = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:max_objects]
    table = np.zeros(len(stats), dtype=np.uint16)
    table[largest] = np.arange(1, len(largest) + 1)
    return table[labels]


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
    """Every id present, with its bounding box."""
    for index, window in enumerate(ndimage.find_objects(ids)):
        if window is not None:
            yield index + 1, window


def _specks(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    stray = stats[:, cv2.CC_STAT_AREA] < SPECK_SHARE * np.count_nonzero(mask)
    stray[0] = False
    return stray[labels]


def _tiny_holes(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Parts of the background below the share of a speck that the object surrounds."""
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    tiny = stats[:, cv2.CC_STAT_AREA] < SPECK_SHARE * np.count_nonzero(mask)
    tiny[[0, labels[0, 0]]] = False
    return tiny[labels][1:-1, 1:-1]
