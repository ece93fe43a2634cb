"""Signed distance of any triangle mesh, watertight or not: what a generator of shapes learns to produce.

Inside is what cannot be seen from outside: a point is outside if rays of at least `VOTES` of `DIRECTIONS` directions reach
it from infinity. So cups stay open and closed cavities are solid, whatever way the triangles face. What stands on the
ground is closed there, because most models leave out the underside. Triangles with nothing but inside around them are
dropped; those with nothing but outside around them are sheets and get a thickness, so that they exist on the grid.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from jaxtyping import Bool, Float, Float16, Float32, Int32, Int64, UInt8
from scipy import ndimage
from scipy.spatial import cKDTree

from scenegen.train.meshes import ColoredMesh

VERSION = 2
"""Part of a cached file's name, so that the results of another method are not read."""
RESOLUTION = 72
"""Cells along the longest side."""
MARGIN = 4
"""Cells around the bounding box."""
DIRECTIONS = 64
VOTES = 2
"""Number of directions that must see a point, so that a pinhole does not empty a body."""
HALF_SHEET = 0.75
"""Half the thickness of a sheet in cells: the least that no grid position can miss."""
FOOT = 0.003
"""Vertices this close to the lowest, as a share of the longest side, stand on the ground."""
BAND = 1
"""Cells from the surface within which each sample looks for its own nearest triangle."""
SPACING = 0.6
"""Spacing, in cells, of the points on the surface by which that is found."""
SPREADS = 2
"""Passes that carry sides from sample to sample."""
AROUND = 3
"""Cells to either side that decide where an unseen hollow ends."""


@dataclass(frozen=True, eq=False)
class Solid:
    """Signed distance and colour around one mesh, sampled on a box of equal cells in the mesh's own frame."""

    distance: Float16[np.ndarray, "nx ny nz"]
    """Negative inside, in units of the mesh's longest side. Sample [i, j, k] lies at origin + cell (i, j, k)."""
    colors: UInt8[np.ndarray, "mx my mz 3"]
    """sRGB of the nearest surface, at every second sample of the grid."""
    origin: Float[np.ndarray, "3"]
    """Position of sample [0, 0, 0], mesh units."""
    cell: float
    """Spacing of the samples, mesh units."""
    longest_side: float
    """Longest side of the mesh's bounding box, mesh units."""


def cached_solid(mesh: ColoredMesh, cache: Path) -> Solid:
    """`mesh_solid`, computed once and kept in the folder `cache` by the mesh's content."""
    path = cache / f"{mesh.digest[:32]}-v{VERSION}.npz"
    if not path.is_file():
        solid = mesh_solid(mesh)
        cache.mkdir(parents=True, exist_ok=True)
        whole = path.with_name(f"{path.stem}.{os.getpid()}.tmp")
        with whole.open("wb") as file:
            np.savez(file, allow_pickle=False, **vars(solid))
        whole.replace(path)
    with np.load(path, allow_pickle=False) as data:
        return Solid(
            distance=data["distance"],
            colors=data["colors"],
            origin=data["origin"],
            cell=float(data["cell"]),
            longest_side=float(data["longest_side"]),
        )


