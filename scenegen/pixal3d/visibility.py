"""What the photo says about each cell of the cube in addition to its image features: seen, empty, hidden, behind, above.

This is back-projection of geometry: every cell looks up the pixel it lies on, as in `projection`, and compares its own depth
with what is known there. All channels lie in [-1, 1].
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32

from scenegen.camera import pixel_centres, rays
from scenegen.geometry.field import seen_cells
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

    Args:
        view: what the photo shows of the object.
        edge: edge of the cube, in metres.
        resolution: cells along the edge.
    """
    reach = REACH * edge
    cells = seen_cells(view, edge, resolution)
    z, at = cells.points[:, 2], cells.at
    inside = view.mask > 0.5
    front = visible_front(view)
    hidden = unseen(view, front)
    surface = np.where(inside, front, view.depth)
    known = at((surface > 0).astype(float)) > 0.99
    lookup = at(surface, cv2.INTER_NEAREST)
    heights = (rays(view.crop.intrinsics, pixel_centres(*inside.shape[::-1])) * front[..., None])[inside] @ view.up
    pixel = z / view.crop.intrinsics.fx  # metres that a pixel covers there
    prior = thickness(view, PRIOR_CELLS)
    ends = nearest_known(prior.front + 2 * prior.half, prior.inside)[1:-1, 1:-1]
    end = at(cv2.resize(ends.astype(np.float32), inside.shape[::-1], interpolation=cv2.INTER_LINEAR))
    outline = outline_distance(inside).astype(np.float32)
    channels = (
        np.where(known, (z - lookup) / reach, 0.0),
        at(outline_distance(inside | hidden).astype(np.float32)) * pixel / reach,
        at(hidden.astype(float)) - at(inside.astype(float)),
        np.where(at((view.limit > 0).astype(float)) > 0.99, (at(view.limit) - z) / reach, 1.0),
        (cells.points @ view.up - np.percentile(heights, 1)) / edge,
        (end - z) / reach,
        np.maximum.reduce([at(front) - z, z - end, -at(outline) * pixel]) / (TRUNCATION * edge),
    )
    stacked = np.stack([np.clip(channel, -1, 1) for channel in channels], axis=-1)
    return stacked.reshape(*3 * (resolution,), CHANNELS).astype(np.float32)
