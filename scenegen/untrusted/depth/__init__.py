"""The user's depth map: which file holds it where, and what its values can be (docs/inputs.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32

from scenegen.errors import InputError
from scenegen.untrusted.camera import archived_camera
from scenegen.untrusted.decoding import DecodedCamera
from scenegen.untrusted.depth.arrays import read_arrays
from scenegen.untrusted.depth.exr import read_exr
from scenegen.untrusted.depth.pictures import read_pfm, read_picture
from scenegen.untrusted.depth.points import depth_of_points
from scenegen.untrusted.depth.raw import Kind, RawDepth
from scenegen.untrusted.fit import same_shape, turned
from scenegen.untrusted.formats import DEPTH_SUFFIXES
from scenegen.untrusted.photo import SIDEWAYS, UprightPhoto
from scenegen.untrusted.resample import nearest

WHAT = "`depth`"
MIN_KNOWN_SHARE = 0.01
FARTHEST_M = 1000.0
"""Beyond it nothing is measured: renderers and sensors write such values where they see nothing."""
FULL = (1.0, 255.0, 65535.0)
"""The largest values of pictures that were stretched to their range."""
NEARLY_FULL = 0.9
"""Share of the largest value that the next smaller ones reach, if the range is filled rather than its end a mark."""
LIKELY_M = (0.02, 200.0)
"""Medians that a depth map in metres can have."""
FLAT = 0.02
"""Share of the median depth over which a photo's depth goes at least."""
KINDS_SAID = "--depth-kind disparity (near is large, without a unit), inverse (1/metres), distance or z"


@dataclass(frozen=True, eq=False)
class GivenDepth:
    """A depth map that fits the photo."""

    values: Float32[np.ndarray, "h w"]
    """At working size, 0 where unknown: metres, or as `kind` says."""
    kind: Kind
    """`auto` is z-depth as far as the file tells."""
    camera: DecodedCamera | None
    """The camera that the file holds beside the depth."""
    notes: tuple[str, ...]


def read_depth(
    path: Path, photo: UprightPhoto, *, max_pixels: int, kind: Kind = "auto", unit_m: float | None = None
) -> GivenDepth:
    """The depth of each pixel of the photo.

    What is NaN, infinite, not positive, the largest value of 8 or 16 bits, or beyond `FARTHEST_M` is unknown. Depths never mix:
    resampling is nearest.

    Args:
        path: one of `DEPTH_SUFFIXES`.
        photo: the photo of the depth map, which has its size, upright or as stored, or another one of the same shape.
        max_pixels: larger maps are refused by their header.
        kind: what the values are, if the user says.
        unit_m: metres per unit, if the user says.

    Raises:
        InputError: if the file is damaged, of another kind or of another shape, or if its values cannot be depth.
    """
    if path.stat().st_size == 0:
        raise InputError(f"{WHAT} is an empty file. Copy or save it again.")

    def check_size(width: int, height: int) -> None:
        _check_size(width, height, photo, max_pixels)

    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        raw = read_arrays(path, max_pixels, check_size)
    elif suffix == ".exr":
        raw = read_exr(path, check_size)
    elif suffix in (".png", ".tif", ".tiff"):
        raw = read_picture(path, check_size)
    elif suffix == ".pfm":
        raw = read_pfm(path, check_size)
    else:
        raise InputError(
            f"{WHAT} is a {path.suffix or 'file without suffix'}; allowed: {', '.join(sorted(DEPTH_SUFFIXES))}."
        )
    notes = [*raw.notes]
    values, found, camera = _values(raw, kind, photo)
    if suffix == ".npz" and camera is None:
        camera = archived_camera(path, photo, notes)
    values, known = _in_unit(raw, values, found, kind != "auto", unit_m, notes)
    return GivenDepth(_upright(np.where(known, values, np.float32(0)), photo, notes), found, camera, tuple(notes))


def _values(
    raw: RawDepth, kind: Kind, photo: UprightPhoto
) -> tuple[Float32[np.ndarray, "h w"], Kind, DecodedCamera | None]:
    """One value for each pixel, and what it is; from points also the camera."""
    values, said = raw.values, raw.kind
    if values.ndim == 3 and all(np.array_equal(values[..., 0], values[..., axis], equal_nan=True) for axis in (1, 2)):
        values, said = np.ascontiguousarray(values[..., 0]), "auto"  # one value, written as grey
    if values.ndim == 2:
        if kind == "points":
            raise InputError(f"{WHAT} has one value for each pixel; --depth-kind points needs three.")
        return values, said if kind == "auto" else kind, None
    if kind not in ("auto", "points"):
        raise InputError(
            f"{WHAT} has three values for each pixel, and --depth-kind {kind} is one. Give the one channel."
        )
    depth, seen = depth_of_points(values)
    height, width = depth.shape
    x, y = photo.size[0] / width, photo.size[1] / height
    upright = same_shape((width, height), photo.size)
    camera = DecodedCamera(seen.fx * x, seen.fy * y, seen.cx * x, seen.cy * y) if upright else None
    return depth, "z", camera


