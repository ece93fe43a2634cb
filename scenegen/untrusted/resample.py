"""Nearest-neighbour resampling, for values that must not mix."""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped


def nearest(values: Shaped[np.ndarray, "h w"], size: tuple[int, int]) -> Shaped[np.ndarray, "h2 w2"]:
    """The picture at `size` (width, height): each pixel takes the one value under its centre."""
    height, width = values.shape
    rows = ((np.arange(size[1]) + 0.5) * (height / size[1])).astype(np.intp)
    columns = ((np.arange(size[0]) + 0.5) * (width / size[0])).astype(np.intp)
    return np.asarray(values[np.ix_(rows, columns)])
