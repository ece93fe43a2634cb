"""The scales of all objects at once: where depth, contact, room for one another and usual sizes agree best.

Each object has one free number, its scale about the camera (`scenegen.scene.placement`). The unknowns are the logarithms of the
scales. What is known is written as residuals, each divided by what it may be off by, and least squares finds the scales. Any of
them may be wrong as a whole (a depth, a contact, a side that was not seen), so that a large one counts no more than its size
(pseudo-Huber).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from scenegen.geometry.distance import Distances

CONTACT_M = 0.003
"""Gap that counts as contact, as a share of the object's size at least `CONTACT_SHARE`."""
CONTACT_SHARE = 0.01
OVERLAP_SHARE = 0.05
"""How deep objects may be in one another, as a share of the smaller one: what is inside is made up, seen it was not."""
ORDER = 0.02
"""How far the order of two objects in depth may be off, as a share of their distance."""
DEEPEST = 5
"""Points whose mean depth inside something counts."""
STEP = 1e-4
EVALUATIONS = 60


@dataclass(frozen=True, eq=False)
class Candidate:
    """An object to be scaled; lengths at scale 1."""

    scale: float
    """As its depth says."""
    spread: float
    """Standard deviation of the logarithm of that."""
    smallest: float
    largest: float
    size: float
    """Its longest side, units of scale 1."""
    lowest: float
    """Height of its lowest point over the camera, along gravity; negative if it is below."""
    on_floor: bool
    """Whether it is taken to stand there; else it is only not to lie below."""
    supporter: int | None
    """Id of the object it stands on."""
    points: Float[np.ndarray, "n 3"]
    """Of its surface, camera frame."""
    solid: Distances | None
    """If it may come to lie in the way of others."""
    known: tuple[float, float] | None = None
    """Scale at which it has the usual size of its kind, and the spread of that as a factor."""


@dataclass(frozen=True)
class Order:
    """What is seen to lie before what."""

    front: int
    behind: int
    ratio: float
    """Distance of the front one over that of the other where they border, at scales 1."""


@dataclass(frozen=True, eq=False)
class Term:
    """Residuals that depend on the scales of one or two objects."""

    of: tuple[int, ...]
    """Places of the objects in the order of the unknowns."""
    value: Callable[..., float]
    """From logarithms of their scales."""


def solve_scales(
    objects: Mapping[int, Candidate],
    overlapping: Sequence[tuple[int, int]],
    orders: Sequence[Order],
    camera_height: float,
) -> dict[int, float]:
    """The scale of every object, by id. It starts from the scales that depth says, and is the same for the same input.

    Args:
        objects: by id.
        overlapping: pairs that share rays, so that they could come to lie in one another. Both have a `solid`.
        orders: what lies before what.
        camera_height: of the camera over the floor, metres.
    """
    ids = list(objects)
    place = {number: index for index, number in enumerate(ids)}
    terms = [term for number in ids for term in _own(objects[number], place[number], camera_height)]
    for number, item in objects.items():
        if item.supporter is not None:
            terms.append(_contact(item, objects[item.supporter], (place[number], place[item.supporter])))
    for first, second in overlapping:
        terms.append(_overlap(objects[first], objects[second], (place[first], place[second])))
    for order in orders:
        terms.append(_ordered(order, (place[order.front], place[order.behind])))
    low, high = (np.log([getattr(objects[i], name) for i in ids]) for name in ("smallest", "largest"))
    start = np.clip(np.log([objects[number].scale for number in ids]), low + 1e-9, high - 1e-9)
    found = least_squares(
        lambda x: _residuals(terms, x),
        start,
        jac=lambda x: _jacobian(terms, x),
        bounds=(low, high),
        x_scale=np.maximum([objects[i].spread for i in ids], 1e-4),
        max_nfev=EVALUATIONS,
        xtol=1e-7,
    )
    return {number: float(np.exp(found.x[place[number]])) for number in ids}


def overlap(first: Candidate, second: Candidate, scale: float, other: float) -> float:
    """How deep two scaled objects are inside each other, metres; 0 where they are apart."""
    return max(
        _depth_inside(first.points * (scale / other), second.solid) * other,
        _depth_inside(second.points * (other / scale), first.solid) * scale,
    )


def gap(item: Candidate, supporter: Candidate, scale: float, other: float) -> float:
    """Distance between an object and the one it stands on, metres; negative if it is inside."""
    assert supporter.solid is not None
    inside = overlap(item, supporter, scale, other)
    return -inside if inside > 0 else float(supporter.solid.at(item.points * (scale / other)).min()) * other


def _depth_inside(points: Float[np.ndarray, "n 3"], solid: Distances | None) -> float:
    if solid is None:
        return 0.0
    deep = np.sort(solid.at(points[solid.near(points)]))[:DEEPEST]
    return float(np.maximum(-deep, 0).sum() / min(DEEPEST, len(points)))


def _own(item: Candidate, place: int, camera_height: float) -> list[Term]:
    """What is known of an object by itself."""
    wanted = np.log(item.scale)
    terms = [Term((place,), lambda x: (x - wanted) / item.spread)]
    terms.append(Term((place,), lambda x: _off_floor(item, x, camera_height) / _allowed(item, x)))
    if item.known is not None:
        scale, spread = item.known
        terms.append(Term((place,), lambda x: (x - np.log(scale)) / np.log(spread)))
    return terms


def _off_floor(item: Candidate, x: float, camera_height: float) -> float:
    height = camera_height + float(np.exp(x)) * item.lowest
    return height if item.on_floor else min(height, 0.0)


def _allowed(item: Candidate, x: float) -> float:
    return max(CONTACT_M, CONTACT_SHARE * item.size * float(np.exp(x)))


def _contact(item: Candidate, supporter: Candidate, of: tuple[int, int]) -> Term:
    return Term(of, lambda x, y: gap(item, supporter, float(np.exp(x)), float(np.exp(y))) / _allowed(item, x))


def _overlap(first: Candidate, second: Candidate, of: tuple[int, int]) -> Term:
    def value(x: float, y: float) -> float:
        scale, other = float(np.exp(x)), float(np.exp(y))
        return overlap(first, second, scale, other) / (OVERLAP_SHARE * min(first.size * scale, second.size * other))

    return Term(of, value)


def _ordered(order: Order, of: tuple[int, int]) -> Term:
    return Term(of, lambda x, y: max(0.0, x - y + np.log(order.ratio)) / ORDER)


def _residuals(terms: Sequence[Term], x: Float[np.ndarray, "n"]) -> Float[np.ndarray, "t"]:
    return np.array([_robust(term.value(*x[list(term.of)])) for term in terms])


def _robust(value: float) -> float:
    """The square of the result is the pseudo-Huber loss."""
    return float(np.sign(value) * np.sqrt(2 * (np.sqrt(1 + value**2) - 1)))


def _jacobian(terms: Sequence[Term], x: Float[np.ndarray, "n"]) -> Float[np.ndarray, "t n"]:
    """Central differences, only of what a term depends on."""
    result = np.zeros((len(terms), len(x)))
    for row, term in enumerate(terms):
        for place in term.of:
            ends = []
            for step in (-STEP, STEP):
                moved = x.copy()
                moved[place] += step
                ends.append(_robust(term.value(*moved[list(term.of)])))
            result[row, place] = (ends[1] - ends[0]) / (2 * STEP)
    return result
