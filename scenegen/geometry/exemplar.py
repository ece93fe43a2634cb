"""Fills what is hidden in a picture with copies of what is seen around it, so that its texture goes on (after Wexler, Shechtman
and Irani 2007, Space-time completion, with the search of Barnes et al. 2009, PatchMatch)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from scipy import ndimage

from scenegen.compute.recent import reused
from scenegen.geometry.fill import pull_push

COARSEST, FINEST = 24, 96
"""Longer side of the copies of the picture on which what is to be copied is looked for, the first and the last, in cells."""
RADIUS = 2
"""Cells around the middle of a patch."""
ROUNDS = 4
"""Searches on each copy; after each the hidden cells get the colours of what was found."""
USUAL_SIDE = 128
"""Longer side of the copy of the picture on which usual colours are found, in cells."""
REACHES = (0.12, 0.06, 0.06)
"""Standard deviation of what counts as around, as a share of the picture's longer side, in each round."""
UNUSUAL = 60.0
"""Difference in colour, of 255, at which what is seen counts half."""
ENOUGH = 0.02
"""Share of what is around that must be seen to tell what is usual."""
COARSER = 6
"""What varies within so many cells of the finest copy is texture."""
FEWEST = 12
"""Patches that must be seen whole, for anything to be copied."""
TEXTURES = 4
"""Kept, for scenes of which most stays as it was."""
NEIGHBOURS = ((0, 1), (1, 0), (0, -1), (-1, 0))


