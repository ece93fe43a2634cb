"""What the photo says about each cell of the cube in addition to its image features: seen, empty, hidden, behind, above.

This is back-projection of geometry: every cell looks up the pixel it lies on, as in `projection`, and compares its own depth
with what is known there. All channels lie in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32

from scenegen.camera import pixel_centres, rays
from scenegen.geometry.field import SeenCells, cells_from, seen_cells
from scenegen.geometry.fill import nearest_known, outline_distance
from scenegen.geometry.generator import ObjectView
from scenegen.geometry.inflate import thickness
from scenegen.geometry.refine import unseen, visible_front

CHANNELS = 7
"""Number of channels: behind the visible surface, inside the outline, unseen, in front of the background, above the lowest
visible point, in front of the end that the thickness prior of `inflate` gives, and that prior's body."""
BEHIND_FRONT, IN_OUTLINE, IN_LIMIT, PRIOR = 0, 1, 3, 6
"""Indices of some of them."""
PRIOR_CELLS = 40
"""Cells across the crop on which the prior is computed."""
REACH = 0.25
"""Distances are clipped at this share of the cube's edge."""
TRUNCATION = 0.125
"""Signed distances to bodies are clipped at this share of the cube's edge."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a view says about `n` cells. Distances in shares of the cube's edge; 1 where it says nothing about a cell."""

    behind: Float[np.ndarray, "n"]
    """Distance behind the visible surface along the view's axis."""
    known: Bool[np.ndarray, "n"]
    """Whether that surface is known."""
    in_outline: Float[np.ndarray, "n"]
    """Distance inside the outline of all places where the object can be."""
    hidden: Float[np.ndarray, "n"]
    """1 where the object can be without being seen, -1 where it is seen, 0 elsewhere."""
    in_limit: Float[np.ndarray, "n"]
    """Distance in front of the background."""
    height: Float[np.ndarray, "n"]
    """Over the lowest visible point."""
    before_end: Float[np.ndarray, "n"]
    """Distance in front of the end of the object by the thickness prior, continued past its outline."""
    body: Float[np.ndarray, "n"]
    """Signed distance to the body between visible surface and that end, inside the visible outline."""


def visibility(view: ObjectView, edge: float, resolution: int) -> Float32[np.ndarray, "r r r 7"]:
    """The channels at the centre of each cell of a grid over the cube; axes x, y, z of the latent frame.

    - distance behind the visible surface along the axis, whatever shows that surface, the object or what hides it.
    - distance inside the outline of all places where the object can be.
    - 1 where the object can be without being seen, -1 where it is seen, 0 elsewhere.
    - distance in front of the background; 1 where that is unknown.
    - height over the lowest visible point of the object.
    - distance in front of the end of the object by the thickness prior, continued past its outline.
    - signed distance (approximate: along the axes of the picture) to the body between visible surface and that end, inside
      the visible outline.

    Of several views, the one that leaves a cell the least room decides, since what one of them sees empty is empty.

    Args:
        view: what the photo shows of the object.
        edge: edge of the cube, in metres.
        resolution: cells along the edge.
    """
    return fused(seen_by_all(view, edge, resolution)).reshape(*3 * (resolution,), CHANNELS)


def seen_by_all(view: ObjectView, edge: float, resolution: int) -> list[Seen]:
    """What the view and its others say about the cells."""
    cells = seen_cells(view, edge, resolution)
    if not view.others:
        return [_seen(view, cells, edge)]
    return [_seen(each.view, cells_from(cells, each), edge, several=True) for each in view.all]


def fused(seen: Sequence[Seen]) -> Float32[np.ndarray, "n 7"]:
    """The channels, of one view or several."""
    behind = np.stack([np.where(each.known, each.behind, np.inf) for each in seen]).min(axis=0)
    # Several bodies are one where any view's prior has it, but not where another view sees that nothing is.
    room = [np.minimum(each.behind, each.in_outline) for each in seen]
    bodies = [
        np.maximum.reduce([each.body, *(-other for other in room[:number] + room[number + 1 :])])
        for number, each in enumerate(seen)
    ]
    channels = (
        np.where(np.isfinite(behind), behind, 0.0) / REACH,
        np.min([each.in_outline for each in seen], axis=0) / REACH,
        np.min([each.hidden for each in seen], axis=0),
        np.min([each.in_limit for each in seen], axis=0) / REACH,
        np.max([each.height for each in seen], axis=0),
        np.max([each.before_end for each in seen], axis=0) / REACH,
        np.min(bodies, axis=0) / TRUNCATION,
    )
    return np.stack([np.clip(channel, -1, 1) for channel in channels], axis=-1).astype(np.float32)


def _seen(view: ObjectView, cells: SeenCells, edge: float, several: bool = False) -> Seen:
    """What one view says about cells. One of several need not show all of them: they may lie beside its crop, or behind it."""
    z, at = cells.points[:, 2], cells.at
    inside = view.mask > 0.5
    front = visible_front(view)
    hidden = unseen(view, front)
    surface = np.where(inside, front, view.depth)
    heights = (rays(view.crop.intrinsics, pixel_centres(*inside.shape[::-1])) * front[..., None])[inside] @ view.up
    pixel = z / view.crop.intrinsics.fx  # metres that a pixel covers there
    # Where the crop ends in what is hidden, more of it may follow.
    beyond = (
        np.where(at(hidden.astype(float), cv2.INTER_NEAREST) > 0.5, 0.0, cells.beyond(len(inside))) if several else 0.0
    )
    prior = thickness(view, PRIOR_CELLS)
    ends = nearest_known(prior.front + 2 * prior.half, prior.inside)[1:-1, 1:-1]
    end = at(cv2.resize(ends.astype(np.float32), inside.shape[::-1], interpolation=cv2.INTER_LINEAR))
    outline = at(outline_distance(inside).astype(np.float32)) - beyond
    bounded = at((view.limit > 0).astype(float)) > 0.99

    def where_ahead(values: Float[np.ndarray, "n"], otherwise: float = 1.0) -> Float[np.ndarray, "n"]:
        return np.where(cells.ahead, values, otherwise) if several else values

    return Seen(
        behind=where_ahead((z - at(surface, cv2.INTER_NEAREST)) / edge),
        known=(at((surface > 0).astype(float)) > 0.99) & cells.ahead,
        in_outline=where_ahead((at(outline_distance(inside | hidden).astype(np.float32)) - beyond) * pixel / edge),
        hidden=where_ahead(at(hidden.astype(float)) - at(inside.astype(float))),
        in_limit=where_ahead(np.where(bounded, (at(view.limit) - z) / edge, 1.0)),
        height=(cells.points @ view.up - np.percentile(heights, 1)) / edge,
        before_end=where_ahead((end - z) / edge, -1.0),
        body=where_ahead(np.maximum.reduce([at(front) - z, z - end, -outline * pixel]) / edge),
    )
