"""A plane of the room as one rectangle: two triangles, with the texture as it is seen from straight before it.

A rectangle reaches farther than what is seen of its plane. It may do so where something nearer hides it and beyond the picture,
but not where something farther is seen, as through a door.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from scenegen.camera import project
from scenegen.geometry.exemplar import continued_texture
from scenegen.geometry.mesh import TexturedMesh
from scenegen.records import Intrinsics
from scenegen.scene.layout import Floor
from scenegen.scene.room import Nodes, Part

FLAT = 1e-4
"""How far off a plane, relative to its distance, the points of one may be."""
COVERED = 0.02
"""What a rectangle may hide of what is farther, as a share of what is seen of its own."""
BEFORE = 1.01
"""Least ratio of depths at which one surface hides another."""
DENSE = 75.0
"""Percentile of the pixels per metre in the photo that the texture has."""
LARGEST = (1.25, 2.0)
"""Longer side of a texture, in those of the photo, and that of one that would be too coarse."""
COARSEST = 0.4
"""Pixels of the texture for one of the photo below which a rectangle is too large: it goes off into the distance."""
SNAP = 0.1
"""A wall ends at the floor if it does so up to this share of its height."""
SUPERSAMPLED = 2
OPAQUE = 250
"""Of 255: a texel that shows nothing else."""
ROUGHNESS = 0.9


@dataclass(frozen=True, eq=False)
class Rectangle:
    """Corners `corner + s * across + t * down` for s and t in (0, 0), (1, 0), (1, 1), (0, 1), in the camera frame."""

    corner: Float[np.ndarray, "3"]
    across: Float[np.ndarray, "3"]
    down: Float[np.ndarray, "3"]
    plane: Float[np.ndarray, "3"]
    """Its points have plane @ X = 1."""

    def places(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """s and t of points of its plane."""
        sides = np.stack([self.across, self.down])
        return np.asarray((points - self.corner) @ (sides / (sides * sides).sum(axis=1, keepdims=True)).T)

    def points(self, places: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 3"]:
        """The points at s and t."""
        return np.asarray(self.corner + places @ np.stack([self.across, self.down]))


def plane_through(rays: Float[np.ndarray, "n 3"], inverse: Float[np.ndarray, "n"]) -> Float[np.ndarray, "3"]:
    """The plane, as in `Rectangle`, that has those inverse depths on the rays."""
    return np.asarray(np.linalg.lstsq(rays, inverse, rcond=None)[0])


def around(
    points: Float[np.ndarray, "n 3"],
    part: Part,
    rays: Float[np.ndarray, "r c 3"],
    floor: Floor,
    ahead: Float[np.ndarray, "3"],
) -> Rectangle | None:
    """The rectangle around `points`, which lie on a part of the background; None if they do not lie on a plane.

    Args:
        points: camera frame.
        part: what they belong to.
        rays: of the grid's nodes.
        floor: which walls go down to.
        ahead: level direction along which the sides of level rectangles lie.
    """
    if not part.plane or not part.shown.any():
        return None
    plane = plane_through(rays[part.shown], part.inverse[part.shown])
    if np.abs(points @ plane - 1).max() > FLAT:
        return None
    normal = plane / np.linalg.norm(plane)
    down = -floor.normal if part.kind == "wall" else -ahead
    down = down - (down @ normal) * normal
    down /= np.linalg.norm(down)
    # Seen from the camera, so that texture and photo have the same sense of rotation.
    across = np.cross(down, normal)
    foot = plane / (plane @ plane)
    along = (points - foot) @ np.stack([across, down]).T
    low, high = along.min(axis=0), along.max(axis=0)
    if part.kind == "wall":
        ground = float(floor.heights(foot))
        if ground - high[1] < SNAP * (high[1] - low[1]):
            high[1] = max(high[1], ground)
    if (high - low).min() <= 0:
        return None
    corner = foot + low @ np.stack([across, down])
    return Rectangle(corner, (high[0] - low[0]) * across, (high[1] - low[1]) * down, plane)


def hides(rectangle: Rectangle, nodes: Nodes, seen: Float[np.ndarray, "r c"]) -> Bool[np.ndarray, "r c"]:
    """Where a rectangle lies before what is seen, whose inverse depth is `seen`, be it an object or the background."""
    inverse = nodes.rays @ rectangle.plane
    places = rectangle.places(nodes.rays / np.where(inverse > 0, inverse, 1.0)[..., None])
    within = (inverse > 0) & ((places >= 0) & (places <= 1)).all(axis=-1)
    objects = np.where(nodes.visible > 0, inverse * nodes.visible, 0) > 1
    return np.asarray(within & ((inverse > BEFORE * seen) | objects))


def textured(
    rectangle: Rectangle,
    image: UInt8[np.ndarray, "h w 3"],
    known: Bool[np.ndarray, "h w"],
    sure: Bool[np.ndarray, "h w"],
    camera: Intrinsics,
) -> TexturedMesh | None:
    """The rectangle with what the photo shows of it, continued where it shows none; None if it is too large for a texture.

    Args:
        rectangle: in the camera frame.
        image: the photo.
        known: the pixels that show it.
        sure: those of them that are to be continued: near its border a surface may be another.
        camera: the photo's.
    """
    size = _texels(rectangle, known, camera)
    if size is None:
        return None
    # From the finer texels to the photo's pixels, both counted from the middle of the first one.
    fine = np.array(size) * SUPERSAMPLED
    sides = np.stack([rectangle.across / fine[0], rectangle.down / fine[1]])
    lens = np.array([[camera.fx, 0, camera.cx - 0.5], [0, camera.fy, camera.cy - 0.5], [0, 0, 1]])
    pixels = lens @ np.column_stack([*sides, rectangle.corner + sides.sum(axis=0) / 2])

    def seen_from_before(picture: UInt8[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "k l *c"]:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.resize(
            cv2.warpPerspective(picture, pixels, fine.tolist(), flags=flags), size, interpolation=cv2.INTER_AREA
        )

    along, downwards = ((np.arange(count) + 0.5) / count for count in size)
    depth = rectangle.corner[2] + np.add.outer(downwards * rectangle.down[2], along * rectangle.across[2])
    texture = seen_from_before(image)
    shown, inside = ((depth > 0) & (seen_from_before(each.astype(np.uint8) * 255) > OPAQUE) for each in (known, sure))
    continued = continued_texture(texture, inside, np.ones(inside.shape, dtype=bool))
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)
    return TexturedMesh(
        vertices=rectangle.points(corners.astype(np.float64)).astype(np.float32),
        faces=np.array([[0, 2, 1], [0, 3, 2]], dtype=np.int32),
        uv=corners,
        base_color=np.where(shown[..., None], texture, continued),
        roughness=ROUGHNESS,
    )


def _texels(rectangle: Rectangle, known: Bool[np.ndarray, "h w"], camera: Intrinsics) -> tuple[int, int] | None:
    """Width and height of a texture about as fine as the photo; None if a texture cannot be."""
    if not known.any():
        return None
    pixels = np.argwhere(known)[:: max(1, int(known.sum()) // 2000), ::-1] + 0.5
    focal = np.array([camera.fx, camera.fy])
    seen = np.concatenate([(pixels - [camera.cx, camera.cy]) / focal, np.ones((len(pixels), 1))], axis=1)
    inverse = seen @ rectangle.plane
    points = seen[inverse > 0] / inverse[inverse > 0][:, None]
    wanted, least = [], []
    for side in (rectangle.across, rectangle.down):
        step = 1e-4
        finer = np.linalg.norm(project(camera, points + step * side) - project(camera, points), axis=1) / step
        wanted.append(float(np.percentile(finer, DENSE)))
        least.append(COARSEST * float(np.median(finer)))
    for largest in LARGEST:
        size = [max(2, round(min(texels, largest * max(known.shape)))) for texels in wanted]
        if all(texels >= few for texels, few in zip(size, least, strict=True)):
            return size[0], size[1]
    return None
