"""COCO's run lengths: how many pixels, column by column, are off, on, off and so on, as numbers or as compressed text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

MOST_GROUPS = 7
"""Groups of five bits in a number: more than any picture needs."""


def mask_of_runs(counts: str | bytes | Sequence[int], height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """The mask that run lengths describe.

    Raises:
        ValueError: if they do not fill the picture exactly.

    >>> mask_of_runs([1, 2, 3], 2, 3).astype(int).tolist()
    [[0, 1, 0], [1, 0, 0]]
    """
    runs = np.array(unpacked(counts) if isinstance(counts, str | bytes) else counts, dtype=np.int64).reshape(-1)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"its runs cover {runs.sum()} pixels of {height * width}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def unpacked(text: str | bytes) -> list[int]:
    """The numbers of a compressed text: groups of five bits from `0` on, the last with its sign, each number from the third on
    as the difference from the one before the last.

    Raises:
        ValueError: if the text is cut off or no such text.

    >>> unpacked("1242j0")
    [1, 2, 4, 4, 14]
    """
    codes = (text.encode() if isinstance(text, str) else text).translate(None, b" \n")
    counts: list[int] = []
    value = shift = 0
    for code in codes:
        group = code - 48
        if not 0 <= group < 64 or shift >= 5 * MOST_GROUPS:
            raise ValueError("its runs are no compressed run lengths")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            if group & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its runs are cut off")
    return counts
