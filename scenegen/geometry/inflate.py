"""`generate: inflate`: a closed mesh from mask and depth, the hidden side by a thickness prior.

The visible side lies on the depth map. The hidden side lies behind it by a thickness that is 0 on the outline and grows
inwards like the square root of the solution of Poisson's equation on the mask: a disc becomes a sphere, a bar a bar with
an elliptic section. Both sides are the two roots of one implicit function over the picture, so that marching cubes gives
them as one closed surface whose outline follows the mask to a fraction of a cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int32
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve
from skimage.measure import marching_cubes

from scenegen.camera import rays, resized
from scenegen.config import InflateConfig
from scenegen.errors import InputError
from scenegen.geometry.fill import nearest_known, outline_distance, trusted_depth
from scenegen.geometry.generator import ObjectView, Shape
from scenegen.geometry.simplify import simplify
from scenegen.geometry.solid import volume

LEVELS = 25
"""Samples of the implicit function across the thickness."""
KNEE = 0.03
"""Profile heights below this share of the largest are stretched, so that thin parts span several samples."""
THINNEST = 0.02
"""Least half thickness, as a share of the prior's."""

BODY = 3.0
"""Most that standing under a visible surface can add, as a multiple of the prior: a lamp's pole stays a pole."""
RIM = 0.008
"""Share of the crop's side along the mask's outline where depth is not trusted: it mixes with what is behind."""
MARCH = 160
"""Steps of three quarters of a cell along each ray."""


@dataclass(frozen=True, eq=False)
class Thickness:
    """Where each ray of a coarse crop, with a margin of one cell all round, enters and leaves the object."""

    inside: Bool[np.ndarray, "n n"]
    front: Float[np.ndarray, "n n"]
    """z-depth of the visible side in metres, continued past the outline."""
    half: Float[np.ndarray, "n n"]
    """Half the thickness along z behind it, metres."""
    profile: Float[np.ndarray, "n n"]
    """What vanishes on the outline, for a closed surface: at most 1."""


def inflate(view: ObjectView, seed: int, config: InflateConfig) -> Shape:
    """The inflated object, in metres in the crop camera's frame.

    Args:
        view: mask and depth are used; the picture is not.
        seed: 0 gives the prior's thickness, any other draws one from its spread.
        config: resolution, thickness, spread, face budget.

    Raises:
        InputError: if the mask covers less than 4 cells, or no depth is known inside it.
    """
    spread = np.exp(config.variation * np.random.default_rng(seed).standard_normal()) if seed else 1.0
    found = thickness(view, config.resolution, config.thickness * spread)
    vertices, faces = _closed_surface(found.profile)
    surface = _on_rays(vertices, found.front, found.half, view, config.resolution)
    if volume(surface, faces) < 0:
        faces = np.ascontiguousarray(faces[:, ::-1])
    return Shape(*simplify(surface, faces, config.max_faces))


def thickness(view: ObjectView, size: int, factor: float = 1.0) -> Thickness:
    """The visible side from the depth, the hidden side from the prior.

    Args:
        view: mask and depth are used; the picture is not.
        size: cells across the crop.
        factor: thickness as a multiple of the prior's.

    Raises:
        InputError: if the mask covers less than 4 cells, or no depth is known inside it.
    """
    # One cell of margin all round, so that the surface closes inside the grid.
    coverage = np.pad(cv2.resize(view.mask, (size, size), interpolation=cv2.INTER_AREA), 1)
    inside = coverage > 0.5
    if np.count_nonzero(inside) < 4:
        raise InputError("the object's mask is too small to make a mesh from; mark more of the object or leave it out.")
    distance = np.pad(_signed_distance(view.mask, size), 1, mode="edge")
    distance[[0, -1]] = distance[:, [0, -1]] = np.minimum(distance[[0, -1]].max(), -0.5)
    profile = poisson_profile(ndimage.binary_dilation(inside))
    radius = np.sqrt(profile.max())
    front = np.pad(_front(view, size), 1, mode="edge")
    # Towards the outline the surface turns away and its depth is all steps; smoothed, the rim becomes a curve.
    rim = np.clip(1 - distance / 3, 0, 1)
    front = np.where(inside, rim * _smooth(front, inside) + (1 - rim) * front, front)
    front = nearest_known(front, inside)
    limit = np.pad(_limit(view.limit, size), 1, mode="edge")
    # Half a thickness in metres: the profile in cells, times the size of a cell at the object's depth.
    middle = float(np.median(front[inside]))
    cell = middle / view.crop.intrinsics.fx * view.crop.intrinsics.width / size
    half = cell * factor * np.sqrt(np.maximum(profile, 0))
    # No deeper than wide, unless more than that is seen: a bowl's far rim is the end of the bowl.
    nearest, farthest = np.percentile(front[inside], [1, 99])
    end = np.maximum(farthest, nearest + 2 * factor * cell * radius)
    least = THINNEST * cell * np.sqrt(np.maximum(profile, 0))
    directions = np.pad(rays(resized(view.crop.intrinsics, size, size)), ((1, 1), (1, 1), (0, 0)), mode="edge")
    half = hidden_side(front, half, inside, directions, view.up, cell)
    half = np.maximum(np.minimum(half, (np.minimum(end, limit) - front) / 2), least)
    return Thickness(inside, front, half, np.minimum(profile, 4 * radius * distance) / profile.max())


