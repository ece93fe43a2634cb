"""Metres without a measurement: how large things are known to be, against how large they come out.

An object may be one of several things, each with a probability. Each of them says log(known size / size found), and how far
that can be off: as far as sizes of its kind spread, and as sizes are found wrongly. With the rest of the probability it is
anything, whose sizes spread widely, so that a wrong name does little harm. Objects of one kind share what is unusual about
them, so that each kind counts once. What is cut off by the picture or hidden is at least as large as what is seen of it, and
mostly not much larger. All that is put together on a grid of scales, with what is assumed where nothing is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.special import log_ndtr

from scenegen.camera import rays
from scenegen.ids import BACKGROUND
from scenegen.records import Intrinsics
from scenegen.scene.sizes import SIZES, Measure

FOUND_SPREAD = 0.2
"""Standard deviation of the logarithm of a size that is found, about the true one."""
ANYTHING, ANYTHING_SPREAD = 0.2, 1.2
"""Metres along the longest side of whatever people photograph, and the standard deviation of the logarithm of that."""
UNSEEN = 0.5
"""Mean of the logarithm of a size over what is seen of it, where not all is seen."""
ASSUMED_SPREAD = 1.2
"""Standard deviation of the logarithm of the scale where nothing is known."""
LEAST_NAMED = 0.2
"""Where no object is likelier than this to be something of known size, nothing is known."""
REACH, STEPS = 6.0, 1201
"""The grid of scales: logarithms from minus to plus `REACH`."""
TRIMMED = 0.5
"""Percent of an object's points left out at either end of it."""
POINTS = 4000
"""Of an object that are looked at, about."""
ANGLES = 18
"""Rectangles that are tried around an object."""
NEARER = 0.97
"""Depth over that of the object beside it, below which something is before it rather than under it."""
HIDDEN_SHARE = 0.15
"""Share of an object's outline along something nearer, from which it is hidden in part."""


@dataclass(frozen=True)
class Kind:
    """A thing an object may be."""

    noun: str
    probability: float
    measure: Measure
    known: float
    """Metres."""
    spread: float
    """Of the known size, as a factor."""
    found: float
    """What the object has, in units of the depth map."""


@dataclass(frozen=True)
class Evidence:
    """What one object says about the scale."""

    object_id: int
    kinds: tuple[Kind, ...]
    """The likeliest first. With the rest of the probability it is anything."""
    length: float
    """Its longest side, in units of the depth map."""
    whole: bool
    """Whether all of it is seen; else it is mostly larger than found."""


@dataclass(frozen=True)
class Belief:
    """What an object most likely is, given all the others."""

    object_id: int
    kind: Kind
    whole: bool
    trust: float
    """0..1."""


@dataclass(frozen=True)
class ScaleFit:
    """Metres per unit of the depth map."""

    scale: float
    spread: float
    """As a factor: two times of three the true scale lies within it."""
    beliefs: tuple[Belief, ...]
    """Of the objects that may be something of known size."""


def fit_metres(evidence: Sequence[Evidence]) -> ScaleFit | None:
    """The scale that the objects' sizes say, robust to wrong names; None if nothing of known size is seen.

    The prior is a normal distribution of the logarithm of the scale, about 0, of standard deviation `ASSUMED_SPREAD`.

    >>> bottle = Kind("bottle", 0.95, "length", known=0.24, spread=1.3, found=0.12)
    >>> round(fit_metres([Evidence(1, (bottle,), length=0.12, whole=True)]).scale, 1)
    1.8
    """
    if not any(sum(kind.probability for kind in each.kinds) > LEAST_NAMED for each in evidence):
        return None
    scales = np.linspace(-REACH, REACH, STEPS)
    kinds = [np.array([_likelihood(each, kind, scales) for kind in each.kinds]).reshape(-1, STEPS) for each in evidence]
    either = [named.sum(0) + _of_anything(each, scales) for each, named in zip(evidence, kinds, strict=True)]
    alike = Counter(_alike(each) for each in evidence)
    log_posterior = -0.5 * (scales / ASSUMED_SPREAD) ** 2
    for each, likelihood in zip(evidence, either, strict=True):
        log_posterior += np.log(likelihood) / alike[_alike(each)]
    posterior = np.exp(log_posterior - log_posterior.max())
    posterior /= posterior.sum()
    beliefs = []
    for each, named, likelihood in zip(evidence, kinds, either, strict=True):
        trust = (named / likelihood) @ posterior
        if len(trust):
            best = int(trust.argmax())
            beliefs.append(Belief(each.object_id, each.kinds[best], each.whole, float(trust[best])))
    mean = float(posterior @ scales)
    deviation = float(np.sqrt(posterior @ (scales - mean) ** 2))
    return ScaleFit(float(np.exp(mean)), float(np.exp(deviation)), tuple(beliefs))


