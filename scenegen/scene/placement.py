"""The one free number of every object: its scale about the camera's centre, as depth says it.

X_camera = s R^T X_crop. Any s leaves the object's picture unchanged, so it cannot spoil what the photo fixes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int32
from scipy import ndimage

from scenegen.camera import rays
from scenegen.compute.recent import OF_OBJECTS, reused
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import RayCaster
from scenegen.records import Intrinsics
from scenegen.scene.layout import Floor

ITERATIONS = 20
SEARCH, LEAST_SEARCH = 2.5, 0.02
"""How far from the depth's own scale others are tried: in standard deviations of the depth, and at least."""
CANDIDATES, REFINEMENTS = 9, 3
RAYS = 64
"""Rays along each side of what is looked at around an object in a photo."""
SURE = 0.02
"""Least relative error that is taken for a depth."""
SILHOUETTE_ERROR = 0.1
"""Share of its silhouette by which a made object is taken to be off where it is right."""
FARTHEST_OFF = 9.0
"""A depth that is off by more than its root in standard deviations is wrong, not the object."""


@dataclass(frozen=True)
class Fit:
    """A scale and how well it is known."""

    scale: float
    spread: float
    """Robust standard deviation of the residuals, relative to the depth."""
    pixels: int
    views: int = 1
    """Photos that it is from."""

    def times(self, factor: float) -> Fit:
        """The scale as if depth said that multiple of it."""
        return replace(self, scale=factor * self.scale)


@dataclass(frozen=True, eq=False)
class Sighting:
    """What one of several photos shows of an object."""

    camera: Intrinsics
    camera_from_main: Float[np.ndarray, "4 4"]
    """Rigid: from the frame of the camera that the object was made in."""
    mask: Bool[np.ndarray, "h w"]
    empty: Bool[np.ndarray, "h w"]
    """Where the object cannot be: the background is seen there."""
    depth: Float[np.ndarray, "h w"]
    """z-depth, metres, 0 where unknown."""
    uncertainty: float
    """Of the depth, relative."""


def surface_depth(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    camera: Intrinsics,
    mask: Bool[np.ndarray, "h w"],
) -> Float[np.ndarray, "h w"]:
    """z-depth of the mesh (camera frame) at the pixels of `mask`; 0 elsewhere and where it is missed."""
    depth = np.zeros(mask.shape)
    depth[mask] = _met(vertices, faces, rays(camera)[mask])
    return depth


@reused(OF_OBJECTS)
def _met(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], directions: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n"]:
    """Where rays from the camera first meet a mesh, in units of their directions; 0 where they miss it."""
    hits = RayCaster(vertices, faces).cast(np.zeros_like(directions), directions)
    return np.where(hits.triangle >= 0, hits.distance, 0.0)


def fit_scale(
    mesh_depth: Float[np.ndarray, "h w"], photo_depth: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]
) -> Fit | None:
    """The s for which s * mesh_depth meets photo_depth along the same rays.

    Weighted median of the ratios, then iteratively reweighted least squares (Huber) on their logarithms, over the eroded
    mask away from steps of the depth map. None if fewer than 8 pixels tell.
    """
    usable = mask & (mesh_depth > 0) & (photo_depth > 0)
    inner = ndimage.binary_erosion(mask, iterations=max(1, round(0.004 * max(mask.shape)))) & usable
    range_around = cv2.morphologyEx(photo_depth, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    step = range_around < 0.05 * np.maximum(photo_depth, 1e-9)
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


def fit_scale_in_views(mesh: TexturedMesh, first: Fit, sightings: Sequence[Sighting]) -> Fit:
    """The s at which all photos agree with the object: with its depth, and with where they see the background past it.

    Seen from the side, an object that is nearer or farther lies elsewhere in the picture, which tells its distance better than
    an estimated depth does.

    Args:
        mesh: in the frame of the camera that it was made in, at scale 1.
        first: the scale by that camera's photo alone, in whose neighbourhood is searched.
        sightings: of all photos that show it, that one first.
    """
    caster = RayCaster(mesh.vertices, mesh.faces)
    looks = [_Look.at(sighting, mesh) for sighting in sightings]
    scale, reach = first.scale, max(SEARCH * max(sightings[0].uncertainty, first.spread), LEAST_SEARCH)
    for _ in range(REFINEMENTS):
        candidates = scale * np.exp(np.linspace(-reach, reach, CANDIDATES))
        costs = [sum(look.cost(caster, float(candidate)) for look in looks) for candidate in candidates]
        scale = float(candidates[int(np.argmin(costs))])
        reach *= 2 / (CANDIDATES - 1)
    return Fit(scale, min(first.spread, max(reach, LEAST_SEARCH / 2)), first.pixels, len(sightings))


@dataclass(frozen=True, eq=False)
class _Look:
    """The rays of one photo around an object, and what they should meet."""

    origin: Float[np.ndarray, "3"]
    """Of the camera, in the frame of the one that the object was made in."""
    directions: Float[np.ndarray, "n 3"]
    """In the same frame, each of z-depth 1 in its own camera."""
    mask: Bool[np.ndarray, "n"]
    empty: Bool[np.ndarray, "n"]
    depth: Float[np.ndarray, "n"]
    tolerance: float

    @staticmethod
    def at(sighting: Sighting, mesh: TexturedMesh) -> _Look:
        """The rays through a grid of pixels of the photo."""
        height, width = sighting.mask.shape
        rows, columns = np.nonzero(sighting.mask)
        top, bottom, left, right = int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1
        # The object may be seen to lie beside its mask, by as much as its own size.
        margin = bottom - top if bottom - top > right - left else right - left
        step = max(1, int(np.ceil(3 * margin / RAYS)))
        grid = np.zeros(sighting.mask.shape, bool)
        grid[
            max(top - margin, 0) : min(bottom + margin, height) : step,
            max(left - margin, 0) : min(right + margin, width) : step,
        ] = True
        main_from_camera = np.linalg.inv(sighting.camera_from_main)
        return _Look(
            main_from_camera[:3, 3],
            rays(sighting.camera)[grid] @ main_from_camera[:3, :3].T,
            sighting.mask[grid],
            sighting.empty[grid],
            sighting.depth[grid],
            max(sighting.uncertainty, SURE),
        )

    def cost(self, caster: RayCaster, scale: float) -> float:
        """How badly the object at `scale` agrees."""
        # The camera moves and the object stays: X = s x is met where x is met from a camera at 1/s of its place.
        origins = np.broadcast_to(self.origin / scale, self.directions.shape)
        hits = caster.cast(origins, self.directions)
        hit = hits.triangle >= 0
        union = int(np.count_nonzero(self.mask | (hit & self.empty)))
        missed = 1 - int(np.count_nonzero(hit & self.mask)) / max(union, 1)
        known = hit & self.mask & (self.depth > 0)
        if not known.any():
            return (missed / SILHOUETTE_ERROR) ** 2 + FARTHEST_OFF
        off = float(np.median(np.log(self.depth[known] / (scale * hits.distance[known])))) / self.tolerance
        return (missed / SILHOUETTE_ERROR) ** 2 + min(off * off, FARTHEST_OFF)


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
