"""Colliders as a file, for a later run in which they must stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from scenegen.physics.body import Box, Hull


def save_colliders(colliders: Mapping[str, Sequence[Hull]], path: Path) -> None:
    """Writes the hulls of each part, by its name, as npz (the same hulls give the same bytes).

    Examples:
        >>> save_colliders({"obj_01_mug": load_colliders(Path("colliders.npz"))["obj_01_mug"]}, Path("mug.npz"))
    """
    arrays: dict[str, np.ndarray] = {}
    for name, hulls in colliders.items():
        for number, hull in enumerate(hulls):
            arrays[f"{name}/{number}/vertices"], arrays[f"{name}/{number}/faces"] = hull.vertices, hull.faces
            if hull.box is not None:
                arrays[f"{name}/{number}/box"] = np.array([*hull.box.centre, *hull.box.size, hull.box.yaw])
    np.savez(path, allow_pickle=False, **arrays)


def load_colliders(path: Path) -> dict[str, tuple[Hull, ...]]:
    """Reads what `save_colliders` wrote; parts without hulls are left out.

    Examples:
        >>> [len(hulls) for hulls in load_colliders(Path("colliders.npz")).values()]
        [1, 4]
    """
    found: dict[str, list[Hull]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            if key.endswith("/vertices"):
                place = key.removesuffix("/vertices")
                box = arrays.get(f"{place}/box")
                hulls = found.setdefault(place.partition("/")[0], [])
                hulls.append(
                    Hull(
                        arrays[key],
                        arrays[f"{place}/faces"],
                        None if box is None else Box(box[:3], box[3:6], float(box[6])),
                    )
                )
    return {name: tuple(hulls) for name, hulls in found.items()}
