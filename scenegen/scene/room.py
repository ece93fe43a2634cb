"""What the background consists of: planes, reliefs that are none, and what is far; each with a depth where it is hidden too.

Everything is computed on the nodes of a coarse grid over the picture. The photo fixes nothing but directions: a surface may be
moved along its rays without changing a pixel. So walls are upright, ceilings and table tops level, and what meets the floor in
the picture is as far away as the floor is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Integer
from scipy import ndimage

from scenegen.camera import rays
from scenegen.config import LayoutConfig
from scenegen.geometry.fill import averaged, nearest_known
from scenegen.geometry.planes import along, depth_normals, plane_facing
from scenegen.ids import BACKGROUND, shows_object
from scenegen.records import Intrinsics
from scenegen.scene.layout import MEASURED, Floor, plane_tolerance

FAR = 4.0
"""What is farther than this multiple of the objects' median distance is put on a sphere: nobody sees it from beside."""
BEYOND = 1.5
"""That sphere has at least this multiple of the distance of the farthest object."""
MOST_BENT = 0.5
"""Logarithm of the ratio by which an estimated depth may leave a plane that it shows."""
BELOW = 0.22
"""The same for a depth below the floor."""
MAIN = 0.1
"""Share of the largest piece of the floor from which on a piece is floor."""
MOST_PLANES = 8
LEAST_SHARE = 0.02
"""Of the nodes: the smallest plane."""
SMALLEST = 0.008
"""Of the nodes: what is smaller and hangs together belongs to what is beside it."""
UPRIGHT, LEVEL = float(np.cos(np.radians(35))), float(np.cos(np.radians(20)))
"""Least cosine between an upright or level plane and the normals of the points it is found by. Estimated depth leans, so that the
passage from a floor to a wall looks like a slope, which is not a level plane."""
LEANING = float(np.cos(np.radians(50)))
"""The same for the floor, where it goes on from what surely is floor."""
SMOOTHING = 1.5
"""Standard deviation in nodes of what normals are taken from, if the depth is estimated."""
NEVER = 2.0
"""A cosine that nothing has."""
LOWEST = 0.9
"""Share of the camera's height above the floor below which, from the camera down, there is no other level plane."""
AZIMUTHS = 60
"""Directions an upright plane may face, in the first search."""
SQUARE_DEG = 12.0
"""Upright planes that stand so nearly at right angles to the largest one do so."""
STEEPEST_DEG = 80.0
"""What is seen from a flatter angle is a step between two surfaces."""
NEARER, FARTHER = 1.25, 0.3
"""A surface that ends at the floor is moved to meet it there by at most these factors; if it would be by more, it overhangs."""
CONTACTS = 0.3
"""Share of a surface's width along which it must meet the floor to be moved there."""
WIDE = 0.2
"""Share of the picture's width along which a relief of estimated depth stands on the floor to be taken for a wall."""
BAND = 4
"""Nodes by which the border between two planes may move to where they intersect."""
MOST_BACK = 1.3
"""Factor by which a plane may give way to an object; where it would by more, another plane lies behind that."""
AROUND, RIM = 0.35, 3
"""Share of a further wall's nodes that lie this near to objects, from which on it is their own estimated depth that runs out."""
RAISED, THIN = 0.25, 4
"""Logarithm of the ratio of depths by which what an estimate shows before all planes is none of them, and half the width in nodes
up to which it may be but a corner of the room that the estimate rounds."""
BEFORE_WALL = 0.3
"""Logarithm of the ratio of depths by which such a wall is before one that was found already."""
REACH = 3
"""Nodes by which what is not plane is continued behind what is nearer."""
ROOM, MOST_ROOM = 0.02, 0.2
"""Shares of its depth by which what lies behind an object is farther, the least and the most: the object may yet be moved by two
standard deviations of its depth."""
BEHIND = 1.001
"""Least ratio between the depth of what is hidden and of what hides it."""

