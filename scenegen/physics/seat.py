"""Seats: where an object stands on another, the surface below it is taken to be level.

What stands on something hides it there, so what was made there is a guess, and uneven. As a collider it gets a level plate where
the base of what stands on it is.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int32

from scenegen.geometry.render import RayCaster
from scenegen.physics.body import Hull, hull
from scenegen.physics.decompose import LEVEL_M

THICK_M = 0.005
NARROWEST_M = 0.001
DOWN = np.array([0.0, -1.0, 0.0])


def seat(
    standing: Float[np.ndarray, "v 3"], carrier: Float[np.ndarray, "w 3"], faces: Int32[np.ndarray, "f 3"]
) -> Hull | None:
    """The plate on a carrier below what stands on it; None if the base of that is an edge or a point, or not over the carrier.

    Args:
        standing: vertices of what stands on it; Y up.
        carrier: vertices of the carrier, same frame.
        faces: of the carrier.
    """
    foot = standing[standing[:, 1] < standing[:, 1].min() + LEVEL_M].astype(np.float64)
    above = foot * [1, 0, 1] + [0, float(carrier[:, 1].max()) + 1, 0]
    foot = foot[RayCaster(carrier, faces).cast(above, np.broadcast_to(DOWN, above.shape)).triangle >= 0]
    if len(foot) < 3 or np.linalg.svd(foot[:, [0, 2]] - foot[:, [0, 2]].mean(axis=0))[1][1] < NARROWEST_M:
        return None
    top = foot * [1, 0, 1] + [0, float(standing[:, 1].min()), 0]
    return hull(np.concatenate([top, top + THICK_M * DOWN]).astype(np.float32))
