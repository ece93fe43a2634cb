"""The one free number of every object: its scale about the camera's centre, as depth says it.

X_camera = s R^T X_crop. Any s leaves the object's picture unchanged, so it cannot spoil what the photo fixes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int32
from scipy import ndimage

from scenegen.camera import rays
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import RayCaster
from scenegen.records import Intrinsics
from scenegen.scene.layout import Floor

ITERATIONS = 20


@dataclass(frozen=True)
class Fit:
    """A scale and how well it is known."""

    scale: float
    spread: float
    """Robust standard deviation of the residuals, relative to the depth."""
    pixels: int


def surface_depth(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    camera: Intrinsics,
    mask: Bool[np.ndarray, "h w"],
) -> Float[np.ndarray, "h w"]:
    """z-depth of the mesh (camera frame) at the pixels of `mask`; 0 elsewhere and where it is missed."""
    depth = np.zeros(mask.shape)
    directions = rays(camera)[mask]
    hits = RayCaster(vertices, faces).cast(np.zeros_like(directions), directions)
    depth[mask] = np.where(hits.triangle >= 0, hits.distance, 0.0)
    return depth


def fit_scale(
    mesh_depth: Float[np.ndarray, "h w"], photo_depth: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]
) -> Fit | None:
    """The s for which s * mesh_depth meets photo_depth along the same rays.

    Weighted median of the ratios, then iteratively reweighted least squares (Huber) on their logarithms, over the eroded
    mask away from steps of the depth map. None if fewer than 8 pixels tell.
    """
    usable = mask & (mesh_depth > 0) & (photo_depth > 0)
    inner = ndimage.binary_erosion(mask, iterations=max(1, round(0.004 * max(mask.shape)))) & usable
    step = ndimage.morphological_gradient(photo_depth, size=3) < 0.05 * np.maximum(photo_depth, 1e-9)
    for chosen in (inner & step, inner, usable):
        if np.count_nonzero(chosen) >= 8:
            break
    else:
        return None
    ratios = np.log(photo_depth[chosen] / mesh_depth[chosen])
    # Near surfaces are both better measured and larger in the picture: weigh by inverse depth.
    weights = 1 / photo_depth[chosen]
    order = np.argsort(ratios)
    centre = ratios[order][np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)]
    for _ in range(ITERATIONS):
        residuals = ratios - centre
        sigma = max(1.4826 * float(np.median(np.abs(residuals))), 1e-6)
        robust = weights * np.minimum(1.0, 1.345 * sigma / np.maximum(np.abs(residuals), 1e-12))
        updated = float(np.sum(robust * ratios) / np.sum(robust))
        if abs(updated - centre) < 1e-9:
            break
        centre = updated
    return Fit(float(np.exp(centre)), sigma, int(np.count_nonzero(chosen)))


def gap_above(vertices: Float[np.ndarray, "v 3"], support: TexturedMesh, floor: Floor) -> float | None:
    """Height of an object (camera frame) above the upper side of its support, along gravity, metres.

    Negative if it sinks in. None if no part of it is over the support.
    """
    reach = float(np.ptp(support.vertices @ floor.normal)) + float(np.ptp(vertices @ floor.normal)) + 1.0
    caster = RayCaster(support.vertices, support.faces)
    above = vertices + reach * floor.normal
    hits = caster.cast(above, np.broadcast_to(-floor.normal, above.shape))
    over = hits.triangle >= 0
    if not over.any():
        return None
    gaps = hits.distance[over] - reach
    # A single vertex may dip into a noisy surface: the object rests where its lowest percent does.
    return float(np.percentile(gaps, 1))
