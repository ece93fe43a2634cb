"""A signed distance on a grid over the generator's cube, and the cube's place in front of the crop camera."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int32
from scipy import ndimage
from skimage.measure import marching_cubes

from scenegen.camera import crop_from_latent, latent_distance, project, transform
from scenegen.errors import InputError
from scenegen.geometry.generator import ObjectView, OtherView

NEAREST = 0.42
"""Share of the edge in front of the cube's centre at which the nearest visible part lies: most room is behind it."""
SHORTEST = 0.05
"""Least distance from the camera to that part, in edges, however wide the crop's field of view."""
DEEPEST = 0.85
"""Most edges by which the visible surface may reach back from its nearest part if its depth is only estimated: exact depth seldom
reaches farther, and the cube ends at 0.92."""
NOT_AHEAD = 1e-6
"""Metres in front of a camera up to which a point is not ahead of it."""


@dataclass(frozen=True, eq=False)
class Field:
    """Signed distance to a surface, negative inside, in cube edges."""

    values: Float32[np.ndarray, "r r r"]
    """At the centres of the cells; axes x, y, z of the latent frame."""

    def resampled(self, resolution: int) -> Float32[np.ndarray, "q q q"]:
        """The field on a grid of `resolution` cells along an edge, by cubic splines, clamped at the cube's faces."""
        cells = len(self.values)
        place = (np.arange(resolution) + 0.5) / resolution * cells - 0.5
        # On a grid they are products of splines along the axes, on each of which a sample's share is the same everywhere.
        share = np.stack(
            [ndimage.map_coordinates(sample, [place], order=3, mode="nearest") for sample in np.eye(cells)]
        )
        return np.einsum("ijk,ia,jb,kc->abc", self.values, share, share, share, optimize=True).astype(np.float32)


def cell_centres(resolution: int) -> Float32[np.ndarray, "r r r 3"]:
    """Latent points of the centres of the cells of a grid."""
    axis = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution - 0.5
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)


def cube_edge(view: ObjectView) -> float:
    """Edge of the cube in metres, and with it its distance: its centre plane fills the crop.

    It begins a little before the nearest visible part, a percentile that outliers do not move, since what is hidden lies
    behind.

    Raises:
        InputError: if no depth is known inside the mask.
    """
    distance = latent_distance(view.crop)  # from the camera to the cube's centre, in edges
    return nearest_depth(view) / max(distance - NEAREST, SHORTEST)


def nearest_depth(view: ObjectView) -> float:
    """z-depth in metres of the nearest visible part of the object, without outliers.

    Raises:
        InputError: if no depth is known inside the mask.
    """
    seen = view.depth[(view.mask > 0.5) & (view.depth > 0)]
    if not len(seen):
        raise InputError("no depth is known inside the object's mask; give a depth map that covers the object.")
    return float(np.percentile(seen, 3))


def within_cube(view: ObjectView) -> ObjectView:
    """The view with the relief of its object, where that reaches too far back to be believed, flattened to what the cube holds.

    An estimate has the order of depths right more often than their range. What reaches beyond the cube would be cut off: a bowl
    would lose its floor.

    Raises:
        InputError: if no depth is known inside the mask.
    """
    seen = (view.mask > 0.5) & (view.depth > 0)
    near, edge = nearest_depth(view), cube_edge(view)
    reach = float(np.percentile(view.depth[seen], 97)) - near
    if reach <= DEEPEST * edge:
        return view
    flatter = near + (view.depth - near) * np.float32(DEEPEST * edge / reach)
    return replace(view, depth=np.where(seen & (view.depth > near), flatter, view.depth).astype(np.float32))


def metric_crop_from_latent(view: ObjectView, edge: float) -> Float[np.ndarray, "4 4"]:
    """From the latent cube to the crop camera's frame in metres, for a cube of `edge` metres."""
    return np.diag([edge, edge, edge, 1.0]) @ crop_from_latent(view.crop.intrinsics)


