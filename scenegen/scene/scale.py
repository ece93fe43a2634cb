"""The metres of a depth map: by the known sizes of the objects in it, or by a length that the user knows."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt16

from scenegen.camera import rays
from scenegen.config import KnownLength
from scenegen.errors import UsageError
from scenegen.messages.remarks import note
from scenegen.perception.nouns import noun_of
from scenegen.records import Instances, Intrinsics, KnownSize, Metres, Photo, Vector
from scenegen.scene.lines import depth_at
from scenegen.scene.metres import ASSUMED_SPREAD, fit_metres, size_evidence

GIVEN_CONFIDENCE = 0.95
"""Taken for names that somebody gave."""
ASSUMED = Metres(source="assumed", factor=round(float(np.exp(ASSUMED_SPREAD)), 4))
SAME = 0.5
"""Standard deviations of a scale by sizes by which two scales may differ that say the same."""
LENGTH_FACTOR = 1.1
"""How far off a length may be that was measured between two points of an estimated depth map, as a factor."""


def by_sizes(
    z: Float32[np.ndarray, "h w"],
    instances: Instances,
    ids: UInt16[np.ndarray, "h w"],
    camera: Intrinsics,
    gravity: Vector | None,
    before: float | None = None,
) -> tuple[float, Metres]:
    """What to multiply depth with so that what is seen has its usual size, and where that is from; 1 if nothing tells.

    Args:
        z: z-depth at the scale that is assumed where nothing is known, 0 where unknown.
        instances: the objects, with their names.
        ids: which of them each pixel shows.
        camera: the photo's.
        gravity: unit vector, camera frame; None for the picture's vertical.
        before: the factor that stays if sizes say the same as far as they tell, so that a small edit does not move everything.
    """
    up = -np.array((0.0, 1.0, 0.0) if gravity is None else gravity)
    fit = fit_metres(size_evidence(_guesses(instances), ids, z, camera, up))
    if fit is None:
        return 1.0, ASSUMED
    scale = fit.scale
    if before is not None and abs(np.log(scale / before)) < SAME * np.log(fit.spread):
        scale = before
    sizes = tuple(
        KnownSize(
            object=each.object_id,
            noun=each.kind.noun,
            measure=each.kind.measure,
            known_m=each.kind.known,
            spread=each.kind.spread,
            found_m=round(each.kind.found * scale, 4),
            whole=each.whole,
            trust=round(each.trust, 4),
        )
        for each in fit.beliefs
    )
    return scale, Metres(source="known sizes", factor=round(fit.spread, 4), sizes=sizes)


def by_length(
    z: Float32[np.ndarray, "h w"], known: KnownLength, photo: Photo, camera: Intrinsics
) -> tuple[float, Metres]:
    """What to multiply depth with so that a known length is right, and where that is from.

    Raises:
        UsageError: if no depth is known at one of its ends, or both are one point.
    """
    start, end = (
        depth_at(z, photo, place) * rays(camera, np.array(photo.at_working_size(place)))
        for place in (known.start, known.end)
    )
    found = float(np.linalg.norm(end - start))
    if found == 0:
        raise UsageError("`camera.known_length` begins where it ends; give two points that are apart.")
    return known.metres / found, Metres(source="known length", factor=LENGTH_FACTOR)


def metres_remarks(metres: Metres, assumption: str) -> tuple[str, ...]:
    """What is to be said of where metres come from.

    Args:
        metres: of a depth map.
        assumption: what the estimator's own metres stand on; empty if that goes without saying.
    """
    if metres.source == "known sizes":
        return (note(f"metres are {metres.in_words()}; give --depth for true ones."),)
    return (note(assumption),) if metres.source in ("assumed", "measured") and assumption else ()


def _guesses(instances: Instances) -> dict[int, tuple[tuple[str, float], ...]]:
    """What every object may be: what it was called by somebody, else the guesses."""
    guesses = {}
    for item in instances.items:
        noun = noun_of(item.label) if item.label_confidence is None else None
        guesses[item.id] = item.guesses if noun is None else ((noun, GIVEN_CONFIDENCE),)
    return guesses