def mesh_solid(mesh: ColoredMesh, resolution: int = RESOLUTION) -> Solid:
    """The mesh's signed distance, with `resolution` cells along its longest side."""
    cell = mesh.longest_side / resolution
    counts = np.ceil((mesh.high - mesh.low) / cell).astype(int) + 2 * MARGIN + 1
    origin = (mesh.high.astype(float) + mesh.low) / 2 - (counts - 1) / 2 * cell
    axes = [start + cell * np.arange(count) for start, count in zip(origin, counts, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)

    seen = _Outside(mesh)
    buried, sheet = _sides(mesh, seen, HALF_SHEET * cell)
    surface = mesh.faces if buried.all() else mesh.faces[~buried]
    nearest = _nearest_surface(points, mesh, surface, cell)
    outside = _outside_cells(points, nearest.distance, seen, cell)
    distance = _closed(nearest.distance, outside, cell) * np.where(outside, 1, -1)
    if sheet.any():
        sheets = distance if sheet.all() else _nearest_surface(points, mesh, mesh.faces[sheet], cell).distance
        distance = np.minimum(distance, np.abs(sheets) - HALF_SHEET * cell)
    return Solid(
        distance=(distance / mesh.longest_side).astype(np.float16),
        colors=nearest.color[::2, ::2, ::2],
        origin=origin,
        cell=cell,
        longest_side=mesh.longest_side,
    )


def resampled(
    solid: Solid, cube_from_mesh: Float[np.ndarray, "4 4"], resolution: int, truncation: float = 0.1
) -> Float32[np.ndarray, "r r r"]:
    """The signed distance in the cube [-0.5, 0.5]^3 of another frame, cut to +-`truncation`, both in units of its edge.

    Args:
        solid: in the mesh's frame.
        cube_from_mesh: a similarity; stretched a little besides, distances are right at the surface and about right elsewhere.
        resolution: voxels along the cube's edge; voxel [i, j, k] has its centre at (i + 0.5) / resolution - 0.5 and so on.
        truncation: largest magnitude, in cube edges.

    Outside the stored box the distance to the box is added.
    """
    at = _grid_positions(solid, cube_from_mesh, resolution)
    beyond = np.maximum(np.maximum(-at, at - (np.array(solid.distance.shape) - 1)[:, None]), 0)
    values = ndimage.map_coordinates(solid.distance.astype(np.float32), at, order=1, mode="nearest")
    values += np.sqrt((beyond**2).sum(axis=0)) * (solid.cell / solid.longest_side)
    scale = np.cbrt(abs(np.linalg.det(cube_from_mesh[:3, :3])))
    values = (values * (solid.longest_side * scale)).reshape(3 * (resolution,))
    stretches = np.linalg.svd(cube_from_mesh[:3, :3], compute_uv=False) / scale
    if np.ptp(stretches) > 1e-3:
        # Distances along the stretched normal, to first order: the field over the length of its gradient.
        steep = np.linalg.norm(np.stack(np.gradient(values, 1 / resolution)), axis=0)
        values = values / np.clip(steep, 1 / stretches.max(), 1 / stretches.min())
    return np.clip(values, -truncation, truncation).astype(np.float32)


def resampled_colors(
    solid: Solid, cube_from_mesh: Float[np.ndarray, "4 4"], resolution: int
) -> UInt8[np.ndarray, "r r r 3"]:
    """The nearest surface's sRGB colour at the voxels of `resampled`."""
    at = _grid_positions(solid, cube_from_mesh, resolution) / 2
    channels = [ndimage.map_coordinates(solid.colors[..., c], at, order=1, mode="nearest") for c in range(3)]
    return np.stack(channels, axis=-1).reshape((resolution,) * 3 + (3,))


def _grid_positions(
    solid: Solid, cube_from_mesh: Float[np.ndarray, "4 4"], resolution: int
) -> Float32[np.ndarray, "3 n"]:
    """Indices (fractional) into the solid's grid of the centres of the cube's voxels."""
    grid_from_cube = np.linalg.inv(cube_from_mesh)
    grid_from_cube[:3, 3] -= solid.origin
    grid_from_cube = grid_from_cube[:3] / solid.cell
    centres = ((np.arange(resolution) + 0.5) / resolution - 0.5).astype(np.float32)
    x, y, z = (grid_from_cube[:, axis].astype(np.float32)[:, None] * centres for axis in range(3))
    at = x[:, :, None, None] + y[:, None, :, None] + z[:, None, None, :]
    return at.reshape(3, -1) + grid_from_cube[:, 3:].astype(np.float32)


class _Outside:
    """Whether points can be seen from outside a mesh."""

    def __init__(self, mesh: ColoredMesh) -> None:
        corners = mesh.vertices[mesh.faces]
        self._scene = rtcore_scene.EmbreeScene(robust=True)
        self._mesh = TriangleMesh(self._scene, np.concatenate([corners, _foot(mesh)]))
        self._directions = sphere_directions(DIRECTIONS).astype(np.float32)

    def __call__(self, points: Float32[np.ndarray, "n 3"]) -> Bool[np.ndarray, "n"]:
        votes = np.zeros(len(points), dtype=np.int8)
        left, origins = np.arange(len(points)), np.ascontiguousarray(points)
        for direction in self._directions:
            free = self._scene.run(origins, np.tile(direction, (len(left), 1)), query="OCCLUDED") == -1
            votes[left[free]] += 1
            keep = votes[left] < VOTES
            left, origins = left[keep], origins[keep]
        return votes >= VOTES


def _foot(mesh: ColoredMesh) -> Float32[np.ndarray, "t 3 3"]:
    """Triangles that close the mesh from below: the hull of what stands on the ground, a little higher and wider."""
    low = mesh.vertices[:, 1] < mesh.low[1] + FOOT * mesh.longest_side
    hull = cv2.convexHull(mesh.vertices[low][:, [0, 2]])[:, 0]
    hull = hull + 0.01 * (hull - hull.mean(axis=0))
    level = np.full((len(hull), 1), mesh.low[1] + FOOT * mesh.longest_side, dtype=np.float32)
    ring = np.concatenate([hull[:, :1], level, hull[:, 1:]], axis=1)
    return np.stack([np.repeat(ring[:1], max(len(ring) - 2, 0), axis=0), ring[1:-1], ring[2:]], axis=1)


def _sides(mesh: ColoredMesh, outside: _Outside, reach: float) -> tuple[Bool[np.ndarray, "f"], Bool[np.ndarray, "f"]]:
    """Which triangles are buried (inside on both sides throughout), and which are sheets (outside on both, somewhere)."""
    corners = mesh.vertices[mesh.faces].astype(float)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    weights = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4]])
    weights = weights / weights.sum(axis=1, keepdims=True)
    middles = np.einsum("sc,fcd->fsd", weights, corners)
    offsets = reach * normals[:, None]
    both = np.stack([middles + offsets, middles - offsets]).astype(np.float32)
    above, below = outside(both.reshape(-1, 3)).reshape(2, *middles.shape[:2])
    return ~(above | below).any(axis=1), (above & below).any(axis=1)


