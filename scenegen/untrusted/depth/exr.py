"""Depth in OpenEXR: one part or several, one layer or several, by the last part of a channel's name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scenegen.errors import InputError
from scenegen.untrusted.depth.arrays import CheckSize
from scenegen.untrusted.depth.raw import Kind, RawDepth, as_float32
from scenegen.untrusted.picture import parsing

WHAT = "`depth`"
NAMES: dict[str, Kind] = {
    "z": "auto",
    "depth": "auto",
    "distance": "distance",
    "disparity": "disparity",
    "inverse_depth": "inverse",
    "y": "auto",
}
"""Last parts of channels' names, in lower case, and what they hold; the first that a file has counts."""
ONLY = ("v", "r", "x")
"""Last parts of the depth's channel where its layer is called so, or where there is no other."""
COLOURS, AXES = ("R", "G", "B"), ("X", "Y", "Z")


def read_exr(path: Path, check_size: CheckSize) -> RawDepth:
    """The depth channel of a file, or the three channels of a map of points.

    Raises:
        InputError: if it has none, or is deep.
    """
    import OpenEXR

    channels: dict[str, int] = {}
    with parsing(WHAT), OpenEXR.File(str(path), separate_channels=True, header_only=True, num_threads=0) as file:
        # Headers are empty once the file is closed.
        for number, part in enumerate(file.parts):
            header = part.header
            if header["type"] not in (OpenEXR.scanlineimage, OpenEXR.tiledimage):
                raise InputError(f"{WHAT} is a deep EXR ({header['type']}); flatten it to one depth per pixel.")
            (left, top), (right, bottom) = (map(int, corner) for corner in header["dataWindow"])
            check_size(right - left + 1, bottom - top + 1)
            for channel in header["channels"]:
                if (channel.xSampling, channel.ySampling) == (1, 1):
                    channels.setdefault(channel.name, number)
    names, kind, notes = _chosen(list(channels))
    with parsing(WHAT), OpenEXR.File(str(path), separate_channels=True, num_threads=0) as file:
        found = [as_float32(file.parts[channels[name]].channels[name].pixels) for name in names]
    return RawDepth(found[0], kind, notes=notes) if len(found) == 1 else RawDepth(np.stack(found, axis=-1), "points")


def _chosen(channels: list[str]) -> tuple[list[str], Kind, tuple[str, ...]]:
    """The channels of the depth, what they hold, and what is said of others."""
    found = _single(channels)
    if found is not None:
        name, kind = found
        layer, _, last = name.rpartition(".")
        others = [
            other
            for other in channels
            if other != name and other.rpartition(".")[2] == last and _same_pass(layer, other)
        ]
        said = (
            f"depth: {name} is used, and {', '.join(others)} are not; save the one of this photo alone if it is another"
        )
        return [name], kind, (said,) if others else ()
    for axes in (AXES, COLOURS):
        for name in channels:
            whole = [name[:-1] + axis for axis in axes]
            if name.endswith(axes[0]) and set(whole) <= set(channels):
                return whole, "auto", ()
    mist = " A mist pass has no unit: render the depth pass." if any(map(_is_mist, channels)) else ""
    raise InputError(
        f"{WHAT} has the channels {', '.join(channels)}; looked for one whose name ends in {', '.join(NAMES)}, with or without a "
        f"layer before it, such as ViewLayer.Depth.Z.{mist}"
    )


def _same_pass(layer: str, other: str) -> bool:
    """Whether a channel is that of the same pass as a layer's: of another view layer, camera or part."""
    return other.rpartition(".")[0].rpartition(".")[2] == layer.rpartition(".")[2]


def _is_mist(name: str) -> bool:
    return "mist" in name.lower().split(".")


def _single(channels: list[str]) -> tuple[str, Kind] | None:
    """The one channel of the depth: by its own name, else by that of its layer, else because it is the only one."""
    # The Z of a vector, such as a normal, is no depth, and neither is Blender's mist, from 0 to 1.
    parts = {
        name: name.lower().split(".") for name in channels if not _of_vector(name, channels) and not _is_mist(name)
    }
    for ending, kind in NAMES.items():
        ended = [name for name, words in parts.items() if words[-1] == ending]
        for name in sorted(ended, key=lambda name: "depth" not in parts[name]):
            layer = parts[name][-2] if len(parts[name]) > 1 else ""
            return name, NAMES.get(layer, kind)
    for name, words in parts.items():
        layer = words[-2] if len(words) > 1 else ""
        # VRayZDepth.R, FinalImageWorldDepth.R
        if words[-1] in ONLY and (layer in NAMES or layer.endswith("depth") or len(channels) == 1):
            return name, NAMES.get(layer, "auto")
    return None


def _of_vector(name: str, channels: list[str]) -> bool:
    return name[-1:] in AXES and {name[:-1] + axis for axis in AXES} <= set(channels)
