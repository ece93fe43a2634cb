"""What a segmenter and a depth estimator are, and what they return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

UNNAMED = "object"
"""What an object is called where no name is likely enough."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The separate objects of a photo."""

    ids: UInt16[np.ndarray, "h w"]
    """Id of the object each pixel shows, with `BACKGROUND` and `UNKNOWN` of `scenegen.ids`."""
    scores: tuple[float, ...]
    """How sure the segmenter is of each object, 0..1; the score of id i is `scores[i - 1]`, also where an id is left out."""
    labels: tuple[str, ...]
    """What each object is called, in the order of `scores`; `UNNAMED` where nobody knows."""
    label_confidences: tuple[float | None, ...]
    """How likely each of them is right, 0..1; None where it was given, or nothing is called so."""
    backend: str
    licence: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class DepthEstimate:
    """How far away everything in a photo is."""

    depth: Float32[np.ndarray, "h w"]
    """z-depth (distance along the optical axis) in metres, 0 where unknown."""
    metric: bool
    """Whether metres are measured rather than assumed."""
    uncertainty: float
    """One standard deviation of the depth, relative to the depth."""
    relief_error: float
    """One standard deviation of the depth across an object, once its mean is right, as a share of the object's width."""
    backend: str
    licence: str
    warnings: tuple[str, ...] = ()


class Segmenter(Protocol):
    """Finds the objects of a photo."""

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> Segmentation:
        """`image` is sRGB. Finding nothing is no error: `ids` is then all 0."""
        ...


class DepthEstimator(Protocol):
    """Finds how far away everything in a photo is."""

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> DepthEstimate:
        """`image` is sRGB; the result has its size."""
        ...
