"""The background as textured meshes: one for each surface of the room. Planes are rectangles where they may be; the rest is cut
where another surface begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Integer, UInt8
from scipy import ndimage

from scenegen.camera import rays
from scenegen.geometry.exemplar import continued_texture
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.partition import grid_triangles, pieces_of
from scenegen.geometry.planes import along
from scenegen.records import Intrinsics
from scenegen.scene.elsewhere import OtherPhoto, filled_in
from scenegen.scene.layout import Floor
from scenegen.scene.rectangle import COVERED, ROUGHNESS, around, hides, plane_through, textured
from scenegen.scene.room import Part, Room, hull

MARGIN = 1
"""Cells by which the floor reaches beyond what stands on it."""
FRACTION_BITS = 6
"""Of the coordinates OpenCV fills polygons with."""
RIM = 2
"""Pixels by which the photo is shown beyond a surface's border, which is cut with straight lines."""
SOFT = 0.8
"""Standard deviation in nodes of what the borders between surfaces are smoothed with."""
BEYOND = 0.9
"""Share of the far sphere's inverse depth below which no surface is shown."""
FARTHEST = 0.2
"""The same below which no corner of one is."""


def background_surfaces(
    image: UInt8[np.ndarray, "h w 3"],
    seen: Bool[np.ndarray, "h w"],
    room: Room,
    camera: Intrinsics,
    floor: Floor,
    below: Sequence[Float[np.ndarray, "_ 2"]] = (),
    visible: Bool[np.ndarray, "h w"] | None = None,
    others: Sequence[OtherPhoto] = (),
) -> dict[str, TexturedMesh]:
    """The surfaces of a room, in the camera frame, textured with `image`; where it does not show them, with what others
    show of them, or else with their own colours.

    The floor is whole below the objects, also where something before it hides it, and beyond the picture, where it has the
    colours of the picture's mirror image.

    Args:
        image: the photo.
        seen: the pixels that show the background.
        room: what it consists of.
        camera: the photo's camera.
        floor: its plane; floor vertices lie exactly on it.
        below: outlines of the floor below objects, from `below_objects`.
        visible: the pixels outside which nothing is made, if it is not to be made everywhere.
        others: further photos of the scene.
    """
    nodes = room.nodes.pixels
    cell = nodes[1, 1]
    shape = np.array(nodes.shape[:2]) - 1
    in_cells = [outline / cell for outline in below]
    low, high = _grid_bounds(in_cells, shape)
    v, u = np.meshgrid(*(np.arange(start, stop + 1) for start, stop in zip(low, high, strict=True)), indexing="ij")
    wide = np.stack([u, v], axis=-1) * cell
    pad = [(-low[0], high[0] - shape[0]), (-low[1], high[1] - shape[1])]
    # Smoothed, but not to where a surface would be beyond everything.
    scores = np.stack(
        [
            np.where(part.inverse < BEYOND * room.sphere, -1, ndimage.gaussian_filter(part.shown.astype(float), SOFT))
            for part in room.parts
        ]
    )
    labels = scores.argmax(axis=0)
    margins = np.stack([_margin(scores, index) for index in range(len(scores))])
    padded = np.pad(labels, pad, constant_values=-1).ravel()
    padded_scores = np.pad(scores, [(0, 0), *pad]).reshape(len(scores), -1)
    triangles = grid_triangles(*wide.shape[:2])
    if visible is not None:
        size = labels.shape[::-1]
        share = cv2.resize(visible.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        triangles = triangles[np.pad(share > 0.5, pad).ravel()[triangles].all(axis=1)]
    on_plane = -along(rays(camera, wide), floor.normal) / floor.offset
    under = _covered(in_cells, low, wide.shape[:2])
    outside = np.pad(np.zeros(labels.shape, dtype=bool), pad, constant_values=True)
    under |= outside & hull(under | np.pad(room.parts[0].shown, pad))
    under &= on_plane > 0
    sphere = np.pad(room.sphere, pad, mode="edge")
    front = np.take_along_axis(np.stack([part.inverse for part in room.parts]), labels[None], axis=0)[0]
    near = np.ones((2 * round(float(cell.max())) + 1,) * 2, np.uint8)
    ahead = _ahead(room.parts, room.nodes.rays, floor.normal)
    surfaces = {}
    for index, (name, part) in enumerate(zip(_names(room.parts), room.parts, strict=True)):
        everywhere = np.pad(part.hidden, pad)
        inverse = np.pad(part.inverse, pad)
        if part.kind == "floor":
            everywhere, inverse = everywhere | under, on_plane
        pieces = pieces_of(index, padded, padded_scores, everywhere.ravel(), triangles)
        if not len(pieces.faces):
            continue
        at = pieces.at(wide.reshape(-1, 2))
        # Inverse depth is linear in the picture on every plane.
        depth = 1 / np.maximum(pieces.at(inverse.ravel()), FARTHEST * pieces.at(sphere.ravel()))
        vertices = rays(camera, at) * depth[:, None]
        here = _at_pixels(margins[index], cell, image.shape)
        made = ndimage.binary_dilation(part.hidden | part.shown | (labels == index))
        wanted = _at_pixels(np.where(made, 1.0, -1.0), cell, image.shape)
        picture, known = image, seen & here
        if others:
            depth_there = _depth_at_pixels(part.inverse, cell, image.shape)
            picture, known = filled_in(image, known, wanted, depth_there, camera, others)
        flat = None if visible is not None else around(vertices, part, room.nodes.rays, floor, ahead)
        if flat is not None:
            before = hides(flat, room.nodes, front) & (labels != index)
            if before.sum() <= COVERED * (labels == index).sum():
                elsewhere = known & ~(seen & here)
                wide_here = _at_pixels(np.where(before, 1.0, margins[index]), cell, image.shape)
                sure = cv2.erode(here.astype(np.uint8), near) > 0
                rectangle = textured(flat, picture, (seen & wide_here) | elsewhere, (seen & sure) | elsewhere, camera)
                if rectangle is not None:
                    surfaces[name] = rectangle
                    continue
        texture, uv = _texture(picture, known, wanted, at)
        surfaces[name] = TexturedMesh(
            vertices=vertices.astype(np.float32),
            faces=pieces.faces.astype(np.int32),
            uv=uv,
            base_color=texture,
            roughness=ROUGHNESS,
        )
    return surfaces


def _ahead(
    parts: Sequence[Part], directions: Float[np.ndarray, "r c 3"], up: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3"]:
    """The level direction that the largest wall faces away from; without one, where the camera looks."""
    walls = [part for part in parts if part.kind == "wall" and part.shown.any()]
    way = np.array([0.0, 0.0, 1.0]) if abs(up[2]) < 0.9 else np.array([0.0, -1.0, 0.0])
    if walls:
        largest = max(walls, key=lambda part: int(part.shown.sum()))
        way = plane_through(directions[largest.shown], largest.inverse[largest.shown])
    way = way - (way @ up) * up
    return np.asarray(way / np.linalg.norm(way))


def _names(parts: Sequence[Part]) -> list[str]:
    """`floor`, `ceiling`, `sky`; those of which there are several are counted."""
    total, count = Counter(part.kind for part in parts), Counter[str]()
    names = []
    for part in parts:
        count[part.kind] += 1
        names.append(part.kind if total[part.kind] == 1 else f"{part.kind}_{count[part.kind]}")
    return names


def kind_of(name: str) -> str:
    """What a surface of this name is: `floor`, `wall`, `ceiling`, `level`, `relief` or `sky`.

    Examples:
        >>> kind_of("wall_2")
        'wall'
    """
    return name.partition("_")[0]


def _margin(scores: Float[np.ndarray, "l r c"], index: int) -> Float32[np.ndarray, "r c"]:
    """How far the score of a surface is above all others'."""
    others = np.delete(scores, index, axis=0).max(axis=0, initial=0)
    return (scores[index] - others).astype(np.float32)


def _at_pixels(
    margin: Float[np.ndarray, "r c"], cell: Float[np.ndarray, "2"], shape: tuple[int, ...]
) -> Bool[np.ndarray, "h w"]:
    """The pixels that show a surface, and few around."""
    shown = _interpolated(margin, cell, shape) >= 0
    return cv2.dilate(shown.astype(np.uint8), np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8)) > 0


def _depth_at_pixels(
    inverse: Float[np.ndarray, "r c"], cell: Float[np.ndarray, "2"], shape: tuple[int, ...]
) -> Float[np.ndarray, "h w"]:
    """z-depth of a surface at every pixel; 0 where it does not meet the ray."""
    between = _interpolated(inverse, cell, shape).astype(np.float64)
    return np.where(between > 0, 1 / np.maximum(between, 1e-9), 0.0)


def _interpolated(
    values: Float[np.ndarray, "r c"], cell: Float[np.ndarray, "2"], shape: tuple[int, ...]
) -> Float32[np.ndarray, "h w"]:
    """What is known at the nodes, at the centres of the pixels."""
    (x, y), (height, width) = cell, shape[:2]
    pixel_to_node = np.array([[1 / x, 0, 0.5 / x], [0, 1 / y, 0.5 / y]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        values.astype(np.float32), pixel_to_node, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )


def _texture(
    image: UInt8[np.ndarray, "h w 3"],
    known: Bool[np.ndarray, "h w"],
    wanted: Bool[np.ndarray, "h w"],
    at: Float[np.ndarray, "n 2"],
) -> tuple[UInt8[np.ndarray, "k l 3"], Float32[np.ndarray, "n 2"]]:
    """The part of the picture that the points `at` lie in, continued where it is `wanted` but not `known`; and their places."""
    size = np.array(image.shape[1::-1])
    low = np.clip(np.floor(at.min(axis=0)).astype(int), 0, size - 1)
    high = np.clip(np.ceil(at.max(axis=0)).astype(int), low + 1, size)
    window = np.s_[low[1] : high[1], low[0] : high[0]]
    texture = continued_texture(image, known, wanted)[window]
    # Beyond the picture its mirror image: the colours of the border alone would be drawn out into rays.
    mirrored = size - np.abs(size - np.abs(at))
    return np.ascontiguousarray(texture), np.clip((mirrored - low) / (high - low), 0, 1).astype(np.float32)


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
    """The nodes of a grid, the first of which is `low`, in or beside a convex outline given in cells (column, row)."""
    covered = np.zeros(shape, dtype=np.uint8)
    for outline in outlines:
        fixed = np.round((outline - low[::-1]) * 2**FRACTION_BITS).astype(np.int32)
        cv2.fillConvexPoly(covered, fixed, 1, shift=FRACTION_BITS)
    return cv2.dilate(covered, np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), np.uint8)) > 0
