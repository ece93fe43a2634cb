"""Things a few pixels wide, such as cables: solids with the mask's own outline, as deep as they are wide.

A generator's grid has no cell for them. Here every pixel of the mask is a cell, whose front and back lie on the rays through its
corners.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int32
from scipy import ndimage

from scenegen.camera import rays
from scenegen.errors import InputError
from scenegen.geometry.fill import averaged, nearest_known
from scenegen.geometry.generator import ObjectView, Shape
from scenegen.geometry.simplify import simplify
from scenegen.geometry.solid import volume
from scenegen.messages.remarks import note

CELLS = 3
"""Cells of a generator's grid that an object is wide at least, if it is to be made there."""
COVERED = 0.35
"""Share of a pixel from which on it belongs to the object."""
SMOOTHED = 0.04
"""Width over which the depth is smoothed along the object, as a share of the crop."""
THINNEST = 0.5
"""Least thickness at the rim, as a share of that in the middle: a solid has no edge of thickness 0."""
FEWEST = 4
"""Pixels."""


def mean_width(mask: Bool[np.ndarray, "h w"]) -> float:
    """How wide a mask is on average, in pixels: twice its area over the length of its outline.

    >>> mask = np.zeros((20, 20), bool)
    >>> mask[5:7, 2:18] = True
    >>> round(mean_width(mask), 2)
    1.78
    """
    framed = np.pad(mask, 1)
    outline = sum(int(np.count_nonzero(np.diff(framed, axis=axis))) for axis in (0, 1))
    return 2 * int(np.count_nonzero(mask)) / max(1, outline)


def is_thin(mask: Bool[np.ndarray, "h w"], cells: int) -> bool:
    """Whether a grid of `cells` across an object's crop is too coarse for it."""
    if not mask.any():
        return False
    extent = max(int(np.ptp(axis)) + 1 for axis in np.nonzero(mask))
    return bool(mean_width(mask) * cells < CELLS * extent)


def thin_solid(view: ObjectView, max_faces: int) -> Shape:
    """The object as a closed surface with the mask's outline, in the crop camera's frame, metres.

    Raises:
        InputError: if no pixel of the mask is left, or no depth is known there.
    """
    mask = _joined(view.mask > min(COVERED, 0.5 * float(view.mask.max(initial=0))))
    known = mask & (view.depth > 0)
    if np.count_nonzero(mask) < FEWEST or not known.any():
        raise InputError("the object's mask is too small to make a mesh from; mark more of the object or leave it out.")
    middle = _along(nearest_known(view.depth.astype(np.float64), known), mask)
    focal = view.crop.intrinsics.fx
    half = _half_thickness(mask) * middle / focal
    vertices, faces = _cells(mask, middle, half, view)
    if volume(vertices, faces) < 0:
        faces = faces[:, ::-1]
    vertices, faces, warnings = simplify(vertices, np.ascontiguousarray(faces), max_faces)
    said = note("it is too thin for the generator's grid: made from mask and depth, as deep as it is wide")
    return Shape(vertices, faces, (said, *warnings))


def _joined(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The mask without pixels that meet others at corners only, where a surface would touch itself."""
    mask = np.pad(mask, 1)
    while True:
        a, b, c, d = mask[:-1, :-1], mask[:-1, 1:], mask[1:, :-1], mask[1:, 1:]
        falling, rising = a & d & ~b & ~c, b & c & ~a & ~d
        if not (falling.any() or rising.any()):
            return mask[1:-1, 1:-1]
        mask = mask.copy()
        mask[:-1, 1:] |= falling
        mask[:-1, :-1] |= rising


def _along(depth: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The depth smoothed over the object only: at its rim it mixes with what is behind."""
    inverse = averaged(1 / depth, mask, SMOOTHED * max(mask.shape))
    return np.where(mask, 1 / np.maximum(inverse, 1e-12), depth)


def _half_thickness(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Half the depth of each pixel, in pixels: that of a circle about the middle of the thing."""
    inside = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] - 0.5
    radius = inside
    for _ in range(int(np.ceil(inside.max()))):
        radius = np.where(mask, ndimage.grey_dilation(radius, footprint=np.ones((3, 3))), 0.0)
    radius = np.maximum(radius, 0.5)
    off = np.clip(radius - inside, 0, radius)
    return np.where(mask, np.maximum(np.sqrt(radius**2 - off**2), THINNEST * radius), 0.0)


def _cells(
    mask: Bool[np.ndarray, "h w"],
    middle: Float[np.ndarray, "h w"],
    half: Float[np.ndarray, "h w"],
    view: ObjectView,
) -> tuple[Float[np.ndarray, "v 3"], Int32[np.ndarray, "f 3"]]:
    """Front and back of every pixel, and walls along the outline. Corners have the mean of the pixels around them."""
    height, width = mask.shape
    around = np.pad(mask, 1).astype(np.float64)
    count = around[:-1, :-1] + around[:-1, 1:] + around[1:, :-1] + around[1:, 1:]

    def at_corners(values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h1 w1"]:
        padded = np.pad(np.where(mask, values, 0.0), 1)
        total = padded[:-1, :-1] + padded[:-1, 1:] + padded[1:, :-1] + padded[1:, 1:]
        return total / np.maximum(count, 1)

    z, thick = at_corners(middle), at_corners(half)
    v, u = np.mgrid[: height + 1, : width + 1]
    directions = rays(view.crop.intrinsics, np.stack([u, v], axis=-1).astype(np.float64))
    used = count > 0
    index = np.full(used.shape, -1)
    index[used] = np.arange(np.count_nonzero(used))
    number = int(np.count_nonzero(used))
    front, back = directions * z[..., None], directions * (z + 2 * thick)[..., None]
    vertices = np.concatenate([front[used], back[used]])
    rows, columns = np.nonzero(mask)
    a, b = index[rows, columns], index[rows, columns + 1]
    c, d = index[rows + 1, columns + 1], index[rows + 1, columns]
    faces = [np.stack([a, b, c], 1), np.stack([a, c, d], 1)]
    faces += [number + np.stack([a, c, b], 1), number + np.stack([a, d, c], 1)]
    framed = np.pad(mask, 1)
    for row, column, first, second in ((-1, 0, a, b), (0, 1, b, c), (1, 0, c, d), (0, -1, d, a)):
        rim = ~framed[rows + 1 + row, columns + 1 + column]
        p, q = first[rim], second[rim]
        faces += [np.stack([p, number + p, q], 1), np.stack([q, number + p, number + q], 1)]
    return vertices, np.concatenate(faces).astype(np.int32)