def poisson_profile(inside: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The squared half thickness in cells: the solution of -laplace(p) = 4 inside, p = 0 outside (r^2 - d^2 on a disc)."""
    count = np.count_nonzero(inside)
    index = np.full(inside.shape, -1)
    index[inside] = np.arange(count)
    rows, columns = [], []
    for axis in (0, 1):
        for shift in (-1, 1):
            neighbour = np.roll(index, shift, axis)
            linked = inside & (neighbour >= 0)
            rows.append(index[linked])
            columns.append(neighbour[linked])
    row, column = np.concatenate(rows), np.concatenate(columns)
    laplace = sparse.csc_matrix((-np.ones(len(row)), (row, column)), shape=(count, count))
    profile = np.zeros(inside.shape)
    profile[inside] = spsolve(laplace + sparse.diags_array(np.full(count, 4.0), format="csc"), np.full(count, 4.0))
    return profile


def _signed_distance(mask: Float32[np.ndarray, "s s"], size: int) -> Float[np.ndarray, "n n"]:
    """Distance to the outline in cells, positive inside, measured at full resolution and averaged over each cell."""
    scale = size / mask.shape[0]
    return cv2.resize(outline_distance(mask > 0.5) * scale, (size, size), interpolation=cv2.INTER_AREA)


def _front(view: ObjectView, size: int) -> Float[np.ndarray, "n n"]:
    """z-depth of the visible side on the coarse grid, continued over holes and past the outline."""
    inside = view.mask > 0.5
    if not (inside & (view.depth > 0)).any():
        raise InputError("no depth is known inside the object's mask; give a depth map that covers the object.")
    trusted = trusted_depth(view.depth, inside, RIM)
    coarse = cv2.resize(nearest_known(view.depth, trusted), (size, size), interpolation=cv2.INTER_AREA)
    return cv2.medianBlur(coarse.astype(np.float32), 3).astype(float)


def _limit(limit: Float32[np.ndarray, "s s"], size: int) -> Float[np.ndarray, "n n"]:
    known = np.where(limit > 0, limit, np.inf)
    step = np.linspace(0, limit.shape[0] - 1, size).round().astype(int)
    return known[np.ix_(step, step)]


def hidden_side(
    front: Float[np.ndarray, "n n"],
    half: Float[np.ndarray, "n n"],
    inside: Bool[np.ndarray, "n n"],
    directions: Float[np.ndarray, "n n 3"],
    up: Float32[np.ndarray, "3"],
    cell: float,
) -> Float[np.ndarray, "n n"]:
    """The half thickness `half`, corrected by what gravity and the visible side say about the hidden one.

    Things stand: below a surface that is seen there is mostly body, down to where it rests. And above a surface that is
    seen there is nothing: what would stick out there would have been seen. So the visible points are entered into a map of
    heights over the ground, and each ray is followed behind the front: it stays inside as long as it runs below that map,
    and the prior's thickness ends where it would rise above it.

    Args:
        front: z-depth of the visible side, metres.
        half: half thickness by the prior, metres.
        inside: the mask.
        directions: the cells' rays, z = 1.
        up: against gravity, in the same frame.
        cell: size of a cell at the object, metres.
    """
    points = directions[inside] * front[inside][:, None]
    across = np.linalg.svd(up[None].astype(float))[2][1:]
    width = 1.5 * cell
    low = (points @ across.T).min(axis=0)
    places = np.floor((points @ across.T - low) / width).astype(int) + 1
    known = np.full(places.max(axis=0) + 2, -np.inf)
    np.maximum.at(known, tuple(places.T), points @ up)
    # Close the gaps between neighbouring samples, where they surround a cell.
    heights = np.where(np.isfinite(known), known, ndimage.grey_closing(np.nan_to_num(known, neginf=-1e6), size=3))
    heights[heights < -1e5] = np.nan
    steps = np.arange(1, MARCH + 1) * 0.75 * cell
    z = front[inside][None, :] + steps[:, None]
    position = directions[inside][None] * z[..., None]
    at = np.floor((position @ across.T - low) / width).astype(int) + 1
    outside = ((at < 0) | (at >= heights.shape)).any(axis=-1)
    at = np.clip(at, 0, np.array(heights.shape) - 1)
    column = np.where(outside, np.nan, heights[at[..., 0], at[..., 1]])
    below = position @ up <= column + cell
    body = np.where(np.logical_and.accumulate(below, axis=0), steps[:, None], 0).max(axis=0)
    emptied = np.where(~below & ~np.isnan(column), steps[:, None], np.inf).min(axis=0)
    result = half.copy()
    result[inside] = np.maximum(np.minimum(half[inside], emptied / 2), np.minimum(body / 2, BODY * half[inside]))
    return np.where(inside, _smooth(result, inside), half)


def _smooth(values: Float[np.ndarray, "n n"], inside: Bool[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Median, then Gaussian, over the cells inside only."""
    values = cv2.medianBlur(nearest_known(values, inside).astype(np.float32), 5)
    weight = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 2.0)
    return cv2.GaussianBlur(np.where(inside, values, 0), (0, 0), 2.0) / np.maximum(weight, 1e-3)


