"""Makes a clean mesh from the decoded dual grid: the true surface, without the double walls of an offset shell."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int32, Int64
from torch import Tensor
from torch.nn import functional

from scenegen.errors import InputError
from scenegen.geometry.outside import turned_outwards
from scenegen.geometry.simplify import simplify, thinned
from scenegen.geometry.solid import is_closed, untouching
from scenegen.geometry.topology import (
    boundary_loops,
    capped,
    mates,
    perimeters,
    pieces,
    proper_faces,
    split_vertices,
    turned_alike,
)
from scenegen.messages.remarks import note
from scenegen.pixal3d.sparse import CoordinateIndex

logger = logging.getLogger(__name__)

QUADS = (
    ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)),
    ((0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)),
    ((0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 0)),
)
"""The four voxels around an edge along x, y, z: steps from the voxel that owns the edge."""
DENSE, SPARE = 200_000, 4
"""A decoded surface is thinned to so many faces, or so many for each face that is asked for, before it is cleaned, if that at
least halves it: so that cleaning takes bounded time and memory."""
SPLITS = (((0, 1, 2), (0, 2, 3)), ((0, 1, 3), (3, 1, 2)))
"""The two ways to cut a quad: between its corners 0 and 2, or 1 and 3."""


@dataclass(frozen=True, eq=False)
class DualGrid:
    """A surface as a flexible dual grid: one vertex per voxel, and which edges of the grid the surface crosses."""

    coords: Int32[Tensor, "n 4"]
    """(item, x, y, z)."""
    dual_vertices: Float[Tensor, "n 3"]
    """Offset of each vertex from its voxel's lower corner, in voxels."""
    intersected: Bool[Tensor, "n 3"]
    """Whether the surface crosses the voxel's own edge along x, y, z."""
    split_weight: Float[Tensor, "n 1"]
    """How strongly a quad tends to be cut through this vertex."""

    def item(self, number: int) -> DualGrid:
        """One item of the batch."""
        mine = self.coords[:, 0] == number
        return DualGrid(self.coords[mine], self.dual_vertices[mine], self.intersected[mine], self.split_weight[mine])


