"""Depth as pictures: PNG and TIFF of integers in units, TIFF of floats, PFM."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from scenegen.errors import InputError
from scenegen.untrusted.depth.arrays import CheckSize
from scenegen.untrusted.depth.raw import RawDepth, as_float32
from scenegen.untrusted.picture import open_picture, parsing

WHAT = "`depth`"
MILLIMETRES = 0.001
HEADER_BYTES = 256
PFM_HEADER = re.compile(rb"(P[fF])\s+(\d+)\s+(\d+)\s+(\S+)(?:\r\n|\s)")


def read_picture(path: Path, check_size: CheckSize) -> RawDepth:
    """The depth of a PNG or TIFF.

    Raises:
        InputError: if it is a picture of colours.
    """
    with open_picture(path, WHAT, formats=("PNG", "TIFF")) as picture:
        check_size(*picture.size)
        with parsing(WHAT):
            picture.load()
        mode = picture.mode
        values = np.asarray(picture if mode in ("L", "I", "F") or mode.startswith("I;16") else picture.convert("RGB"))
    if values.ndim == 3 and _has_16_bit_colours(path):
        raise InputError(
            f"{WHAT} is a 16-bit PNG of colours, of which 8 bits could be read. Save one channel: 16-bit grey, or .npy."
        )
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise InputError(
                f"{WHAT} is a picture of colours (mode {mode}), which tell no distances. Save the values themselves: .npy, .exr, "
                "float TIFF or 16-bit PNG."
            )
        values = values[..., 0]
    if mode == "F":
        return RawDepth(as_float32(values))
    if mode == "I":
        return RawDepth(as_float32(values), unit_m=MILLIMETRES)
    wide = mode.startswith("I;16")
    return RawDepth(as_float32(values), top=65535 if wide else 255, unit_m=MILLIMETRES if wide else None)


def _has_16_bit_colours(path: Path) -> bool:
    """Whether a file is a PNG of 16 bits a channel; its first chunk says so."""
    with path.open("rb") as file:
        head = file.read(25)
    return head.startswith(b"\x89PNG") and head[24:25] == b"\x10"


def read_pfm(path: Path, check_size: CheckSize) -> RawDepth:
    """The values of a portable float map, whose rows go from the bottom up.

    Raises:
        InputError: if it is damaged.
    """
    with parsing(WHAT), path.open("rb") as file:
        header = PFM_HEADER.match(file.read(HEADER_BYTES))
        if header is None:
            raise ValueError("no header of a PFM")
        kind, scale = header[1], float(header[4])
        width, height = int(header[2]), int(header[3])
        check_size(width, height)
        count = width * height * (3 if kind == b"PF" else 1)
        file.seek(header.end())
        data = file.read(4 * count)
        if len(data) != 4 * count:
            raise ValueError("it is cut off")
        flat = np.frombuffer(data, "<f4" if scale < 0 else ">f4")
    if kind == b"PF":
        return RawDepth(as_float32(flat.reshape(height, width, 3)[::-1]), "points")
    return RawDepth(as_float32(flat.reshape(height, width)[::-1]))
