"""Of arrangements that depth finds equally good, the one of which most stays under gravity.

Within a standard deviation of the depth it does not matter where along its rays an object starts. So for each that falls, other
distances are tried, from which it may reach something that carries it. Along its rays an object keeps its pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from scenegen.scene.arrange import Arranged, Unplaced

SHIFTS = (1.0, -1.0, 0.5, -0.5)
"""Distances that are tried, in standard deviations of the depth."""
MOST_TRIES = 24


def steadied(
    objects: Mapping[int, Unplaced],
    free: Collection[int],
    uncertainty: float,
    arranged: Callable[[Mapping[int, Unplaced]], dict[int, Arranged]],
    staying: Callable[[Mapping[int, Arranged]], frozenset[int]],
) -> dict[int, Arranged]:
    """The arrangement of objects, some of them begun farther or nearer if more then stays.

    Args:
        objects: by id.
        free: which may be begun elsewhere.
        uncertainty: of the depth, relative.
        arranged: arranges them, by `scenegen.scene.arrange.arrange`.
        staying: which objects of an arrangement stay under gravity. The same arrangement must give the same answer.
    """
    best = arranged(objects)
    stays = staying(best)
    begun = dict(objects)
    tries = 0
    for number in sorted(free):
        if number in stays:
            continue
        for shift in SHIFTS[: MOST_TRIES - tries]:
            tries += 1
            fit = objects[number].fit.times(1 + shift * uncertainty)
            other = begun | {number: replace(objects[number], fit=fit)}
            found = arranged(other)
            then = staying(found)
            if number in then and len(then) > len(stays):
                best, stays, begun = found, then, other
                break
    return {number: _measured(item, objects[number], begun[number]) for number, item in best.items()}


def _measured(item: Arranged, told: Unplaced, begun: Unplaced) -> Arranged:
    """With evidence that counts from what depth told."""
    if begun is told:
        return item
    evidence: dict[str, float | bool] = {
        **item.evidence,
        "scale_from_depth": round(told.fit.scale, 6),
        "moved": round(item.scale / told.fit.scale - 1, 6),
        "chosen_by_gravity": True,
    }
    return replace(item, evidence=evidence)
