"""A solid on a grid made whole: narrow gaps closed, one piece for each part of the mask, nothing hollow."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int, Int32
from scipy import ndimage

NARROW = (1, 2, 3)
"""Radii in cells of the balls that do not fit through the tunnels that are closed, the narrowest first."""
SMALLEST_PART = 0.002
"""Share of what is seen of an object from which on a part of its mask has a piece of its own."""
LEAST = 0.01
"""Cells: no centre of a cell is nearer to the surface, so that marching cubes keeps its vertices apart."""
CHANGED = 0.5
"""Cells to the surface from the centres of those that change sides."""
HALVES = (slice(None, -1), slice(1, None))
"""Neighbours along an axis."""


def whole(
    value: Float32[np.ndarray, "r r r"],
    part: Int32[np.ndarray, "r r r"],
    room: Bool[np.ndarray, "r r r"],
    steps: Bool[np.ndarray, "r r r"],
) -> Float32[np.ndarray, "r r r"]:
    """The signed distance (edges of the cube) to one piece for each part of the mask, without narrow tunnels and cavities.

    A part's piece is the one of which it shows most. A piece without a part becomes outside: if it is visible, it is a crumb, and
    if not, a guess.

    Args:
        value: negative inside.
        part: which part of the mask, from 1, shows a cell of the visible surface; elsewhere 0.
        room: where the object may be.
        steps: the gaps in the visible surface where its depth jumps. They are filled if that joins pieces.
    """
    inside = value < 0
    for radius in NARROW:
        inside = _without_handles(inside, room & closing(inside, radius))
    inside |= _joints(inside, part, room & steps)
    inside = _filled(_pieces_of_parts(inside, part))
    cell = np.float32(1 / len(value))
    size = np.where(inside == (value < 0), np.maximum(np.abs(value), LEAST * cell), CHANGED * cell)
    return np.where(inside, -size, size).astype(np.float32)


def closing(inside: Bool[np.ndarray, "r r r"], radius: int) -> Bool[np.ndarray, "r r r"]:
    """Morphological closing with a ball."""
    spread = _dilated(np.pad(inside, radius), radius)
    return ~_dilated(~spread, radius)[3 * (slice(radius, -radius),)]


def _dilated(solid: Bool[np.ndarray, "r r r"], radius: int) -> Bool[np.ndarray, "r r r"]:
    """Dilation with a ball, as one with a disc for each of its layers along the last axis: OpenCV's channels."""
    cells = solid.astype(np.uint8)
    spread = np.zeros_like(cells)
    for away in range(radius + 1):
        reach = math.isqrt(radius**2 - away**2)
        across, along = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        disc = (across**2 + along**2 <= radius**2 - away**2).astype(np.uint8)
        layer = cv2.dilate(cells, disc, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        rest = cells.shape[2] - away
        np.maximum(spread[..., away:], layer[..., :rest], out=spread[..., away:])
        np.maximum(spread[..., :rest], layer[..., away:], out=spread[..., :rest])
    return spread > 0


def _without_handles(
    inside: Bool[np.ndarray, "r r r"], filling: Bool[np.ndarray, "r r r"]
) -> Bool[np.ndarray, "r r r"]:
    """The inside with those clusters of the `filling` that take more handles away than they add.

    They do not touch, so that each changes the Euler number (of the solid: pieces - tunnels + cavities) by an amount of its own:
    cells less walls between two, plus edges within four, less corners within eight.
    """
    cluster, count = ndimage.label(filling & ~inside, np.ones((3, 3, 3)))
    together, mine = inside | (cluster > 0), cluster
    change = np.zeros(count + 1)
    for axes in itertools.chain.from_iterable(itertools.combinations(range(3), n) for n in range(4)):
        full, name = together, mine
        for axis in axes:
            low, high = (tuple(part if a == axis else slice(None) for a in range(3)) for part in HALVES)
            full, name = full[low] & full[high], np.maximum(name[low], name[high])
        change += (-1) ** len(axes) * np.bincount(name[full], minlength=count + 1)
    return inside | (change > 0)[cluster] & (cluster > 0)


def _joints(
    inside: Bool[np.ndarray, "r r r"], part: Int32[np.ndarray, "r r r"], steps: Bool[np.ndarray, "r r r"]
) -> Bool[np.ndarray, "r r r"]:
    """The smallest of the `steps` that join the pieces of the inside which show enough of the object."""
    pieces, count = ndimage.label(inside)
    shown = np.bincount(pieces[inside & (part > 0)], minlength=count + 1)
    large = shown > SMALLEST_PART * shown.sum()
    if np.count_nonzero(large) < 2:
        return np.zeros_like(inside)
    gaps, gap_count = ndimage.label(steps & ~inside)
    meetings = [np.empty((0, 2), dtype=int)]
    for axis in range(3):
        g, p = np.moveaxis(gaps, axis, 0), np.moveaxis(pieces, axis, 0)
        for gap, piece in ((g[1:], p[:-1]), (g[:-1], p[1:])):
            both = (gap > 0) & large[piece]
            meetings.append(np.stack([gap[both], piece[both]], axis=1))
    neighbours = np.unique(np.concatenate(meetings), axis=0)
    joined, taken = np.arange(count + 1), np.zeros(gap_count + 1, dtype=bool)
    for gap in np.argsort(np.bincount(gaps.ravel(), minlength=gap_count + 1), kind="stable"):
        names = np.unique(joined[neighbours[neighbours[:, 0] == gap, 1]])
        if len(names) > 1:
            taken[gap] = True
            joined[np.isin(joined, names)] = names[0]
    return taken[gaps]


def _pieces_of_parts(inside: Bool[np.ndarray, "r r r"], part: Int32[np.ndarray, "r r r"]) -> Bool[np.ndarray, "r r r"]:
    """The piece of each part that is large enough; the largest piece if nothing is seen."""
    pieces, count = ndimage.label(inside)
    if count < 2:
        return inside
    shown = np.zeros((count + 1, int(part.max()) + 1), dtype=int)
    np.add.at(shown, (pieces[inside], part[inside]), 1)
    seen: Int[np.ndarray, "pieces parts"] = shown[:, 1:]
    sizes = seen.sum(axis=0)
    if not sizes.any():
        return pieces == shown.sum(axis=1).argmax()
    return np.isin(pieces, seen.argmax(axis=0)[sizes >= SMALLEST_PART * sizes.sum()])


def _filled(inside: Bool[np.ndarray, "r r r"]) -> Bool[np.ndarray, "r r r"]:
    """With what it encloses: no photo shows it."""
    empty, _ = ndimage.label(~np.pad(inside, 1))
    return (empty != empty[0, 0, 0])[1:-1, 1:-1, 1:-1]