Kind = Literal["floor", "wall", "ceiling", "level", "relief", "sky"]


@dataclass(frozen=True, eq=False)
class Nodes:
    """The corners of the cells of a grid over the picture, and what the photo shows there."""

    pixels: Float[np.ndarray, "r c 2"]
    rays: Float[np.ndarray, "r c 3"]
    depth: Float[np.ndarray, "r c"]
    """z-depth of the background, 0 where it is hidden or unknown."""
    visible: Float[np.ndarray, "r c"]
    """z-depth of the farthest of an object near the node, 0 where none is."""
    floor: Bool[np.ndarray, "r c"]
    """Which show the floor."""
    normals: Float[np.ndarray, "r c 3"]


@dataclass(frozen=True, eq=False)
class Part:
    """One surface of the background."""

    kind: Kind
    inverse: Float[np.ndarray, "r c"]
    """Inverse z-depth on the ray of every node; not positive where the surface does not meet it."""
    shown: Bool[np.ndarray, "r c"]
    """Nodes where nothing of the background hides it."""
    hidden: Bool[np.ndarray, "r c"]
    """Nodes where it goes on behind something nearer."""

    @property
    def plane(self) -> bool:
        """Whether it is flat."""
        return self.kind in ("floor", "wall", "ceiling", "level")


@dataclass(frozen=True, eq=False)
class Room:
    """The surfaces of the background."""

    nodes: Nodes
    parts: tuple[Part, ...]
    """The floor, shown or not, and the rest. Each node is shown by one."""
    sphere: Float[np.ndarray, "r c"]
    """Inverse z-depth of where the scene ends."""


def find_room(
    depth: Float[np.ndarray, "h w"],
    ids: Integer[np.ndarray, "h w"],
    is_floor: Bool[np.ndarray, "h w"],
    camera: Intrinsics,
    floor: Floor,
    config: LayoutConfig,
    uncertainty: float = 0.0,
) -> Room:
    """The surfaces of the background.

    Args:
        depth: z-depth, 0 where unknown.
        ids: which object each pixel shows.
        is_floor: the pixels whose background is the floor.
        camera: the photo's camera.
        floor: its plane; its normal says what is upright.
        config: the grid's fineness.
        uncertainty: of the depth, relative.
    """
    nodes = sampled(depth, ids, is_floor, camera, config.grid, uncertainty > MEASURED)
    radius = far_from(nodes, depth, ids, camera)
    distance = np.linalg.norm(nodes.rays, axis=-1)
    known = nodes.depth > 0
    sky = known & (nodes.depth * distance > radius)
    floor_inverse = -along(nodes.rays, floor.normal) / floor.offset
    on_floor = nodes.floor & known
    if uncertainty > MEASURED:
        # An estimate compresses what is far, so that the floor rises; but nothing is seen through it.
        off = np.log(np.maximum(floor_inverse * nodes.depth, 1e-9))
        level = known & (along(nodes.normals, floor.normal) > LEANING) & (np.abs(off) < MOST_BENT) & (off < BELOW)
        on_floor = ndimage.binary_propagation(_main(on_floor & level), mask=level & ~sky)
    tolerance = max(3 * config.inlier_share, min(3 * plane_tolerance(config, uncertainty), 2 * uncertainty))
    bent = MOST_BENT if uncertainty > MEASURED else tolerance
    planes, runs_out = find_planes(nodes, known & ~on_floor & ~sky, floor, tolerance, bent, uncertainty > MEASURED)
    known &= ~runs_out
    parts = [_part("floor", floor_inverse, on_floor & ~sky)]
    parts += [_part(kind, inverse) for kind, inverse in planes]
    sphere = distance / radius
    far = len(parts)
    parts.append(_part("sky", sphere, sky))
    labels = np.full(known.shape, -1)
    for index, part in enumerate(parts):
        labels[part.shown & known] = index
    labels = _on_planes(labels, known, nodes, parts, floor.normal, bent)
    if uncertainty > MEASURED:
        labels = np.where(_raised(labels, known, nodes, parts), -1, labels)
    labels, reliefs = _reliefs(labels, known, nodes, parts)
    parts += reliefs
    meet = [_contacts(labels == index, labels == 0, known) for index in range(len(parts))]
    parts = [_standing(part, here, floor_inverse) for part, here in zip(parts, meet, strict=True)]
    if uncertainty > MEASURED:
        parts = [
            _upright(part, here, nodes, floor_inverse, floor.normal) for part, here in zip(parts, meet, strict=True)
        ]
    for index, part in enumerate(parts):
        labels[(labels == index) & (part.inverse < sphere)] = far
    labels = _behind_objects(labels, nodes, parts, floor_inverse)
    labels = _to_intersections(labels, parts)
    parts = [_given_way(part, labels == index, nodes, uncertainty) for index, part in enumerate(parts)]
    # The floor hides nothing that is seen: where it is nearer, it is what is seen.
    labels = np.where(floor_inverse > _of_labels(parts, labels), 0, labels)
    return Room(nodes, tuple(_continued(labels, parts, sphere)), sphere)