def _closed_surface(
    profile: Float[np.ndarray, "n n"],
) -> tuple[Float[np.ndarray, "v 3"], Int32[np.ndarray, "f 3"]]:
    """Marching cubes of h(u, v) - w^2 = 0, h a monotone map of `profile` (at most 1). Vertices are (u, v, side in -1..1)."""
    stretched = np.sign(profile) * (1 + KNEE) * np.abs(profile) / (np.abs(profile) + KNEE)
    levels = np.linspace(-1.15, 1.15, LEVELS)
    field = stretched[:, :, None] - levels[None, None, :] ** 2
    found, faces, _, _ = marching_cubes(field.astype(np.float32), 0.0)
    v, u = found[:, 0], found[:, 1]
    w = np.interp(found[:, 2], np.arange(LEVELS), levels)
    height = np.sqrt(np.maximum(ndimage.map_coordinates(stretched, [v, u], order=1), 0))
    side = np.clip(w / np.maximum(height, 1e-6), -1, 1)
    side = np.where(np.abs(w) > 0.5 * height, side, w / np.maximum(height, 0.05))
    return np.stack([u, v, np.clip(side, -1, 1)], axis=1), faces.astype(np.int32)


def _on_rays(
    vertices: Float[np.ndarray, "v 3"],
    front: Float[np.ndarray, "n n"],
    half: Float[np.ndarray, "n n"],
    view: ObjectView,
    size: int,
) -> Float[np.ndarray, "v 3"]:
    """(u, v, side) to the crop camera's frame: along the pixel's ray, from the front (-1) to the back (+1)."""
    u, v, side = vertices.T
    z = ndimage.map_coordinates(front, [v, u], order=1) + (1 + side) * ndimage.map_coordinates(half, [v, u], order=1)
    coarse = resized(view.crop.intrinsics, size, size)
    pixels = np.stack([u - 0.5, v - 0.5], axis=1)  # minus the margin cell, plus half a cell to its centre
    return rays(coarse, pixels) * z[:, None]
