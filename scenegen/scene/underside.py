"""Undersides that stand: what an object hides of its base is made level with what it stands on.

A vertex may slide along its own ray from the camera: what the photo shows of an object stays where it is to the last digit. So
the hidden underside is brought down to the support below the object's centre of mass, where it was left hanging, and what
reaches below the support is drawn up to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int32
from scipy.spatial import ConvexHull, QhullError

from scenegen.compute.recent import OF_OBJECTS, reused
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import RayCaster
from scenegen.geometry.solid import is_closed, welded
from scenegen.geometry.subdivide import halved
from scenegen.scene.layout import Floor

STEADY_DEG = 12.0
"""A finished base carries the centre of mass up to a lean of this angle."""
LEAST_FOOT, LARGEST_FOOT = 0.12, 0.3
"""Radius of the base that is made, as a share of the object's width."""
CONTACT_M = 5e-4
"""Vertices this near to the support touch it."""
HAIR = 1e-3
"""Thickness that is left where a visible surface lies below the support: a share of its distance."""
LEAST_STEADY_DEG = 4.0
"""An object that tips over at less is set upright, if it may lean."""
LEAN_STEP_DEG = 3.0
LEGS = (0.01, 0.02, 0.04, 0.06)
"""How far legs may end above the plane that they stand on, as shares of the object's height."""
FAR = 1e9
ROUNDS, DIVISIONS = 4, 3
NO_PICTURE = np.zeros((1, 1, 3), dtype=np.uint8)
BEYOND = 5e-4
"""How far behind a vertex something else is looked for: a share of its distance."""


@dataclass(frozen=True, eq=False)
class Base:
    """How an object meets the level plane it stands on."""

    area: float
    """Of the convex outline of what touches it, square metres."""
    steady_deg: float
    """How far gravity may turn before the object tips over; negative if it tips over as it is."""


@dataclass(frozen=True, eq=False)
class Standing:
    """An object as it stands."""

    mesh: TexturedMesh
    """Camera frame."""
    lean_deg: float
    """How far it was leant away from the camera; negative: towards it."""
    base: Base


def standing(mesh: TexturedMesh, level: Floor, most_lean_deg: float) -> Standing:
    """An object (camera frame) made to stand steadily on the plane `level`, its vertices slid along their rays if at all.

    If a finished underside alone does not do it, the object leans too much to stand, which depth often gets wrong: then it is
    set upright by as little as helps, at most `most_lean_deg`. What tips over even then is left as it leans.
    """
    # What it looks like changes nothing, and need not be compared, nor kept.
    found = _stood(replace(mesh, base_color=NO_PICTURE, metallic_roughness=None), level, most_lean_deg)
    seen = replace(found.mesh, base_color=mesh.base_color, metallic_roughness=mesh.metallic_roughness)
    return replace(found, mesh=seen)


@reused(OF_OBJECTS)
def _stood(mesh: TexturedMesh, level: Floor, most_lean_deg: float) -> Standing:
    best = untouched = _as_it_leans(mesh, level, 0.0)
    if best.base.steady_deg >= LEAST_STEADY_DEG or most_lean_deg < LEAN_STEP_DEG:
        return best
    tries = [_as_it_leans(mesh, level, sign * LEAN_STEP_DEG) for sign in (1, -1)]
    way = max(tries, key=lambda found: found.base.steady_deg)
    while way.base.steady_deg > best.base.steady_deg:
        best = way
        lacking = LEAST_STEADY_DEG - best.base.steady_deg
        room = most_lean_deg - abs(best.lean_deg)
        if lacking <= 0 or room < 1:
            break
        further = min(max(lacking, LEAN_STEP_DEG), room)
        way = _as_it_leans(mesh, level, best.lean_deg + np.sign(best.lean_deg) * further)
    return best if best.base.steady_deg > 0 else untouched


def _as_it_leans(mesh: TexturedMesh, level: Floor, lean_deg: float) -> Standing:
    made, found = _finished(_leaned(mesh, level, lean_deg), level)
    return Standing(made, round(float(lean_deg), 3), found)