def _main(floor: Bool[np.ndarray, "r c"]) -> Bool[np.ndarray, "r c"]:
    """The connected pieces that are not much smaller than the largest: a wall crosses the floor's plane somewhere, too."""
    pieces, count = ndimage.label(floor)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray((sizes > MAIN * sizes.max())[pieces])


def _part(kind: Kind, inverse: Float[np.ndarray, "r c"], shown: Bool[np.ndarray, "r c"] | None = None) -> Part:
    none = np.zeros(inverse.shape, dtype=bool)
    return Part(kind, inverse, none if shown is None else shown, none)


def sampled(
    depth: Float[np.ndarray, "h w"],
    ids: Integer[np.ndarray, "h w"],
    is_floor: Bool[np.ndarray, "h w"],
    camera: Intrinsics,
    grid: int,
    estimated: bool,
) -> Nodes:
    """What the nodes of a grid with `grid` cells along the picture's longer side show."""
    height, width = depth.shape
    cell = max(height, width) / grid
    rows, columns = (max(2, round(side / cell)) for side in (height, width))
    size = width / columns, height / rows
    v, u = np.meshgrid(np.arange(rows + 1) * size[1], np.arange(columns + 1) * size[0], indexing="ij")
    seen = (ids == BACKGROUND) & (depth > 0)

    def at_nodes(values: np.ndarray) -> Float32[np.ndarray, "r c"]:
        # The mean over a cell around each node.
        padded = cv2.copyMakeBorder(
            values.astype(np.float32), *(2 * (round(size[1] / 2),)), *(2 * (round(size[0] / 2),)), cv2.BORDER_REPLICATE
        )
        return cv2.resize(padded, (columns + 1, rows + 1), interpolation=cv2.INTER_AREA)

    share = at_nodes(seen)
    mean = np.exp(at_nodes(np.where(seen, np.log(np.where(seen, depth, 1)), 0)) / np.maximum(share, 1e-6))
    known = share > 0.5
    objects = np.where(shows_object(ids), depth, 0).astype(np.float32)
    reach = 2 * max(1, int(cell)) + 1
    farthest = ndimage.maximum_filter(objects, size=reach)
    at = np.stack([np.minimum(v, height - 1), np.minimum(u, width - 1)]).astype(int)
    z = np.where(known, mean, 0.0)
    # A picture whose pixels are the nodes.
    small = Intrinsics(
        width=columns + 1,
        height=rows + 1,
        fx=camera.fx / size[0],
        fy=camera.fy / size[1],
        cx=camera.cx / size[0] + 0.5,
        cy=camera.cy / size[1] + 0.5,
    )
    pixels = np.stack([u, v], axis=-1)
    return Nodes(
        pixels=pixels,
        rays=rays(camera, pixels),
        depth=z,
        visible=farthest[at[0], at[1]].astype(float),
        floor=at_nodes(is_floor) > 0.5,
        normals=_to_the_border(depth_normals(averaged(z, known, SMOOTHING) if estimated else z, small)),
    )


