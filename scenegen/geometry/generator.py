"""What an object generator is given and returns: one object, seen through its crop camera, as a mesh in that camera's frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int32, UInt8

from scenegen.geometry.mesh import TexturedMesh
from scenegen.records import CropCamera, SelfCheck

USER_MESH, THIN_SOLID = "user mesh", "thin solid"
"""What made an object that no generator did. Neither depends on a seed."""


@dataclass(frozen=True, eq=False)
class ObjectView:
    """Everything known of one object. Pictures are [s, s], as its crop camera sees them.

    Example:
        A second view of the object, from a camera one metre to the right of the first:

        >>> from dataclasses import replace
        >>> first_from_second = np.eye(4)
        >>> first_from_second[0, 3] = 1.0
        >>> both = replace(first, others=(OtherView(second, np.linalg.inv(first_from_second)),))  # doctest: +SKIP
    """

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
    others: tuple[OtherView, ...] = ()
    """Further views of the object, for the `several` of a generator. Depth of all views and the cameras share one metre."""

    @property
    def all(self) -> tuple[OtherView, ...]:
        """This view and the others, each with its camera."""
        return (OtherView(replace(self, others=()), np.eye(4)), *self.others)


@dataclass(frozen=True, eq=False)
class OtherView:
    """The same object in another picture of the scene."""

    view: ObjectView
    """In a crop camera of its own; it has no others."""
    crop_from_main: Float[np.ndarray, "4 4"]
    """Rigid, metres: from the crop camera's frame of the view whose `others` has it, to this one's."""


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
    """In the crop camera's frame. Its scale is arbitrary; from several views it is in metres, as their cameras have it."""
    backend: str
    licence: str
    """Of the weights."""
    seed: int
    """Of the attempt that was taken."""
    warnings: tuple[str, ...] = ()
    check: SelfCheck | None = None
    economy: int = 0
    """Level of `Runtime.economy` that made it coarser than configured."""


@dataclass(frozen=True, eq=False)
class Unfinished:
    """An object at the point where the device has done its part. The rest may be done in another process."""

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]
    """What JSON can hold."""
