"""What segmenters, depth estimators and camera estimators return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt16

Guess = tuple[str, float]
"""An everyday noun, and how likely it is right, 0..1."""
UNNAMED = "object"
"""The label of an object for which no name is likely enough."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The separate objects of a photo."""

    ids: UInt16[np.ndarray, "h w"]
    """Id of the object each pixel shows, with `BACKGROUND` and `UNKNOWN` of `scenegen.ids`."""
    scores: tuple[float, ...]
    """How sure the segmenter is of each object, 0..1; the score of id i is `scores[i - 1]`, even if an id is left out."""
    labels: tuple[str, ...]
    """The label of each object, in the order of `scores`; `UNNAMED` if it is not known."""
    label_confidences: tuple[float | None, ...]
    """How likely each of them is right, 0..1; None if it was given, or is `UNNAMED`."""
    backend: str
    licence: str
    guesses: tuple[tuple[Guess, ...], ...] = ()
    """What each object could be, the likeliest first, also where that is too little for a label; empty if nobody guesses."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Names:
    """The names of objects that were drawn by others."""

    labels: Mapping[int, tuple[str, float | None]]
    """By id: as one of `Segmentation.labels`, and one of its `label_confidences`."""
    guesses: Mapping[int, tuple[Guess, ...]]
    """By id: as one of `Segmentation.guesses`."""
    backend: str
    licence: str


@dataclass(frozen=True, eq=False)
class DepthEstimate:
    """The depth of a photo."""

    depth: Float32[np.ndarray, "h w"]
    """z-depth (distance along the optical axis) in metres, 0 where unknown."""
    metric: bool
    """Whether metres are measured rather than assumed."""
    uncertainty: float
    """One standard deviation of the depth, relative to the depth."""
    relief_error: float
    """One standard deviation of the depth across an object, without the error of its mean, as a share of the object's width."""
    backend: str
    licence: str
    any_scale: bool = False
    """Whether another scale is as good, so that the known sizes of what is seen may give one."""
    assumption: str = ""
    """What the metres stand on as long as neither a known length nor known sizes give them, as a remark; empty if they are
    measured."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class CameraEstimate:
    """What a photo says of its camera. None if it says nothing."""

    fov_x_deg: float | None = None
    """Horizontal field of view, for a centred principal point and square pixels."""
    log_focal_error: float | None = None
    """One standard deviation of the logarithm of the focal length."""
    down: Float32[np.ndarray, "3"] | None = None
    """Unit vector of gravity in the camera's frame."""
