"""Photo -> Instances: which pixels show which object."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import UInt16

from scenegen.config import SegmentConfig
from scenegen.errors import UsageError
from scenegen.ids import object_ids
from scenegen.messages.remarks import note
from scenegen.perception import UNNAMED, Guess, Segmentation
from scenegen.perception.masks import (
    MIN_DRAWN_AREA,
    NOTHING_FOUND,
    alpha_components,
    boxes_and_areas,
    clean_masks,
    renumbered,
    without_small,
    without_transparent,
)
from scenegen.perception.prompts import Prompt, configured_prompts
from scenegen.records import Instance, Instances, Photo
from scenegen.registry import SEGMENTERS
from scenegen.store.png import read_png, write_png
from stages.stage import Stage, Work

NAMED_IDS = 10
"""How many dropped objects a warning names."""


def segment(photo: Photo, *, config: SegmentConfig, work: Work) -> Instances:
    """The objects of the photo: from the user's masks, else those the settings ask for, else from its alpha channel, else the
    configured segmenter. If prompts or names ask for objects, only those are found.

    Masks that the user has named keep their names; a segmenter that can name objects names the others.

    Small objects are dropped. What the user has drawn stays otherwise as it is; a segmenter's masks lose their stray specks and
    tiny holes. What is dropped or transparent is unknown, not background. Ids of the user's masks stay as they are; all others
    become 1..n. A photo without objects is not an error: `items` is then empty, and a warning says so.

    Raises:
        UsageError: if the settings say what to make though there are masks, or a prompt lies outside the photo.
        ScenegenError: from the segmenter.
    """
    prompts = _prompts(photo, config)
    found = _find(photo, prompts, config, work)
    given = photo.masks is not None
    meant = given or bool(prompts)
    min_area = MIN_DRAWN_AREA if meant else round(config.min_area * photo.width * photo.height)
    drawn = given or (photo.alpha is not None and not config.says_what)
    clean = without_small(found.ids, min_area) if drawn else clean_masks(found.ids, min_area)
    warnings = list(found.warnings)
    if clean.dropped:
        named = ", ".join(str(number) for number in clean.dropped[:NAMED_IDS])
        more = ", ..." if len(clean.dropped) > NAMED_IDS else ""
        which = f" (ids {named}{more} of the given masks)" if given else ""
        text = f"dropped {len(clean.dropped)} object(s) smaller than {min_area} pixels{which}."
        warnings.append(text if meant else note(text))
    ids, origins = renumbered(clean.ids)
    origin_of = dict(enumerate(origins, start=1))
    if given:
        ids, origin_of = clean.ids, {number: number for number in origins}
    if photo.alpha is not None:
        ids = without_transparent(ids, read_png(work.read(photo.alpha)))
    items = tuple(
        Instance(
            id=number,
            label=found.labels[origin_of[number] - 1],
            label_confidence=found.label_confidences[origin_of[number] - 1],
            guesses=found.guesses[origin_of[number] - 1] if found.guesses else (),
            score=found.scores[origin_of[number] - 1],
            box=box,
            area=area,
        )
        for number, box, area in boxes_and_areas(ids)
    )
    if not items:
        warnings.append(NOTHING_FOUND)
    write_png(work.write("masks.png"), ids)
    return Instances(
        masks=work.artifact("masks.png"),
        items=items,
        backend=found.backend,
        licence=found.licence,
        warnings=tuple(warnings),
    )


def _prompts(photo: Photo, config: SegmentConfig) -> tuple[Prompt, ...]:
    """What the configuration points at, in pixels at working size.

    Raises:
        UsageError: if the settings say what to make though there are masks, or a prompt lies outside the photo.
    """
    given = photo.original_width, photo.original_height
    prompts = configured_prompts(*config.prompts, given)
    if config.says_what and photo.masks is not None:
        raise UsageError(
            "`segment.boxes`, `segment.points` or `segment.find` ask for objects, but the photo has masks of its own; give "
            "either those or masks."
        )
    return tuple(prompt.scaled(photo.width / given[0], photo.height / given[1]) for prompt in prompts)


def _find(photo: Photo, prompts: tuple[Prompt, ...], config: SegmentConfig, work: Work) -> Segmentation:
    if photo.masks is not None:
        return _certain(read_png(work.read(photo.masks)), photo, photo.mask_labels, "user masks", config, work)
    if photo.alpha is not None and not config.says_what:
        ids = alpha_components(read_png(work.read(photo.alpha)), config.max_objects)
        return _certain(ids, photo, (), "alpha channel", config, work)
    image = read_png(work.read(photo.image))
    segmenter = SEGMENTERS.of(config)
    found = segmenter.run(image, prompts, config, work.runtime)
    return replace(found, backend=segmenter.signed(found.backend))


def _certain(
    ids: UInt16[np.ndarray, "h w"],
    photo: Photo,
    given: tuple[str, ...],
    backend: str,
    config: SegmentConfig,
    work: Work,
) -> Segmentation:
    """Objects that were drawn; `given` are their names by id, which may be empty."""
    numbers = object_ids(ids)
    labels: dict[int, tuple[str, float | None]] = {
        number: (label, None) for number, label in enumerate(given, start=1) if label
    }
    unnamed = [number for number in numbers if number not in labels]
    guesses: dict[int, tuple[Guess, ...]] = {}
    licence = "none: no weights"
    segmenter = SEGMENTERS.of(config)
    if unnamed and segmenter.name_objects is not None:
        image = read_png(work.read(photo.image))
        names = segmenter.name_objects(image, ids, unnamed, config, work.runtime)
        labels |= names.labels
        guesses |= names.guesses
        backend, licence = f"{backend}, named by the {segmenter.signed(names.backend)}", names.licence
    every = range(1, max(numbers, default=0) + 1)
    named = [labels.get(number, (UNNAMED, None)) for number in every]
    return Segmentation(
        ids=ids,
        scores=(1.0,) * len(every),
        labels=tuple(label for label, _ in named),
        label_confidences=tuple(confidence for _, confidence in named),
        guesses=tuple(guesses.get(number, ()) for number in every),
        backend=backend,
        licence=licence,
    )


SEGMENT = Stage(name="segment", record=Instances, run=segment, backends=lambda config: (SEGMENTERS.chosen(config),))
