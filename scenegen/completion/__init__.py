"""What completers of partly hidden objects are given and return."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8


@dataclass(frozen=True, eq=False)
class PartView:
    """A partly hidden object, seen through a crop camera wide enough for what is hidden of it."""

    image: UInt8[np.ndarray, "s s 3"]
    """sRGB, with the surroundings of the object; black outside the photo."""
    seen: Bool[np.ndarray, "s s"]
    """What is seen of it."""
    may_hide: Bool[np.ndarray, "s s"]
    """Where it may go on unseen: behind what stands before it, and outside the photo."""
    label: str
    """What it is called."""


@dataclass(frozen=True, eq=False)
class WholeView:
    """The object as if nothing hid it, in the same crop."""

    image: UInt8[np.ndarray, "s s 3"]
    """sRGB; only what is in `mask` and not seen anyway is used."""
    mask: Bool[np.ndarray, "s s"]
    """The whole object; only what lies where it may hide is used."""
    backend: str
    licence: str
    """Of the weights."""