def _to_the_border(normals: Float[np.ndarray, "r c 3"]) -> Float[np.ndarray, "r c 3"]:
    """At the picture's border, where there are none, those beside it."""
    return np.pad(normals[1:-1, 1:-1], ((1, 1), (1, 1), (0, 0)), mode="edge")


def far_from(
    nodes: Nodes, depth: Float[np.ndarray, "h w"], ids: Integer[np.ndarray, "h w"], camera: Intrinsics
) -> float:
    """Distance from the camera at which the scene ends."""
    of_objects = shows_object(ids) & (depth > 0)
    of_interest = of_objects if of_objects.any() else depth > 0
    if not of_interest.any():
        return FAR
    distance = (np.linalg.norm(rays(camera), axis=-1) * depth)[of_interest]
    return float(max(FAR * np.median(distance), BEYOND * np.percentile(distance, 99)))


def find_planes(
    nodes: Nodes, among: Bool[np.ndarray, "r c"], floor: Floor, tolerance: float, bent: float, estimated: bool = False
) -> tuple[list[tuple[Kind, Float[np.ndarray, "r c"]]], Bool[np.ndarray, "r c"]]:
    """Upright and level planes that many of the nodes `among` lie on, the largest first: their kind and inverse depth; and the
    nodes of which the depth is that of objects beside them.

    For each direction a plane may face, the logarithms of the points' distances along it are counted in bins: points of a plane
    fall into one, and the depth's relative error is the same everywhere.

    Args:
        nodes: of the grid.
        among: nodes without a surface as yet.
        floor: above which level planes lie.
        tolerance: how far off a plane its points may be, as a logarithm of their depth.
        bent: the same for what faces the same way.
        estimated: whether the depth runs from objects into what is around them, which then is no wall.
    """
    up = floor.normal
    rim = ndimage.binary_dilation(nodes.visible > 0, iterations=RIM) & estimated
    level, side = _axes(up)
    angles = np.arange(AZIMUTHS) * 2 * np.pi / AZIMUTHS
    directions = [*(np.cos(angles)[:, None] * level + np.sin(angles)[:, None] * side), up, -up]
    agree = [UPRIGHT] * AZIMUTHS + [LEVEL] * 2
    points, normals = nodes.depth[..., None] * nodes.rays, nodes.normals
    left = among & (np.abs(normals).sum(axis=-1) > 0)
    least = LEAST_SHARE * among.size
    found: list[tuple[Kind, Float[np.ndarray, "r c"]]] = []
    runs_out = np.zeros(left.shape, dtype=bool)
    square: float | None = None
    while len(found) < MOST_PLANES and np.count_nonzero(left) >= least:
        cloud, facing = points[left], normals[left]
        count, best = _largest(cloud, facing, directions, agree, tolerance)
        if count < least:
            break
        normal = directions[best]
        kind: Kind = "wall" if best < AZIMUTHS else "ceiling" if best == AZIMUTHS else "level"
        if kind == "wall":
            _, offset = plane_facing(cloud, facing, normal, UPRIGHT, tolerance)
            close = np.abs(np.log(np.maximum(along(cloud, normal) / offset, 1e-9))) < 2 * tolerance
            angle = _azimuth(cloud[close & (along(facing, -normal) > UPRIGHT)], level, side)
            if square is None:
                square = angle
            turned = (angle - square + np.pi / 4) % (np.pi / 2) - np.pi / 4
            if abs(turned) < np.radians(SQUARE_DEG):
                angle -= turned
            normal = np.cos(angle) * level + np.sin(angle) * side
        number, offset = plane_facing(cloud, facing, normal, agree[best], tolerance)
        if kind == "level" and offset > LOWEST * floor.offset:
            agree[best] = NEVER
            continue
        inverse = along(nodes.rays, normal) / offset
        taken = left & (_error(inverse, nodes.depth) < tolerance)
        # What faces the same way and is not far off is the same plane, bent.
        taken |= left & (_error(inverse, nodes.depth) < bent) & (along(normals, -normal) > LEANING)
        if number < least or not taken.any():
            break
        if np.mean(rim[taken]) > AROUND and _is_before(inverse, taken, found):
            runs_out |= taken
        else:
            found.append((kind, inverse))
        left = left & ~taken
    return found, runs_out


