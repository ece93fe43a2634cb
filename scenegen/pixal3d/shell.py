"""The reference's offset shell, for comparison with it only: `clean_surface` is what scenegen uses.

The released pipeline contours the unsigned distance to the decoded surface at an offset (narrow band dual contouring, as in
TRELLIS.2). That is watertight for any input, at a price: a solid grows by the offset and, since the distance has no sign, gets
a second wall inside it, as far behind the surface as the first is in front. An open sheet becomes a slab with two sides.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int32, Int64

from scenegen.geometry.closest import closest_points
from scenegen.pixal3d.surface import SPLITS, crossing_quads

COARSEST = 32
"""Largest number of cells along an edge of the octree's first level."""
REACH = 0.87
"""Half the diagonal of a cell, rounded up: how far from its centre the surface of a cell can be."""
CORNERS = np.array(tuple(itertools.product((0, 1), repeat=3)))
FAR = 7
"""The corner (1, 1, 1), where the cell's own edges end; they begin at 3, 5 and 6."""


def offset_shell(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], resolution: int, band: float = 1.0
) -> tuple[Float32[np.ndarray, "w 3"], Int32[np.ndarray, "g 3"]]:
    """Where the unsigned distance to the surface is `band` cells: both walls, counter-clockwise seen from outside the shell.

    Args:
        vertices: in the latent cube [-0.5, 0.5]^3.
        faces: at least one, in any winding.
        resolution: cells along an edge of the grid, which is larger than the cube by three bands.
        band: offset in cells.
    """
    scale = (resolution + 3 * band) / resolution
    cell = scale / resolution
    cells = _band_cells(vertices, faces, resolution, cell, band)
    field, corner = _corner_field(vertices, faces, cells, cell, scale, band)
    values = field[corner]
    inside = values < 0
    crossed = inside[:, [3, 5, 6]] != inside[:, [FAR]]
    quads, edges = (
        part.numpy()
        for part in crossing_quads(torch.from_numpy(np.pad(cells, ((0, 0), (1, 0)))), torch.from_numpy(crossed))
    )
    backwards = ~inside[edges[:, 0], FAR]
    quads = np.where(backwards[:, None], quads[:, ::-1], quads)
    points = (cells + _crossing_mean(values)) * cell - scale / 2
    used, compact = np.unique(quads[:, SPLITS[0]].reshape(-1, 3), return_inverse=True)
    return points[used].astype(np.float32), compact.reshape(-1, 3).astype(np.int32)


def _band_cells(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], resolution: int, cell: float, band: float
) -> Int32[np.ndarray, "n 3"]:
    """Cells that the shell may cross, found by refining such cells of a coarse grid."""
    levels = max(0, int(np.ceil(np.log2(resolution / COARSEST))))
    first = np.ones([-(-resolution // 2**levels)] * 3, dtype=bool)
    cells = np.argwhere(first).astype(np.int32)
    for level in range(levels, -1, -1):
        size = cell * 2**level
        centres = (cells + 0.5) * size - resolution * cell / 2
        distance = closest_points(vertices, faces, centres, within=band * cell + REACH * size).distance
        cells = cells[np.abs(distance - band * cell) < REACH * size]
        if level:
            cells = (2 * cells[:, None] + CORNERS.astype(np.int32)).reshape(-1, 3)
    return cells


def _corner_field(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    cells: Int32[np.ndarray, "n 3"],
    cell: float,
    scale: float,
    band: float,
) -> tuple[Float[np.ndarray, "c"], Int64[np.ndarray, "n 8"]]:
    """Distance less the offset, in cells, at each distinct corner; and the corners of each cell."""
    stride = int(cells.max(initial=0)) + 2
    keys = ((cells[:, None] + CORNERS) * (stride**2, stride, 1)).sum(axis=-1)
    unique, corner = np.unique(keys, return_inverse=True)
    lattice = np.stack(np.unravel_index(unique, (stride,) * 3), axis=1)
    distance = closest_points(vertices, faces, lattice * cell - scale / 2).distance
    return distance.astype(np.float64) / cell - band, corner.reshape(keys.shape)


def _crossing_mean(values: Float[np.ndarray, "n 8"]) -> Float[np.ndarray, "n 3"]:
    """Mean of the points where the field is 0 on the cell's edges, from its lower corner, in cells; the centre without any."""
    total, count = np.zeros((len(values), 3)), np.zeros((len(values), 1))
    for low, high in itertools.combinations(range(8), 2):
        if (low ^ high).bit_count() != 1:
            continue
        crossed: Bool[np.ndarray, "n"] = (values[:, low] < 0) != (values[:, high] < 0)
        part = values[crossed, low] / (values[crossed, low] - values[crossed, high])
        total[crossed] += CORNERS[low] + part[:, None] * (CORNERS[high] - CORNERS[low])
        count[crossed] += 1
    return np.where(count > 0, total / np.maximum(count, 1), 0.5)
