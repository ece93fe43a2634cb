"""Depth in `.npy` and `.npz`, as Depth Anything 3, MoGe and numpy's users write it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Num, Shaped

from scenegen.errors import InputError
from scenegen.untrusted.arrays import read_npy, read_npz, without_single_axes
from scenegen.untrusted.depth.raw import Kind, RawDepth, as_float32

WHAT = "`depth`"
KEYS: dict[str, Kind] = {
    "depth": "auto",
    "metric_depth": "auto",
    "depth_pred": "auto",
    "z": "z",
    "distance": "distance",
    "points": "points",
    "point_map": "points",
    "pointmap": "points",
    "pts3d": "points",
    "disparity": "disparity",
    "disp": "disparity",
    "inverse_depth": "inverse",
    "inv_depth": "inverse",
    "arr_0": "auto",
}
"""Names of arrays in an archive, and what they hold; the first that is there counts."""
VALID = ("mask", "valid", "valid_mask")

CheckSize = Callable[[int, int], None]


def read_arrays(path: Path, max_pixels: int, check_size: CheckSize) -> RawDepth:
    """The depth of a file.

    Raises:
        InputError: if it holds none.
    """
    if path.suffix == ".npy":
        return _raw(read_npy(path, WHAT), "auto", check_size)
    arrays = read_npz(path, WHAT, max_pixels)
    numbers = {name: array for name, array in arrays.items() if array.dtype.kind in "fiu" and array.ndim >= 2}
    name = next((name for name in KEYS if name in numbers), None)
    if name is None and len(numbers) != 1:
        listed = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
        raise InputError(f"{WHAT} holds {listed}; looked for one of {', '.join(KEYS)}.")
    name = name or next(iter(numbers))
    raw = _raw(numbers[name], KEYS.get(name, "auto"), check_size)
    given = next((without_single_axes(arrays[key]) for key in VALID if key in arrays), None)
    shape = raw.values.shape[:2]
    valid = np.asarray(given) != 0 if given is not None and given.shape == shape else None
    return RawDepth(raw.values, raw.kind, raw.top, raw.unit_m, valid)


def _raw(values: Shaped[np.ndarray, "..."], kind: Kind, check_size: CheckSize) -> RawDepth:
    """A picture of numbers, or of points, the axes of which come first or last."""
    shape, dtype = values.shape, values.dtype
    if dtype.kind in "fiu":
        values = without_single_axes(values)
        if values.ndim == 3 and values.shape[0] == 3 and values.shape[2] != 3:
            values = np.moveaxis(values, 0, 2)
        if values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 3):
            check_size(values.shape[1], values.shape[0])
            return RawDepth(as_float32(_plain(values)), "points" if values.ndim == 3 else kind, _top(values))
    raise InputError(
        f"{WHAT} is an array of {dtype} with shape {shape}; allowed: floats or integers, one (height, width) or three "
        "(height, width, 3) for each pixel. Of several pictures, save the one of this photo."
    )


def _plain(values: Num[np.ndarray, "..."]) -> Num[np.ndarray, "..."]:
    return np.ascontiguousarray(values)


def _top(values: Num[np.ndarray, "..."]) -> int | None:
    return int(np.iinfo(values.dtype).max) if values.dtype.kind in "iu" and values.dtype.itemsize <= 2 else None
