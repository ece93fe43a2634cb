"""Cameras written as numbers: `fx fy cx cy`, with width and height before or after, or the matrix K."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scenegen.errors import InputError
from scenegen.untrusted.camera.parsed import ParsedCamera
from scenegen.untrusted.fit import same_shape

K_SIZES = (9, 12, 16)
"""Numbers of the matrix K: 3x3, 3x4 or 4x4."""


def from_numbers(values: Sequence[float], size: tuple[int, int]) -> ParsedCamera:
    """A camera from its numbers.

    Args:
        values: `fx fy cx cy`; the same with `width height` after or before them; or K, row by row, of 3x3, 3x4 or 4x4 numbers.
        size: of the picture, where the numbers do not say.

    Raises:
        InputError: for another number of numbers.
    """
    if len(values) in K_SIZES:
        return from_matrix(np.reshape(values, (-1, 3 if len(values) == 9 else 4))[:3, :3].tolist(), size)
    if len(values) not in (4, 6):
        raise InputError(
            f"`camera` has {len(values)} numbers; allowed: fx fy cx cy, the same and width height, or the matrix K."
        )
    if (
        len(values) == 6
        and same_shape((round(values[0]), round(values[1])), size)
        and max(values[4:]) < max(values[:2])
    ):
        values = [*values[2:], *values[:2]]
    fx, fy, cx, cy = values[:4]
    return _in_pixels(fx, fy, cx, cy, (int(values[4]), int(values[5])) if len(values) == 6 else size)


def from_matrix(rows: Sequence[Sequence[float]], size: tuple[int, int]) -> ParsedCamera:
    """A camera from K, row by row or column by column."""
    matrix = np.array(rows, float)
    if not matrix[:2, 2].any() and matrix[2, :2].any():
        matrix = matrix.T
    (fx, skew, cx), (_, fy, cy) = matrix[:2].tolist()
    if abs(skew) > 1e-3 * abs(fx):
        raise InputError(f"`camera` has the skew {skew:g}; allowed: 0. Rectify the photo first.")
    return _in_pixels(fx, fy, cx, cy, size)


def _in_pixels(fx: float, fy: float, cx: float, cy: float, size: tuple[int, int]) -> ParsedCamera:
    """Focal lengths below 20 pixels are shares of width and height, as MoGe writes them, and so is the principal point."""
    if max(abs(fx), abs(fy)) < 20 and 0 < cx < 1 and 0 < cy < 1:
        width, height = size
        return ParsedCamera(fx * width, fy * height, cx * width, cy * height, size)
    return ParsedCamera(fx, fy, cx, cy, size)
