"""Masks in `.npy` and `.npz`: a picture of ids, or one mask for each object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped, UInt
from PIL import Image

from scenegen.errors import InputError
from scenegen.ids import UNKNOWN
from scenegen.untrusted.arrays import read_npy, read_npz, without_single_axes
from scenegen.untrusted.fit import checked_size, fitted, same_shape
from scenegen.untrusted.masks.ids import border_share, numbered
from scenegen.untrusted.masks.layer import Layer
from scenegen.untrusted.masks.layers import MOST
from scenegen.untrusted.masks.pictures import colours
from scenegen.untrusted.names import label_of, natural
from scenegen.untrusted.photo import UprightPhoto

WHAT = "`masks`"
NAMES = ("masks", "mask", "pred_masks", "segmentation", "instances", "instance_ids", "ids", "labels", "arr_0")
"""Arrays of an archive that hold all masks; the first that is a picture counts."""
LARGEST_WHOLE = 2.0**53
"""Up to which 64-bit floats have every whole number."""
OTHERS = frozenset(
    {
        "image",
        "images",
        "img",
        "rgb",
        "photo",
        "depth",
        "disparity",
        "points",
        "normals",
        "boxes",
        "bboxes",
        "logits",
        "scores",
    }
)
"""Arrays that lie beside masks, and are none."""
LABELS = ("labels", "names", "class_names", "classes", "categories", "phrases")


def read_stack(
    path: Path, photo: UprightPhoto, notes: dict[str, None]
) -> UInt[np.ndarray, "h w"] | Bool[np.ndarray, "h w"] | list[Layer]:
    """The masks of a file: ids (16 bits), colours (32 bits) or a mask as given, or a layer for each object.

    Raises:
        InputError: if it holds no masks.
    """
    if path.suffix == ".npy":
        return _interpreted(read_npy(path, WHAT), (), photo, notes)
    arrays = read_npz(path, WHAT, Image.MAX_IMAGE_PIXELS or 1 << 30)
    labels = next((_words(arrays[name]) for name in LABELS if name in arrays and arrays[name].dtype.kind in "US"), ())
    pictures = {name: array for name, array in arrays.items() if array.dtype.kind in "biuf" and array.ndim >= 2}
    fitting = {name: array for name, array in pictures.items() if _can_be_masks(name, array, photo)}
    if fitting and len(fitting) < len(pictures):
        left = ", ".join(f"`{name}`" for name in pictures if name not in fitting)
        notes[f"masks: what lies beside them in the archive, by its name or shape, is left out: {left}"] = None
        pictures = fitting
    chosen = next((name for name in NAMES if name in pictures), None)
    if chosen is not None or len(pictures) == 1:
        return _interpreted(pictures[chosen or next(iter(pictures))], labels, photo, notes)
    if not pictures:
        raise InputError(
            f"{WHAT} has {', '.join(arrays) or 'nothing'}; looked for an array with the masks, such as `masks`."
        )
    return _by_name(pictures, photo, notes)


def _can_be_masks(name: str, values: Shaped[np.ndarray, "..."], photo: UprightPhoto) -> bool:
    """Whether an array has the photo's shape, and no name that says that it is something else."""
    shape = without_single_axes(values).shape
    named = values.dtype.kind != "b" and name.lower() in OTHERS
    return not named and any(len(sides) == 2 and _is_shape(sides, photo) for sides in (shape[:2], shape[-2:]))


def _words(values: Shaped[np.ndarray, "..."]) -> tuple[str, ...]:
    return tuple(
        label_of(text.decode(errors="replace") if isinstance(text, bytes) else str(text)) for text in values.ravel()
    )


def _by_name(
    arrays: Mapping[str, Shaped[np.ndarray, "..."]], photo: UprightPhoto, notes: dict[str, None]
) -> list[Layer]:
    """One array for each object, named after it."""
    layers = []
    for name in sorted(arrays, key=natural):
        values = without_single_axes(arrays[name])
        if values.ndim != 2:
            raise InputError(f"{WHAT} has `{name}` of shape {values.shape}; several arrays must be one mask each.")
        layers.append(
            Layer.of(f"`{name}`", label_of(name), fitted(_shown(values), f"`{name}` of {WHAT}", photo, notes))
        )
    return layers


