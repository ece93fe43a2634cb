"""Arrays of `.npy` and `.npz` files, of which nothing is unpickled and no more is read than allowed."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from scenegen.errors import InputError
from scenegen.untrusted.picture import parsing

PICKLED = (
    "{} holds Python objects, which are not read, because they could run code. Save plain numbers: masks as one array of bool "
    "(n, height, width), depth as one of floats."
)
MOST_PER_PIXEL = 1024
"""Bytes per allowed pixel that an archive may unpack to: the masks of many objects."""


def read_npy(path: Path, what: str) -> Shaped[np.ndarray, "..."]:
    """The array of a `.npy` file, mapped rather than read.

    Raises:
        InputError: if it is damaged, or holds objects.
    """
    with parsing(what):
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            if read_header(file)[2].hasobject:
                raise InputError(PICKLED.format(what))
        return np.lib.format.open_memmap(path, mode="r")


def read_npz(path: Path, what: str, max_pixels: int) -> Mapping[str, Shaped[np.ndarray, "..."]]:
    """The arrays of a `.npz` file by their names.

    Args:
        path: the file.
        what: its name in messages.
        max_pixels: of the photo; an archive may unpack to `MOST_PER_PIXEL` bytes for each of them.

    Raises:
        InputError: if it is damaged, holds objects, or unpacks to more than is allowed.
    """
    with parsing(what):
        with zipfile.ZipFile(path) as archive:
            # Reading stops at the stated size, so a false one harms nobody.
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MOST_PER_PIXEL * max_pixels:
            raise InputError(f"{what} unpacks to {size} bytes, which no masks or depth of a photo need.")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: array for name in archive.files if (array := _plain(archive, name)) is not None}
        if not arrays:
            raise InputError(PICKLED.format(what))
        return arrays


def _plain(archive: np.lib.npyio.NpzFile, name: str) -> Shaped[np.ndarray, "..."] | None:
    """An array of an archive; None if it holds objects."""
    try:
        return archive[name]
    except ValueError as error:
        if "allow_pickle" in str(error):
            return None
        raise


def without_single_axes(values: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """`values` without the axes of length 1 around the picture: (1, 1, h, w) and (h, w, 1) are (h, w)."""
    while values.ndim > 2 and 1 in (values.shape[0], values.shape[-1]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    return values