@dataclass(frozen=True, eq=False)
class _Nearest:
    """The nearest surface at every sample of a grid."""

    distance: Float32[np.ndarray, "nx ny nz"]
    color: UInt8[np.ndarray, "nx ny nz 3"]


def _nearest_surface(
    points: Float32[np.ndarray, "nx ny nz 3"],
    mesh: ColoredMesh,
    faces: Int32[np.ndarray, "f 3"],
    cell: float,
) -> _Nearest:
    """Distance to the triangles `faces` of `mesh` and the colour there.

    Within `BAND` cells of the surface each sample takes the triangle that is nearest among points spread over all of them,
    half a cell apart. Every other one takes the point of the surface that the nearest of those has found.
    """
    corners = mesh.vertices[faces].astype(np.float32)
    spread, owner = _spread(corners, SPACING * cell)
    shape = points.shape[:3]
    at = np.round((spread - points[0, 0, 0]) / np.float32(cell)).astype(int).clip(0, np.array(shape) - 1)
    band = np.zeros(shape, dtype=bool)
    band[tuple(at.T)] = True
    band = ndimage.binary_dilation(band, np.ones((3, 3, 3), bool), iterations=BAND)
    found = owner[cKDTree(spread).query(points[band])[1]]
    weights = nearest_weights(corners[found], points[band])
    foot = np.zeros_like(points)
    foot[band] = np.einsum("nc,ncd->nd", weights, corners[found])
    color = np.zeros((*shape, 3), dtype=np.uint8)
    color[band] = np.round(np.einsum("nc,ncd->nd", weights, mesh.colors[faces[found]])).clip(0, 255)
    nearest = tuple(ndimage.distance_transform_edt(~band, return_distances=False, return_indices=True))
    return _Nearest(np.linalg.norm(points - foot[nearest], axis=-1), color[nearest])