def _leaned(mesh: TexturedMesh, level: Floor, lean_deg: float) -> TexturedMesh:
    """The object leant away from the camera about where it meets the plane.

    Distances are divided by a linear function of the height over the plane. That map keeps rays, straight lines and planes,
    and what lies on `level`: no picture from this camera can tell it, as none can tell a relief from what it shows (Belhumeur
    et al. 1999, The bas-relief ambiguity).
    """
    if lean_deg == 0:
        return mesh
    vertices = mesh.vertices.astype(np.float64)
    slope = np.tan(np.radians(lean_deg)) / float(np.linalg.norm(np.median(vertices, axis=0)))
    divisor = 1 - slope * level.heights(vertices)
    return replace(mesh, vertices=(vertices / np.maximum(divisor, 0.5)[:, None]).astype(np.float32))


def _finished(mesh: TexturedMesh, level: Floor) -> tuple[TexturedMesh, Base]:
    """What lies below the plane is drawn up to it. Then, unless the object stands steadily as it is, the last surface along
    each ray that meets the plane within a disc below the centre of mass is brought down to it, divided where it is too coarse.

    Nothing of this opens a closed mesh: what lies at one place stays at one place.
    """
    closed = is_closed(welded(mesh.vertices)[1][mesh.faces])
    mesh = _on_its_legs(_raised(mesh, level), level, closed)
    for rounds_left in reversed(range(ROUNDS + 1)):
        centre = centre_of_mass(mesh.vertices, mesh.faces, closed)
        found = base(mesh.vertices, centre, level)
        if found.steady_deg >= STEADY_DEG or not rounds_left:
            break
        height, width = float(level.heights(centre)), _width(mesh.vertices, level)
        radius = float(np.clip(height * np.tan(np.radians(1.3 * STEADY_DEG)), LEAST_FOOT * width, LARGEST_FOOT * width))
        foot = centre - height * level.normal
        for _ in range(DIVISIONS):
            coarser, mesh = mesh, halved(mesh, _reaching(mesh, level, foot, radius), 0.7 * radius)
            if mesh is coarser:
                break
        vertices = mesh.vertices.astype(np.float64)
        ways = _ways_to(level, vertices)
        near = np.linalg.norm(vertices * np.where(np.isfinite(ways), ways, FAR)[:, None] - foot, axis=1) < radius
        within = last_along_rays(vertices, mesh.faces, near)
        if not within.any():
            break
        mesh = replace(mesh, vertices=(vertices * np.where(within, ways, 1.0)[:, None]).astype(np.float32))
    return mesh, found


def _on_its_legs(mesh: TexturedMesh, level: Floor, closed: bool) -> TexturedMesh:
    """With what hides behind it and ends a little above the plane brought down to that, as little as makes the object stand."""
    centre = centre_of_mass(mesh.vertices, mesh.faces, closed)
    if base(mesh.vertices, centre, level).steady_deg >= STEADY_DEG:
        return mesh
    vertices = mesh.vertices.astype(np.float64)
    heights = level.heights(vertices)
    tallest = float(heights.max())
    hidden = last_along_rays(vertices, mesh.faces, heights < max(LEGS) * tallest)
    for share in LEGS:
        low = hidden & (heights < share * tallest)
        lowered = vertices * np.where(low, _ways_to(level, vertices), 1.0)[:, None]
        if base(lowered, centre, level).steady_deg >= STEADY_DEG:
            return replace(mesh, vertices=lowered.astype(np.float32))
    return mesh


def _reaching(mesh: TexturedMesh, level: Floor, foot: Float[np.ndarray, "3"], radius: float) -> Bool[np.ndarray, "f"]:
    """The faces that turn away from the camera and whose shadow on the plane comes near the foot."""
    ways = _ways_to(level, mesh.vertices.astype(np.float64))
    shadow = mesh.vertices * np.where(np.isfinite(ways), ways, FAR)[:, None] - foot
    below, above = shadow < radius, shadow > -radius
    a, b, c = mesh.faces.T
    found = ((below[a] | below[b] | below[c]) & (above[a] | above[b] | above[c])).all(axis=1)
    corners = mesh.vertices[mesh.faces[found]].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    found[found] = (normal * corners.mean(axis=1)).sum(axis=1) > 0
    return found


