"""Edits of id pictures. None changes its arguments; pixels that an object loses are unknown, not background."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt16
from scipy import ndimage

from scenegen.ids import UNKNOWN


def redrawn(ids: UInt16[np.ndarray, "h w"], number: int, mask: Bool[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
    """The picture in which `mask`, and nothing else, shows object `number`.

    Examples:
        >>> ids = np.array([[1, 1, 2, 0]], np.uint16)
        >>> redrawn(ids, 1, np.array([[False, True, True, False]])).tolist()
        [[65535, 1, 1, 0]]
    """
    return np.where(mask, np.uint16(number), renumbered(ids, [number], UNKNOWN))


def renumbered(ids: UInt16[np.ndarray, "h w"], numbers: Sequence[int], becomes: int) -> UInt16[np.ndarray, "h w"]:
    """The picture in which the pixels of some objects show something else.

    Examples:
        >>> renumbered(np.array([[1, 2, 3, 0]], np.uint16), [2, 3], 1).tolist()
        [[1, 1, 1, 0]]
    """
    return np.where(np.isin(ids, numbers), np.uint16(becomes), ids)


def filled(ids: UInt16[np.ndarray, "h w"], number: int, at: tuple[float, float] | None) -> UInt16[np.ndarray, "h w"]:
    """The picture in which what object `number` encloses shows it.

    Args:
        ids: the picture.
        number: the object.
        at: u and v, pixels, in the one hole that is filled; None for every hole.

    Examples:
        >>> ids = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint16)
        >>> filled(ids, 1, None)[1].tolist()
        [1, 1, 1]
    """
    holes = ndimage.binary_fill_holes(ids == number) & (ids != number)
    if at is not None:
        labels, _ = ndimage.label(holes)
        chosen = labels[int(at[1]), int(at[0])]
        holes = (labels == chosen) & (chosen > 0)
    return np.where(holes, np.uint16(number), ids)


def split(
    ids: UInt16[np.ndarray, "h w"], number: int, part: int, start: tuple[float, float], end: tuple[float, float]
) -> UInt16[np.ndarray, "h w"]:
    """The picture in which what object `number` shows to the left of a line shows object `part`.

    Args:
        ids: the picture.
        number: the object.
        part: the new one.
        start: u and v, pixels, where the line begins: left is as one goes from here to `end`.
        end: of the line, which goes on beyond it.

    Examples:
        >>> split(np.ones((1, 4), np.uint16), 1, 2, (2, 1), (2, 0)).tolist()
        [[2, 2, 1, 1]]
    """
    rows, columns = np.indices(ids.shape) + 0.5
    across, down = end[0] - start[0], end[1] - start[1]
    left = across * (rows - start[1]) - down * (columns - start[0]) < 0
    return np.where(left & (ids == number), np.uint16(part), ids)
