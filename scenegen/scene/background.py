"""What lies behind the objects: a depth for every pixel, and the floor and backdrop as textured meshes."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Integer, UInt8
from scipy import ndimage

from scenegen.camera import rays
from scenegen.config import LayoutConfig
from scenegen.geometry.mesh import TexturedMesh
from scenegen.records import Intrinsics
from scenegen.scene.layout import Floor, plane_tolerance

HORIZON = 1.5
"""The floor ends at this multiple of the farthest known depth; nothing farther can be told from the horizon."""


def background_depth(
    depth: Float[np.ndarray, "h w"],
    ids: Integer[np.ndarray, "h w"],
    camera: Intrinsics,
    floor: Floor,
    config: LayoutConfig,
    uncertainty: float = 0.0,
) -> tuple[Float32[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """z-depth of the background at every pixel, seen or hidden, and where it is the floor.

    Where the background is seen it is the depth map (snapped to the plane on the floor). Behind objects and holes it is the
    nearer of the floor and the backdrop continued from around them.
    """
    known = (ids == 0) & (depth > 0)
    farthest = float(depth[depth > 0].max()) if (depth > 0).any() else 1.0
    on_plane = floor.depth(rays(camera))
    on_plane = np.where(on_plane < HORIZON * farthest, on_plane, np.inf)
    tolerance = 3 * plane_tolerance(config, uncertainty) * np.where(known, depth, 1.0)
    near_plane = known & (np.abs(depth - on_plane) < tolerance)
    # Only what hangs together counts: a wall crosses the plane somewhere without being floor there.
    is_floor = ndimage.binary_propagation(ndimage.binary_opening(near_plane, iterations=2), mask=near_plane)
    wall = known & ~is_floor
    # The backdrop's own outline mixes with its neighbours, and specks are none: continue it from a little inside.
    backdrop = continued(depth, ndimage.binary_erosion(wall, iterations=2), fallback=HORIZON * farthest)
    filled_floor = ~known & (on_plane < backdrop)
    floor_everywhere = is_floor | filled_floor
    behind = np.where(floor_everywhere, on_plane, np.where(wall, depth, backdrop))
    return behind.astype(np.float32), floor_everywhere


def continued(
    values: Float[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"], fallback: float
) -> Float[np.ndarray, "h w"]:
    """`values` where `known`, elsewhere continued from the nearest known pixels and smoothed; `fallback` where none is."""
    if not known.any():
        return np.full(values.shape, fallback)
    distance, nearest = ndimage.distance_transform_edt(~known, return_indices=True)
    spread = values[nearest[0], nearest[1]].astype(np.float32)
    smooth = cv2.GaussianBlur(spread, (0, 0), sigmaX=max(2.0, 0.02 * max(values.shape)))
    weight = np.clip(distance / (0.02 * max(values.shape)), 0, 1)
    return np.where(known, values, weight * smooth + (1 - weight) * spread)


def background_surfaces(
    image: UInt8[np.ndarray, "h w 3"],
    behind: Float[np.ndarray, "h w"],
    is_floor: Bool[np.ndarray, "h w"],
    camera: Intrinsics,
    floor: Floor,
    config: LayoutConfig,
) -> dict[str, TexturedMesh]:
    """The floor and the backdrop as grids over the picture, in the camera frame, textured with `image`.

    Args:
        image: the photo with its objects painted out.
        behind: z-depth of the background, positive everywhere.
        is_floor: the pixels whose background is the floor.
        camera: the photo's camera.
        floor: its plane; floor vertices lie exactly on it.
        config: the grid's fineness.
    """
    height, width = behind.shape
    cell = max(height, width) / config.grid
    columns, rows = max(2, round(width / cell)), max(2, round(height / cell))
    u, v = np.meshgrid(np.linspace(0, width, columns + 1), np.linspace(0, height, rows + 1))
    nodes = np.stack([u, v], axis=-1)
    directions = rays(camera, nodes)
    # The farthest depth around a node: a coarse grid must not come before anything the picture shows.
    farthest = ndimage.maximum_filter(behind, size=2 * max(1, int(cell)) + 1)
    z_seen = ndimage.map_coordinates(farthest, [v - 0.5, u - 0.5], order=1, mode="nearest")
    z_plane = floor.depth(directions)
    share = cv2.resize(is_floor.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    reachable = np.isfinite(z_plane)
    cell_reachable = reachable[:-1, :-1] & reachable[1:, :-1] & reachable[:-1, 1:] & reachable[1:, 1:]
    floor_cells = (share > 0.5) & cell_reachable
    backdrop_cells = ~floor_cells
    # The backdrop reaches one cell under the floor's edge, so that no crack shows where the two meet.
    overlap = (
        ndimage.binary_dilation(backdrop_cells, structure=np.ones((3, 3))) if backdrop_cells.any() else backdrop_cells
    )
    surfaces = {}
    for name, cells, z in (("floor", floor_cells, z_plane), ("backdrop", overlap, z_seen)):
        if cells.any():
            surfaces[name] = _grid_mesh(
                image, cells, directions * np.where(np.isfinite(z), z, z_seen)[..., None], nodes
            )
    return surfaces


def _grid_mesh(
    image: UInt8[np.ndarray, "h w 3"],
    cells: Bool[np.ndarray, "rows columns"],
    points: Float[np.ndarray, "rows1 columns1 3"],
    nodes: Float[np.ndarray, "rows1 columns1 2"],
) -> TexturedMesh:
    """Two triangles a cell, facing the camera, with the part of the picture they show as texture."""
    index = np.arange(points[..., 0].size).reshape(points.shape[:2])
    a, b, c, d = index[:-1, :-1][cells], index[:-1, 1:][cells], index[1:, 1:][cells], index[1:, :-1][cells]
    faces = np.concatenate([np.stack([a, d, c], -1), np.stack([a, c, b], -1)])
    used, faces = np.unique(faces, return_inverse=True)
    at = nodes.reshape(-1, 2)[used]
    low = np.floor(at.min(axis=0)).astype(int)
    high = np.ceil(at.max(axis=0)).astype(int)
    texture = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    return TexturedMesh(
        vertices=points.reshape(-1, 3)[used].astype(np.float32),
        faces=faces.reshape(-1, 3).astype(np.int32),
        uv=((at - low) / (high - low)).astype(np.float32),
        base_color=texture,
        roughness=0.9,
    )


def inpainted(picture: np.ndarray, hole: Bool[np.ndarray, "h w"], longest: int = 480) -> np.ndarray:
    """`picture` (8-bit) with `hole` filled from around it (Telea 2004, OpenCV), computed at reduced size."""
    if not hole.any():
        return picture
    height, width = hole.shape
    factor = min(1.0, longest / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small_hole = cv2.resize(hole.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0
    small_hole |= cv2.resize(hole.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    small = cv2.inpaint(small, small_hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    filled = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.where(hole[..., None] if picture.ndim == 3 else hole, filled, picture)
