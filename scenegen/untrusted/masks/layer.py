"""One mask of one object, and what the masks of a photo come to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, UInt16


@dataclass(frozen=True, eq=False)
class Layer:
    """The mask of one object at working size, which may overlap others. Only its box is kept: there may be hundreds."""

    name: str
    """In messages: `3.png`, `annotation 2`."""
    label: str
    """What the object is called; empty if nothing says so."""
    shape: tuple[int, ...]
    """Height and width of the picture."""
    rows: slice
    columns: slice
    box: Bool[np.ndarray, "r c"]
    """The mask within these rows and columns."""
    area: int
    """Pixels."""

    @classmethod
    def of(cls, name: str, label: str, mask: Bool[np.ndarray, "h w"]) -> Layer:
        """The layer of a whole mask."""
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        down, across = (slice(int(at[0]), int(at[-1]) + 1) if len(at) else slice(0, 0) for at in (rows, columns))
        box = mask[down, across].copy()
        return cls(name, label, mask.shape, down, across, box, int(np.count_nonzero(box)))

    @property
    def mask(self) -> Bool[np.ndarray, "h w"]:
        """The mask of the whole picture."""
        mask = np.zeros(self.shape, dtype=bool)
        mask[self.rows, self.columns] = self.box
        return mask

    def part(self, box: Bool[np.ndarray, "r c"]) -> Layer:
        """What of it has these pixels of its box."""
        return replace(self, box=box, area=int(np.count_nonzero(box)))

    def common(self, other: Layer) -> int:
        """Pixels that both have."""
        rows = slice(max(self.rows.start, other.rows.start), min(self.rows.stop, other.rows.stop))
        columns = slice(max(self.columns.start, other.columns.start), min(self.columns.stop, other.columns.stop))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return 0
        return int(np.count_nonzero(self._within(rows, columns) & other._within(rows, columns)))

    def _within(self, rows: slice, columns: slice) -> Bool[np.ndarray, "r c"]:
        top, left = self.rows.start, self.columns.start
        return self.box[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


@dataclass(frozen=True, eq=False)
class Masks:
    """Which object each pixel shows."""

    ids: UInt16[np.ndarray, "h w"]
    labels: tuple[str, ...] = ()
    """Names of the objects 1, 2 and so on; empty where none is given."""
    notes: tuple[str, ...] = ()
    """What was mended, left out or looks wrong, each in one line."""
