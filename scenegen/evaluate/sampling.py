"""Samples of a mesh's outer surface, and which of them a camera sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from scenegen.camera import project
from scenegen.errors import InputError
from scenegen.geometry.render import RayCaster
from scenegen.records import Intrinsics

DIRECTIONS = 32
"""Fixed directions in which a ray from a sample may leave the object."""
LIFT = 1e-4
"""A ray starts this share of the mesh's size off the surface, so that it does not meet its own triangle."""
SEEN_TOLERANCE = 1e-4
"""A point is seen unless the ray to it ends earlier than at this share of its distance before it."""
MAX_DRAWS = 10
"""How many times as many samples are drawn as are wanted, at most."""


@dataclass(frozen=True, eq=False)
class Triangles:
    """A triangle mesh."""

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]


@dataclass(frozen=True, eq=False)
class Samples:
    """Points on a surface."""

    points: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]
    """Unit, of the triangle; which side is out is not known."""

    def __getitem__(self, chosen: Bool[np.ndarray, "n"] | slice) -> Samples:
        """Some of them."""
        return replace(self, points=self.points[chosen], normals=self.normals[chosen])


def sample_surface(mesh: Triangles, count: int, rng: np.random.Generator) -> Samples:
    """`count` points, uniform by area.

    Raises:
        InputError: if the mesh has no area.
    """
    corners = mesh.vertices[mesh.faces]
    crossed = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    doubled = np.linalg.norm(crossed, axis=1)
    if not doubled.sum() > 0:
        raise InputError(
            f"`mesh` has {len(mesh.faces)} triangles, none with an area; give a mesh with a surface to sample."
        )
    chosen = rng.choice(len(doubled), count, p=doubled / doubled.sum())
    root, along = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - root, root * (1 - along), root * along], axis=1)
    points = np.einsum("nc,ncd->nd", weights, corners[chosen])
    return Samples(points, crossed[chosen] / doubled[chosen, None])


def sample_outside(mesh: Triangles, count: int, rng: np.random.Generator) -> Samples:
    """Up to `count` points of the outer surface, uniform by area: those from which a ray leaves the mesh.

    There are fewer if more than 1 - 1 / `MAX_DRAWS` of the surface is inside; all samples if no ray leaves it.

    Raises:
        InputError: if the mesh has no area.
    """
    caster = RayCaster(mesh.vertices, mesh.faces.astype(np.int32))
    lift = LIFT * float(np.ptp(mesh.vertices, axis=0).max())
    parts: list[Samples] = []
    for _ in range(MAX_DRAWS):
        drawn = sample_surface(mesh, count, rng)
        outer = drawn[_sees_outside(drawn, caster, lift)]
        parts.append(outer)
        if sum(len(part.points) for part in parts) >= count:
            break
    joined = concatenated(parts)
    return joined[:count] if len(joined.points) else drawn


def concatenated(parts: Sequence[Samples]) -> Samples:
    """All of them, in order."""
    return Samples(np.concatenate([part.points for part in parts]), np.concatenate([part.normals for part in parts]))


def visible(points: Float[np.ndarray, "n 3"], caster: RayCaster | None, camera: Intrinsics) -> Bool[np.ndarray, "n"]:
    """Whether the camera sees each point (camera frame) past the meshes of `caster` (None: there are none)."""
    seen = points[:, 2] > 0
    pixels = project(camera, points[seen])
    inside = (pixels >= 0).all(axis=1) & (pixels < (camera.width, camera.height)).all(axis=1)
    seen[seen] = inside
    if caster is not None:
        hits = caster.cast(np.zeros_like(points[seen]), points[seen])
        seen[seen] = hits.distance > 1 - SEEN_TOLERANCE  # in units of the ray, whose end is the point
    return seen


def _sees_outside(samples: Samples, caster: RayCaster, lift: float) -> Bool[np.ndarray, "n"]:
    found = np.zeros(len(samples.points), dtype=bool)
    # Most samples see out along a normal; only the others need more rays.
    for direction in (samples.normals, -samples.normals, *_sphere(DIRECTIONS)):
        todo = np.flatnonzero(~found)
        if not len(todo):
            break
        towards = np.broadcast_to(direction, samples.points.shape)[todo]
        side = np.where(np.einsum("nd,nd->n", samples.normals[todo], towards) < 0, -lift, lift)
        blocked = caster.blocked(samples.points[todo] + samples.normals[todo] * side[:, None], towards)
        found[todo[~blocked]] = True
    return found


def _sphere(count: int) -> Num[np.ndarray, "count 3"]:
    """Directions spread evenly, on a Fibonacci spiral."""
    index = np.arange(count)
    z = 1 - (2 * index + 1) / count
    angle = index * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
