"""A depth map as its file holds it, before it is known what its values are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Num

Kind = Literal["auto", "z", "distance", "disparity", "inverse", "relative", "points"]
"""What the values of a depth map are (docs/inputs.md)."""


@dataclass(frozen=True, eq=False)
class RawDepth:
    """The values of a file, and what it says about them."""

    values: Float32[np.ndarray, "h w"] | Float32[np.ndarray, "h w 3"]
    kind: Kind = "auto"
    """As far as names in the file say; `points` if there are three different values for each pixel."""
    top: int | None = None
    """The largest value of the file's integers, which often means that nothing is known."""
    unit_m: float | None = 1.0
    """Metres per unit, unless the user says; None if such files have none."""
    valid: Bool[np.ndarray, "h w"] | None = None
    """Where the file says that the values hold."""
    notes: tuple[str, ...] = ()
    """What was chosen in the file, where it has several."""


def as_float32(values: Num[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """The values as float32; values that are too large become infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float32)
