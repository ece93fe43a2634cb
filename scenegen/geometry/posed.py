"""Puts a mesh that was made elsewhere where the photo shows its object: its rotation, place and size by silhouette, relief and
colours."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from scenegen.camera import GLTF_CAMERA_FROM_CAMERA, rays, resized
from scenegen.geometry.generator import ObjectView
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import RayCaster, sample_texture

SIDE = 96
"""Pixels of the picture that poses are compared in."""
YAWS = 24
"""Turns about the vertical that are tried."""
REFINED = 3
"""Best starts that are refined."""
EVALUATIONS = 220
FITTING_STEPS = 4
"""Of size and place to the mask's box, before a start is scored."""
RELIEF_WEIGHT = 0.25
COLOUR_WEIGHT = 0.25
"""What relief and colours count beside the silhouette, which counts 1. They tell front from back."""
TURN_RAD, SHIFT, GROWTH = 0.12, 0.05, 0.08
"""First steps of the refinement: angle, place in widths, logarithm of the size."""


@dataclass(frozen=True, eq=False)
class Posed:
    """The mesh in the crop camera's frame."""

    mesh: TexturedMesh
    silhouette_iou: float


@dataclass(frozen=True, eq=False)
class _Target:
    """What the crop shows, at `SIDE` pixels."""

    rays: Float[np.ndarray, "n 3"]
    mask: Bool[np.ndarray, "n"]
    colours: Float[np.ndarray, "n 3"]
    """0..1."""
    depth: Float[np.ndarray, "n"]
    """Relative to its median on the object, 0 where unknown."""
    box: Float[np.ndarray, "4"]
    """Left, top, right and bottom of the mask, as slopes of rays."""


def posed(mesh: TexturedMesh, view: ObjectView) -> Posed:
    """The mesh as the photo shows it, at distance 1 from the crop camera: its scale is still free.

    Tried are turns of the upright mesh (Y up) about the vertical, and the mesh as it is, seen along -Z. The best are refined.

    Args:
        mesh: glTF's axes, any unit.
        view: what is known of the object.
    """
    target = _target(view)
    vertices = mesh.vertices.astype(np.float64)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    centred = (vertices - (low + high) / 2) / np.linalg.norm(high - low)
    caster = RayCaster(centred.astype(np.float32), mesh.faces)
    starts = [_fitted(rotation, centred, target) for rotation in _rotations(view)]
    scored = sorted(starts, key=lambda pose: -_score(pose, caster, mesh, target)[0])
    best = max((_refined(pose, caster, mesh, target) for pose in scored[:REFINED]), key=lambda item: item[1])[0]
    rotation, translation, size = _parts(best)
    matrix = np.eye(4)
    matrix[:3, :3] = size * rotation
    matrix[:3, 3] = translation
    centring = np.eye(4)
    centring[:3, :3] /= np.linalg.norm(high - low)
    centring[:3, 3] = -(low + high) / 2 / np.linalg.norm(high - low)
    return Posed(mesh.transformed(matrix @ centring), _score(best, caster, mesh, target)[1])


