"""An object as a rigid body in a scene: its colliders, its mass, and how it behaves when it is touched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int32

from scenegen.physics.body import Body, body
from scenegen.physics.material import Substance, assumed
from scenegen.physics.settle import Placed


@dataclass(frozen=True, eq=False)
class Rigid:
    """A rigid body, in the frame of its object: metres, kilograms, Y up."""

    body: Body
    density: float
    """Kilograms per cubic metre; assumed."""
    density_from: str
    """`label`, or `default` if nothing is known of things of that name."""
    substance: Substance
    """Assumed, by the label."""
    held: bool
    """Whether something that is no object of the scene holds it where it is, so that it does not move."""

    @property
    def mass(self) -> float:
        """Kilograms."""
        return self.body.volume * self.density

    @property
    def facts(self) -> dict[str, str | int | float | bool]:
        """What is written with an object."""
        return {
            "mass_kg": round(self.mass, 6),
            "mass_from": "mesh" if self.body.closed else "convex hull",
            "density_kg_m3": self.density,
            "density_from": self.density_from,
            "substance_assumed": self.substance.name,
            "friction_assumed": self.substance.friction,
            "restitution_assumed": self.substance.restitution,
            "colliders": len(self.body.hulls),
            "held": self.held,
        }


def rigid(
    vertices: Float32[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    label: str,
    held: bool,
    density: float,
    hulls: int,
) -> Rigid:
    """The rigid body of a mesh.

    Args:
        vertices: metres, Y up.
        faces: counter-clockwise seen from outside.
        label: what it shows.
        held: as in `Rigid`.
        density: of what no density is known of by its label.
        hulls: most convex parts to collide with.
    """
    taken = assumed(label)
    return Rigid(
        body(vertices, faces, hulls),
        density if taken.density is None else taken.density,
        "default" if taken.density is None else "label",
        taken.substance,
        held,
    )


def placed(found: Rigid, world_from_object: Float64[np.ndarray, "4 4"]) -> Placed:
    """A rigid body at its place in the world, for the simulation."""
    return Placed(found.body, world_from_object, found.mass, found.substance.friction, found.held)
