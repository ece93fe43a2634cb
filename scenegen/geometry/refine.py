"""Pixel-aligned refinement: fits a generated field to the pixels it came from.

Cube and picture share one camera, so every cell knows its pixel. The silhouette carves the field along the pixels' cones.
Where depth is trusted, the visible surface is drawn to it, and where it was measured, nothing reaches behind the background.
What the photo does not show stays as it was generated.

A visible surface that is only estimated is evened and rounded into the body behind it.
A background that is only estimated cuts nothing: off by less than an object is deep, it would leave shards of it. When the
scene is composed, the object is moved as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int32
from scipy import ndimage

from scenegen.camera import latent_distance, rays, resized
from scenegen.geometry.field import (
    Field,
    SeenCells,
    cells_from,
    metric_crop_from_latent,
    placed,
    seen_cells,
    surface,
)
from scenegen.geometry.fill import averaged, continued_as_planes, nearest_known, outline_distance, trusted_depth
from scenegen.geometry.generator import ObjectView
from scenegen.geometry.pieces import whole
from scenegen.geometry.render import RayCaster

SKIN, THINNEST = 2.5, 1.0
"""Least thickness behind the visible surface, in cells of the refined grid, with and without room for it: a sheet
thinner than a cell would have holes."""
STEP, GENERATED_STEP = 3.0, 6.0
"""Cells: where the visible surface steps back by no more it has no gap; by more, one part of the object hides another. The second
is for a generated surface, which has few cells and is continued at its rim."""
IN_FRONT = 0.02
"""Share of its distance by which something beside the object must be nearer to count as hiding it."""
RIM = 0.012
"""Share of the crop's side along the mask's outline where depth is not trusted: it mixes with what is behind."""
FAR = 1e6
"""Metres; stands for no limit."""
TRUSTED = 0.15
"""Largest error of the depth across an object, as a share of its width, at which its visible surface is drawn to the depth.
Beyond it the generated surface is the better one, and only its outline is drawn to the photo."""
MEASURED = 0.02
"""The same error, up to which the depth counts as measured, and the background bounds the object."""
EVENED = 0.01
"""Share of the crop's side over which a visible surface that is only estimated is evened: no estimator gives finer relief, and
what looks like it are steps of its grid."""
FILLET = 8.0
"""Cells of the refined grid over which such a surface is rounded into the body behind it. The two disagree by the depth's error,
and would meet in a flange all round the object."""
FRONT_SIDE = 160
"""Most pixels across the picture that the generated surface is looked at with: it has few cells."""
FRONT_RIM = 0.6
"""Cells of the generated field along its outline where its depth is not taken."""


@dataclass(frozen=True, eq=False)
class Asked:
    """What the pixels of one view ask of `n` cells: signed distances in metres, negative where the object is or may be."""

    z: Float[np.ndarray, "n"]
    limit: Float32[np.ndarray, "n"]
    """z-depth that nothing reaches beyond."""
    skin: Float[np.ndarray, "n"]
    """The object is at least here."""
    closed: Float[np.ndarray, "n"]
    """It is at most here."""
    part: Int32[np.ndarray, "n"]
    """Which part of the mask, from 1, shows a cell of the skin; elsewhere 0."""
    shown: Bool[np.ndarray, "n"]
    """Cells on pixels of the mask."""
    steps: Bool[np.ndarray, "n"]
    """Gaps in the visible surface where its depth jumps."""


def refine(field: Field, view: ObjectView, edge: float, resolution: int) -> Field:
    """The field on a grid of its own, in agreement with mask, depth and limit.

    With other views, what they see is drawn to their pixels first, within a cell, since cameras are not exact to the pixel.

    Args:
        field: generated, in the latent frame.
        view: what the photo shows of the object; its `relief_error` says how far its depth is trusted.
        edge: of the cube, in metres (`cube_edge`).
        resolution: cells along an edge of the refined grid.
    """
    cells = seen_cells(view, edge, resolution)
    cell = edge / resolution
    value = (field.resampled(resolution) * np.float32(edge)).ravel()
    room = np.ones(value.shape, dtype=bool)
    for other in view.others:
        seen = cells_from(cells, other)
        asked = _asked(other.view, seen, visible_front(other.view), cell)
        outside = _outside(other.view, seen)
        if other.view.relief_error <= TRUSTED:
            value = np.maximum(value, asked.z - asked.limit)
            value = np.where(seen.ahead & (outside <= 0), np.minimum(value, asked.skin), value)
            outside = np.maximum(asked.closed, outside)
        outside = np.where(seen.ahead, outside - cell, -FAR)
        value = np.maximum(value, outside)
        room &= outside < 0
    estimated = view.relief_error > MEASURED
    if view.relief_error > TRUSTED:
        front = generated_front(field, view, edge)
    else:
        front = evened_front(view) if estimated else visible_front(view)
    # Depth that reaches beyond the cube is drawn at its far side, so that no visible part is lost.
    front = np.minimum(front, (latent_distance(view.crop) + 0.5) * np.float32(edge) - (SKIN + 1) * np.float32(cell))
    asked = _asked(view, cells, front, cell)
    value = np.maximum(value, asked.z - asked.limit)
    # Beside the mask, where something may hide the object, nothing says that it goes on.
    fillet = np.where(asked.shown, FILLET * cell, 0.0) if estimated else 0.0
    value = united(value, asked.skin, fillet)
    value = np.maximum(value, asked.closed)
    grid = 3 * (resolution,)
    return Field(
        whole(
            (value / edge).astype(np.float32).reshape(grid),
            part=asked.part.reshape(grid),
            room=(room & (asked.closed < 0) & (asked.z < asked.limit)).reshape(grid),
            steps=asked.steps.reshape(grid),
        )
    )


def _asked(view: ObjectView, cells: SeenCells, front: Float32[np.ndarray, "s s"], cell: float) -> Asked:
    """What the pixels of `view` ask of the cells, each `cell` metres wide, if the visible surface is at the z-depth `front`."""
    z, at = cells.points[:, 2].astype(np.float32), cells.at
    inside = view.mask > 0.5
    hidden = unseen(view, visible_front(view))
    pixel = z / np.float32(view.crop.intrinsics.fx)  # metres that a pixel covers there
    bounded = (view.limit > 0) & (view.relief_error <= MEASURED)
    background = np.where(bounded, view.limit, FAR).astype(np.float32)
    longest_step = _longest_step(view.relief_error) * cell
    front_there = at(front)
    behind = z - front_there
    limit = at(background, cv2.INTER_NEAREST)
    # What is seen is there, and as thick as the background allows: where it meets the ground it ends.
    step = at(_farthest_near(front, inside, cell * view.crop.intrinsics.fx)) - front_there
    thickness = np.clip(limit - front_there, THINNEST * cell, SKIN * cell)
    outline = -at(outline_distance(inside).astype(np.float32)) * pixel
    skin = np.maximum(np.maximum(-behind, behind - thickness - np.minimum(step, longest_step)), outline)
    # In front of the visible surface nothing is, nor in front of what hides the object.
    closed = np.where(at(inside.astype(float)) > 0.5, -behind, at(view.depth * hidden, cv2.INTER_NEAREST) - z)
    closed = np.maximum(closed, -at(outline_distance(inside | hidden).astype(np.float32)) * pixel)
    parts, _ = ndimage.label(inside, np.ones((3, 3)))
    return Asked(
        z=z,
        limit=limit,
        skin=skin,
        closed=closed,
        part=np.where(skin < 0, at(parts.astype(np.float32), cv2.INTER_NEAREST), 0).astype(np.int32),
        shown=outline < 0,
        steps=(behind > 0) & (behind < thickness + step) & (outline < 0),
    )


def _longest_step(relief_error: float) -> float:
    """Cells by which a surface steps back without a gap. An estimated depth slopes where it should have gaps, and so has none."""
    if relief_error > TRUSTED:
        return GENERATED_STEP
    return STEP if relief_error <= MEASURED else np.inf


def _outside(view: ObjectView, cells: SeenCells) -> Float[np.ndarray, "n"]:
    """Distance outside the outline of all places where `view` lets the object be, metres, however far beside its crop."""
    hidden = unseen(view, visible_front(view))
    inside = cells.at(outline_distance((view.mask > 0.5) | hidden).astype(np.float32))
    # Where the crop ends in what is hidden, more of it may follow.
    beside = np.where(cells.at(hidden.astype(float), cv2.INTER_NEAREST) > 0.5, 0, cells.beyond(len(hidden)))
    return (beside - inside) * cells.points[:, 2] / view.crop.intrinsics.fx


def _farthest_near(
    front: Float32[np.ndarray, "s s"], inside: Bool[np.ndarray, "s s"], cell: float
) -> Float32[np.ndarray, "s s"]:
    """The farthest depth of the visible surface within a cell of each pixel; a cell spans `cell` pixels at a depth of 1."""
    reach = max(1, int(np.ceil(cell / front[inside].min())))
    farthest = cv2.dilate(np.where(inside, front, 0).astype(np.float32), np.ones((2 * reach + 1, 2 * reach + 1)))
    return np.maximum(front, farthest)


def visible_front(view: ObjectView) -> Float32[np.ndarray, "s s"]:
    """z-depth of the visible surface, without outliers, continued past the outline from the nearest trusted pixel."""
    trusted = trusted_depth(view.depth, view.mask > 0.5, RIM)
    return cv2.medianBlur(nearest_known(view.depth, trusted).astype(np.float32), 5)


def evened_front(view: ObjectView) -> Float32[np.ndarray, "s s"]:
    """`visible_front` of an estimated depth: smoothed over the object alone, and continued past its outline."""
    inside = view.mask > 0.5
    inverse = averaged(1 / visible_front(view), inside, EVENED * len(inside))
    return nearest_known(1 / np.where(inside, inverse, 1), inside).astype(np.float32)


def generated_front(field: Field, view: ObjectView, edge: float) -> Float32[np.ndarray, "s s"]:
    """z-depth in metres of the generated surface as the crop camera sees it, continued over the rest of the picture.

    At its rim the generated surface turns away and is least right, so there it is continued from a little inside. That of the
    photo where nothing was generated before any pixel of the mask.
    """
    size = view.mask.shape[0]
    small = min(size, FRONT_SIDE)
    camera = resized(view.crop.intrinsics, small, small)
    seen = np.zeros((small, small), dtype=bool)
    if (field.values < 0).any():
        vertices, faces = surface(field)
        directions = rays(camera).reshape(-1, 3)
        caster = RayCaster(placed(vertices, metric_crop_from_latent(view, edge)), faces)
        depth = caster.cast(np.zeros_like(directions), directions).distance.reshape(seen.shape)
        seen = np.isfinite(depth) & (cv2.resize(view.mask, seen.shape, interpolation=cv2.INTER_AREA) > 0.5)
    if not seen.any():
        return visible_front(view)
    rim = max(1, round(FRONT_RIM * small / field.values.shape[0]))
    inner = ndimage.binary_erosion(seen, iterations=rim)
    thin = seen & ~ndimage.binary_dilation(inner, iterations=2 * rim)
    front = continued_as_planes(np.where(seen, depth, 1), inner | thin, 2.0 * rim)
    return cv2.resize(front.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)


def united(
    a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"], width: Float[np.ndarray, "n"] | float
) -> Float[np.ndarray, "n"]:
    """Signed distance to the union of two bodies, rounded over `width` where they meet: a polynomial smooth minimum."""
    near = np.maximum(width - np.abs(a - b), 0)
    return np.minimum(a, b) - near**2 / np.maximum(4 * width, np.finfo(np.float32).tiny)


def unseen(view: ObjectView, front: Float32[np.ndarray, "s s"]) -> Bool[np.ndarray, "s s"]:
    """Pixels where the object may be without being seen: behind something nearer, or outside the photo."""
    photographed = view.image.any(axis=-1) | (view.depth > 0) | (view.limit > 0)
    nearer = (view.depth > 0) & (view.depth < (1 - IN_FRONT) * front)
    return (view.mask <= 0.5) & (nearer | ~photographed)