def _in_unit(
    raw: RawDepth, values: Float32[np.ndarray, "h w"], kind: Kind, sure: bool, unit_m: float | None, notes: list[str]
) -> tuple[Float32[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """The values, distances in metres, and where they are known.

    Raises:
        InputError: if they cannot be depth.
    """
    if kind in ("auto", "z") and _is_negative(values):
        values = -values
        notes.append(
            "depth: the values are negative, as along an axis that points backwards, and were taken without their sign"
        )
    known = np.isfinite(values) & (values > 0)
    if raw.valid is not None:
        known &= raw.valid
    distances = kind in ("auto", "z", "distance")
    if distances:
        if not sure and unit_m is None and _is_stretched(values):
            raise InputError(
                f"{WHAT} fills the range from 0 to {np.nanmax(values):g}, so it was stretched to it and has no unit. If near is "
                "large, as Depth Anything and MiDaS have it, give --depth-kind disparity; if near is small, relative; with a "
                "unit, --set read.depth_unit_m=METRES."
            )
        if raw.unit_m is None and unit_m is None:
            raise InputError(
                f"{WHAT} is an 8-bit picture, which has no unit. If near is bright, as Depth Anything and MiDaS save it, give "
                "--depth-kind disparity; if near is dark, --depth-kind relative; with a unit, --set read.depth_unit_m=METRES."
            )
        if raw.top is not None and (full := float((values == raw.top).mean())) > 0:
            known &= values != raw.top
            notes.append(f"depth: {100 * full:.2g}% of the map is {raw.top}, its largest value, and counts as unknown")
        values = values * np.float32(raw.unit_m if unit_m is None else unit_m)
    share = float(known.mean())
    if share < MIN_KNOWN_SHARE:
        raise InputError(
            f"{WHAT} is finite and positive at {share:.2%} of its pixels, but at least {MIN_KNOWN_SHARE:.0%} are needed. "
            "Give z-depth in metres."
        )
    if distances:
        known = _plausible(raw, values, known, sure, notes)
    unsaid = 1 - float((np.isfinite(values) & (values > 0)).mean())
    if unsaid > 0:
        notes.append(f"depth: {100 * unsaid:.2g}% of the map is NaN, infinite or not positive and counts as unknown")
    return values, known


def _is_negative(values: Float32[np.ndarray, "h w"]) -> bool:
    """Whether nearly all values but 0 are negative."""
    said = values[np.isfinite(values) & (values != 0)]
    return bool(said.size and (said < 0).mean() > 0.99)


def _is_stretched(values: Float32[np.ndarray, "h w"]) -> bool:
    """Whether values go from 0 to the end of a range, without a gap before it."""
    finite = values[np.isfinite(values)]
    if not finite.size or finite.min() != 0 or not any(0.9999 * full <= finite.max() <= full for full in FULL):
        return False
    below = finite[finite < finite.max()]
    return bool(below.size and below.max() >= NEARLY_FULL * finite.max())


def _plausible(
    raw: RawDepth, values: Float32[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"], sure: bool, notes: list[str]
) -> Bool[np.ndarray, "h w"]:
    """Where distances in metres can be those of a photo.

    Raises:
        InputError: if most of them cannot, and the user has not said what they are.
    """
    middle = float(np.median(values[known]))
    if not LIKELY_M[0] <= middle <= LIKELY_M[1]:
        thousandth = "millimetres" if LIKELY_M[0] <= middle / 1000 <= LIKELY_M[1] else "another unit"
        text = (
            f"half of the known depth is beyond {middle:.4g} m, which is no photo's: the values look like {thousandth} or are no "
            f"depth. Give the unit, such as --set read.depth_unit_m=0.001, or what they are: {KINDS_SAID}"
        )
        if not sure or middle > FARTHEST_M:
            raise InputError(f"{WHAT}: {text}.")
        notes.append(f"depth: {text}")
    near, distant = np.percentile(values[known], (1, 99))
    if distant - near < FLAT * middle:
        notes.append(
            f"depth: nearly all of it lies between {near:.4g} and {distant:.4g} m: a flat scene, or the z-buffer of a renderer, "
            "which is no depth in metres"
        )
    far = known & (values > FARTHEST_M)
    if far.any():
        notes.append(f"depth: {100 * far.mean():.2g}% of the map is beyond {FARTHEST_M:g} m and counts as unknown")
    if not (known & ~far).any():
        raise InputError(f"{WHAT} is beyond {FARTHEST_M:g} m everywhere. Give z-depth in metres.")
    return known & ~far


def _check_size(width: int, height: int, photo: UprightPhoto, max_pixels: int) -> None:
    """Refuses a map that is too large or has another shape than the photo."""
    if width * height > max_pixels:
        raise InputError(
            f"{WHAT} is {width}x{height}, more than {max_pixels} pixels. Make it smaller, or raise `read.max_pixels`."
        )
    size = width, height
    if min(size) > 0 and (
        same_shape(size, photo.size) or (photo.transpose in SIDEWAYS and same_shape(size, photo.stored_size))
    ):
        return
    raise InputError(
        f"{WHAT} is {width}x{height} and the photo {photo.size[0]}x{photo.size[1]}; allowed: the size of the photo, or another "
        "one of the same shape."
    )


def _upright(values: Float32[np.ndarray, "h w"], photo: UprightPhoto, notes: list[str]) -> Float32[np.ndarray, "h2 w2"]:
    """The map at working size, turned if it is of the photo as stored."""
    size = values.shape[1], values.shape[0]
    if not same_shape(size, photo.size):
        values = turned(values, photo.transpose)
        notes.append("depth: the map is that of the photo before its EXIF rotation, and was turned with it")
    elif size != photo.size:
        notes.append(f"depth: the map is {size[0]}x{size[1]} and the photo {photo.size[0]}x{photo.size[1]}; resampled")
    return np.ascontiguousarray(nearest(values, photo.rgb.size))
