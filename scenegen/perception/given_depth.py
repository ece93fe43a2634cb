"""Depth that the user gave: z-depth from whatever its values are, and whether near and far look swapped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Shaped, UInt16
from scipy import ndimage

from scenegen.camera import rays
from scenegen.errors import InputError
from scenegen.ids import object_ids
from scenegen.perception import DepthEstimate
from scenegen.records import Intrinsics

UNCERTAINTY = 0.01
"""Relative error assumed for depth in metres: that of a good sensor."""
RELIEF_ERROR = 0.01
"""Its error across an object, as a share of the object's width."""
UNSCALED_UNCERTAINTY = 0.1
UNSCALED_RELIEF_ERROR = 0.06
"""The same for depth without a unit, which networks estimate."""
MIDDLE_M = 1.2
"""Where the middle of depth without a unit is put, if known sizes do not tell."""
NEAREST_SHARE = 0.05
"""Share of the largest value that the smallest has at least, if the values have no shift."""
FARTHEST = 10.0
"""Farthest over nearest depth taken for values with a shift."""

SIDE = 160
"""Pixels along the longer side that are looked at."""
RING = 0.08
"""Width of an object's surroundings, as a share of the longer side."""
FEWEST = 20
"""Pixels that say something."""
RISING = 0.4
"""Rank correlation of depth with the row. In 147 photographs and renders with true depth it is at most 0.14."""
BEHIND = -0.2
"""How much more of its surroundings is before an object than behind it, -1..1, over all objects. There it is at least 0.09."""
CONTRADICTS = 0.3
"""What of the other sign speaks against it."""


@dataclass(frozen=True)
class Order:
    """Which way depth goes."""

    rows: float
    """Rank correlation of the depth with the row, -1..1: negative if what is lower in the picture is nearer."""
    objects: float | None
    """How much more of their surroundings lies behind objects than before them, -1..1; None without objects."""

    @property
    def swapped(self) -> bool:
        """Whether near and far are swapped, as far as one can tell."""
        if self.objects is None:
            return self.rows > RISING
        return (self.rows > RISING and self.objects < CONTRADICTS) or (
            self.objects < BEHIND and self.rows > -CONTRADICTS
        )


def order(depth: Float32[np.ndarray, "h w"], ids: UInt16[np.ndarray, "h w"]) -> Order:
    """Which way the known depth goes, from the top of the picture to its bottom, and from objects to their surroundings."""
    step = max(1, max(depth.shape) // SIDE)
    z, objects = depth[::step, ::step], ids[::step, ::step]
    known = z > 0
    rows = np.nonzero(known)[0]
    varies = len(rows) >= FEWEST and np.ptp(rows) > 0 and np.ptp(z[known]) > 0
    falling = float(np.corrcoef(_ranks(rows), _ranks(z[known]))[0, 1]) if varies else 0.0
    reach = max(2, round(RING * max(z.shape)))
    found = []
    for number in object_ids(objects):
        mask = objects == number
        ring = ndimage.binary_dilation(mask, iterations=reach) & ~mask & known
        inner = mask & known
        if np.count_nonzero(ring) >= FEWEST and np.count_nonzero(inner) >= FEWEST:
            middle = np.median(z[inner])
            found.append(float((z[ring] > middle).mean() - (z[ring] < middle).mean()))
    return Order(falling, float(np.mean(found)) if found else None)


def _ranks(values: Shaped[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """From the smallest to the largest; those of equal values are their mean. To import scipy.stats for it takes a second."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def given_depth(
    values: Float32[np.ndarray, "h w"], kind: str, ids: UInt16[np.ndarray, "h w"], camera: Intrinsics
) -> DepthEstimate:
    """z-depth from a map of `kind` (`scenegen.untrusted.depth.raw.Kind`).

    Args:
        values: at working size, 0 where unknown; metres, or as `kind` says.
        kind: `auto` is z-depth, unless near and far look swapped.
        ids: the object each pixel shows.
        camera: the photo's.

    Raises:
        InputError: if near and far look swapped, and the user has not said what the values are.
    """
    known = values > 0
    if kind in ("disparity", "relative"):
        return _unscaled(values, known, kind)
    warnings: tuple[str, ...] = ()
    z = values
    if kind == "inverse":
        z = np.divide(1, values, out=np.zeros_like(values), where=known)
    elif kind == "distance":
        z = (values / np.linalg.norm(rays(camera), axis=-1)).astype(np.float32)
    found = order(z, ids)
    if found.swapped:
        objects = "" if found.objects is None else f", and objects are {_placed(found.objects)} what is around them"
        text = f"near and far look swapped: what is lower in the picture is {_lower(found.rows)}{objects}"
        if kind == "auto":
            raise InputError(
                f"`depth`: {text}. If near is large, as Depth Anything and MiDaS write it, give --depth-kind disparity; for "
                "1/metres, --depth-kind inverse; if it is right as it is, --depth-kind z."
            )
        warnings = (f"depth: {text}; it is taken as given, as {kind}.",)
    return DepthEstimate(
        depth=z,
        metric=True,
        uncertainty=UNCERTAINTY,
        relief_error=RELIEF_ERROR,
        backend="user depth",
        licence="none: no weights",
        warnings=warnings,
    )


def _lower(rows: float) -> str:
    return "farther" if rows > 0 else "nearer"


def _placed(objects: float) -> str:
    return "before" if objects > 0 else "behind"


def _unscaled(values: Float32[np.ndarray, "h w"], known: np.ndarray, kind: str) -> DepthEstimate:
    """z-depth without metres, its middle at `MIDDLE_M`.

    Where the smallest value is close to 0, the values have a shift: the farthest depth is then taken as `FARTHEST` times the
    nearest.
    """
    seen = values[known].astype(np.float64)
    low, high = seen.min(), seen.max()
    if low < NEAREST_SHARE * high:
        ends = (1 / FARTHEST, 1.0) if kind == "disparity" else (1.0, FARTHEST)
        seen = ends[0] + (seen - low) / (high - low) * (ends[1] - ends[0])
    z = 1 / seen if kind == "disparity" else seen
    depth = np.zeros_like(values)
    depth[known] = z * (MIDDLE_M / np.median(z))
    return DepthEstimate(
        depth=depth,
        metric=False,
        uncertainty=UNSCALED_UNCERTAINTY,
        relief_error=UNSCALED_RELIEF_ERROR,
        backend="user depth",
        licence="none: no weights",
        any_scale=True,
        assumption=f"the given depth has no unit: its middle is taken to be {MIDDLE_M:g} m away; name known objects, or give "
        "metres, for true ones.",
    )