@dataclass(frozen=True, eq=False)
class CleanSurface:
    """A triangle mesh, a manifold with or without boundary, counter-clockwise seen from outside."""

    vertices: Float32[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    closed: bool
    """Whether it is watertight: every edge has exactly two faces, which run along it in opposite directions."""
    warnings: tuple[str, ...] = ()


def dual_grid_to_mesh(
    grid: DualGrid, resolution: int | Sequence[int]
) -> tuple[Float[Tensor, "n 3"], Int32[Tensor, "f 3"]]:
    """One quad for each crossed edge whose four voxels all exist, cut into two triangles.

    The edges do not say on which side the solid is: quads across one axis all face one way, and `clean_surface` turns them.

    Args:
        grid: the grid of one item, or of several, which then share one mesh.
        resolution: voxels along an edge of the latent cube; or along x, y and z of a box that is stretched to it.

    Returns:
        - **vertices**: one per voxel, in the order of the voxels, used or not; in the latent cube [-0.5, 0.5]^3, which they
          may leave by half a voxel.
        - **faces**: quads in the order of their voxels, then axes x, y, z.

    Raises:
        InputError: if a voxel lies outside the grid or occurs twice.
    """
    place = grid.coords[:, 1:]
    size = torch.tensor(resolution, device=place.device)
    if bool(((place < 0) | (place >= size)).any()):
        low, high = place.amin(dim=0).tolist(), place.amax(dim=0).tolist()
        raise InputError(
            f"`coords` run from {low} to {high} on a grid of {resolution}; give the `resolution` of their grid."
        )
    vertices = (place + grid.dual_vertices) / size - 0.5
    quads, _ = crossing_quads(grid.coords, grid.intersected)
    weight = grid.split_weight[quads].squeeze(2)
    second = weight[:, 0] * weight[:, 2] <= weight[:, 1] * weight[:, 3]
    corners = torch.tensor(SPLITS, device=place.device)[second.long()].flatten(1)
    return vertices, quads.gather(1, corners).reshape(-1, 3).int()


def crossing_quads(
    coords: Int32[Tensor, "n 4"], intersected: Bool[Tensor, "n 3"]
) -> tuple[Int64[Tensor, "q 4"], Int64[Tensor, "q 2"]]:
    """The quads of a dual grid.

    Returns:
        - **quads**: rows of the four voxels around each crossed edge, if all exist; their normal runs along the axis, but
          for y against it.
        - **edges**: the row of the voxel that owns the edge, and the edge's axis.
    """
    edges = intersected.nonzero()
    steps = functional.pad(torch.tensor(QUADS, dtype=torch.int32, device=coords.device), (1, 0))
    quads = CoordinateIndex.of(coords).find(coords[edges[:, 0], None] + steps[edges[:, 1]])
    whole = (quads >= 0).all(dim=1)
    return quads[whole], edges[whole]


def clean_surface(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    *,
    max_faces: int,
    max_hole_perimeter: float = 3e-2,
    min_piece: float = 0.02,
) -> CleanSurface:
    """The surface made consistent, without an offset or wrapping, so that walls stay in place and single.

    Degenerate and double faces are removed, faces are turned alike and outwards, crowded edges and pinched vertices are
    resolved, specks are dropped, small holes are closed, and the rest is simplified. If large holes are left, the mesh is open.
    Far more than `DENSE` faces are thinned as soon as they are turned alike.

    Args:
        vertices: in the latent cube [-0.5, 0.5]^3.
        faces: in any winding.
        max_faces: faces to simplify to, as far as the shape allows.
        max_hole_perimeter: boundary loops up to this length are closed with a fan around their centroid.
        min_piece: pieces whose bounding box has a diagonal below this share of the largest piece's are dropped.

    Raises:
        InputError: if no faces are left.
    """
    warnings = []
    faces = proper_faces(faces)
    if not len(faces):
        raise InputError("the decoded surface has no faces, so the latent is empty. Try another seed or a larger mask.")
    faces, patch, one_sided = turned_alike(faces)
    enough = max(DENSE, SPARE * max_faces)
    if len(faces) > 2 * enough:
        # Only now: where parts come to touch, the winding of their faces tells them apart.
        vertices, faces = thinned(vertices, faces, enough)
        faces, patch, _ = turned_alike(proper_faces(faces))
    if one_sided:
        warnings.append(note(f"{one_sided} patches of the surface are one-sided and were cut open."))
    faces = turned_outwards(vertices, faces, patch)
    mate = mates(vertices, faces)
    count, piece = pieces(mate)
    kept = _large_pieces(vertices, faces, piece, count, min_piece)
    faces = faces[kept[piece]]
    points, faces = split_vertices(vertices, faces, mates(vertices, faces))
    loops = boundary_loops(faces, mates(points, faces))
    small = perimeters(points, faces, loops) <= max_hole_perimeter
    points, faces = capped(points, faces, loops, small)
    closed = is_closed(faces)
    logger.info(
        "surface: %d of %d pieces kept, %d of %d holes closed, %s",
        kept.sum(), count, small.sum(), loops.count, "watertight" if closed else "open",
    )  # fmt: skip
    if not closed:
        warnings.append(
            note(
                f"the surface is open: {loops.count - int(small.sum())} holes have a perimeter above {max_hole_perimeter:g}."
            )
        )
    if closed:
        points, faces, more = simplify(points, faces, max_faces)
        warnings += more
    elif len(faces) > max_faces:
        points, faces = untouching(*thinned(points, faces, max_faces))
    return CleanSurface(points, faces, is_closed(faces), tuple(warnings))


def _large_pieces(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    piece: Int32[np.ndarray, "f"],
    count: int,
    min_piece: float,
) -> Bool[np.ndarray, "pieces"]:
    """Which pieces are larger than specks."""
    order = np.argsort(piece, kind="stable")
    begin = np.searchsorted(piece[order], np.arange(count))
    corners = vertices[faces[order]]
    low, high = np.minimum.reduceat(corners.min(axis=1), begin), np.maximum.reduceat(corners.max(axis=1), begin)
    diagonal = np.linalg.norm(high - low, axis=1)
    return diagonal >= min_piece * diagonal.max()
