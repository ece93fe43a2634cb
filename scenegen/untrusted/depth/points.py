"""Maps of points: z-depth, and the camera that sees each point at its pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from scenegen.errors import InputError

WHAT = "`depth`"
FITS = 0.98
"""Share of the variance of pixels that a pinhole camera must explain."""
FEWEST = 100
"""Points."""
SAMPLE = 20_000


@dataclass(frozen=True)
class PointCamera:
    """In pixels of the map; the centre of the top-left pixel is (0.5, 0.5)."""

    fx: float
    fy: float
    cx: float
    cy: float


def depth_of_points(points: Float32[np.ndarray, "h w 3"]) -> tuple[Float32[np.ndarray, "h w"], PointCamera]:
    """The z-depth of a map of points in the camera's frame, whichever way its axes point, and the camera.

    Raises:
        InputError: if no pinhole camera sees the points at their pixels.
    """
    z = points[..., 2]
    with np.errstate(invalid="ignore"):
        if np.nanmedian(np.where(z == 0, np.nan, z)) < 0:  # OpenGL's axes
            z = -z
    known = np.isfinite(points).all(axis=-1) & (z > 0)
    rows, columns = np.nonzero(known)
    if len(rows) < FEWEST:
        raise InputError(f"{WHAT} has three values for each pixel, of which {len(rows)} are points before a camera.")
    step = max(1, len(rows) // SAMPLE)
    rows, columns = rows[::step], columns[::step]
    focals, centres = [], []
    for axis, pixels in ((0, columns + 0.5), (1, rows + 0.5)):
        slope = points[rows, columns, axis].astype(np.float64) / z[rows, columns]
        varies = float(np.std(slope)) > 1e-6
        focal, centre = np.polyfit(slope, pixels, 1) if varies else (0.0, 0.0)
        off = pixels - focal * slope - centre
        if not varies or np.var(off) > (1 - FITS) * np.var(pixels):
            raise InputError(
                f"{WHAT} has three different values for each pixel, which are no points that a camera sees there: it looks like "
                "a picture. Give the channel of the depth alone."
            )
        focals.append(abs(float(focal)))
        centres.append(float(centre))
    return np.where(known, z, np.float32(0)).astype(np.float32), PointCamera(*focals, *centres)
