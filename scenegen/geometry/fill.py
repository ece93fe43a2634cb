"""Pictures with holes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Shaped
from scipy import ndimage


def nearest_known(values: Shaped[np.ndarray, "h w *c"], known: Bool[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h w *c"]:
    """`values` where `known`, elsewhere those of the nearest known pixel. At least one pixel must be known."""
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return values[nearest[0], nearest[1]]
