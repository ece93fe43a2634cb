"""The rigid bodies of a scene's objects, for the formats of simulators and for the simulation itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from scenegen.camera import transform
from scenegen.errors import ExportError
from scenegen.export.parts import Part, PartScene, about_part, prepared
from scenegen.geometry.distance import surface_points
from scenegen.messages.remarks import note
from scenegen.physics.body import Hull
from scenegen.physics.clearance import Colliders, cleared
from scenegen.physics.obstacle import obstacles
from scenegen.physics.rigid import Rigid, placed, rigid
from scenegen.physics.seat import seat
from scenegen.physics.settle import Fixed, settle
from scenegen.records import BACKGROUND_SUPPORT, Settled

WITHOUT_OBSTACLES = ("floor", "sky")
"""Kinds of surfaces that nothing collides with: below everything there is an endless floor, and the sky is far away."""


def with_bodies(
    scene: PartScene, density: float, hulls: int, kept: Mapping[str, tuple[Hull, ...]] = MappingProxyType({})
) -> PartScene:
    """The scene, prepared, with a rigid body for each object, what is assumed of it among its facts, and obstacles for surfaces.

    Args:
        scene: its objects' facts say in `support` what carries them, those of surfaces in `kind` what they are.
        density: kilograms per cubic metre, of objects whose label says nothing.
        hulls: most convex parts that an object collides with.
        kept: what parts of the scene must collide with, by name: all others give way to that.

    Raises:
        ExportError: if `scenegen.export.parts.prepared` refuses the scene.
        ObjectError: if one of the objects cannot be a body.

    Examples:
        >>> from pathlib import Path
        >>> from scenegen.export.glb import read_glb
        >>> scene = with_bodies(read_glb(Path("out/photo/scene.glb")), density=400, hulls=16)
        >>> scene.objects[0].facts["mass_from"]
        'mesh'
    """
    scene = prepared(scene)
    objects, surfaces = [], []
    for part in scene.objects:
        with about_part(part):
            held = part.facts.get("support") == BACKGROUND_SUPPORT
            objects.append(
                replace(part, rigid=rigid(part.mesh.vertices, part.mesh.faces, part.label, held, density, hulls))
            )
    objects = _with_seats(objects)
    for part in scene.background:
        seen = transform(np.linalg.inv(part.world_from_part), scene.world_from_camera[:3, 3])
        solid = part.facts.get("kind") not in WITHOUT_OBSTACLES
        surfaces.append(replace(part, obstacles=obstacles(part.mesh.vertices, part.mesh.faces, seen) if solid else ()))
    parts = (*objects, *surfaces)
    place = {part.facts.get("id"): number for number, part in enumerate(objects)}
    carriers = [place.get(part.facts.get("support")) for part in parts]
    colliders = [_colliders(part, carrier, kept.get(part.name)) for part, carrier in zip(parts, carriers, strict=True)]
    bodied = [
        replace(part, obstacles=clear) if part.rigid is None else _bodied(part, clear)
        for part, clear in zip(parts, cleared(colliders), strict=True)
    ]
    return replace(scene, objects=tuple(bodied[: len(objects)]), background=tuple(bodied[len(objects) :]))


def _with_seats(objects: Sequence[Part]) -> list[Part]:
    """Each object with a seat for each that stands on it."""
    made = {part.facts.get("id"): part for part in objects}
    for part in objects:
        carrier = made.get(part.facts.get("support"))
        if carrier is None:
            continue
        carrier_from_part = np.linalg.inv(carrier.world_from_part) @ part.world_from_part
        standing = transform(carrier_from_part, part.mesh.vertices.astype(np.float64))
        plate = seat(standing, carrier.mesh.vertices, carrier.mesh.faces)
        if plate is not None:
            solid = body_of(carrier)
            solid = replace(solid, body=replace(solid.body, hulls=(*solid.body.hulls, plate)))
            made[carrier.facts["id"]] = replace(carrier, rigid=solid)
    return [made[part.facts.get("id")] for part in objects]


def _colliders(part: Part, carrier: int | None, kept: tuple[Hull, ...] | None) -> Colliders:
    fixed = part.rigid is None or part.rigid.held
    surface = np.zeros((0, 3)) if part.rigid is None else surface_points(part.mesh.vertices, part.mesh.faces)
    return Colliders(
        part.hulls if kept is None else kept, part.world_from_part, surface, fixed, carrier, kept is not None
    )


def _bodied(part: Part, hulls: tuple[Hull, ...]) -> Part:
    made = body_of(part)
    made = replace(made, body=replace(made.body, hulls=hulls))
    return replace(part, rigid=made, facts={**part.facts, **made.facts})


def body_of(part: Part) -> Rigid:
    """The rigid body of an object.

    Raises:
        ExportError: if it has none.
    """
    if part.rigid is None:
        raise ExportError(
            f"{part.name} has no rigid body; give the scene to `scenegen.export.bodies.with_bodies` first."
        )
    return part.rigid


def body_remarks(scene: PartScene) -> tuple[str, ...]:
    """What to know of the bodies of a scene."""
    return tuple(
        note(f"{part.name}: the mesh is not closed, so its mass is that of its convex hull.")
        for part in scene.objects
        if not body_of(part).body.closed
    )


def settled(scene: PartScene) -> tuple[Settled, ...]:
    """What becomes of the objects of a scene under gravity, in their order.

    Args:
        scene: from `with_bodies`.

    Raises:
        WeightsError: if MuJoCo is not installed.
    """
    bodies = [placed(body_of(part), part.world_from_part) for part in scene.objects]
    return settle(bodies, [Fixed(part.obstacles, part.world_from_part) for part in scene.background])
