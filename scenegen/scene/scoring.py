"""How the placed objects agree with the photo: the scene looked at through the photo's camera."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8

from scenegen.faults import about_object
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import Picture, render
from scenegen.records import Intrinsics, Scores


def score_objects(
    meshes: Mapping[int, TexturedMesh],
    image: UInt8[np.ndarray, "h w 3"],
    ids: Integer[np.ndarray, "h w"],
    depth: Float[np.ndarray, "h w"],
    camera: Intrinsics,
) -> dict[int, Scores]:
    """Scores of every object, by id, hidden parts hidden: the objects are rendered together, nearest first.

    Args:
        meshes: placed, in the camera frame, by object id.
        image: the photo.
        ids: its object ids.
        depth: its z-depth, 0 where unknown.
        camera: its intrinsics.

    Raises:
        ObjectError: if one of the objects cannot be scored.
    """
    order = list(meshes)
    picture = render([meshes[i] for i in order], camera)
    scores = {}
    for index, object_id in enumerate(order):
        with about_object(object_id):
            scores[object_id] = _scores(picture, picture.ids == index, image, ids == object_id, depth)
    return scores


def _scores(
    picture: Picture,
    mine: Bool[np.ndarray, "h w"],
    image: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    depth: Float[np.ndarray, "h w"],
) -> Scores:
    """Of the object that `picture` shows at the pixels `mine`, and the photo at those of `mask`."""
    both = mine & mask
    known = both & (depth > 0)
    error = np.abs(picture.depth[known] - depth[known]) / depth[known]
    difference = picture.color[both].astype(float) - image[both]
    return Scores(
        silhouette_iou=round(intersection_over_union(mine, mask), 4),
        depth_error=round(float(np.median(error)), 5) if known.any() else None,
        colour_psnr=round(psnr(difference), 2) if both.any() else None,
    )


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two boolean pictures; 0 if both are empty."""
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 0.0


def psnr(difference: Float[np.ndarray, "*n"]) -> float:
    """Peak signal-to-noise ratio in decibels of an 8-bit difference; at most 100."""
    mean_square = float(np.mean(np.square(difference)))
    return min(100.0, 10 * float(np.log10(255**2 / max(mean_square, 1e-12))))
