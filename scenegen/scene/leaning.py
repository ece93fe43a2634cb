"""What leans on what: an object that its base does not carry, and that touches another where it would tip over to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from scenegen.geometry.distance import surface_points
from scenegen.geometry.mesh import TexturedMesh
from scenegen.scene.underside import CONTACT_M, centre_of_mass

TOUCHING = 0.03
"""An object leans on what is no farther from it than this share of its height."""
ABOVE = 0.2
"""Share of its height above which it does so: lower down, nothing keeps it from tipping over."""


@dataclass(frozen=True)
class Lean:
    """Where an object leans on another."""

    distance_m: float
    """Between the two."""
    height_m: float
    """Of the contact over what the object stands on."""


def lean(item: TexturedMesh, other: TexturedMesh) -> Lean | None:
    """Where an object that tips over by itself leans on another; None if that is not in its way.

    Args:
        item: world frame: metres, Y up.
        other: same frame.
    """
    corners = item.vertices.astype(np.float64)
    low, height = corners[:, 1].min(), np.ptp(corners[:, 1])
    foot = corners[corners[:, 1] < low + CONTACT_M].mean(axis=0)
    points = surface_points(item.vertices, item.faces)
    fall = (centre_of_mass(item.vertices, item.faces) - foot) * [1, 0, 1]
    ahead = points[((points - foot) @ fall > 0) & (points[:, 1] > low + ABOVE * height)]
    if not len(ahead):
        return None
    distance, _ = cKDTree(surface_points(other.vertices, other.faces)).query(ahead)
    nearest = int(distance.argmin())
    if distance[nearest] > TOUCHING * height:
        return None
    return Lean(round(float(distance[nearest]), 5), round(float(ahead[nearest, 1] - low), 5))
