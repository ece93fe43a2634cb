"""Floor and gravity from a depth map, and what each object stands on."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage
from scipy.optimize import least_squares

from scenegen.camera import rays, unproject
from scenegen.config import LayoutConfig
from scenegen.errors import UsageError
from scenegen.geometry.planes import along, depth_normals, fit_plane, plane_facing
from scenegen.ids import BACKGROUND, object_ids, shows_object
from scenegen.messages.remarks import note
from scenegen.records import Intrinsics, Support, Vector
from scenegen.scene.graph import support_graph

MAX_POINTS = 20_000
MAX_PLANES = 4
FLOOR = 0
NEARER = 0.98
"""What is seen below an object at less than this share of its distance is before it, rather than under it."""
MEASURED = 0.02
"""Relative error of a depth up to which its planes are surer than an estimated gravity."""
LEANING = 0.7
"""Least cosine between gravity and the normals of a level surface, as an estimated depth leans."""
MOST_LOWERED = 1.3
"""Factor by which such a floor may be lowered so that objects do not sink into it."""
MOST_OFF = 0.3
"""Logarithm of the ratio by which a point of the floor may be off it before that is turned."""
GRAVITY_DEG = 2.0
"""What an estimated gravity may be turned by about either level axis, as a standard deviation: less than it is off by, since the
errors of what speaks against it go together."""
FLOOR_POINTS, FLOOR_COUNTS = 500, 2
"""Points of the floor that are looked at when it is turned, and for how many objects all of them count: their errors are one."""
SAME_FLOOR_DEG = 1.0
"""Least angle between two floors that are not one."""
SAME_DEPTH, LEVEL = 0.25, 0.05
"""Steps in depth and height between an object and what it touches in the picture, as shares of its size."""
LEAST_CONTACT = 0.25
"""Share of the lower outline below which something must be seen to carry an object."""
AROUND = 0.1
"""Share of an object's outline along which something is seen behind it that it is inside of."""
FOOT = 2.0
"""Percentile of the heights of what is seen of an object up to which it is its foot."""
FOOT_HIDDEN = 0.25
"""Share of the lower outline along something nearer from which on the foot of an object is hidden."""
MOST_BENT = 0.08
"""Largest share of the depth by which an estimated depth may leave a plane and still be it."""


