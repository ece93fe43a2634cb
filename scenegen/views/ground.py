"""The floor that several photos show: a plane through the points that they share, which says what is level, and where the floor
is, much better than the estimates of one photo do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from scenegen.camera import rays, transform, unproject
from scenegen.geometry.planes import along, fit_plane
from scenegen.ids import BACKGROUND, object_ids
from scenegen.views.features import Tie, at_pixels
from scenegen.views.matching import EXACT, Masks

ENOUGH = 24
"""Shared points on a plane from which on it is a floor."""
FLAT = 0.003
"""How far from it they may lie, as a share of their distance."""
WIDE = 0.1
"""Least standard deviation of their places in each direction along it, the same: a row of points may lie on any plane."""
PLANES = 8
"""Planes that are looked at, the largest first."""
UNDERSIDE = 0.3
"""Share of its size by which the underside of an object may be off a plane for it to count for a third."""
STANDING = 0.4
"""How well the objects must stand on the floor."""
BENT = 0.12
"""Relative error of an estimated depth of the floor up to which it is put on the plane."""


@dataclass(frozen=True, eq=False)
class Ground:
    """The plane down . X = height, in the frame of all photos; the cameras are above it."""

    down: Float64[np.ndarray, "3"]
    """Unit."""
    height: float


def shared_ground(views: Sequence[Masks], ties: Sequence[Tie], down: Float64[np.ndarray, "3"] | None) -> Ground | None:
    """The about level plane that most of the shared points of the background lie on and the objects stand on.

    Args:
        views: the photos, their objects at the right distances.
        ties: the points that they share.
        down: about where gravity points, in the frame of all; None if that is not known, and so no floor either.

    Returns:
        The plane, or None if the points do not tell it.
    """
    left = np.concatenate([np.zeros((0, 3)), *(_background_points(views, tie) for tie in ties)])
    best: tuple[float, Ground] | None = None
    for _ in range(PLANES):
        if down is None or len(left) < ENOUGH:
            break
        distance = float(np.median(np.linalg.norm(left - views[0].world_from_camera[:3, 3], axis=1)))
        plane = fit_plane(left, np.broadcast_to(-down, left.shape), FLAT * distance)
        if plane is None or np.count_nonzero(plane.near) < ENOUGH:
            break
        sign = np.sign(plane.normal @ down)
        ground = Ground(sign * plane.normal, float(-sign * plane.offset))
        spread = np.sqrt(np.linalg.eigvalsh(np.cov(left[plane.near].T))[1:])
        above = all(view.world_from_camera[:3, 3] @ ground.down < ground.height for view in views)
        if above and spread.min() > WIDE * distance:
            # A level slice of a wall holds many points, too, but nothing stands on it.
            score = np.count_nonzero(plane.near) * _carries(ground, views)
            best = max(best or (0.0, ground), (score, ground), key=lambda each: each[0])
        left = left[~plane.near]
    return None if best is None or best[0] < ENOUGH * STANDING else best[1]


def _carries(ground: Ground, views: Sequence[Masks]) -> float:
    """How well the objects of the photos stand on a plane, 0..1: 1 if the undersides of all meet it."""
    marks = []
    for view in views:
        points = transform(view.world_from_camera, unproject(view.intrinsics, view.z))
        for number in object_ids(view.ids):
            cloud = points[(view.ids == number) & (view.z > 0)]
            if len(cloud):
                low = float(np.percentile(ground.height - along(cloud, ground.down), 2))
                marks.append(np.exp(-abs(low) / (UNDERSIDE * float(np.ptp(cloud, axis=0).max()) + 1e-9)))
    return float(np.mean(marks)) if marks else 1.0


def on_ground(view: Masks, ground: Ground) -> Masks:
    """The view with the depth of the floor where it is near the plane; measured depth stays as it is."""
    if view.uncertainty <= EXACT:
        return view
    to_camera = view.world_from_camera
    height = ground.height - to_camera[:3, 3] @ ground.down
    slope = along(rays(view.intrinsics), to_camera[:3, :3].T @ ground.down)
    plane = np.where(slope > 1e-6, height / np.maximum(slope, 1e-6), np.inf)
    near = (view.ids == BACKGROUND) & (np.abs(view.z - plane) < BENT * view.z)
    return replace(view, z=np.where(near, plane, view.z))


def _background_points(views: Sequence[Masks], tie: Tie) -> Float64[np.ndarray, "n 3"]:
    """Shared points of the background, in the frame of all."""
    first, second = views[tie.first], views[tie.second]
    shown = (at_pixels(first.ids, tie.pixels[0]) == BACKGROUND) & (at_pixels(second.ids, tie.pixels[1]) == BACKGROUND)
    points = rays(first.intrinsics, tie.pixels[0]) * tie.depths[0][:, None]
    return transform(first.world_from_camera, points[shown])