def _spread(
    corners: Float32[np.ndarray, "f 3 3"], spacing: float
) -> tuple[Float32[np.ndarray, "n 3"], Int64[np.ndarray, "n"]]:
    """Points over all triangles, about `spacing` apart, and the triangle of each."""
    lengths = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=2)
    first = lengths.argmax(axis=1)  # the longest side: points lie in rows along it
    rows = np.arange(len(corners))
    a, b, c = (corners[rows, (first + k) % 3] for k in range(3))
    longest = lengths[rows, first]
    height = np.linalg.norm(np.cross(b - a, c - a), axis=1) / np.maximum(longest, 1e-30)
    along = np.maximum(np.ceil(longest / spacing), 1).astype(int)
    up = np.maximum(np.ceil(height / spacing), 1).astype(int)
    owner = np.repeat(rows, along * up)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(along * up) - along * up, along * up)
    t = ((number // along[owner] + 0.5) / up[owner]).astype(np.float32)[:, None]
    s = ((number % along[owner] + 0.5) / along[owner]).astype(np.float32)[:, None] * (1 - t)
    return a[owner] + s * (b - a)[owner] + t * (c - a)[owner], owner


def nearest_weights(
    corners: Float32[np.ndarray, "n 3 3"], points: Float32[np.ndarray, "n 3"]
) -> Float32[np.ndarray, "n 3"]:
    """Barycentric weights of the point of each triangle that is nearest to its point."""
    edges = np.roll(corners, -1, axis=1) - corners
    arms = points[:, None] - corners
    square = np.maximum(np.einsum("nkc,nkc->nk", edges, edges), 1e-30)
    along = np.clip(np.einsum("nkc,nkc->nk", arms, edges) / square, 0, 1)
    apart = np.square(arms - along[..., None] * edges).sum(axis=-1)
    side = apart.argmin(axis=1)
    rows = np.arange(len(points))
    on_side = np.zeros((len(points), 3), dtype=np.float32)
    on_side[rows, side] = 1 - along[rows, side]
    on_side[rows, (side + 1) % 3] = along[rows, side]
    normal = np.cross(edges[:, 0], edges[:, 1])
    area = np.einsum("nc,nc->n", normal, normal)
    # The weight of a corner is the area that the opposite edge spans with the point.
    inner = np.einsum("nkc,nc->nk", np.cross(edges, arms), normal)[:, [1, 2, 0]] / np.maximum(area, 1e-30)[:, None]
    inside = (inner >= 0).all(axis=1) & (area > 1e-30)
    return np.where(inside[:, None], inner, on_side).astype(np.float32)


def _outside_cells(
    points: Float32[np.ndarray, "nx ny nz 3"], distance: Float32[np.ndarray, "nx ny nz"], seen: _Outside, cell: float
) -> Bool[np.ndarray, "nx ny nz"]:
    """Which samples are outside: tested at every second one, and wherever the neighbours leave it open.

    Two samples a cell apart whose distances sum to more than a cell have no triangle between them: they are on one side.
    """
    outside, known = np.zeros(distance.shape, dtype=bool), np.zeros(distance.shape, dtype=bool)
    outside[::2, ::2, ::2] = seen(points[::2, ::2, ::2].reshape(-1, 3)).reshape(outside[::2, ::2, ::2].shape)
    known[::2, ::2, ::2] = True
    pairs = [(first, second) for axis in range(3) for first, second in (_neighbours(axis), _neighbours(axis)[::-1])]
    joined = [distance[to] + distance[source] > 1.01 * cell for to, source in pairs]
    for _ in range(SPREADS):
        for (to, source), same in zip(pairs, joined, strict=True):
            new = same & known[source] & ~known[to]
            outside[to] |= new & outside[source]
            known[to] |= new
    outside[~known] = seen(points[~known])
    # The few directions that look into a narrow neck leave spikes, so far from any triangle the surrounding majority decides.
    around = ndimage.uniform_filter(outside.astype(np.float32), 2 * AROUND + 1) > 0.5
    return np.where(distance > 1.5 * AROUND * cell, around, outside)


def _neighbours(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of all samples but the last along `axis`, and of those after them."""
    before = tuple(slice(None, -1) if i == axis else slice(None) for i in range(3))
    after = tuple(slice(1, None) if i == axis else slice(None) for i in range(3))
    return before, after


def _closed(
    distance: Float32[np.ndarray, "nx ny nz"], outside: Bool[np.ndarray, "nx ny nz"], cell: float
) -> Float32[np.ndarray, "nx ny nz"]:
    """`distance`, also from places where inside meets outside without a triangle between them.

    Between two samples a cell apart with a triangle between them, the distances sum to at most one cell.
    """
    open_at = np.zeros(distance.shape, dtype=bool)
    for axis in range(3):
        first, second = _neighbours(axis)
        crossing = (outside[first] != outside[second]) & (distance[first] + distance[second] > 1.01 * cell)
        open_at[first] |= crossing
        open_at[second] |= crossing
    if not open_at.any():
        return distance
    return np.minimum(distance, (ndimage.distance_transform_edt(~open_at) + 0.5).astype(np.float32) * cell)


def sphere_directions(count: int) -> Float[np.ndarray, "n 3"]:
    """`count` unit vectors spread evenly (Fibonacci lattice)."""
    steps = np.arange(count) + 0.5
    z = 1 - 2 * steps / count
    angle = np.pi * (1 + np.sqrt(5)) * steps
    ring = np.sqrt(1 - z**2)
    return np.stack([ring * np.cos(angle), z, ring * np.sin(angle)], axis=1)
