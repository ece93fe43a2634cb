"""What lies behind the objects: a depth for every pixel, and the floor and backdrop as textured meshes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Integer, UInt8
from scipy import ndimage

from scenegen.camera import project, rays
from scenegen.config import LayoutConfig
from scenegen.geometry.mesh import TexturedMesh
from scenegen.ids import BACKGROUND, UNKNOWN, object_ids, shows_object
from scenegen.records import Intrinsics
from scenegen.scene.layout import Floor, plane_tolerance

HORIZON = 1.5
"""The floor ends at this multiple of the farthest known depth; nothing farther can be told from the horizon."""
MOST_MOVED = 0.25
"""Largest relative change of an object's distance that the floor below it reaches for."""
NEAREST_FOOT = 0.1
"""Below this share of an object's depth the floor is not continued: it would be right under the camera."""
MARGIN = 1
"""Cells by which the floor reaches beyond what stands on it."""
FRACTION_BITS = 6
"""Of the coordinates OpenCV fills polygons with."""


def background_depth(
    depth: Float[np.ndarray, "h w"],
    ids: Integer[np.ndarray, "h w"],
    camera: Intrinsics,
    floor: Floor,
    config: LayoutConfig,
    uncertainty: float = 0.0,
) -> tuple[Float32[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """z-depth of the background at every pixel, seen or hidden, and where it is the floor.

    Where the background is seen it is the depth map (snapped to the plane on the floor). Behind objects, holes and what is
    unknown it is the nearer of the floor and the backdrop continued from around them. One of these that comes clearly
    before what is seen of an object is wrong there, and gives way to the other: nothing lies before a visible surface.
    """
    known = (ids == BACKGROUND) & (depth > 0)
    visible = np.where(shows_object(ids), depth, 0.0)
    told = depth[(ids != UNKNOWN) & (depth > 0)]
    farthest = float(told.max()) if told.size else 1.0
    on_plane = floor.depth(rays(camera))
    on_plane = np.where(on_plane < HORIZON * farthest, on_plane, np.inf)
    tolerance = 3 * plane_tolerance(config, uncertainty)
    near_plane = known & (np.abs(depth - on_plane) < tolerance * depth)
    # Only what hangs together counts: a wall crosses the plane somewhere without being floor there.
    is_floor = ndimage.binary_propagation(ndimage.binary_opening(near_plane, iterations=2), mask=near_plane)
    wall = known & ~is_floor
    # The backdrop's own outline mixes with its neighbours, and specks are none: continue it from a little inside.
    backdrop = continued(depth, ndimage.binary_erosion(wall, iterations=2), fallback=HORIZON * farthest)
    nearest = (1 - tolerance) * visible
    backdrop = np.where(backdrop >= nearest, backdrop, HORIZON * farthest)
    filled_floor = ~known & (on_plane >= nearest) & (on_plane < backdrop)
    floor_everywhere = is_floor | filled_floor
    behind = np.where(floor_everywhere, on_plane, np.where(wall, depth, backdrop))
    return np.maximum(behind, visible).astype(np.float32), floor_everywhere


def with_room(
    behind: Float[np.ndarray, "h w"],
    depth: Float[np.ndarray, "h w"],
    ids: Integer[np.ndarray, "h w"],
    camera: Intrinsics,
    relief_error: float,
) -> Float32[np.ndarray, "h w"]:
    """`behind` where no object is, behind one at least as far as two standard deviations of its relief allow it to reach.

    There nothing of the background is seen, so it gives way to a surface that is.

    Args:
        behind: z-depth of the background.
        depth: z-depth, 0 where unknown.
        ids: which object each pixel shows.
        camera: the photo's camera.
        relief_error: as `Depth.relief_error`, a share of an object's width.
    """
    made = behind.copy()
    for number in object_ids(ids):
        mask = (ids == number) & (depth > 0)
        if mask.any():
            middle = float(np.median(depth[mask]))
            width = max(np.ptp(axis) + 1 for axis in np.nonzero(mask)) / camera.fx * middle
            made[mask] = np.maximum(behind[mask], depth[mask] + 2 * relief_error * width)
    return made.astype(np.float32)


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


def below_objects(
    depth: Float[np.ndarray, "h w"],
    ids: Integer[np.ndarray, "h w"],
    camera: Intrinsics,
    floor: Floor,
    uncertainty: float = 0.0,
) -> list[Float[np.ndarray, "_ 2"]]:
    """For each object, the convex outline in pixels, in the picture or not, of the floor below all that it may fill.

    It begins where the object is seen and is at most as deep as it is large. Its distance may yet change with its scale.

    Args:
        depth: z-depth, 0 where unknown.
        ids: which object each pixel shows.
        camera: the photo's camera.
        floor: its plane.
        uncertainty: of the depth, relative.
    """
    directions = rays(camera)
    moved = min(2 * uncertainty, MOST_MOVED)
    outlines = []
    for number in object_ids(ids):
        mask = (ids == number) & (depth > 0)
        if not mask.any():
            continue
        # A mask's rim may have the depth of what is behind it.
        near, far = np.percentile(depth[mask], (2, 98))
        seen = directions[mask] * np.clip(depth[mask], near, far)[:, None]
        size = float(np.ptp(seen, axis=0).max())
        points = np.concatenate([(1 - moved) * seen, (1 + moved) * (seen + size * directions[mask])])
        feet = points - floor.heights(points)[:, None] * floor.normal
        ahead = feet[feet[:, 2] > NEAREST_FOOT * near]
        if len(ahead):
            outlines.append(cv2.convexHull(project(camera, ahead).astype(np.float32))[:, 0].astype(float))
    return outlines


def background_surfaces(
    image: UInt8[np.ndarray, "h w 3"],
    behind: Float[np.ndarray, "h w"],
    is_floor: Bool[np.ndarray, "h w"],
    camera: Intrinsics,
    floor: Floor,
    config: LayoutConfig,
    below: Sequence[Float[np.ndarray, "_ 2"]] = (),
    visible: Bool[np.ndarray, "h w"] | None = None,
) -> dict[str, TexturedMesh]:
    """The floor and the backdrop as grids over the picture, in the camera frame, textured with `image`.

    The floor is whole below the objects, also where something before it hides it, and beyond the picture, where it has the
    colours of the picture's border.

    Args:
        image: the photo with its objects painted out.
        behind: z-depth of the background, positive everywhere.
        is_floor: the pixels whose background is the floor.
        camera: the photo's camera.
        floor: its plane; floor vertices lie exactly on it.
        config: the grid's fineness.
        below: outlines of the floor below objects, from `below_objects`.
        visible: the pixels outside which nothing is made, if it is not to be made everywhere.
    """
    height, width = behind.shape
    cell = max(height, width) / config.grid
    shape = np.array([max(2, round(height / cell)), max(2, round(width / cell))])
    cell_size = np.array([width, height]) / shape[::-1]
    in_cells = [outline / cell_size for outline in below]
    low, high = _grid_bounds(in_cells, shape)
    inside = np.zeros(high - low, dtype=bool)
    picture = tuple(slice(-start, -start + count) for start, count in zip(low, shape, strict=True))
    inside[picture] = True
    v, u = np.meshgrid(*(np.arange(start, stop + 1) for start, stop in zip(low, high, strict=True)), indexing="ij")
    nodes = np.stack([u, v], axis=-1) * cell_size
    directions = rays(camera, nodes)
    # The farthest depth around a node: a coarse grid must not come before anything the picture shows.
    farthest = ndimage.maximum_filter(behind, size=2 * max(1, int(cell)) + 1)
    z_seen = ndimage.map_coordinates(farthest, np.moveaxis(nodes, -1, 0)[::-1] - 0.5, order=1, mode="nearest")
    z_plane = floor.depth(directions)
    reachable = np.isfinite(z_plane)
    reachable = reachable[:-1, :-1] & reachable[1:, :-1] & reachable[:-1, 1:] & reachable[1:, 1:]
    seen = np.zeros_like(inside)
    seen[picture] = cv2.resize(is_floor.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA) > 0.5
    seen &= reachable
    # The backdrop reaches one cell under the floor's edge, so that no crack shows where the two meet.
    backdrop = ndimage.binary_dilation(inside & ~seen, structure=np.ones((3, 3))) & inside
    made = np.ones_like(inside)
    if visible is not None:
        made[:] = False
        made[picture] = cv2.resize(visible.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA) > 0.5
    surfaces = {}
    for name, cells, z in (
        ("floor", seen | (_covered(in_cells, low, inside.shape) & reachable), z_plane),
        ("backdrop", backdrop, z_seen),
    ):
        cells &= made
        if cells.any():
            surfaces[name] = _grid_mesh(
                image, cells, directions * np.where(np.isfinite(z), z, z_seen)[..., None], nodes
            )
    return surfaces


def _grid_bounds(
    outlines: Sequence[Float[np.ndarray, "_ 2"]], shape: Integer[np.ndarray, "2"]
) -> tuple[Integer[np.ndarray, "2"], Integer[np.ndarray, "2"]]:
    """First and last (exclusive) row and column of a grid of cells that holds the picture's `shape` and the outlines.

    It reaches at most one picture beyond each border.
    """
    corners = np.concatenate([np.empty((0, 2)), *outlines])[:, ::-1]
    low = np.floor(corners.min(axis=0, initial=MARGIN)) - MARGIN
    high = np.ceil(corners.max(axis=0, initial=0)) + MARGIN
    return np.clip(low, -shape, 0).astype(int), np.clip(high, shape, 2 * shape).astype(int)


def _covered(
    outlines: Sequence[Float[np.ndarray, "_ 2"]], low: Integer[np.ndarray, "2"], shape: tuple[int, ...]
) -> Bool[np.ndarray, "rows columns"]:
    """The cells of a grid, the first of which is `low`, in or beside a convex outline given in cells (column, row)."""
    covered = np.zeros(shape, dtype=np.uint8)
    for outline in outlines:
        fixed = np.round((outline - low[::-1] - 0.5) * 2**FRACTION_BITS).astype(np.int32)
        cv2.fillConvexPoly(covered, fixed, 1, shift=FRACTION_BITS)
    return cv2.dilate(covered, np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), np.uint8)) > 0