def _is_before(
    inverse: Float[np.ndarray, "r c"],
    there: Bool[np.ndarray, "r c"],
    planes: list[tuple[Kind, Float[np.ndarray, "r c"]]],
) -> bool:
    """Whether a surface lies clearly before one of the walls."""
    behind = [other for kind, other in planes if kind == "wall"]
    return any(np.log(inverse[there] / np.maximum(other[there], 1e-9)).mean() > BEFORE_WALL for other in behind)


def _azimuth(points: Float[np.ndarray, "n 3"], level: Float[np.ndarray, "3"], side: Float[np.ndarray, "3"]) -> float:
    """Which way the upright plane faces that fits the points best: a x + b y = 1 along the level axes, which is linear."""
    x, y = along(points, level), along(points, side)
    xx, yy, xy = (x * x).sum(), (y * y).sum(), (x * y).sum()
    return float(np.arctan2(xx * y.sum() - xy * x.sum(), yy * x.sum() - xy * y.sum()))


def _largest(
    cloud: Float[np.ndarray, "n 3"],
    facing: Float[np.ndarray, "n 3"],
    normals: list[Float[np.ndarray, "3"]],
    agree: list[float],
    tolerance: float,
) -> tuple[int, int]:
    """Most points on a plane with one of the `normals`, and with which."""
    counts = [plane_facing(cloud, facing, *which, tolerance)[0] for which in zip(normals, agree, strict=True)]
    return max(counts), int(np.argmax(counts))


def _error(inverse: Float[np.ndarray, "*s r c"], depth: Float[np.ndarray, "r c"]) -> Float[np.ndarray, "*s r c"]:
    """Logarithm of the ratio between two depths, large where one of them is not known."""
    return np.abs(np.log(np.maximum(inverse * depth, 1e-9)))