def _alike(each: Evidence) -> tuple[str, bool]:
    """Objects of which this is equal count as one."""
    return (each.kinds[0].noun if each.kinds else "", each.whole)


def _likelihood(each: Evidence, kind: Kind, scales: Float[np.ndarray, "s"]) -> Float[np.ndarray, "s"]:
    """Of the scales, and of the object being of this kind."""
    spread = float(np.hypot(np.log(kind.spread), FOUND_SPREAD))
    return kind.probability * density(np.log(kind.known / kind.found), spread, each.whole, scales)


def _of_anything(each: Evidence, scales: Float[np.ndarray, "s"]) -> Float[np.ndarray, "s"]:
    """Of the scales, and of the object being of no kind that is named."""
    rest = max(1 - sum(kind.probability for kind in each.kinds), 0)
    said = float(np.log(ANYTHING / each.length))
    return np.maximum(rest * density(said, ANYTHING_SPREAD, each.whole, scales), np.finfo(float).tiny)


def density(said: float, spread: float, whole: bool, scales: Float[np.ndarray, "s"]) -> Float[np.ndarray, "s"]:
    """Of the logarithm of the scale: normal, about what is said, or, of things not seen whole, below it by an exponential."""
    # Written out, since importing scipy.stats takes longer than all else a second run does.
    above = (said - scales) / spread
    if whole:
        return np.asarray(np.exp(-0.5 * above**2) / (spread * np.sqrt(2 * np.pi)))
    rate = spread / UNSEEN
    return np.asarray(np.exp(rate * (0.5 * rate - above) + log_ndtr(above - rate)) / UNSEEN)


def size_evidence(
    guesses: Mapping[int, Sequence[tuple[str, float]]],
    ids: Integer[np.ndarray, "h w"],
    z: Float[np.ndarray, "h w"],
    camera: Intrinsics,
    up: Float[np.ndarray, "3"],
) -> list[Evidence]:
    """What the objects say about the scale of a depth map.

    Args:
        guesses: nouns each object may be called, by id, with their probabilities, the likeliest first.
        ids: id of the object each pixel shows.
        z: z-depth, 0 where unknown.
        camera: the photo's.
        up: unit vector, camera frame.
    """
    directions = rays(camera)
    evidence = []
    for number, nouns in sorted(guesses.items()):
        mask = ids == number
        seen = mask & (z > 0)
        if not seen.any():
            continue
        points = (directions[seen] * z[seen][:, None])[:: max(1, int(seen.sum()) // POINTS)]
        found: dict[Measure, float] = {"height": extent(points, "height", up), "length": extent(points, "length", up)}
        if min(found.values()) > 0:
            kinds = tuple(
                Kind(noun, probability, size.measure, size.metres, size.spread, found[size.measure])
                for noun, probability in nouns
                if (size := SIZES.get(noun)) is not None
            )
            evidence.append(Evidence(number, kinds, found["length"], _is_whole(mask, ids, z)))
    return evidence


def extent(points: Float[np.ndarray, "n 3"], measure: Measure, up: Float[np.ndarray, "3"]) -> float:
    """How far points reach: along `up`, or along the longer side of the smallest rectangle around them, in the plane that they
    are nearest to. A few of them at either end are left out."""
    if measure == "height":
        return _reach(points @ up)
    centred = points - points.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    flat = centred @ axes[:, 1:]
    sides: list[tuple[float, float]] = []
    for angle in np.arange(ANGLES) * (np.pi / 2 / ANGLES):
        along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        sides.append((_reach(flat @ along), _reach(flat @ across)))
    smallest = min(sides, key=lambda side: side[0] * side[1])
    return max(smallest)


def _reach(places: Float[np.ndarray, "n"]) -> float:
    low, high = np.percentile(places, [TRIMMED, 100 - TRIMMED])
    return float(high - low)


def _is_whole(mask: Bool[np.ndarray, "h w"], ids: Integer[np.ndarray, "h w"], z: Float[np.ndarray, "h w"]) -> bool:
    """Whether neither the picture's border nor something nearer cuts an object off."""
    if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
        return False
    outline = hidden = 0
    for axis in (0, 1):
        m, other, depth = (np.moveaxis(values, axis, 0) for values in (mask, ids, z))
        for inner, outer in ((np.s_[:-1], np.s_[1:]), (np.s_[1:], np.s_[:-1])):
            edge = m[inner] & ~m[outer]
            before = (other[outer] != BACKGROUND) & (depth[outer] > 0) & (depth[outer] < NEARER * depth[inner])
            outline += int(np.count_nonzero(edge))
            hidden += int(np.count_nonzero(edge & before))
    return hidden < HIDDEN_SHARE * outline