@dataclass(frozen=True, eq=False)
class SeenCells:
    """The cells of a grid over the cube, and where a crop shows them."""

    points: Float[np.ndarray, "n 3"]
    """Centres in that crop camera's frame, metres; axes x, y, z of the latent frame, z fastest."""
    rows: Float[np.ndarray, "n"]
    """Pixels of the crop, centres at integers."""
    columns: Float[np.ndarray, "n"]

    @cached_property
    def _map(self) -> tuple[Float32[np.ndarray, "side side"], Float32[np.ndarray, "side side"]]:
        """Columns and rows, repeated to fill a square: OpenCV limits the sides of what it makes, not its size."""
        side = math.isqrt(len(self.rows) - 1) + 1
        columns, rows = (np.resize(places.astype(np.float32), (side, side)) for places in (self.columns, self.rows))
        return columns, rows

    def at(self, picture: Float[np.ndarray, "s s"], interpolation: int = cv2.INTER_LINEAR) -> Float32[np.ndarray, "n"]:
        """What `picture` has there, continued past its border."""
        found = cv2.remap(picture.astype(np.float32), *self._map, interpolation, borderMode=cv2.BORDER_REPLICATE)
        return found.ravel()[: len(self.rows)]

    def beyond(self, size: int) -> Float[np.ndarray, "n"]:
        """Pixels by which they lie outside a crop of `size` pixels."""
        return np.hypot(*(at - np.clip(at, 0, size - 1) for at in (self.rows, self.columns)))

    @property
    def ahead(self) -> Bool[np.ndarray, "n"]:
        """Which are in front of the camera; where the others lie in the crop means nothing."""
        return self.points[:, 2] > NOT_AHEAD


def seen_cells(view: ObjectView, edge: float, resolution: int) -> SeenCells:
    """The cells of a grid of `resolution` cells along an edge of the cube of `edge` metres, in the crop of `view`."""
    matrix = metric_crop_from_latent(view, edge)
    axis = (np.arange(resolution) + 0.5) / resolution - 0.5
    steps = matrix[:3, :3, None] * axis  # along x, y and z, by coordinate of the crop camera
    grid = np.empty((*3 * (resolution,), 3))
    for coordinate, (x, y, z) in enumerate(steps):
        grid[..., coordinate] = x[:, None, None] + y[:, None] + z + matrix[coordinate, 3]
    return _shown(grid.reshape(-1, 3), view)


def cells_from(cells: SeenCells, other: OtherView) -> SeenCells:
    """The cells that the main view sees, in the crop of another view."""
    return _shown(transform(other.crop_from_main, cells.points), other.view)


def _shown(points: Float[np.ndarray, "n 3"], view: ObjectView) -> SeenCells:
    ahead = np.where(points[:, 2:] > NOT_AHEAD, points, [0.0, 0.0, 1.0])
    columns, rows = project(view.crop.intrinsics, ahead).T - 0.5
    return SeenCells(points, rows, columns)


def surface(field: Field) -> tuple[Float32[np.ndarray, "v 3"], Int32[np.ndarray, "f 3"]]:
    """The closed surface where the field is 0, in the latent frame, counter-clockwise seen from outside.

    Raises:
        InputError: if nothing is inside.
    """
    if not (field.values < 0).any():
        raise InputError(
            "nothing is left of the object: the generated field has no inside. Try another `seed` or mask."
        )
    resolution = field.values.shape[0]
    padded = np.pad(field.values, 1, constant_values=1.0 / resolution)
    vertices, faces, _, _ = marching_cubes(padded, 0.0, gradient_direction="descent")
    # Index 1 of the padded grid is the centre of the first cell.
    return ((vertices - 0.5) / resolution - 0.5).astype(np.float32), np.ascontiguousarray(faces, dtype=np.int32)


def placed(
    vertices: Float32[np.ndarray, "v 3"], crop_from_latent: Float[np.ndarray, "4 4"]
) -> Float32[np.ndarray, "v 3"]:
    """Latent points in the crop camera's frame."""
    return transform(crop_from_latent, vertices.astype(np.float64)).astype(np.float32)
