"""A picture of the exported scene from the side, which shows depth errors that the photo's camera cannot see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from scenegen.camera import intrinsics_from_fov, resized
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import Picture, render
from scenegen.records import Intrinsics

AZIMUTH_DEG = 50.0
ELEVATION_DEG = 28.0
FOV_DEG = 35.0
MARGIN = 1.25
"""Width of the view, divided by that of its content."""
GROUND = 236
"""Grey level of empty pixels."""
COARSE = 4
"""How much smaller than the view the picture is that tells what hides what."""
HIDING_SHARE = 0.03
"""A background surface that hides more than this share of the objects is left out, like the near wall of a stage."""


def side_view(
    objects: Sequence[TexturedMesh],
    surfaces: Sequence[TexturedMesh],
    world_from_camera: Float[np.ndarray, "4 4"],
    width: int,
    height: int,
    azimuth_deg: float = AZIMUTH_DEG,
    elevation_deg: float = ELEVATION_DEG,
) -> Picture:
    """The scene from beside the photo's camera and above, centred on the objects.

    Args:
        objects: in world coordinates (Y up).
        surfaces: the background, in world coordinates. If there are no objects, the view is centred on it.
        world_from_camera: pose of the photo's camera.
        width: of the picture in pixels.
        height: of the picture in pixels.
        azimuth_deg: how far to the right of the photo's camera.
        elevation_deg: how far above the horizon, below 90.
    """
    camera = intrinsics_from_fov(width, height, FOV_DEG)
    shown = objects or surfaces
    points = np.concatenate([mesh.vertices for mesh in shown]) if shown else np.zeros((1, 3), np.float32)
    side_from_world = _pose(points, np.array(world_from_camera), camera, azimuth_deg, elevation_deg)
    moved = [mesh.transformed(side_from_world) for mesh in objects]
    coarse = resized(camera, max(1, width // COARSE), max(1, height // COARSE))
    alone = render(moved, coarse)
    background = []
    for surface in (mesh.transformed(side_from_world) for mesh in surfaces):
        before = render([surface], coarse)
        hidden = (alone.ids >= 0) & (before.ids >= 0) & (before.depth < alone.depth)
        if np.count_nonzero(hidden) <= HIDING_SHARE * np.count_nonzero(alone.ids >= 0):
            background.append(surface)
    return render([*moved, *background], camera, background=GROUND)


def _pose(
    points: Float[np.ndarray, "n 3"],
    world_from_camera: Float[np.ndarray, "4 4"],
    camera: Intrinsics,
    azimuth_deg: float,
    elevation_deg: float,
) -> Float[np.ndarray, "4 4"]:
    """side_from_world: looks at the middle of `points`, from as near as shows all of them."""
    ahead = world_from_camera[:3, 2]
    turn = np.arctan2(ahead[0], ahead[2]) + np.radians(azimuth_deg)
    level, down = np.cos(np.radians(elevation_deg)), np.sin(np.radians(elevation_deg))
    z = np.array([np.sin(turn) * level, -down, np.cos(turn) * level])
    x = np.cross(z, [0.0, 1.0, 0.0])
    x /= np.linalg.norm(x)
    rotation = np.stack([x, np.cross(z, x), z])
    seen = (points - (points.min(axis=0) + points.max(axis=0)) / 2) @ rotation.T
    slopes = np.array([camera.width / camera.fx, camera.height / camera.fy]) / 2 / MARGIN
    distance = max(float((np.abs(seen[:, :2]) / slopes - seen[:, 2:]).max()), 1e-3)
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = -rotation @ ((points.min(axis=0) + points.max(axis=0)) / 2) + [0.0, 0.0, distance]
    return pose
