"""A camera as a file states it, before it is fitted to the photo."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

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


def centred(size: tuple[int, int], fov_x: float) -> ParsedCamera:
    """A camera with square pixels that looks through the middle of its picture, by its horizontal field of view in radians."""
    width, height = size
    focal = width / 2 / math.tan(fov_x / 2)
    return ParsedCamera(focal, focal, width / 2, height / 2, size)
