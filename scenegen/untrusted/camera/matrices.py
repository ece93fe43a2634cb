"""Cameras written as numbers: `fx fy cx cy`, with width and height before or after, or the nine numbers of K."""

from __future__ import annotations

from collections.abc import Sequence

from scenegen.errors import InputError
from scenegen.untrusted.camera.parsed import ParsedCamera


def from_numbers(values: Sequence[float], size: tuple[int, int]) -> ParsedCamera:
    """A camera from four, six or nine numbers.

    Args:
        values: `fx fy cx cy`; the same with `width height` after them; or K, row by row.
        size: of the picture, where the numbers do not say.

    Raises:
        InputError: for another number of numbers.
    """
    if len(values) == 9:
        return from_matrix([values[:3], values[3:6], values[6:]], size)
    if len(values) not in (4, 6):
        raise InputError(
            f"`camera` has {len(values)} numbers; allowed: fx fy cx cy, the same and width height, or the nine of the matrix K."
        )
    fx, fy, cx, cy = values[:4]
    return ParsedCamera(fx, fy, cx, cy, (int(values[4]), int(values[5])) if len(values) == 6 else size)


def from_matrix(rows: Sequence[Sequence[float]], size: tuple[int, int]) -> ParsedCamera:
    """A camera from K. One whose focal length is below 20 pixels is in shares of width and height, as MoGe writes it."""
    (fx, skew, cx), (_, fy, cy) = rows[0], rows[1][:3]
    if abs(skew) > 1e-3 * abs(fx):
        raise InputError(f"`camera` has the skew {skew:g}; allowed: 0. Rectify the photo first.")
    if max(abs(fx), abs(fy)) < 20:
        width, height = size
        return ParsedCamera(fx * width, fy * height, cx * width, cy * height, size)
    return ParsedCamera(fx, fy, cx, cy, size)
