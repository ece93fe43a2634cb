"""The user's depth map: .npy and .exr in metres, or 16-bit PNG in units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Num

from scenegen.errors import InputError
from scenegen.untrusted.photo import UprightPhoto
from scenegen.untrusted.picture import open_picture, parsing
from scenegen.untrusted.resample import nearest

WHAT = "`depth`"
EXR_CHANNELS = ("Z", "depth", "Depth", "Y", "R")
"""The first of these channels that a file has is its depth."""
ASPECT_TOLERANCE = 0.01
MIN_KNOWN_SHARE = 0.01


def read_depth(
    path: Path, photo: UprightPhoto, *, max_pixels: int, png_unit_m: float
) -> tuple[Float32[np.ndarray, "h w"], list[str]]:
    """The z-depth of each pixel of the photo in metres, 0 where unknown, at working size; and warnings.

    Values that are NaN, infinite or not positive are unknown. Depths never mix: resampling is nearest.

    Args:
        path: `.npy` (two-dimensional, metres), `.exr` (metres; the first of `EXR_CHANNELS`) or `.png` (16-bit grey).
        photo: the photo of the depth map, which has its upright size, or another one of the same aspect ratio.
        max_pixels: larger maps are refused by their header.
        png_unit_m: metres per unit of a PNG.

    Raises:
        InputError: if the file is damaged or of another format, has too many pixels or another aspect ratio, or if a
            smaller share of its depth than `MIN_KNOWN_SHARE` is known.
    """
    if path.stat().st_size == 0:
        raise InputError(f"{WHAT} is an empty file. Copy or save it again.")
    if path.suffix == ".npy":
        values = _read_npy(path, photo, max_pixels)
    elif path.suffix == ".exr":
        values = _read_exr(path, photo, max_pixels)
    elif path.suffix == ".png":
        values = _read_png(path, photo, max_pixels) * np.float32(png_unit_m)
    else:
        raise InputError(f"{WHAT} is a {path.suffix or 'file without suffix'}; allowed: .npy, .exr and 16-bit .png.")
    height, width = values.shape
    warnings = []
    known = np.isfinite(values) & (values > 0)
    share = float(known.mean())
    if share < MIN_KNOWN_SHARE:
        raise InputError(
            f"{WHAT} is finite and positive at {share:.2%} of its pixels, but at least {MIN_KNOWN_SHARE:.0%} are needed. "
            "Give z-depth in metres."
        )
    if share < 1:
        warnings.append(
            f"depth: {100 * (1 - share):.2g}% of the map is NaN, infinite or not positive and counts as unknown"
        )
    if (width, height) != photo.size:
        warnings.append(f"depth: the map is {width}x{height} and the photo {photo.size[0]}x{photo.size[1]}; resampled")
    return nearest(np.where(known, values, np.float32(0)), photo.rgb.size), warnings


def _read_npy(path: Path, photo: UprightPhoto, max_pixels: int) -> Float32[np.ndarray, "h w"]:
    """A two-dimensional array of numbers."""
    with parsing(WHAT):
        # Mapping reads the header only, and refuses objects, so that nothing is unpickled.
        mapped = np.lib.format.open_memmap(path, mode="r")
    if mapped.ndim != 2 or mapped.dtype.kind not in "fiu":
        raise InputError(
            f"{WHAT} is an array of {mapped.dtype} with shape {mapped.shape}; allowed: floats or integers, "
            "two-dimensional (height, width)."
        )
    _check_size(mapped.shape[1], mapped.shape[0], photo, max_pixels)
    return _as_float32(mapped)


def _read_exr(path: Path, photo: UprightPhoto, max_pixels: int) -> Float32[np.ndarray, "h w"]:
    """The depth channel of the first part of an OpenEXR file."""
    import OpenEXR

    with parsing(WHAT), OpenEXR.File(str(path), separate_channels=True, header_only=True, num_threads=0) as file:
        header = file.header()
        kind = header["type"]
        (left, top), (right, bottom) = (map(int, corner) for corner in header["dataWindow"])
        channels = [channel.name for channel in header["channels"] if (channel.xSampling, channel.ySampling) == (1, 1)]
    if kind not in (OpenEXR.scanlineimage, OpenEXR.tiledimage):
        raise InputError(f"{WHAT} is a deep EXR ({kind}); flatten it to one depth per pixel.")
    channel = next((name for name in EXR_CHANNELS if name in channels), None)
    if channel is None:
        raise InputError(f"{WHAT} has the channels {', '.join(channels)}; allowed: one of {', '.join(EXR_CHANNELS)}.")
    _check_size(right - left + 1, bottom - top + 1, photo, max_pixels)
    with parsing(WHAT), OpenEXR.File(str(path), separate_channels=True, num_threads=0) as file:
        return _as_float32(file.channels()[channel].pixels)


def _read_png(path: Path, photo: UprightPhoto, max_pixels: int) -> Float32[np.ndarray, "h w"]:
    """The values of a 16-bit grey PNG."""
    with open_picture(path, WHAT, formats=("PNG",)) as picture:
        if picture.mode != "I;16":
            raise InputError(f"{WHAT} is a PNG of mode {picture.mode}; allowed: 16-bit grey (`I;16`).")
        _check_size(*picture.size, photo, max_pixels)
        with parsing(WHAT):
            picture.load()
        return _as_float32(np.asarray(picture))


def _check_size(width: int, height: int, photo: UprightPhoto, max_pixels: int) -> None:
    """Refuses a map that is too large or has another aspect ratio than the photo."""
    if width * height > max_pixels:
        raise InputError(
            f"{WHAT} is {width}x{height}, more than {max_pixels} pixels. Make it smaller, or raise `read.max_pixels`."
        )
    photo_width, photo_height = photo.size
    if abs(width * photo_height - height * photo_width) > ASPECT_TOLERANCE * height * photo_width or not height:
        raise InputError(
            f"{WHAT} is {width}x{height} and the photo {photo_width}x{photo_height}; allowed: the size of the upright "
            f"photo, or one whose aspect ratio differs by at most {ASPECT_TOLERANCE:.0%}."
        )


def _as_float32(values: Num[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """The values as float32; values that are too large become infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float32)
