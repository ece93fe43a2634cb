"""Id pictures made fit for the later stages, whatever segmenter they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Integer, UInt8, UInt16
from scipy import ndimage

MIN_SPECK_SHARE = 0.01
"""A component below this share of its object is a stray speck; a hole below it is a tiny one."""

NAMED_IDS = 10
"""How many ids a warning lists."""


@dataclass(frozen=True)
class Masks:
    """Objects that are fit for the later stages."""

    ids: UInt16[np.ndarray, "h w"]
    """Id of the object each pixel shows, 0 for none."""
    kept: tuple[int, ...]
    """The ids that are left, ascending."""
    warnings: tuple[str, ...]


def clean_masks(ids: Integer[np.ndarray, "h w"], min_area: int) -> Masks:
    """Drops stray specks, then objects below `min_area` pixels, then closes tiny holes. Ids stay as they are.

    A hole is closed only where it shows no other object.

    Args:
        ids: id of the object each pixel shows, 0 for none, below 65536.
        min_area: smallest object, in pixels.
    """
    clean = ids.astype(np.uint16)
    for number, window in _windows(clean):
        view = clean[window]
        view[_specks(view == number)] = 0
    areas = np.bincount(clean.ravel())
    present = np.unique(ids[ids > 0])
    small = [int(number) for number in present if number >= len(areas) or areas[number] < min_area]
    clean[np.isin(clean, small)] = 0
    for number, window in _windows(clean):
        view = clean[window]
        view[_tiny_holes(view == number) & (view == 0)] = number
    kept = tuple(int(number) for number in np.unique(clean[clean > 0]))
    return Masks(clean, kept, (_dropped(small, min_area),) if small else ())


def renumbered(masks: Masks) -> UInt16[np.ndarray, "h w"]:
    """The id picture with ids 1..n, in the order of `masks.kept`."""
    table = np.zeros(int(masks.ids.max(initial=0)) + 1, dtype=np.uint16)
    table[list(masks.kept)] = np.arange(1, len(masks.kept) + 1)
    return table[masks.ids]


def alpha_components(alpha: UInt8[np.ndarray, "h w"], min_area: int, max_objects: int) -> Masks:
    """The connected parts of what is more than half opaque, as objects 1..n, the largest first.

    Args:
        alpha: opacity, 0..255.
        min_area: smallest object, in pixels.
        max_objects: most objects; smaller ones beyond that are dropped with a warning.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats((alpha > 127).astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    order = np.argsort(-areas, kind="stable")
    large = order[areas[order] >= min_area]
    table = np.zeros(len(stats), dtype=np.uint16)
    table[large[:max_objects] + 1] = np.arange(1, len(large[:max_objects]) + 1)
    warnings = []
    if len(large) < len(areas):
        warnings.append(f"{len(areas) - len(large)} opaque part(s) below {min_area} pixels were dropped.")
    if len(large) > max_objects:
        warnings.append(f"{len(large) - max_objects} opaque part(s) beyond `max_objects` ({max_objects}) were dropped.")
    masks = clean_masks(table[labels], min_area)
    return Masks(masks.ids, masks.kept, (*warnings, *masks.warnings))


def snap_to_edges(
    image: UInt8[np.ndarray, "h w 3"], ids: UInt16[np.ndarray, "h w"], reach: int
) -> UInt16[np.ndarray, "h w"]:
    """Moves the outlines of `ids` by up to `reach` pixels, to where `image` has its strongest edge (watershed).

    An object too thin to keep a core at that reach stays as it is.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    band = cv2.morphologyEx(ids, cv2.MORPH_GRADIENT, kernel) > 0
    band &= np.isin(ids, ids[~band])
    markers = np.where(band, 0, ids.astype(np.int32) + 1)
    cv2.watershed(image, markers)
    return np.where(markers > 0, markers - 1, ids).astype(np.uint16)


def boxes_and_areas(masks: Masks) -> Iterator[tuple[int, tuple[int, int, int, int], int]]:
    """Id, tight box (x0, y0, x1, y1, the latter two exclusive) and area in pixels of every object, by id."""
    for number, (rows, columns) in _windows(masks.ids):
        area = int(np.count_nonzero(masks.ids[rows, columns] == number))
        yield number, (columns.start, rows.start, columns.stop, rows.stop), area


def _windows(ids: UInt16[np.ndarray, "h w"]) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """Every id present, with its bounding box."""
    for index, window in enumerate(ndimage.find_objects(ids)):
        if window is not None:
            yield index + 1, window


def _specks(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    stray = stats[:, cv2.CC_STAT_AREA] < MIN_SPECK_SHARE * np.count_nonzero(mask)
    stray[0] = False
    return stray[labels]


def _tiny_holes(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Parts of the background below the share of a speck that the object surrounds."""
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    tiny = stats[:, cv2.CC_STAT_AREA] < MIN_SPECK_SHARE * np.count_nonzero(mask)
    tiny[[0, labels[0, 0]]] = False
    return tiny[labels][1:-1, 1:-1]


def _dropped(small: list[int], min_area: int) -> str:
    named = ", ".join(str(number) for number in small[:NAMED_IDS])
    more = f" and {len(small) - NAMED_IDS} more" if len(small) > NAMED_IDS else ""
    return f"{len(small)} object(s) below {min_area} pixels were dropped (id {named}{more})."
