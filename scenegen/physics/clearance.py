"""Colliders kept clear of one another, so that a simulation starts without a jolt.

Convex parts reach beyond the solid that they stand for, and made-up hidden sides may reach into a neighbour. Engines push what
overlaps apart at once. So where parts of two bodies overlap, the part that is empty there gives way: the solid that it stands for
is elsewhere. If neither is empty, both give way by half. What an earlier run made never does. What is left of a part is again a
few convex parts. Meshes stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy.spatial import ConvexHull, QhullError

from scenegen.camera import transform
from scenegen.physics.body import Hull, hull

CLEAR_M = 2e-4
"""Overlap that stays, since engines feel a contact by it."""
MOST_PIECES = 4
"""Convex parts that are kept of one that gives way."""
LEAST_PIECE = 0.02
"""Share of the part's volume below which a piece of it is not kept."""
THINNEST_M = 5e-4
UP = np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True, eq=False)
class Colliders:
    """What a body collides with."""

    hulls: Sequence[Hull]
    world_from_body: Float64[np.ndarray, "4 4"]
    """Rigid. World: metres, Y up, the floor at height 0."""
    surface: Float[np.ndarray, "v 3"]
    """Points of what the hulls stand for. Without any, all hulls are empty: they give way wherever they overlap."""
    fixed: bool = False
    """Whether it never moves. What is fixed may overlap what is fixed."""
    carrier: int | None = None
    """Place of the body that it stands on, which gives way to it."""
    kept: bool = False
    """Whether its hulls stay as they are: others give way to it, unless they are kept too."""


@dataclass(frozen=True, eq=False)
class _Convex:
    """A convex part: the points for which `normals @ point <= offsets`."""

    corners: Float64[np.ndarray, "n 3"]
    edges: Int[np.ndarray, "e 2"]
    """Places of their ends among the corners."""
    normals: Float64[np.ndarray, "f 3"]
    offsets: Float64[np.ndarray, "f"]
    volume: float
    low: Float64[np.ndarray, "3"]
    high: Float64[np.ndarray, "3"]
    whole: Hull | None = None
    """The hull that it is, if nothing of it gave way."""

    def holds(self, points: Float64[np.ndarray, "n 3"]) -> bool:
        """Whether any of the points is inside, deeper than what may overlap."""
        near = points[((points > self.low) & (points < self.high)).all(axis=1)]
        return bool((near @ self.normals.T < self.offsets - CLEAR_M).all(axis=1).any())


def cleared(bodies: Sequence[Colliders]) -> list[tuple[Hull, ...]]:
    """The hulls of each body, in order, of which none reaches into another body or below the floor, unless it is kept.

    A body of which nothing would be left keeps its hulls.

    Examples:
        >>> cube = hull(np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32))
        >>> beside = np.eye(4)
        >>> beside[0, 3] = 0.9
        >>> nothing = np.zeros((0, 3))
        >>> left, right = cleared([Colliders([cube], np.eye(4), cube.vertices), Colliders([cube], beside, nothing)])
        >>> left[0] is cube, round(float(right[0].vertices[:, 0].min()), 2)
        (True, 0.1)
    """
    parts = [_above_floor(body) for body in bodies]
    surfaces = [transform(body.world_from_body, body.surface.astype(np.float64)) for body in bodies]
    for first, second in combinations(range(len(bodies)), 2):
        one, other = bodies[first], bodies[second]
        if (one.fixed and other.fixed) or (one.kept and other.kept):
            continue
        if one.kept:
            parts[second] = _giving_way(parts[second], parts[first])
        elif other.kept:
            parts[first] = _giving_way(parts[first], parts[second])
        else:
            nothing = np.zeros((0, 3))
            of_first = nothing if other.carrier == first else surfaces[first]
            of_second = nothing if one.carrier == second else surfaces[second]
            parts[first], parts[second] = _apart(parts[first], parts[second], of_first, of_second)
    return [
        tuple(body.hulls) if body.kept else _hulls(left, body) or tuple(body.hulls)
        for left, body in zip(parts, bodies, strict=True)
    ]


def _above_floor(body: Colliders) -> list[_Convex]:
    found = []
    for whole in body.hulls:
        part = _convex(transform(body.world_from_body, whole.vertices.astype(np.float64)))
        if part is not None:
            part = replace(part, whole=whole)
            found.append(part if part.low[1] > -CLEAR_M else _beyond(part, UP, 0.0))
    return [part for part in found if part is not None]


