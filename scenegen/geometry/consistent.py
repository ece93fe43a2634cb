"""Which views of an object can be used together: one with a wrong camera, or of something else, would carve the object away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from scenegen.camera import project, transform, unproject
from scenegen.geometry.generator import ObjectView, OtherView
from scenegen.geometry.refine import unseen, visible_front

LEAST_PIXELS = 64
"""Pixels of a crop that must show the object with a known depth."""
BESIDE = 0.5
"""Share of what the main view shows that may lie beside the object in another. Weak depth puts some of it there."""
POINTS = 4000
"""Most points that are looked at."""


def consistent(view: ObjectView) -> tuple[ObjectView, tuple[str, ...]]:
    """The view without those others that show too little of the object or contradict it, and a warning for each of them.

    Example:
        >>> view, warnings = consistent(view)  # doctest: +SKIP
        >>> warnings  # doctest: +SKIP
        ("view 3 of it is left out: 92% of what the first shows lies beside the object there. Check the camera, ...",)
    """
    if not view.others:
        return view, ()
    inside = (view.mask > 0.5) & (view.depth > 0)
    points = unproject(view.crop.intrinsics, view.depth.astype(np.float64))[inside]
    points = points[:: max(1, len(points) // POINTS)]
    kept, warnings = [], []
    for number, other in enumerate(view.others, 2):
        reason = _reason(other, points)
        if reason:
            warnings.append(f"view {number} of it is left out: {reason}")
        else:
            kept.append(other)
    return replace(view, others=tuple(kept)), tuple(warnings)


def _reason(other: OtherView, points: Float64[np.ndarray, "n 3"]) -> str:
    """Why a view cannot be used; empty if it can. `points` are what the main view shows, in its crop's frame."""
    seen = other.view
    if np.count_nonzero((seen.mask > 0.5) & (seen.depth > 0)) < LEAST_PIXELS:
        return f"fewer than {LEAST_PIXELS} pixels of its crop show the object with a known depth."
    mine = transform(other.crop_from_main, points)
    hidden = unseen(seen, visible_front(seen))
    possible = (seen.mask > 0.5) | hidden
    last = len(possible) - 1
    column, row = (
        np.floor(project(seen.crop.intrinsics, np.where(mine[:, 2:] > 0, mine, [0.0, 0.0, 1.0]))).astype(int).T
    )
    at = (np.clip(row, 0, last), np.clip(column, 0, last))
    shown = (np.minimum(row, column) >= 0) & (np.maximum(row, column) <= last)
    beside = (mine[:, 2] <= 0) | ~np.where(shown, possible[at], hidden[at])
    if len(points) and beside.mean() > BESIDE:
        return (
            f"{beside.mean():.0%} of what the first shows lies beside the object there. Check the camera, and that both show the "
            "same object."
        )
    return ""
