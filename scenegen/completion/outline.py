"""Completion without weights: the outline is closed behind what hides it, by continuation and by symmetry."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from scenegen.completion import PartView, WholeView

AXES = 33
"""Vertical axes that are tried for symmetry."""
LEAST_TESTED, LEAST_SUPPORT = 0.5, 0.9
"""Share of the mirror image that must lie where nothing can hide it, and share of that which must be the object. Chosen on 175
partly hidden objects of rendered scenes."""
SOFT_SHARE = 0.02
"""Share of the crop's side from around which a hidden pixel takes its colour."""


def complete_outline(view: PartView) -> WholeView:
    """The object with what either its straight continuation or its mirror image shows where it may hide.

    Hidden pixels have the colour of the nearest seen ones, softened.
    """
    mask = continued(view.seen, view.may_hide) | mirrored(view.seen, view.may_hide)
    inner = ndimage.binary_erosion(view.seen, iterations=2)
    known = inner if inner.any() else view.seen
    _, (rows, columns) = ndimage.distance_transform_edt(~known, return_indices=True)
    soft = SOFT_SHARE * mask.shape[0]
    image = cv2.GaussianBlur(view.image[rows, columns], (0, 0), soft)
    return WholeView(image, mask, "outline", "none: no weights")


def continued(seen: Bool[np.ndarray, "s s"], may_hide: Bool[np.ndarray, "s s"]) -> Bool[np.ndarray, "s s"]:
    """The object with its outline continued straight where it may hide: its convex hull, as far as that lies there."""
    points = np.argwhere(seen)[:, ::-1].astype(np.int32)
    hull = np.zeros(seen.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return _attached(seen | ((hull > 0) & may_hide), seen)


def mirrored(seen: Bool[np.ndarray, "s s"], may_hide: Bool[np.ndarray, "s s"]) -> Bool[np.ndarray, "s s"]:
    """The object with what its mirror image shows where it may hide, about the upright axis that the photo supports best.

    An axis is supported by the mirror image's pixels that cannot be hidden: so many of them must be seen to be the object.
    """
    best, support = seen, LEAST_SUPPORT
    columns = np.flatnonzero(seen.any(axis=0))
    for axis in np.linspace(columns[0], columns[-1] + 1, AXES):
        mirror = _mirror(seen, axis)
        tested = np.count_nonzero(mirror & ~may_hide)
        if tested < LEAST_TESTED * np.count_nonzero(seen):
            continue
        agreed = np.count_nonzero(mirror & seen) / tested
        if agreed > support:
            best, support = mirror, agreed
    return _attached(seen | (best & may_hide), seen)


def _mirror(mask: Bool[np.ndarray, "s s"], axis: float) -> Bool[np.ndarray, "s s"]:
    source = np.round(2 * axis - 1 - np.arange(mask.shape[1])).astype(int)
    inside = (source >= 0) & (source < mask.shape[1])
    mirror = np.zeros_like(mask)
    mirror[:, inside] = mask[:, source[inside]]
    return mirror


def _attached(mask: Bool[np.ndarray, "s s"], seen: Bool[np.ndarray, "s s"]) -> Bool[np.ndarray, "s s"]:
    """The parts of `mask` that hang together with what is seen."""
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    return np.isin(labels, np.unique(labels[seen])) & mask
