"""The rigid bodies of a scene's objects, for the formats of simulators and for the simulation itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scenegen.errors import ExportError
from scenegen.export.parts import Part, PartScene, about_part, prepared
from scenegen.messages.remarks import note
from scenegen.physics.rigid import Rigid, placed, rigid
from scenegen.physics.settle import settle
from scenegen.records import BACKGROUND_SUPPORT, Settled


def with_bodies(scene: PartScene, density: float, hulls: int) -> PartScene:
    """The scene, prepared, with a rigid body for each object and what is assumed of it among its facts.

    Args:
        scene: its objects' facts say in `support` what carries them.
        density: kilograms per cubic metre, of objects whose label says nothing.
        hulls: most convex parts that an object collides with.

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
    objects = []
    for part in scene.objects:
        with about_part(part):
            held = part.facts.get("support") == BACKGROUND_SUPPORT
            made = rigid(part.mesh.vertices, part.mesh.faces, part.label, held, density, hulls)
            objects.append(replace(part, rigid=made, facts={**part.facts, **made.facts}))
    return replace(scene, objects=tuple(objects))


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


def settled(parts: Sequence[Part]) -> tuple[Settled, ...]:
    """What becomes of objects under gravity, on a floor at height 0, in their order.

    Raises:
        UsageError: if MuJoCo is not installed.
    """
    return settle([placed(body_of(part), part.world_from_part) for part in parts])