def base(points: Float[np.ndarray, "v 3"], centre: Float[np.ndarray, "3"], level: Floor) -> Base:
    """How an object, of which `centre` is the centre of mass, meets a level plane."""
    across = np.linalg.svd(level.normal[None])[2][1:]
    touching = points[np.abs(level.heights(points)) < CONTACT_M] @ across.T
    height = max(float(level.heights(centre)), 1e-6)
    if not len(touching):
        return Base(0.0, -90.0)
    try:
        outline = ConvexHull(touching)
    except (QhullError, ValueError):  # fewer than three points, or all in a line
        aside = float(np.linalg.norm(touching - across @ centre, axis=1).min())
        return Base(0.0, -float(np.degrees(np.arctan2(aside, height))))
    margin = -float((outline.equations[:, :2] @ (across @ centre) + outline.equations[:, 2]).max())
    return Base(float(outline.volume), float(np.degrees(np.arctan2(margin, height))))


def centre_of_mass(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], closed: bool = False
) -> Float[np.ndarray, "3"]:
    """At uniform density; of a mesh that is not closed, that of its surface. `closed` says that it is known to be."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    weights = np.einsum("nd,nd->n", a, np.cross(b, c))
    if (closed or is_closed(welded(vertices)[1][faces])) and weights.sum() > 0:
        return np.asarray(weights @ (a + b + c) / (4 * weights.sum()))
    weights = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return np.asarray(weights @ (a + b + c) / (3 * weights.sum()))


def last_along_rays(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], asked: Bool[np.ndarray, "v"]
) -> Bool[np.ndarray, "v"]:
    """Which of the asked vertices are the last of the object along their ray from the camera: nothing of it lies behind them."""
    last = asked.copy()
    points = vertices[asked]
    near = faces[_in_line(vertices, faces, points)]
    if len(near):
        last[asked] = ~RayCaster(vertices, near).blocked(points * (1 + BEYOND), points)
    return last


def _in_line(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], points: Float[np.ndarray, "n 3"]
) -> Bool[np.ndarray, "f"]:
    """The faces that rays to the points may meet. To prepare a few for rays takes a small part of the time that all would."""
    if len(points) == 0 or vertices[:, 2].min() <= 0:
        return np.full(len(faces), len(points) > 0)
    pictured = vertices[:, :2] / vertices[:, 2:]
    around = points[:, :2] / points[:, 2:]
    a, b, c = (pictured[faces[:, corner]] for corner in range(3))
    low, high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
    return np.asarray(((high >= around.min(axis=0)) & (low <= around.max(axis=0))).all(axis=1))


def _ways_to(level: Floor, vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v"]:
    """The factor that takes each vertex along its ray to the plane; infinite if it never gets there."""
    slope = vertices @ level.normal
    return np.where(slope < -1e-9, -level.offset / np.minimum(slope, -1e-9), np.inf)


def _raised(mesh: TexturedMesh, level: Floor) -> TexturedMesh:
    """What lies below the plane is drawn up to it; what something else of the object is behind, by a hair more."""
    vertices = mesh.vertices.astype(np.float64)
    ways = _ways_to(level, vertices)
    if (ways >= 1).all():
        return mesh
    last = last_along_rays(vertices, mesh.faces, (1 - HAIR) * ways < 1)
    factor = np.where(last, ways, (1 - HAIR) * ways)
    return replace(mesh, vertices=(vertices * np.minimum(1.0, factor)[:, None]).astype(np.float32))


def _width(points: Float[np.ndarray, "v 3"], level: Floor) -> float:
    across = np.linalg.svd(level.normal[None])[2][1:]
    return float(np.ptp(points @ across.T, axis=0).max())
