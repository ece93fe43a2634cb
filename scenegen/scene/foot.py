"""Feet that something nearer hides: an object that is seen to be cut off below goes on down to the floor, out of sight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Integer
from scipy.spatial import ConvexHull, QhullError

from scenegen.camera import project, rays
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import RayCaster
from scenegen.ids import shows_object
from scenegen.records import Intrinsics
from scenegen.scene.layout import Floor
from scenegen.scene.underside import centre_of_mass

SHARES = (0.9, 0.75, 0.6, 0.45, 0.3)
"""Widths of a foot that are tried, as shares of the object's."""
CORNERS = 16
"""Of a foot, at most."""
STEADY_DEG = 4.0
"""A foot is made only if the object then stands up to a lean of this angle."""
SEEN = 0.002
"""Share of the object's pixels in which a foot may show: masks are that rough."""
BEHIND = 0.03
"""How far behind what hides it a foot is, at least, as a share of its distance: what hides it is solid."""
PIXELS = 240
"""Along the longer side of the picture in which it is looked for."""


def with_hidden_foot(
    mesh: TexturedMesh,
    number: int,
    ids: Integer[np.ndarray, "h w"],
    others: Sequence[TexturedMesh],
    camera: Intrinsics,
    level: Floor,
) -> TexturedMesh | None:
    """The object with the widest foot below its centre of mass that others hide; None if any would show, or be too narrow.

    Args:
        mesh: camera frame.
        number: its id.
        ids: which object each pixel shows.
        others: the other objects at their places.
        camera: the photo's camera.
        level: the plane it stands on.
    """
    vertices = mesh.vertices.astype(np.float64)
    across = np.linalg.svd(level.normal[None])[2][1:]
    centre = centre_of_mass(vertices, mesh.faces)
    height = float(level.heights(centre))
    foot = centre - height * level.normal
    caster = RayCaster(mesh.vertices, mesh.faces)
    hiding = [RayCaster(other.vertices, other.faces) for other in others]
    if not hiding:
        return None
    try:
        outline = vertices[ConvexHull(vertices @ across.T).vertices]
    except QhullError:
        return None
    outline = outline[np.linspace(0, len(outline), min(CORNERS, len(outline)), endpoint=False).astype(int)]
    outline = outline - level.heights(outline)[:, None] * level.normal
    for share in SHARES:
        ring = foot + share * (outline - foot)
        if _reach(ring @ across.T, foot @ across.T) < height * np.tan(np.radians(STEADY_DEG)):
            return None
        met = caster.cast(ring, np.broadcast_to(level.normal, ring.shape))
        above = met.distance[met.triangle >= 0]
        if 2 * len(above) < len(ring):
            continue
        made = _prism(ring, float(above.max()) * level.normal, mesh)
        if not _is_seen(made, caster, number, ids, hiding, camera):
            return _together(mesh, made)
    return None


def _reach(ring: Float[np.ndarray, "n 2"], foot: Float[np.ndarray, "2"]) -> float:
    """Distance from the foot to the nearest side of a ring around it; negative if it is outside."""
    found = ConvexHull(ring).equations
    return -float((found[:, :2] @ foot + found[:, 2]).max())


def _prism(ring: Float[np.ndarray, "n 3"], rise: Float[np.ndarray, "3"], mesh: TexturedMesh) -> TexturedMesh:
    """From the ring upwards, with the colour of the object's vertex that is nearest to it."""
    points = np.concatenate([ring, ring + rise])
    solid = ConvexHull(points)
    corners = points[solid.simplices]
    outwards = np.einsum(
        "fd,fd->f", np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), solid.equations[:, :3]
    )
    faces = np.where(outwards[:, None] > 0, solid.simplices, solid.simplices[:, ::-1])
    nearest = int(np.linalg.norm(mesh.vertices - ring.mean(axis=0), axis=1).argmin())
    uv = np.broadcast_to(mesh.uv[nearest], (len(points), 2)).astype(np.float32)
    return replace(mesh, vertices=points.astype(np.float32), faces=faces.astype(np.int32), uv=uv)


def _is_seen(
    foot: TexturedMesh,
    own: RayCaster,
    number: int,
    ids: Integer[np.ndarray, "h w"],
    others: Sequence[RayCaster],
    camera: Intrinsics,
) -> bool:
    """Whether the photo shows, where the foot would be, something that does not hide it."""
    step = max(1, max(ids.shape) // PIXELS)
    ids = ids[::step, ::step]
    v, u = np.meshgrid(*(step * np.arange(side) + 0.5 for side in ids.shape), indexing="ij")
    low, high = (getattr(project(camera, foot.vertices.astype(np.float64)), name)(axis=0) for name in ("min", "max"))
    near = (u >= low[0]) & (u <= high[0]) & (v >= low[1]) & (v <= high[1])
    directions = rays(camera, np.stack([u, v], axis=-1)[near])
    origins = np.zeros_like(directions)
    distance = RayCaster(foot.vertices, foot.faces).cast(origins, directions).distance
    behind_itself = (ids[near] == number) & (own.cast(origins, directions).distance < distance)
    nearest = np.min([caster.cast(origins, directions).distance for caster in others], axis=0, initial=np.inf)
    behind_others = shows_object(ids[near]) & (ids[near] != number) & (nearest < (1 - BEHIND) * distance)
    shown = np.isfinite(distance) & ~behind_itself & ~behind_others
    return bool(shown.sum() > SEEN * max(int((ids == number).sum()), 1))


def _together(mesh: TexturedMesh, foot: TexturedMesh) -> TexturedMesh:
    return replace(
        mesh,
        vertices=np.concatenate([mesh.vertices, foot.vertices]),
        faces=np.concatenate([mesh.faces, foot.faces + len(mesh.vertices)]).astype(np.int32),
        uv=np.concatenate([mesh.uv, foot.uv]),
    )