@reused(TEXTURES)
def continued_texture(
    picture: UInt8[np.ndarray, "h w 3"], known: Bool[np.ndarray, "h w"], wanted: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """`picture` where `known`; elsewhere the colours that are usual around, and where `wanted` the texture of what is known.

    Args:
        picture: sRGB.
        known: what is seen of a surface.
        wanted: what is shown of it.
    """
    if known.all() or not known.any():
        return picture
    colours = picture.astype(np.float32)
    base = usual(colours, known)
    filled = np.where(known[..., None], colours, base)
    hidden = wanted & ~known
    found = _found(filled, known, hidden)
    if found is not None:
        filled[hidden] += _copied(_texture(colours, known, found.used.shape), found, hidden)
    return np.clip(np.round(filled), 0, 255).astype(np.uint8)


def _texture(
    colours: Float32[np.ndarray, "h w 3"], known: Bool[np.ndarray, "h w"], cells: tuple[int, ...]
) -> Float32[np.ndarray, "h w 3"]:
    """What varies faster than a few of the `cells` (rows and columns) of what is `known`."""
    size = tuple(max(1, round(number / COARSER)) for number in cells[::-1])
    share = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    mean = cv2.resize(colours * known[..., None], size, interpolation=cv2.INTER_AREA)
    mean = pull_push(mean / np.maximum(share, 1e-6)[..., None], np.minimum(1, 4 * share))
    return colours - cv2.resize(mean, known.shape[::-1], interpolation=cv2.INTER_LINEAR)


def usual(colours: Float32[np.ndarray, "h w 3"], known: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w 3"]:
    """The colours that most of what is `known` around has, everywhere.

    What differs from them, such as the rim of a thing that is not part of the surface, counts for little.
    """
    height, width = known.shape
    scale = min(1.0, USUAL_SIDE / max(known.shape))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    share = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    mean = cv2.resize(colours * known[..., None], size, interpolation=cv2.INTER_AREA)
    mean = mean / np.maximum(share, 1e-6)[..., None]
    weight = share
    for reach in REACHES:
        blur = (0, 0), reach * max(size)
        total = cv2.GaussianBlur(weight, *blur)
        around = cv2.GaussianBlur(mean * weight[..., None], *blur) / np.maximum(total, 1e-6)[..., None]
        around = pull_push(around, np.minimum(1, total / ENOUGH))
        weight = share / (1 + (np.linalg.norm(mean - around, axis=-1) / UNUSUAL) ** 4)
    return cv2.resize(pull_push(mean, weight), (width, height), interpolation=cv2.INTER_LINEAR)


@dataclass(frozen=True, eq=False)
class _Found:
    """For each cell of a coarse copy, from how many cells below and to the right its colours are taken."""

    step: Int[np.ndarray, "r c 2"]
    used: Bool[np.ndarray, "r c"]
    """Which cells have one; the others' are 0."""


def _found(
    start: Float32[np.ndarray, "h w 3"], known: Bool[np.ndarray, "h w"], hidden: Bool[np.ndarray, "h w"]
) -> _Found | None:
    """What is to be copied where, from coarse to fine; None if too little is seen."""
    longest = max(known.shape)
    found = None
    rng = np.random.default_rng(0)
    cells = COARSEST
    while True:
        size = tuple(max(1, round(side * min(cells, longest) / longest)) for side in known.shape[::-1])
        seen = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.999
        missing = (cv2.resize(hidden.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0) & ~seen
        colours = cv2.resize(start, size, interpolation=cv2.INTER_AREA)
        search = _Search(seen, missing, rng)
        if search.possible:
            found = search.run(colours, found)
        if cells >= min(FINEST, longest):
            return found
        cells *= 2


class _Search:
    """Patches of a picture that are seen whole, and the cells around those that are missing, for which like ones are sought."""

    def __init__(
        self, seen: Bool[np.ndarray, "r c"], missing: Bool[np.ndarray, "r c"], rng: np.random.Generator
    ) -> None:
        side = 2 * RADIUS + 1
        self.rng = rng
        self.missing = missing
        self.whole = ndimage.binary_erosion(seen, np.ones((side, side)))
        self.sources = np.argwhere(self.whole)
        self.used = ndimage.binary_dilation(missing, np.ones((side, side))) & (seen | missing)
        self.places = np.argwhere(self.used)
        self.possible = len(self.sources) >= FEWEST and len(self.places) > 0

    def run(self, colours: Float32[np.ndarray, "r c 3"], before: _Found | None) -> _Found:
        """The best patches found, beginning with those of a coarser copy."""
        source = self._first(before)
        for _ in range(ROUNDS):
            source = self._searched(colours, source)
            colours = self._voted(colours, source)
        step = np.zeros((*self.used.shape, 2), dtype=int)
        step[self.used] = source - self.places
        return _Found(step, self.used)

    def _first(self, before: _Found | None) -> Int[np.ndarray, "n 2"]:
        anywhere = self.sources[self.rng.integers(len(self.sources), size=len(self.places))]
        if before is None:
            return anywhere
        shape, coarse = np.array(self.used.shape), np.array(before.used.shape)
        at = self.places * coarse // shape
        guess = self.places + np.round(before.step[at[:, 0], at[:, 1]] * (shape / coarse)).astype(int)
        good = before.used[at[:, 0], at[:, 1]] & self._usable(guess)
        return np.where(good[:, None], guess, anywhere)

    def _usable(self, source: Int[np.ndarray, "n 2"]) -> Bool[np.ndarray, "n"]:
        inside = ((source >= 0) & (source < self.whole.shape)).all(axis=1)
        at = np.where(inside[:, None], source, 0)
        return inside & self.whole[at[:, 0], at[:, 1]]

    def _searched(
        self, colours: Float32[np.ndarray, "r c 3"], source: Int[np.ndarray, "n 2"]
    ) -> Int[np.ndarray, "n 2"]:
        """The better of each patch, of what goes on from its neighbours' patches, and of some around it, ever nearer."""
        width = colours.shape[1]
        patches = _patches(colours).reshape(len(colours) * width, -1)
        wanted = patches.take(self.places[:, 0] * width + self.places[:, 1], axis=0)
        number = np.full(self.used.shape, -1)
        number[self.used] = np.arange(len(self.places))
        framed = np.pad(number, 1, constant_values=-1)

        def cost(of: Int[np.ndarray, "n 2"]) -> Float[np.ndarray, "n"]:
            return np.square(patches.take(of[:, 0] * width + of[:, 1], axis=0) - wanted).sum(axis=1)

        best = cost(source)

        def tried(guess: Int[np.ndarray, "n 2"]) -> None:
            nonlocal source, best
            usable = self._usable(guess)
            guess = np.where(usable[:, None], guess, source)
            value = cost(guess)
            better = value < best
            source, best = np.where(better[:, None], guess, source), np.where(better, value, best)

        reach = max(self.whole.shape)
        while reach >= 1:
            for row, column in NEIGHBOURS:
                beside = framed[self.places[:, 0] + 1 + row, self.places[:, 1] + 1 + column]
                tried(np.where(beside[:, None] >= 0, source[beside] - [row, column], source))
            tried(source + self.rng.integers(-reach, reach + 1, size=source.shape))
            reach //= 2
        return source

    def _voted(
        self, colours: Float32[np.ndarray, "r c 3"], source: Int[np.ndarray, "n 2"]
    ) -> Float32[np.ndarray, "r c 3"]:
        """The mean of what all patches over a missing cell say of it."""
        total, count = np.zeros_like(colours), np.zeros(self.used.shape, np.float32)
        height, width = self.used.shape
        for row in range(-RADIUS, RADIUS + 1):
            for column in range(-RADIUS, RADIUS + 1):
                beside = np.array([row, column])
                to = self.places + beside
                inside = ((to >= 0) & (to < (height, width))).all(axis=1)
                to, taken = to[inside], (source + beside)[inside]
                total[to[:, 0], to[:, 1]] += colours[taken[:, 0], taken[:, 1]]
                count[to[:, 0], to[:, 1]] += 1
        mean = total / np.maximum(count, 1)[..., None]
        return np.where((self.missing & (count > 0))[..., None], mean, colours)


def _patches(colours: Float32[np.ndarray, "r c 3"]) -> Float32[np.ndarray, "r c d"]:
    """The colours around each cell; beyond the picture those of its border."""
    framed = np.pad(colours, ((RADIUS, RADIUS), (RADIUS, RADIUS), (0, 0)), mode="edge")
    side = 2 * RADIUS + 1
    height, width = colours.shape[:2]
    return np.concatenate(
        [framed[row : row + height, column : column + width] for row in range(side) for column in range(side)], axis=-1
    )


def _copied(
    picture: Float32[np.ndarray, "h w 3"], found: _Found, hidden: Bool[np.ndarray, "h w"]
) -> Float32[np.ndarray, "n 3"]:
    """What is found for the pixels that are `hidden`, in reading order: a mean of what the four nearest cells say."""
    (height, width), cells = hidden.shape, found.used.shape
    rows, columns = np.nonzero(hidden)
    step = np.round(found.step * (np.array(hidden.shape) / cells)).astype(int).reshape(-1, 2)
    used, pixels = found.used.ravel(), picture.reshape(-1, 3)
    total, weight = np.zeros((len(rows), 3), np.float32), np.zeros((len(rows), 1), np.float32)
    for row, row_share in _beside(height, cells[0]):
        for column, column_share in _beside(width, cells[1]):
            cell = row[rows] * cells[1] + column[columns]
            share = (row_share[rows] * column_share[columns] * used[cell]).astype(np.float32)[:, None]
            taken_row = np.clip(rows + step[cell, 0], 0, height - 1)
            taken = taken_row * width + np.clip(columns + step[cell, 1], 0, width - 1)
            total += share * pixels.take(taken, axis=0)  # four times as fast as an index
            weight += share
    return total / np.maximum(weight, 1e-6)


def _beside(pixels: int, cells: int) -> Iterator[tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n"]]]:
    """Along one side of a picture: of each pixel the cell before and the cell behind it, and their shares in it."""
    place = (np.arange(pixels) + 0.5) * (cells / pixels) - 0.5
    before = np.floor(place)
    for beside in (0, 1):
        yield np.clip(before + beside, 0, cells - 1).astype(int), np.abs(1 - beside - (place - before))
