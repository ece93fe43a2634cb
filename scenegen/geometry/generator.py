"""What an object generator is given and returns: one object, seen through its crop camera, as a mesh in that camera's frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from scenegen.geometry.mesh import TexturedMesh
from scenegen.records import CropCamera, SelfCheck

USER_MESH, THIN_SOLID = "user mesh", "thin solid"
"""What made an object that no generator did. Neither depends on a seed."""


@dataclass(frozen=True, eq=False)
class ObjectView:
    """Everything known of one object. Pictures are [s, s], as its crop camera sees them."""

    image: UInt8[np.ndarray, "s s 3"]
    """sRGB, with the surroundings of the object."""
    mask: Float32[np.ndarray, "s s"]
    """Share of the pixel the visible object covers, 0..1."""
    depth: Float32[np.ndarray, "s s"]
    """z-depth along the crop camera's axis, metres, 0 where unknown."""
    limit: Float32[np.ndarray, "s s"]
    """z-depth of the background behind the object, which it cannot reach beyond; 0 where unknown."""
    up: Float32[np.ndarray, "3"]
    """Unit vector against gravity, in the crop camera's frame."""
    crop: CropCamera
    relief_error: float = 0.0
    """Standard deviation of the errors of `depth` across the object, as a share of its width, without the error that all its
    pixels share."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A closed surface in the crop camera's frame, counter-clockwise seen from outside. Its scale is arbitrary."""

    vertices: Float32[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class MadeObject:
    """An object with its material, and how it was made."""

    mesh: TexturedMesh
    """In the crop camera's frame. Its scale is arbitrary."""
    backend: str
    licence: str
    """Of the weights."""
    seed: int
    """Of the attempt that was taken."""
    warnings: tuple[str, ...] = ()
    check: SelfCheck | None = None
    economy: int = 0
    """Level of `Runtime.economy` that made it coarser than configured."""
