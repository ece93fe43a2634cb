"""Id pictures: which object each pixel shows, `BACKGROUND` if it shows none, `UNKNOWN` if that is not known.

The difference matters: background that is seen says what lies behind the objects, and what is unknown says nothing.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Integer

BACKGROUND = 0
UNKNOWN = 65535
"""Ids have 16 bits; the largest one is not an object."""


def shows_object(ids: Integer[np.ndarray, "*n"]) -> Bool[np.ndarray, "*n"]:
    """The pixels that show an object."""
    return (ids != BACKGROUND) & (ids != UNKNOWN)


def object_ids(ids: Integer[np.ndarray, "*n"]) -> list[int]:
    """The ids of the objects that a picture shows, ascending."""
    return [int(number) for number in np.unique(ids) if number not in (BACKGROUND, UNKNOWN)]
