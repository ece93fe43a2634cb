"""Whether the outlines of masks follow the edges of the photo, as those of its own masks do."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt16
from scipy import ndimage

from scenegen.untrusted.fit import turned
from scenegen.untrusted.photo import UprightPhoto

FEWEST_PIXELS = 50
"""Of an outline: fewer say nothing."""
FOREIGN = 1.0
"""Of 206 photographs with their own masks, 0.5 % lie below this ratio; with masks of other photographs, 40 % do."""
BETTER = 1.3
"""How much more of the photo's edges a turned mask must follow to be taken for the right one."""


def edge_ratio(grey: Float32[np.ndarray, "h w"], ids: UInt16[np.ndarray, "h w"]) -> float | None:
    """How strong the photo's edges are along the outlines, relative to everywhere; None if the outlines are too short."""
    edges = np.zeros_like(grey)
    edges[:, 1:] = np.abs(np.diff(grey, axis=1))
    edges[1:] = np.maximum(edges[1:], np.abs(np.diff(grey, axis=0)))
    edges = ndimage.maximum_filter(edges, 3)
    outline = np.zeros(ids.shape, dtype=bool)
    outline[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    outline[1:] |= ids[1:] != ids[:-1]
    outline[[0, 1, -2, -1]] = outline[:, [0, 1, -2, -1]] = False
    mean = float(edges.mean())
    if mean == 0 or np.count_nonzero(outline) < FEWEST_PIXELS:
        return None
    return float(edges[outline].mean()) / mean


def following(ids: UInt16[np.ndarray, "h w"], photo: UprightPhoto, notes: dict[str, None]) -> UInt16[np.ndarray, "h w"]:
    """The masks, turned with the photo if they fit it better so; says if they follow no edges of it.

    Sizes do not tell masks of the photo as stored from those of the upright one if it was stored upside down, mirrored, or
    square: there the edges decide.
    """
    grey = np.asarray(photo.rgb.convert("L"), dtype=np.float32)
    ratio = edge_ratio(grey, ids)
    if ratio is None:
        return ids
    if photo.transpose is not None and photo.stored_size == photo.size:
        rotated = np.ascontiguousarray(turned(ids, photo.transpose))
        other = edge_ratio(grey, rotated) if rotated.shape == ids.shape else None
        if other is not None and other > BETTER * ratio:
            notes["masks: they fit the photo before its EXIF rotation, and were turned with it"] = None
            return rotated
    if ratio < FOREIGN:
        notes[
            "masks: their outlines follow no edges of the photo; check that they are masks of this photo, not cropped or moved"
        ] = None
    return ids