def _interpreted(
    values: Shaped[np.ndarray, "..."], labels: Sequence[str], photo: UprightPhoto, notes: dict[str, None]
) -> UInt[np.ndarray, "h w"] | Bool[np.ndarray, "h w"] | list[Layer]:
    if values.dtype.kind not in "biuf":
        raise InputError(f"{WHAT} is an array of {values.dtype}; allowed: bool, integers or floats.")
    values = without_single_axes(values)
    if values.ndim == 4 and values.shape[1] == 1:  # (n, 1, h, w), as SAM's predictors return
        values = values[:, 0]
    if values.ndim == 2:
        checked_size((values.shape[1], values.shape[0]), WHAT, photo)
        return _ids(values, notes)
    if values.ndim != 3:
        raise InputError(f"{WHAT} is an array of shape {values.shape}; allowed: ids (h, w), or masks (n, h, w).")
    if not _is_shape(values.shape[1:], photo):
        if not _is_shape(values.shape[:2], photo):
            raise InputError(
                f"{WHAT} is an array of shape {values.shape} and the photo {photo.size[0]}x{photo.size[1]}; allowed: masks "
                "(n, height, width) or (height, width, n) of the photo's shape. Swap its axes, or make the masks from the full "
                "photo."
            )
        if values.dtype == np.uint8 and values.shape[2] in (3, 4) and values.max() > 1:
            return colours(Image.fromarray(values))
        values = np.moveaxis(values, 2, 0)
    if len(values) > MOST:
        raise InputError(f"{WHAT} has {len(values)} masks; at most {MOST} are allowed.")
    given = labels if len(labels) == len(values) else ("",) * len(values)
    return [
        Layer.of(f"mask {number}", label, fitted(_shown(mask), f"mask {number} of {WHAT}", photo, notes))
        for number, (label, mask) in enumerate(zip(given, values, strict=True), start=1)
    ]


def _is_shape(shape: tuple[int, ...], photo: UprightPhoto) -> bool:
    size = shape[1], shape[0]
    return min(size) > 0 and (same_shape(size, photo.size) or same_shape(size, photo.stored_size))


def _ids(
    values: Shaped[np.ndarray, "h w"], notes: dict[str, None]
) -> UInt[np.ndarray, "h w"] | Bool[np.ndarray, "h w"]:
    """Whole numbers are ids; anything else is the mask of one object."""
    values = np.asarray(values)
    if values.dtype.kind == "b" or (values.dtype.kind == "f" and (values != np.round(values)).any()):
        return _shown(values)
    if values.dtype.kind == "f":
        if values.size and np.abs(values).max() > LARGEST_WHOLE:
            raise InputError(
                f"{WHAT} has ids from {values.min():g} to {values.max():g}, which floats cannot tell apart. Save integers."
            )
        values = values.astype(np.int64)
    if values.size and values.min() == -1 and values.max() <= UNKNOWN and (values == 0).any():
        values = _counted_from_zero(values, notes)
    return numbered(np.where(values == -1, 0, values), notes)


def _counted_from_zero(values: Shaped[np.ndarray, "h w"], notes: dict[str, None]) -> Shaped[np.ndarray, "h w"]:
    """Ids with both -1 and 0: the one that has more of the picture's border is background."""
    outside = values == -1
    if border_share(outside) < border_share(values == 0):
        notes["masks: -1 counts as unknown, because 0 has more of the picture's border"] = None
        return np.where(outside, UNKNOWN, values)
    free = int(values.max()) + 1
    notes[f"masks: -1 is background, because it has more of the picture's border than 0, which is object {free}"] = None
    return np.where(outside, 0, np.where(values == 0, free, values))


def _shown(values: Shaped[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The pixels of an object, by a bool, a number that is not 0, a probability above one half, or a logit above 0."""
    if values.dtype.kind != "f":
        return np.asarray(values) != 0
    values = np.asarray(values)
    return np.nan_to_num(values) > (
        0.5 if np.nanmin(values, initial=0) >= 0 and np.nanmax(values, initial=0) <= 1 else 0
    )