def _grid_mesh(
    image: UInt8[np.ndarray, "h w 3"],
    cells: Bool[np.ndarray, "rows columns"],
    points: Float[np.ndarray, "rows1 columns1 3"],
    nodes: Float[np.ndarray, "rows1 columns1 2"],
) -> TexturedMesh:
    """Two triangles a cell, facing the camera, with the part of the picture they show as texture, or what is next to them."""
    index = np.arange(points[..., 0].size).reshape(points.shape[:2])
    a, b, c, d = index[:-1, :-1][cells], index[:-1, 1:][cells], index[1:, 1:][cells], index[1:, :-1][cells]
    faces = np.concatenate([np.stack([a, d, c], -1), np.stack([a, c, b], -1)])
    used, faces = np.unique(faces, return_inverse=True)
    at = nodes.reshape(-1, 2)[used]
    size = np.array(image.shape[1::-1])
    low = np.clip(np.floor(at.min(axis=0)).astype(int), 0, size - 1)
    high = np.clip(np.ceil(at.max(axis=0)).astype(int), low + 1, size)
    texture = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    return TexturedMesh(
        vertices=points.reshape(-1, 3)[used].astype(np.float32),
        faces=faces.reshape(-1, 3).astype(np.int32),
        uv=np.clip((at - low) / (high - low), 0, 1).astype(np.float32),
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
