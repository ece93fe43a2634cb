"""How the placed objects agree with the photo: the scene looked at through the photo's camera."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Integer, UInt8

from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import render
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
    """
    order = list(meshes)
    picture = render([meshes[i] for i in order], camera)
    scores = {}
    for index, object_id in enumerate(order):
        mine, mask = picture.ids == index, ids == object_id
        both = mine & mask
        known = both & (depth > 0)
        error = np.abs(picture.depth[known] - depth[known]) / depth[known]
        difference = picture.color[both].astype(float) - image[both]
        scores[object_id] = Scores(
            silhouette_iou=round(intersection_over_union(mine, mask), 4),
            depth_error=round(float(np.median(error)), 5) if known.any() else None,
            colour_psnr=round(psnr(difference), 2) if both.any() else None,
        )
    return scores


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two boolean pictures; 0 where both are empty."""
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 0.0


def psnr(difference: Float[np.ndarray, "*n"]) -> float:
    """Peak signal-to-noise ratio in decibels of an 8-bit difference; at most 100."""
    mean_square = float(np.mean(np.square(difference)))
    return min(100.0, 10 * float(np.log10(255**2 / max(mean_square, 1e-12))))