def _hulls(parts: Sequence[_Convex], body: Colliders) -> tuple[Hull, ...]:
    """In the frame of the body; those that did not give way are the very same."""
    body_from_world = np.linalg.inv(body.world_from_body)
    return tuple(
        hull(transform(body_from_world, part.corners).astype(np.float32)) if part.whole is None else part.whole
        for part in parts
    )


def _giving_way(parts: Sequence[_Convex], kept: Sequence[_Convex]) -> list[_Convex]:
    """What of `parts` lies outside of those that are kept."""
    left = list(parts)
    for other in kept:
        left = [piece for part in left for piece in ([part] if _overlap(part, other) is None else _around(part, other))]
    return left


def _apart(
    first: list[_Convex],
    second: list[_Convex],
    of_first: Float64[np.ndarray, "_ 3"],
    of_second: Float64[np.ndarray, "_ 3"],
) -> tuple[list[_Convex], list[_Convex]]:
    """The parts of two bodies after each pair that overlaps has given way."""
    waiting, done = list(first), []
    while waiting:
        mine = waiting.pop()
        for place, other in enumerate(second):
            found = _overlap(mine, other)
            if found is None:
                continue
            normal, low, high = found
            if len(of_second) and not other.holds(of_first):
                waiting += _around(mine, other)
            elif not mine.holds(of_second):
                second = [*second[:place], *_around(other, mine), *second[place + 1 :]]
                waiting.append(mine)
            else:
                middle = (low + high) / 2
                kept, rest = _beyond(mine, -normal, -middle), _beyond(other, normal, middle)
                second = [*second[:place], *([rest] if rest else []), *second[place + 1 :]]
                waiting += [kept] if kept else []
            break
        else:
            done.append(mine)
    return done[::-1], second


def _overlap(a: _Convex, b: _Convex) -> tuple[Float64[np.ndarray, "3"], float, float] | None:
    """The direction from `a` to `b` along which they overlap least, and from where to where; None if they do not overlap.

    Only the directions that faces look in are tried, so that edges that cross may seem to overlap by a little more than they do.
    """
    if (a.low > b.high - CLEAR_M).any() or (b.low > a.high - CLEAR_M).any():
        return None
    normals = np.concatenate([a.normals, -b.normals])
    low, high = (normals @ b.corners.T).min(axis=1), (normals @ a.corners.T).max(axis=1)
    least = int((high - low).argmin())
    return None if high[least] - low[least] <= CLEAR_M else (normals[least], float(low[least]), float(high[least]))


def _around(part: _Convex, other: _Convex) -> list[_Convex]:
    """What of `part` lies outside of `other`: pieces cut off along the faces of `other`, the largest first."""
    pieces: list[_Convex] = []
    rest = part
    while len(pieces) < MOST_PIECES:
        over = (rest.corners @ other.normals.T - other.offsets).max(axis=0)
        found = [
            (piece, face)
            for face in np.argsort(-over)[: 3 * MOST_PIECES]
            if over[face] > THINNEST_M and (piece := _beyond(rest, other.normals[face], float(other.offsets[face])))
        ]
        if not found:
            break
        best, face = max(found, key=lambda each: each[0].volume)
        if best.volume < LEAST_PIECE * part.volume:
            break
        pieces.append(best)
        left = _beyond(rest, -other.normals[face], -float(other.offsets[face]))
        if left is None:
            break
        rest = left
    return pieces


def _beyond(part: _Convex, normal: Float64[np.ndarray, "3"], offset: float) -> _Convex | None:
    """What of `part` has `normal @ point >= offset`; None if that is next to nothing."""
    over = part.corners @ normal - offset
    if (over >= 0).all():
        return part
    if over.max() <= THINNEST_M:
        return None
    start, end = part.edges.T
    crossed = (over[start] > 0) != (over[end] > 0)
    start, end = start[crossed], end[crossed]
    share = (over[start] / (over[start] - over[end]))[:, None]
    cut = part.corners[start] + share * (part.corners[end] - part.corners[start])
    return _convex(np.concatenate([part.corners[over >= 0], cut]))


def _convex(points: Float64[np.ndarray, "n 3"]) -> _Convex | None:
    """The hull of points; None if it is too thin to be one."""
    try:
        found = ConvexHull(points)
    except QhullError:
        return None
    equations = np.unique(found.equations.round(9), axis=0)
    place = np.full(len(points), -1)
    place[found.vertices] = np.arange(len(found.vertices))
    sides = place[found.simplices]
    corners = points[found.vertices]
    return _Convex(
        corners=corners,
        edges=np.unique(np.sort(sides[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)), axis=0),
        normals=equations[:, :3],
        offsets=-equations[:, 3],
        volume=float(found.volume),
        low=corners.min(axis=0),
        high=corners.max(axis=0),
    )
