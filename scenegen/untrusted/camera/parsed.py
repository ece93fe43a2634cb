"""A camera as a file states it, before it is fitted to the photo."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from scenegen.errors import InputError

CV_FROM_GL = np.diag([1.0, -1.0, -1.0, 1.0])
"""OpenCV's camera axes from OpenGL's, which NeRF, glTF and USD have."""


@dataclass(frozen=True, eq=False)
class ParsedCamera:
    """A pinhole camera, in pixels of its own picture; the centre of the top-left pixel is (0.5, 0.5)."""

    fx: float
    fy: float
    cx: float
    cy: float
    size: tuple[int, int]
    """Width and height of the picture it was calibrated for."""
    distortion: tuple[float, ...] = ()
    """OpenCV's k1, k2, p1, p2, k3; empty for none."""
    world_from_camera: Float64[np.ndarray, "4 4"] | None = None
    """OpenCV axes, in whatever world and unit the file has; None if it does not say."""
    notes: tuple[str, ...] = ()
    """What was chosen in the file, where it leaves a choice."""


def unscaled(matrix: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """A pose without the scale of the nodes above a camera, which does not change what it sees."""
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if not lengths.all():
        raise ValueError("its pose has an axis of no length")
    return np.asarray(matrix / np.append(lengths, 1.0))


def centred(size: tuple[int, int], fov: float, side: int | None = None) -> ParsedCamera:
    """A camera with square pixels that looks through the middle of its picture.

    Args:
        size: width and height.
        fov: field of view in radians.
        side: the length that it spans; the width if None.

    Raises:
        InputError: if no pinhole camera has this field of view.
    """
    width, height = size
    if not 0 < fov < math.pi:
        raise InputError(
            f"`camera` has a field of view of {math.degrees(fov):g} degrees; allowed: above 0 and below 180."
        )
    focal = (side or width) / 2 / math.tan(fov / 2)
    return ParsedCamera(focal, focal, width / 2, height / 2, size)
