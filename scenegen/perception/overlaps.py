"""One object per pixel from overlapping proposals of wholes, parts and groups, as every SAM makes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt16

from scenegen.config import SegmenterConfig
from scenegen.ids import UNKNOWN
from scenegen.perception import UNNAMED, Guess, Segmentation
from scenegen.perception.masks import paint
from scenegen.perception.nouns import noun_of

SAME_IOU = 0.8
"""Masks that agree more than this show the same thing."""
INSIDE_SHARE = 0.8
"""Share of a mask that must lie in another to be a part of it."""
FAR_LARGER = 10.0
"""A whole this many times its part's area is rather what the part stands on or before."""
STAGE_SHARE = 0.15
"""Share of the picture such a whole must cover; below it, small parts (handles, buttons) stay with their whole."""
SIDE_SHARE = 0.1
"""Share of a side of the picture a mask must cover to reach that side."""
BACKGROUND_SIDES = 3
"""A mask that reaches this many sides is floor, wall or sky."""


@dataclass(frozen=True, eq=False)
class Proposals:
    """Masks that may show the same thing, or parts of it."""

    masks: Bool[np.ndarray, "n h w"]
    scores: Float[np.ndarray, "n"]
    """How good each mask is, 0..1."""
    labels: tuple[str, ...] = ()
    """What each shows; empty if the segmenter names nothing."""


def drawn_objects(
    found: Proposals,
    config: SegmenterConfig,
    max_area: float,
    backend: str,
    licence: str,
    warnings: tuple[str, ...] = (),
    asked_for: bool = False,
) -> Segmentation:
    """The objects that `resolve_overlaps` leaves, at most the `max_objects` largest.

    An object has the label of its proposal. Labels of proposals that show the same are guesses, as far as they mean everyday
    nouns; each with its score.
    """
    scores = np.clip(found.scores, 0, 1)
    ids, order = resolve_overlaps(found.masks, scores, config.min_area, max_area, asked_for)
    if len(order) > config.max_objects:
        warnings += (
            f"segment: SAM found {len(order)} objects; the largest {config.max_objects} are kept. "
            "Raise segment.max_objects to keep more.",
        )
        order = order[: config.max_objects]
        ids[ids > config.max_objects] = UNKNOWN
    kept_scores = tuple(scores[order].tolist())
    return Segmentation(
        ids=ids,
        scores=kept_scores,
        labels=tuple(found.labels[index] for index in order) if found.labels else (UNNAMED,) * len(order),
        label_confidences=kept_scores if found.labels else (None,) * len(order),
        guesses=tuple(_guesses(found, scores, index) for index in order) if found.labels else (),
        backend=backend,
        licence=licence,
        warnings=warnings,
    )


def _guesses(found: Proposals, scores: Float[np.ndarray, "n"], index: int) -> tuple[Guess, ...]:
    """Nouns that the labels of proposals like `index` mean, each with its best score, the likeliest first."""
    mask = found.masks[index]
    both = (found.masks & mask).sum((1, 2))
    alike = both > SAME_IOU * (found.masks.sum((1, 2)) + mask.sum() - both)
    likely: dict[str, float] = {}
    for other in np.flatnonzero(alike | (np.arange(len(scores)) == index)).tolist():
        noun = noun_of(found.labels[other])
        if noun is not None:
            likely[noun] = max(likely.get(noun, 0.0), round(float(scores[other]), 4))
    return tuple(sorted(likely.items(), key=lambda guess: -guess[1]))


def resolve_overlaps(
    masks: Bool[np.ndarray, "n h w"],
    scores: Float[np.ndarray, " n"],
    min_area: float,
    max_area: float,
    asked_for: bool = False,
) -> tuple[UInt16[np.ndarray, "h w"], list[int]]:
    """One object per pixel from overlapping proposals. Of what was asked for, rules 2 and 4 drop nothing.

    1. Size: masks of less than `min_area` or more than `max_area` of the picture go.
    2. Background: a mask that covers a tenth or more of each of three sides of the picture is floor, wall or sky, and
       goes. Objects cut off by the picture reach two at most.
    3. Duplicates: of masks with an IoU above 0.8, the one with the best score stays.
    4. Parts and wholes, from the largest mask down: a mask of which 0.8 lies in a larger kept one is its part, and
       goes, so that an object stays in one piece. But where the larger mask is over ten times as large and covers over
       0.15 of the picture, it is what the other stands on or before (a cup on a table): then both stay.
    5. What still overlaps is painted with the smaller mask on top (`paint`).

    Args:
        masks: proposals.
        scores: how good each is; only their order counts.
        min_area: share of the picture.
        max_area: share of the picture.
        asked_for: whether each proposal shows something that somebody asked for.

    Returns:
        The ids, 1..m by descending visible area, and the index in `masks` of each.
    """
    pixels = masks.shape[1] * masks.shape[2]
    areas = masks.sum((1, 2))
    fits = (areas >= min_area * pixels) & (areas <= max_area * pixels)
    candidates = [index for index in np.flatnonzero(fits).tolist() if asked_for or not _is_background(masks[index])]
    shared = dict(zip(candidates, _intersections(masks[candidates]), strict=True))
    column = {index: place for place, index in enumerate(candidates)}

    different: list[int] = []
    for index in sorted(candidates, key=lambda index: -scores[index]):
        common = [shared[index][column[other]] for other in different]
        if all(
            both <= SAME_IOU * (areas[index] + areas[other] - both)
            for both, other in zip(common, different, strict=True)
        ):
            different.append(index)

    def is_part(part: int, whole: int) -> bool:
        inside = shared[part][column[whole]] >= INSIDE_SHARE * areas[part]
        stage = areas[whole] > FAR_LARGER * areas[part] and areas[whole] > STAGE_SHARE * pixels
        return bool(inside and not stage)

    kept: list[int] = []
    for index in sorted(different, key=lambda index: -areas[index]):
        if asked_for or not any(is_part(index, whole) for whole in kept):
            kept.append(index)
    ids, order = paint(masks[kept])
    ranks = np.argsort(-np.bincount(ids.ravel(), minlength=len(order) + 1)[1:], kind="stable")
    number = np.zeros(len(order) + 1, np.uint16)
    number[1 + ranks] = np.arange(1, len(order) + 1)
    return number[ids], [kept[order[rank]] for rank in ranks.tolist()]


def _is_background(mask: Bool[np.ndarray, "h w"]) -> bool:
    sides = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    return sum(bool(side.mean() >= SIDE_SHARE) for side in sides) >= BACKGROUND_SIDES


def _intersections(masks: Bool[np.ndarray, "n h w"]) -> Int[np.ndarray, "n n"]:
    """Pixels each pair of masks shares."""
    flat = masks.reshape(len(masks), masks.shape[1] * masks.shape[2])
    shared = np.zeros((len(masks), len(masks)), np.int64)
    for start in range(
        0, flat.shape[1], 1 << 16
    ):  # in blocks, since a float copy of everything would be four times as large
        block = flat[:, start : start + (1 << 16)].astype(np.float32)
        shared += (block @ block.T).astype(np.int64)
    return shared