def _target(view: ObjectView) -> _Target:
    directions = rays(resized(view.crop.intrinsics, SIDE, SIDE)).reshape(-1, 3)
    share = cv2.resize(view.mask, (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel()
    mask = share > 0.5 if (share > 0.5).any() else share > 0
    depth = cv2.resize(view.depth.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST).ravel()
    known = mask & (depth > 0)
    colours = cv2.resize(view.image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).reshape(-1, 3) / 255.0
    seen = directions[mask, :2]
    return _Target(
        rays=directions,
        mask=mask,
        colours=colours,
        depth=np.where(known, depth / np.median(depth[known]), 0.0) if known.any() else np.zeros(len(depth)),
        box=np.concatenate([seen.min(axis=0), seen.max(axis=0)]),
    )


def _rotations(view: ObjectView) -> list[Float[np.ndarray, "3 3"]]:
    """From glTF's axes to the crop camera's."""
    up = view.up.astype(np.float64) / np.linalg.norm(view.up)
    towards = np.array([0.0, 0.0, -1.0]) + up * up[2]
    if np.linalg.norm(towards) < 1e-3:  # seen from straight above
        towards = np.array([0.0, 1.0, 0.0]) - up * up[1]
    towards /= np.linalg.norm(towards)
    upright = np.stack([np.cross(up, towards), up, towards], axis=1)
    turns = Rotation.from_euler("y", (np.arange(YAWS) * 360 / YAWS)[:, None], degrees=True).as_matrix()
    return [GLTF_CAMERA_FROM_CAMERA[:3, :3], *(upright @ turn for turn in turns)]


def _fitted(
    rotation: Float[np.ndarray, "3 3"], centred: Float[np.ndarray, "v 3"], target: _Target
) -> Float[np.ndarray, "6"]:
    """A pose (rotation vector, x, y, log size) with which the mesh fills the mask's box, its middle at distance 1."""
    turned = centred @ rotation.T
    left, top, right, bottom = target.box
    size, x, y = max(right - left, bottom - top), (left + right) / 2, (top + bottom) / 2
    for _ in range(FITTING_STEPS):
        placed = size * turned + [x, y, 1.0]
        slopes = placed[:, :2] / np.maximum(placed[:, 2:], 0.05)
        low, high = slopes.min(axis=0), slopes.max(axis=0)
        size *= float(np.clip(max(right - left, bottom - top) / max((high - low).max(), 1e-9), 0.2, 5))
        x += (left + right) / 2 - (low[0] + high[0]) / 2
        y += (top + bottom) / 2 - (low[1] + high[1]) / 2
    size = min(size, 1.8)  # the camera stays outside
    return np.array([*Rotation.from_matrix(rotation).as_rotvec(), x, y, np.log(size)])


def _parts(pose: Float[np.ndarray, "6"]) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"], float]:
    return Rotation.from_rotvec(pose[:3]).as_matrix(), np.array([pose[3], pose[4], 1.0]), float(np.exp(pose[5]))


def _score(pose: Float[np.ndarray, "6"], caster: RayCaster, mesh: TexturedMesh, target: _Target) -> tuple[float, float]:
    """How well a pose agrees with the photo, and its silhouette's IoU. The rays are turned, not the mesh."""
    rotation, translation, size = _parts(pose)
    origin = -translation @ rotation / size
    directions = target.rays @ rotation / size
    hits = caster.cast(np.broadcast_to(origin, directions.shape), directions)
    hit = np.isfinite(hits.distance)
    both = hit & target.mask
    iou = float(both.sum() / max(1, (hit | target.mask).sum()))
    if not both.any():
        return iou, iou
    corners = mesh.faces[hits.triangle[both]]
    uv = np.einsum("nc,ncd->nd", hits.barycentric[both], mesh.uv[corners])
    made = sample_texture(mesh.base_color[..., :3], uv) / 255.0
    colour = float(np.abs(_contrast(made) - _contrast(target.colours[both])).mean())
    known = target.depth[both] > 0
    relief = 0.0
    if np.count_nonzero(known) > 10:
        # Rays have z = 1, so their length to the hit is its z-depth.
        z = hits.distance[both][known]
        difference = z / np.median(z) - target.depth[both][known]
        relief = min(1.0, float(np.abs(difference - np.median(difference)).mean()) / (0.25 * size))
    return iou - RELIEF_WEIGHT * relief - COLOUR_WEIGHT * colour, iou


def _contrast(colours: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Colours without the light: relative to their mean."""
    return colours - colours.mean(axis=0)


def _refined(
    pose: Float[np.ndarray, "6"], caster: RayCaster, mesh: TexturedMesh, target: _Target
) -> tuple[Float[np.ndarray, "6"], float]:
    """A better pose near one, and its score."""
    width = float(np.exp(pose[5]))
    steps = np.array([TURN_RAD] * 3 + [SHIFT * width] * 2 + [GROWTH])
    start = Rotation.from_rotvec(pose[:3])

    def at(moved: Float[np.ndarray, "6"]) -> Float[np.ndarray, "6"]:
        change = moved * steps
        turned = (Rotation.from_rotvec(change[:3]) * start).as_rotvec()
        return np.array([*turned, pose[3] + change[3], pose[4] + change[4], pose[5] + change[5]])

    found = minimize(
        lambda moved: -_score(at(moved), caster, mesh, target)[0],
        np.zeros(6),
        method="Nelder-Mead",
        options={
            "maxfev": EVALUATIONS,
            "initial_simplex": np.concatenate([np.zeros((1, 6)), np.eye(6)]),
            "xatol": 1e-3,
            "fatol": 1e-4,
        },
    )
    return at(found.x), -float(found.fun)