@dataclass(frozen=True, eq=False)
class Floor:
    """The plane n . X + offset = 0 in the camera frame, n a unit vector that points up; the camera is above it."""

    normal: Float[np.ndarray, "3"]
    offset: float
    source: str
    """`ransac`, `assumed` or `shown`."""
    warnings: tuple[str, ...] = ()

    def heights(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n"]:
        """Height of camera-frame points above the floor, metres."""
        return np.asarray(points @ self.normal + self.offset)

    def depth(self, rays: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n"]:
        """z-depth at which rays (z = 1) from the camera meet the floor; infinite where they never do."""
        slope = rays @ self.normal
        return np.where(slope < -1e-6, -self.offset / np.minimum(slope, -1e-6), np.inf)


def find_floor(
    depth: Float[np.ndarray, "h w"],
    ids: Integer[np.ndarray, "h w"],
    camera: Intrinsics,
    config: LayoutConfig,
    gravity: Vector | None = None,
    uncertainty: float = 0.0,
    certain: bool = False,
) -> Floor:
    """The plane that carries the objects: RANSAC planes of the background, judged by how well objects stand on them.

    A plane counts as a floor if the camera is above it and its normal leans at most `config.max_slope_deg` from `gravity`
    (down, camera frame) or, if that is not known, at most `config.max_tilt_deg` from the picture's vertical. Among those,
    the number of points (within `plane_tolerance`), how closely the objects' undersides meet the plane, and how level it is
    decide. Where there is none, the floor is level and goes through the lowest object; the result says so. If gravity is
    `certain`, it is square to that.
    """
    up = np.array([0.0, -1.0, 0.0]) if gravity is None else -np.array(gravity)
    most = config.max_tilt_deg if gravity is None else config.max_slope_deg
    points = unproject(camera, depth)
    seen = (ids == BACKGROUND) & (depth > 0)
    background = points[seen]
    objects = [points[(ids == i) & (depth > 0)] for i in object_ids(ids)]
    objects = [cloud for cloud in objects if len(cloud) >= 16]
    chosen = np.linspace(0, len(background) - 1, min(MAX_POINTS, len(background))).astype(int)
    rest, normals = background[chosen], depth_normals(depth, camera)[seen][chosen]
    total = len(rest)
    best: tuple[float, Floor] | None = None
    if gravity is not None and (certain or uncertainty > MEASURED):
        tolerance = plane_tolerance(config, uncertainty)
        floor = _level_floor(rest, normals, up, objects, tolerance, config.min_floor_share)
        if floor is None:
            return _assumed_floor(background, objects, up, estimated=True)
        if certain:
            return floor
        feet = [
            _foot(points[(ids == i) & (depth > 0)], up)
            for i in object_ids(ids)
            if (depth[ids == i] > 0).any() and hidden_below(depth, ids, i) < FOOT_HIDDEN
        ]
        return _turned(floor, np.array(feet).reshape(-1, 3), rest, normals, uncertainty)
    for attempt in range(MAX_PLANES):
        if len(rest) < max(64, config.min_floor_share * total):
            break
        threshold = plane_tolerance(config, uncertainty) * float(np.median(rest[:, 2]))
        plane = fit_plane(rest, normals, threshold, seed=attempt)
        if plane is None or np.count_nonzero(plane.near) < config.min_floor_share * total:
            break
        sign = 1.0 if plane.offset > 0 else -1.0  # the camera, at the origin, has height d
        floor = Floor(sign * plane.normal, sign * plane.offset, "ransac")
        level = float(floor.normal @ up)
        if level >= np.cos(np.radians(most)):
            score = np.count_nonzero(plane.near) / total * (0.2 + level) * _standing(floor, objects)
            if best is None or score > best[0]:
                best = (score, floor)
        rest, normals = rest[~plane.near], normals[~plane.near]
    if best is not None:
        return best[1]
    return _assumed_floor(background, objects, up, gravity is not None)


def is_same_floor(one: Floor, other: Floor, tolerance: float) -> bool:
    """Whether two floors that were found are one as far as depth tells, which may be off by `tolerance`, relative.

    Examples:
        >>> low, lower, lowest = (Floor(np.array([0.0, -1.0, 0.0]), height, "ransac") for height in (1.5, 1.52, 1.8))
        >>> is_same_floor(low, lower, 0.08), is_same_floor(low, lowest, 0.08)
        (True, False)
    """
    turned = np.degrees(np.arccos(min(1.0, float(one.normal @ other.normal))))
    nearer = abs(float(np.log(other.offset / one.offset)))
    return one.source == other.source and turned < SAME_FLOOR_DEG and nearer < tolerance / 2


def floor_through(floor: Floor, point: Float[np.ndarray, "3"]) -> Floor:
    """A floor that goes through a point (camera frame) that the user has shown, as level as the one that was found.

    Raises:
        UsageError: if it would be above the camera.

    Examples:
        >>> floor_through(Floor(np.array([0.0, -1.0, 0.0]), 1.0, "assumed"), np.array([0.3, 1.5, 2.0])).offset
        1.5
    """
    offset = -float(floor.normal @ point)
    if offset <= 0:
        raise UsageError(
            "the floor would be above the camera; click a place that is lower in the photo, or undo gravity."
        )
    return Floor(floor.normal, offset, "shown")


def _level_floor(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    up: Float[np.ndarray, "3"],
    objects: list[Float[np.ndarray, "_ 3"]],
    tolerance: float,
    least: float,
) -> Floor | None:
    """The level plane below the camera that most points lie on and the objects stand on best."""
    best: tuple[float, Floor] | None = None
    lowest = float(np.percentile([np.percentile(along(cloud, -up), 98) for cloud in objects], 75)) if objects else 0.0
    left = np.ones(len(points), dtype=bool)
    for _ in range(MAX_PLANES):
        count, height = plane_facing(points[left], normals[left], -up, LEANING, tolerance)
        if count < max(1, least * len(points)):
            break
        floor = Floor(up, max(height, min(lowest, MOST_LOWERED * height)), "ransac")
        score = count / len(points) * _standing(floor, objects)
        if best is None or score > best[0]:
            best = (score, floor)
        left &= np.abs(along(points, -up) / height - 1) > 2 * tolerance
    return None if best is None else best[1]


def _foot(cloud: Float[np.ndarray, "n 3"], up: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    heights = along(cloud, up)
    return np.asarray(cloud[heights <= np.percentile(heights, FOOT)].mean(axis=0))


def _turned(
    floor: Floor,
    feet: Float[np.ndarray, "f 3"],
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    uncertainty: float,
) -> Floor:
    """The floor turned by some degrees, as far as feet of objects and what is seen of it say more than the estimated gravity.

    A wrong gravity lifts or sinks what is far: most things would float. Each foot and each point counts by the logarithm of the
    ratio between the depth of the plane on its ray and its own, as far as that is no outlier (Cauchy's loss).
    """
    close = np.abs(np.log(np.maximum(along(points, -floor.normal) / floor.offset, 1e-9))) < MOST_OFF
    seen = points[close & (along(normals, floor.normal) > LEANING)]
    seen = seen[np.linspace(0, len(seen) - 1, min(FLOOR_POINTS, len(seen))).astype(int)]
    share = np.sqrt(FLOOR_COUNTS / max(len(seen), 1))
    axes = np.linalg.svd(floor.normal[None])[2][1:]

    def plane(x: Float[np.ndarray, "3"]) -> Floor:
        normal = floor.normal + x[:2] @ axes
        return Floor(normal / np.linalg.norm(normal), floor.offset * float(np.exp(x[2])), floor.source)

    def off(x: Float[np.ndarray, "3"], of: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n"]:
        made = plane(x)
        below = np.maximum(along(of, -made.normal) / made.offset, 1e-2)  # above the horizon there is no floor
        ratio = np.log(below) / uncertainty
        return np.asarray(np.sign(ratio) * np.sqrt(np.log1p(ratio**2)))

    def residuals(x: Float[np.ndarray, "3"]) -> Float[np.ndarray, "_"]:
        return np.concatenate([x[:2] / np.tan(np.radians(GRAVITY_DEG)), off(x, feet), share * off(x, seen)])

    return plane(least_squares(residuals, np.zeros(3)).x)


def plane_tolerance(config: LayoutConfig, uncertainty: float) -> float:
    """How far off a plane a depth may be to lie on it, as a share of the depth: an estimate bends what is level.

    Args:
        config: the least.
        uncertainty: of the depth, relative; of what is very uncertain no more than `MOST_BENT` counts.
    """
    return max(config.inlier_share, min(uncertainty, MOST_BENT))


def _standing(floor: Floor, objects: list[Float[np.ndarray, "_ 3"]]) -> float:
    """How well the objects stand on a plane, 0..1: 1 where every underside meets it and nothing is below."""
    if not objects:
        return 1.0
    marks = []
    for cloud in objects:
        heights = floor.heights(cloud)
        size = max(float(np.ptp(cloud, axis=0).max()), 1e-6)
        marks.append(np.exp(-abs(float(np.percentile(heights, 2))) / (0.3 * size)))
    return 0.05 + float(np.mean(marks))


def _assumed_floor(
    background: Float[np.ndarray, "n 3"],
    objects: list[Float[np.ndarray, "_ 3"]],
    up: Float[np.ndarray, "3"],
    estimated: bool,
) -> Floor:
    clouds = objects or [background]
    height = max([float(np.percentile(-cloud @ up, 99)) for cloud in clouds if len(cloud)], default=1.0)
    source = "as estimated from the picture" if estimated else "taken along the picture's vertical"
    text = note(
        f"no floor was found, so gravity is {source} and the floor lies below the lowest object. "
        "Give a better depth map with --depth."
    )
    return Floor(up, max(height, 1e-3), "assumed", (text,))


def world_from_camera(floor: Floor, centre: Float[np.ndarray, "3"]) -> Float[np.ndarray, "4 4"]:
    """The rigid map to the world: Y along the floor's normal, the camera looking towards -Z, height 0 on the floor.

    The origin is the foot of `centre` (camera frame) on the floor.
    """
    up = floor.normal
    forward = np.array([0.0, 0.0, 1.0]) - up[2] * up
    if np.linalg.norm(forward) < 0.05:  # looking straight down: the picture's top is ahead
        forward = np.array([0.0, -1.0, 0.0]) - -up[1] * up
    back = -forward / np.linalg.norm(forward)
    rotation = np.stack([np.cross(up, back), up, back])
    foot = centre - floor.heights(centre) * up
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = -rotation @ foot
    return matrix


def find_supports(
    depth: Float[np.ndarray, "h w"], ids: Integer[np.ndarray, "h w"], camera: Intrinsics, floor: Floor
) -> tuple[Support, ...]:
    """What each object stands on, read off the picture just below its outline.

    There lies what carries it, at the same depth, or a step away where that is seen at a flat angle or overhung. What is nearer
    and higher is an occluder and says nothing, unless it is seen behind the object too, which then is inside it. An object
    whose underside is at floor height stands on the floor whatever it borders.
    """
    points = unproject(camera, depth)
    heights = floor.heights(points)
    step = max(2, round(0.006 * max(ids.shape)))
    known = {child: (ids == child) & (depth > 0) for child in object_ids(ids)}
    sizes = {child: _extent(points[seen]) for child, seen in known.items() if seen.any()}
    supports: list[Support] = []
    for child, seen in known.items():
        if child not in sizes:
            supports.append(Support(child=child, parent=FLOOR, contact_share=0.0))
            continue
        size = sizes[child]
        outline, below = _lower_outline(ids == child, step)
        neighbour, told = ids[below], depth[below] > 0
        gap = depth[below] - depth[outline]
        touching = told & (np.abs(gap) < SAME_DEPTH * size)
        over = told & (gap < size) & (heights[outline] - heights[below] > -LEVEL * size)
        shares = {}
        for parent in np.intersect1d(neighbour, list(sizes)).tolist():
            mine = neighbour == parent
            carries = mine & (touching | (over & (gap > -sizes[parent])))
            if _is_around(parent, ids == child, depth, ids, step, LEVEL * size):
                carries |= mine & told & (gap < 0)
            shares[parent] = float(carries.mean())
        on_floor = float(np.mean(touching & (neighbour == BACKGROUND))) if len(neighbour) else 0.0
        low = float(np.percentile(heights[seen], 2))
        parent = max(shares, key=lambda i: shares[i], default=FLOOR)
        if low > 0.12 * size and shares.get(parent, 0.0) > max(LEAST_CONTACT, on_floor):
            supports.append(Support(child=child, parent=parent, contact_share=round(shares[parent], 4)))
        else:
            supports.append(Support(child=child, parent=FLOOR, contact_share=round(on_floor, 4)))
    return without_cycles(supports)


def _extent(points: Float[np.ndarray, "n 3"]) -> float:
    return max(float(np.ptp(points, axis=0).max()), 1e-6)


def _is_around(
    outer: int,
    inner: Bool[np.ndarray, "h w"],
    depth: Float[np.ndarray, "h w"],
    ids: Integer[np.ndarray, "h w"],
    step: int,
    farther: float,
) -> bool:
    """Whether an object, part of which is before the pixels `inner`, is seen behind them, too: as the far rim of a bowl."""
    rows, columns = (np.flatnonzero(inner.any(axis=axis)) for axis in (1, 0))
    window = tuple(np.s_[max(0, at[0] - step) : at[-1] + step + 1] for at in (rows, columns))
    inner, depth, ids = inner[window], depth[window], ids[window]
    around = ndimage.binary_dilation(inner, iterations=step) & ~inner
    rim = around & (ids == outer) & (depth > 0)
    if not rim.any():
        return False
    nearest = ndimage.distance_transform_edt(~inner, return_distances=False, return_indices=True)[:, rim]
    beyond = depth[rim] - depth[nearest[0], nearest[1]] > farther
    return bool(beyond.sum() > AROUND * around.sum())


def hidden_below(depth: Float[np.ndarray, "h w"], ids: Integer[np.ndarray, "h w"], child: int) -> float:
    """Share of an object's lower outline below which something nearer is seen, or nothing: there its foot may be hidden."""
    mask = ids == child
    columns = int(np.count_nonzero(mask.any(axis=0)))
    if not columns:
        return 0.0
    outline, below = _lower_outline(mask, max(2, round(0.006 * max(ids.shape))))
    cut = 1 - len(outline[0]) / max(columns - 2 * (columns // 10), 1)
    near, far = depth[below[0], below[1]], depth[outline[0], outline[1]]
    other = shows_object(ids[below[0], below[1]]) & (near > 0) & (near < NEARER * far)
    return float(cut + (1 - cut) * other.mean()) if len(other) else 1.0


def support_depth(
    depth: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"], camera: Intrinsics, floor: Floor
) -> Float[np.ndarray, "h w"]:
    """z-depth at which every ray meets the level plane that the object of `mask`, standing on another, rests on.

    That plane lies at the height of the object's lowest visible points, but never before a visible one; infinite where
    nothing is known.
    """
    known = mask & (depth > 0)
    if not known.any():
        return np.full(mask.shape, np.inf)
    height = float(np.percentile(floor.heights(unproject(camera, depth)[known]), 1))
    plane = Floor(floor.normal, floor.offset - height, floor.source).depth(rays(camera))
    return np.maximum(plane, np.where(known, depth, 0))


def _lower_outline(
    mask: Bool[np.ndarray, "h w"], step: int
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of the lowest pixel of each column, just inside and `step` pixels below; the middle 80 % of columns.

    Pixels cut by the picture's lower border are left out: nothing can be seen below them.
    """
    height = mask.shape[0]
    columns = np.flatnonzero(mask.any(axis=0))
    columns = columns[len(columns) // 10 : len(columns) - len(columns) // 10]
    rows = height - 1 - np.argmax(mask[::-1, columns], axis=0)
    inside = rows + step < height
    columns, rows = columns[inside], rows[inside]
    inner = np.maximum(rows - step // 2, 0)
    inner = np.where(mask[inner, columns], inner, rows)
    return (inner, columns), (rows + step, columns)


def without_cycles(supports: list[Support]) -> tuple[Support, ...]:
    """Breaks circles of objects that would support each other, at the weakest contact."""
    by_child = {support.child: support for support in supports}
    # Every object has one supporter, so no two circles share an object.
    for circle in nx.simple_cycles(support_graph((support.parent, support.child) for support in supports)):
        weakest = min(circle, key=lambda child: (by_child[child].contact_share, child))
        by_child[weakest] = Support(child=weakest, parent=FLOOR, contact_share=0.0)
    return tuple(by_child[child] for child in sorted(by_child))