def _axes(up: Float[np.ndarray, "3"]) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Two level directions at right angles, the first of them as nearly ahead as may be."""
    ahead = np.array([0.0, 0.0, 1.0]) if abs(up[2]) < 0.9 else np.array([0.0, -1.0, 0.0])
    level = ahead - (ahead @ up) * up
    level /= np.linalg.norm(level)
    return level, np.cross(up, level)


def _on_planes(
    labels: Int[np.ndarray, "r c"],
    known: Bool[np.ndarray, "r c"],
    nodes: Nodes,
    parts: list[Part],
    up: Float[np.ndarray, "3"],
    tolerance: float,
) -> Int[np.ndarray, "r c"]:
    """With the plane that fits best, for what has none yet, if one does."""
    errors = np.full((len(parts), *known.shape), np.inf)
    level = np.abs(along(nodes.normals, up)) > LEANING
    for index, part in enumerate(parts):
        if part.plane and part.kind != "floor":
            fits = level if part.kind in ("level", "ceiling") else True
            errors[index] = np.where(fits, _error(part.inverse, nodes.depth), np.inf)
    free = known & (labels < 0) & (errors.min(axis=0) < tolerance)
    return np.where(free, errors.argmin(axis=0), labels)


def _raised(
    labels: Int[np.ndarray, "r c"], known: Bool[np.ndarray, "r c"], nodes: Nodes, parts: list[Part]
) -> Bool[np.ndarray, "r c"]:
    """What stands on the floor clearly before the plane it was taken for: a thing that nobody has found."""
    inverse = np.maximum(np.maximum(_of_labels(parts, np.maximum(labels, 0)), parts[0].inverse), 1e-9)
    nearer = known & (labels >= 0) & (np.log(np.maximum(nodes.depth, 1e-9) * inverse) < -RAISED)
    pieces, count = ndimage.label(ndimage.binary_opening(nearer, np.ones((3, 3)), iterations=THIN))
    floor = ndimage.binary_dilation(labels == 0, iterations=THIN)
    stand = [
        piece for piece in range(1, count + 1) if _contacts(pieces == piece, floor & (pieces != piece), known).any()
    ]
    return np.isin(pieces, stand)


def _reliefs(
    labels: Int[np.ndarray, "r c"], known: Bool[np.ndarray, "r c"], nodes: Nodes, parts: list[Part]
) -> tuple[Int[np.ndarray, "r c"], list[Part]]:
    """What no plane fits, cut where its depth has steps; what is small goes to what is beside it.

    Returns:
        - **labels**: of all known nodes.
        - **parts**: the reliefs.
    """
    count = len(parts)
    rest = known & (labels < 0)
    kept = np.where(known & ~rest, labels, -1)
    kept = _without_small(kept, range(count))
    rest_parts, number = ndimage.label(rest & ~_steps(nodes))
    sizes = np.bincount(rest_parts.ravel(), minlength=number + 1)
    large = [index for index in range(1, number + 1) if sizes[index] >= SMALLEST * labels.size]
    for offset, index in enumerate(large):
        kept[rest_parts == index] = count + offset
    if (kept < 0).all():
        if not known.any():
            return kept, []
        kept[known], large = count, [0]
    reliefs = []
    for offset in range(len(large)):
        mine = kept == count + offset
        reliefs.append(_part("relief", 1 / _smooth(nodes.depth, mine), mine))
    made = nearest_known(kept, kept >= 0)
    inverse = np.stack([part.inverse for part in (*parts, *reliefs)])
    errors = _error(inverse, nodes.depth)
    far_off = np.take_along_axis(errors, made[None], axis=0)[0] > MOST_BENT
    made = np.where((kept < 0) & far_off, errors.argmin(axis=0), made)
    return np.where(known, made, -1), reliefs


def _steps(nodes: Nodes) -> Bool[np.ndarray, "r c"]:
    """The nodes beside which the depth changes more than a surface seen from `STEEPEST_DEG` would."""
    logs = np.log(np.where(nodes.depth > 0, nodes.depth, 1.0))
    known = nodes.depth > 0
    steps = np.zeros(known.shape, dtype=bool)
    for axis in range(2):
        low, high = (
            tuple(part if a == axis else slice(None) for a in range(2)) for part in (slice(None, -1), slice(1, None))
        )
        angle = np.linalg.norm(nodes.rays[high] - nodes.rays[low], axis=-1) / np.linalg.norm(nodes.rays[low], axis=-1)
        step = (np.abs(logs[high] - logs[low]) > np.tan(np.radians(STEEPEST_DEG)) * angle) & known[high] & known[low]
        steps[low] |= step
        steps[high] |= step
    return steps


def _smooth(depth: Float[np.ndarray, "r c"], mine: Bool[np.ndarray, "r c"]) -> Float[np.ndarray, "r c"]:
    """The depth of a relief everywhere: its own, a little smoothed, then that of its nearest node."""
    return cv2.GaussianBlur(nearest_known(averaged(depth, mine, 1.0), mine), (0, 0), 1.0)


def _without_small(labels: Int[np.ndarray, "r c"], numbers: range) -> Int[np.ndarray, "r c"]:
    """-1 for what hangs together and is small."""
    made = labels.copy()
    for number in numbers:
        pieces, count = ndimage.label(labels == number)
        small = np.bincount(pieces.ravel(), minlength=count + 1) < SMALLEST * labels.size
        small[0] = False
        made[small[pieces]] = -1
    return made


def _contacts(
    mine: Bool[np.ndarray, "r c"], floor: Bool[np.ndarray, "r c"], known: Bool[np.ndarray, "r c"]
) -> Bool[np.ndarray, "r c"]:
    """The nodes of a surface right above the floor, if it meets the floor along enough of its width; else none."""
    meets = np.zeros_like(mine)
    meets[:-1] = mine[:-1] & floor[1:] & known[:-1] & known[1:]
    enough = int(meets.sum()) >= CONTACTS * int(mine.any(axis=0).sum())
    return meets if enough else np.zeros_like(mine)


def _standing(part: Part, meets: Bool[np.ndarray, "r c"], floor_inverse: Float[np.ndarray, "r c"]) -> Part:
    """Moved along its rays to where it meets the floor in the picture, if it does."""
    ratio = part.inverse[meets] / np.maximum(floor_inverse[meets], 1e-9)  # of the floor's depth and its own
    ratio = ratio[ratio > 0]
    if part.kind not in ("wall", "relief") or not len(ratio):
        return part
    factor = float(np.median(ratio))
    return replace(part, inverse=part.inverse / factor) if FARTHER < factor < NEARER else part


def _upright(
    part: Part,
    meets: Bool[np.ndarray, "r c"],
    nodes: Nodes,
    floor_inverse: Float[np.ndarray, "r c"],
    up: Float[np.ndarray, "3"],
) -> Part:
    """A wide relief of estimated depth that stands on the floor as a wall that faces the camera; others as they are."""
    if part.kind != "relief" or np.count_nonzero(meets.any(axis=0)) < WIDE * meets.shape[1]:
        return part
    ahead = nodes.rays[meets].mean(axis=0)
    normal = ahead - (ahead @ up) * up
    normal /= np.linalg.norm(normal)
    feet = nodes.rays[meets] / np.maximum(floor_inverse[meets], 1e-9)[:, None]
    return replace(part, kind="wall", inverse=along(nodes.rays, normal) / float(np.median(along(feet, normal))))


def _behind_objects(
    labels: Int[np.ndarray, "r c"], nodes: Nodes, parts: list[Part], floor_inverse: Float[np.ndarray, "r c"]
) -> Int[np.ndarray, "r c"]:
    """Labels of the nodes without one, and of those that show a plane far before an object: of the nearest plane but the floor
    that can give way to it, or the floor where that is nearer.

    A relief says little of what lies beside it, and is taken only where there is no plane.
    """
    flat = [index for index, part in enumerate(parts) if part.plane and part.kind != "floor"]
    before = nodes.visible * _of_labels(parts, np.maximum(labels, 0)) > MOST_BACK
    missing = (labels < 0) | (before & np.isin(labels, flat))
    if (labels < 0).all():
        return np.where(floor_inverse > 0, 0, len(parts) - 1)
    shown = [index for index in flat if (labels == index).any()]
    floor_there = floor_inverse > 0
    if shown:
        far = np.stack([ndimage.distance_transform_edt(labels != index) for index in shown])
        needed = nodes.visible * np.stack([parts[index].inverse for index in shown])
        # What none can give way to has the farthest of them behind it.
        nearest = np.array(shown)[np.where(needed > MOST_BACK, far.max() + needed, far).argmin(axis=0)]
    else:
        others = labels > 0
        if not others.any():
            return np.where(missing & floor_there, 0, nearest_known(labels, ~missing))
        nearest = nearest_known(labels, others)
    nearer = floor_inverse > np.maximum(_of_labels(parts, nearest), 0)
    return np.where(missing, np.where(nearer, 0, nearest), labels)


def _of_labels(parts: list[Part], labels: Int[np.ndarray, "r c"]) -> Float[np.ndarray, "r c"]:
    """The inverse depth of the part that each node is labelled with."""
    inverse = np.stack([part.inverse for part in parts])
    return np.asarray(np.take_along_axis(inverse, labels[None], axis=0)[0])


def _to_intersections(labels: Int[np.ndarray, "r c"], parts: list[Part]) -> Int[np.ndarray, "r c"]:
    """With the borders between planes moved to where they intersect, if that is near.

    In a corner of the room the nearer plane is seen, on the edge of a box the farther one.
    """
    made = labels.copy()
    flat = [index for index, part in enumerate(parts) if part.plane and (labels == index).any()]
    for a, b in combinations(flat, 2):
        of_a, of_b = made == a, made == b
        border = ndimage.binary_dilation(of_a, iterations=BAND) & ndimage.binary_dilation(of_b, iterations=BAND)
        band = border & (of_a | of_b)
        if not band.any():
            continue
        nearer_a = parts[a].inverse > parts[b].inverse
        in_a, in_b = (
            np.mean(nearer_a[of_a & ndimage.binary_dilation(band, iterations=BAND)]),
            np.mean(nearer_a[of_b & ndimage.binary_dilation(band, iterations=BAND)]),
        )
        if in_a > 0.5 > in_b:  # a corner
            made[band] = np.where(nearer_a, a, b)[band]
        elif in_a < 0.5 < in_b:  # an edge
            made[band] = np.where(nearer_a, b, a)[band]
    return made


def _given_way(part: Part, shown: Bool[np.ndarray, "r c"], nodes: Nodes, uncertainty: float) -> Part:
    """Behind the objects where it is shown: a plane as a whole, what is none where it must be."""
    before = shown & (nodes.visible > 0)
    if part.kind == "floor" or not before.any():
        return part
    room = 1 + max(ROOM, min(2 * uncertainty, MOST_ROOM))
    if part.plane:
        needed = nodes.visible[before] * part.inverse[before]
        wished = min(float(np.percentile(room * needed, 90)), MOST_BACK)
        return replace(part, inverse=part.inverse / max(wished, (1 + ROOM) * float(needed.max()), 1.0))
    inverse = np.minimum(part.inverse, 1 / (room * np.maximum(nodes.visible, 1e-9)))
    return replace(part, inverse=np.where(before, inverse, part.inverse))


def _continued(labels: Int[np.ndarray, "r c"], parts: list[Part], sphere: Float[np.ndarray, "r c"]) -> Iterator[Part]:
    """The floor and the parts that are shown at all, continued behind what is nearer.

    Planes go on as far as their convex outline, the nearest of them behind everything; the rest a little.
    """
    parts = [replace(part, shown=labels == index) for index, part in enumerate(parts)]
    inverse = np.stack([part.inverse for part in parts])
    seen = _of_labels(parts, labels)
    # Nothing but the floor goes on below it.
    behind = (inverse > 0.95 * sphere) & (BEHIND * inverse < seen) & (inverse >= np.maximum(inverse[0], 0))
    hulls = np.stack([hull(part.shown) & part.plane for part in parts])
    nearest = np.where(hulls & behind, inverse, -np.inf)
    for index, part in enumerate(parts):
        if part.kind != "floor" and not part.shown.any():
            continue
        reach = ndimage.binary_dilation(part.shown, iterations=REACH) & behind[index]
        room = hulls[index] & behind[index] & (nearest.argmax(axis=0) == index)
        yield replace(part, hidden=(reach | room) & ~part.shown)


def hull(mask: Bool[np.ndarray, "r c"]) -> Bool[np.ndarray, "r c"]:
    """The nodes in the convex outline of those of `mask`."""
    if not mask.any():
        return mask
    points = np.argwhere(mask)[:, ::-1].astype(np.int32)
    filled = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(filled, cv2.convexHull(points), 1)
    return filled > 0
