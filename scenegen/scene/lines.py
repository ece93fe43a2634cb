"""What lines in a photo say of its camera: vertical edges of gravity, the horizon and lengths of the field of view, too.

A line is seen in a plane through the camera's centre. Lines are two points each, u and v in pixels of the camera.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32

from scenegen.camera import intrinsics_from_fov, rays
from scenegen.errors import UsageError
from scenegen.records import Intrinsics, Photo, Place

TRUST = 1e-4
"""Squared weight of what gravity was before, against what an edge says: it decides only where edges say nothing."""
LEAST_PITCH_DEG = 2.0
"""Below it, where the horizon lies says nothing of the field of view."""
FIELDS_DEG = (10.0, 140.0)
"""Fields of view among which lengths choose."""
LEAST_AGREEING = 0.02
"""Share of the gravity that was known before that is left along edges which are all vertical."""
STEPS = 400
LEAST_TOLD = 0.03
"""By how much the ratio of two lengths must change over all fields of view, in logarithms, to say which one it is."""


def plane_of(line: Float[np.ndarray, "2 2"], camera: Intrinsics) -> Float[np.ndarray, "3"]:
    """Unit normal, camera frame, of the plane through the camera in which a line is seen.

    Raises:
        UsageError: if its ends are one point.
    """
    start, end = rays(camera, line)
    normal = np.cross(start, end)
    length = float(np.linalg.norm(normal))
    if length < 1e-9:
        raise UsageError("a line begins where it ends; give two places that are apart.")
    return np.asarray(normal / length)


def gravity_along(
    edges: Sequence[Float[np.ndarray, "2 2"]], camera: Intrinsics, estimate: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3"]:
    """Gravity, a unit vector in the camera frame, that lies in the plane of every vertical edge and else is as estimated.

    Args:
        edges: at least one.
        camera: the photo's.
        estimate: gravity as far as it is known; it must not be square to the result.

    Raises:
        UsageError: if the ends of an edge are one point, or no gravity near the estimate is along them.

    Examples:
        >>> camera = Intrinsics(width=100, height=100, fx=100, fy=100, cx=50, cy=50)
        >>> gravity_along([np.array([[50, 10], [50, 90]])], camera, np.array([0.6, 0.8, 0.0])).round(3).tolist()
        [0.0, 1.0, 0.0]
    """
    normals = np.stack([plane_of(edge, camera) for edge in edges])
    found = np.linalg.solve(TRUST * np.eye(3) + normals.T @ normals, TRUST * estimate)
    length = float(np.linalg.norm(found))
    if length < LEAST_AGREEING:
        raise UsageError(
            "these edges cannot all be vertical: gravity along them is far from that of the photo; undo one."
        )
    return np.asarray(found / length)


def gravity_below(horizon: Float[np.ndarray, "2 2"], camera: Intrinsics) -> Float[np.ndarray, "3"]:
    """Gravity, a unit vector in the camera frame, square to the plane in which the horizon is seen.

    Raises:
        UsageError: if the ends are one point.

    Examples:
        >>> camera = Intrinsics(width=100, height=100, fx=100, fy=100, cx=50, cy=50)
        >>> gravity_below(np.array([[0, 50], [100, 50]]), camera).round(3).tolist()
        [0.0, 1.0, 0.0]
    """
    normal = plane_of(horizon, camera)
    return normal if normal[1] > 0 else -normal


def fov_by_horizon(horizon: Float[np.ndarray, "2 2"], camera: Intrinsics, estimate: Float[np.ndarray, "3"]) -> float:
    """Horizontal field of view, degrees, with which the horizon is as far from the picture's centre as the camera's pitch says.

    Args:
        horizon: the line.
        camera: with any focal length; square pixels.
        estimate: gravity, camera frame.

    Raises:
        UsageError: if the camera looks too level for that, or the line lies on the other side of the centre.

    Examples:
        >>> camera = Intrinsics(width=100, height=100, fx=1, fy=1, cx=50, cy=50)
        >>> round(fov_by_horizon(np.array([[0, 0], [100, 0]]), camera, np.array([0, 1, 1]) / 2**0.5), 3)
        90.0
    """
    start, end = horizon
    along = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
    across = np.array([-along[1], along[0]]) if along[0] >= 0 else np.array([along[1], -along[0]])
    below = float((np.array([camera.cx, camera.cy]) - start) @ across)
    pitch = float(np.arcsin(np.clip(estimate[2], -1, 1)))
    if abs(np.degrees(pitch)) < LEAST_PITCH_DEG or below * pitch <= 0:
        way = "down" if pitch > 0 else "up"
        raise UsageError(
            f"the horizon does not tell the field of view: the camera is estimated to look {np.degrees(abs(pitch)):.0f} degrees "
            f"{way}, and the line runs {abs(below):.0f} pixels {'above' if below > 0 else 'below'} the picture's centre. Give "
            "the field of view itself, then the horizon tells gravity."
        )
    focal = below / np.tan(pitch)
    return float(np.degrees(2 * np.arctan(camera.width / (2 * focal))))


def fov_by_lengths(
    ends: Float[np.ndarray, "2 2 2"],
    depths: Float[np.ndarray, "2 2"],
    metres: Float[np.ndarray, "2"],
    camera: Intrinsics,
) -> float:
    """Horizontal field of view, degrees, with which two lines have lengths in the ratio that they should have.

    Args:
        ends: of the two lines.
        depths: z-depth of each end, in any one unit.
        metres: how long they are.
        camera: whose picture it is; its focal length does not count.

    Raises:
        UsageError: if their ratio hardly depends on the field of view, or fits none.
    """
    candidates = np.linspace(*FIELDS_DEG, STEPS)
    ratios = []
    for degrees in candidates:
        points = rays(intrinsics_from_fov(camera.width, camera.height, float(degrees)), ends) * depths[..., None]
        first, second = np.maximum(np.linalg.norm(points[:, 1] - points[:, 0], axis=-1), 1e-12)
        ratios.append(np.log(first / second))
    off = np.array(ratios) - np.log(metres[0] / metres[1])
    if np.ptp(off) < LEAST_TOLD:
        raise UsageError(
            "the two lengths do not tell the field of view: their ratio is the same with any. Choose one that leads away from "
            "the camera and one across the picture."
        )
    crossed = np.flatnonzero(np.diff(np.sign(off)) != 0)
    if not len(crossed):
        raise UsageError(
            f"no field of view from {FIELDS_DEG[0]:g} to {FIELDS_DEG[1]:g} degrees gives the two lengths their ratio; check "
            "the lines and the numbers."
        )
    at = int(crossed[0])
    share = off[at] / (off[at] - off[at + 1])
    return float(candidates[at] + share * (candidates[at + 1] - candidates[at]))


def depth_at(z: Float32[np.ndarray, "h w"], photo: Photo, place: Place) -> float:
    """z-depth of what the photo shows at a place.

    Raises:
        UsageError: if none is known there.
    """
    u, v = photo.at_working_size(place)
    inside = 0 <= u < photo.width and 0 <= v < photo.height
    if not inside or z[int(v), int(u)] <= 0:
        raise UsageError(
            f"no depth is known at {place[0]:g},{place[1]:g}, which a line or a click was drawn to; choose another place."
        )
    return float(z[int(v), int(u)])
