"""Edit: the objects of the photo after a person has put one thing right."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16

from scenegen.compute.runtime import Runtime
from scenegen.config import EmbeddedSegmentConfig, PromptedSegmenterConfig, SegmentConfig
from scenegen.edits.masks import filled, redrawn, renumbered, split
from scenegen.errors import UsageError
from scenegen.ids import BACKGROUND, UNKNOWN, object_ids
from scenegen.perception import UNNAMED, Guess, Segmentation
from scenegen.perception.masks import MIN_DRAWN_AREA, NOTHING_FOUND, boxes_and_areas, without_small
from scenegen.perception.prompts import Prompt, check_prompt
from scenegen.records import (
    FillEdit,
    Instance,
    Instances,
    LockEdit,
    MaskEdit,
    MergeEdit,
    Outline,
    PaintEdit,
    Photo,
    PromptEdit,
    RemoveEdit,
    RenameEdit,
    SplitEdit,
)
from scenegen.registry import SEGMENTERS, Chosen
from scenegen.store.png import read_png, write_png
from stages.stage import Stage, Work

BY_HAND = "edited by hand"


@dataclass(frozen=True, eq=False)
class _Edited:
    """Objects while they are edited."""

    ids: UInt16[np.ndarray, "h w"]
    items: dict[int, Instance]
    """What is known of each. Boxes and areas are not up to date."""
    backend: str
    licence: str


def edit(photo: Photo, instances: Instances, change: MaskEdit, *, config: SegmentConfig, work: Work) -> Instances:
    """The objects after one change. Objects that are hardly seen any more are dropped; a warning names them.

    Raises:
        UsageError: if there is no such object, or it is locked, or the change leaves nothing of it.
        ScenegenError: from the segmenter.
    """
    before = _Edited(
        read_png(work.read(instances.masks)),
        {item.id: item for item in instances.items},
        instances.backend,
        instances.licence,
    )
    _check_unlocked(before, change)
    after = _kept(before, _changed(before, change, photo, config, work))
    clean = without_small(after.ids, MIN_DRAWN_AREA)
    meant = {change.object} if not isinstance(change, MergeEdit | RemoveEdit) else set()
    if isinstance(change, SplitEdit):
        meant.add(change.part)
    if lost := meant - set(object_ids(clean.ids)):
        raise UsageError(
            f"this leaves fewer than {MIN_DRAWN_AREA} pixels of object {min(lost)}, which is too little for a shape; choose more."
        )
    warnings = [warning for warning in instances.warnings if warning != NOTHING_FOUND]
    if clean.dropped:
        warnings.append(
            f"object {', '.join(map(str, clean.dropped))}: hardly seen any more after an edit, and dropped."
        )
    items = tuple(
        after.items[number].model_copy(update={"id": number, "box": box, "area": area})
        for number, box, area in boxes_and_areas(clean.ids)
    )
    if not items:
        warnings.append(NOTHING_FOUND)
    write_png(work.write("masks.png"), clean.ids)
    return Instances(
        masks=work.artifact("masks.png"),
        items=items,
        edited=_outlines(instances, before.ids, clean.ids, work),
        backend=_joined(after.backend, BY_HAND),
        licence=after.licence,
        warnings=tuple(warnings),
    )


def _outlines(
    instances: Instances, before: UInt16[np.ndarray, "h w"], after: UInt16[np.ndarray, "h w"], work: Work
) -> tuple[Outline, ...]:
    """The outlines that are not those found first, among them those that earlier edits have changed."""
    known = {outline.id: outline for outline in instances.edited}
    outlines = []
    for number in object_ids(after):
        mask = after == number
        if np.array_equal(mask, before == number):
            outlines += [known[number]] if number in known else []
            continue
        name = f"object_{number}.png"
        write_png(work.write(name), mask.astype(np.uint8) * 255)
        outlines.append(Outline(id=number, mask=work.artifact(name)))
    return tuple(outlines)


def promptable(config: SegmentConfig) -> PromptedSegmenterConfig:
    """Settings of the segmenter that answers prompts: the configured one if it can, else the embedded network."""
    return config if isinstance(config, PromptedSegmenterConfig) else EmbeddedSegmentConfig()


def answered(
    image: UInt8[np.ndarray, "h w 3"], photo: Photo, change: PromptEdit, config: SegmentConfig, runtime: Runtime
) -> Segmentation:
    """The object that clicks or a box mean, as number 1, if they mean any.

    Raises:
        UsageError: if there is neither a click inside nor a box, or one lies outside the photo.
        ScenegenError: from the segmenter.
    """
    prompt = Prompt(inside=change.inside, outside=change.outside, box=change.box)
    check_prompt(prompt, photo.original_width, photo.original_height)
    settings = promptable(config)
    segmenter = SEGMENTERS.of(settings)
    scaled = prompt.scaled(photo.width / photo.original_width, photo.height / photo.original_height)
    found = segmenter.run(image, (scaled,), settings, runtime)
    return replace(found, backend=segmenter.signed(found.backend))


def _changed(before: _Edited, change: MaskEdit, photo: Photo, config: SegmentConfig, work: Work) -> _Edited:
    match change:
        case PromptEdit():
            return _prompted(before, change, photo, config, work)
        case PaintEdit():
            return _painted(before, change, photo, config, work)
        case FillEdit():
            number = _known(before, change.object).id
            at = None if change.at is None else photo.at_working_size(change.at)
            return replace(before, ids=_filled(before, number, at))
        case MergeEdit():
            first, *others = (_known(before, number).id for number in change.objects)
            return replace(before, ids=renumbered(before.ids, others, first))
        case SplitEdit():
            whole = _known(before, change.object)
            _require_new(before, change.part)
            start, end = (photo.at_working_size(place) for place in (change.start, change.end))
            ids = split(before.ids, change.object, change.part, start, end)
            return replace(before, ids=ids, items={**before.items, change.part: whole})
        case RemoveEdit():
            becomes = BACKGROUND if change.shows == "background" else UNKNOWN
            return replace(before, ids=renumbered(before.ids, [_known(before, change.object).id], becomes))
        case LockEdit():
            held = _known(before, change.object).model_copy(update={"locked": change.locked})
            return replace(before, items={**before.items, change.object: held})
        case RenameEdit():
            named = _known(before, change.object).model_copy(update={"label": change.label, "label_confidence": None})
            return replace(before, items={**before.items, change.object: named})


def _prompted(before: _Edited, change: PromptEdit, photo: Photo, config: SegmentConfig, work: Work) -> _Edited:
    found = answered(read_png(work.read(photo.image)), photo, change, config, work.runtime)
    item = before.items.get(change.object) or Instance(
        id=change.object,
        label=found.labels[0] if found.labels else UNNAMED,
        label_confidence=found.label_confidences[0] if found.labels else None,
        guesses=found.guesses[0] if found.guesses else (),
        score=found.scores[0] if found.scores else 0.0,
        box=(0, 0, 0, 0),
        area=0,
    )
    return _Edited(
        redrawn(before.ids, change.object, found.ids == 1),
        {**before.items, change.object: item},
        _joined(before.backend, f"prompts answered by the {found.backend}"),
        before.licence if found.licence in before.licence else f"{before.licence}; {found.licence}",
    )


def _painted(before: _Edited, change: PaintEdit, photo: Photo, config: SegmentConfig, work: Work) -> _Edited:
    mask = read_png(work.read(change.mask)) > 0
    if mask.shape != before.ids.shape:
        raise UsageError(
            f"the painted mask of object {change.object} is {mask.shape[1]}x{mask.shape[0]}, but the photo "
            f"{photo.width}x{photo.height}; paint it again, or make the scene with the `read.max_side` it was painted at."
        )
    ids = redrawn(before.ids, change.object, mask)
    if change.object in before.items:
        return replace(before, ids=ids)
    label, confidence = UNNAMED, None
    guesses: tuple[Guess, ...] = ()
    segmenter = SEGMENTERS.of(config)
    if segmenter.name_objects is not None:
        image = read_png(work.read(photo.image))
        names = segmenter.name_objects(image, ids, [change.object], config, work.runtime)
        label, confidence = names.labels.get(change.object, (UNNAMED, None))
        guesses = names.guesses.get(change.object, ())
    item = Instance(
        id=change.object,
        label=label,
        label_confidence=confidence,
        guesses=guesses,
        score=1.0,
        box=(0, 0, 0, 0),
        area=0,
    )
    return replace(before, ids=ids, items={**before.items, change.object: item})


def _filled(before: _Edited, number: int, at: tuple[float, float] | None) -> UInt16[np.ndarray, "h w"]:
    """Raises UsageError if the place is in no hole of the object, or it has none."""
    height, width = before.ids.shape
    if at is not None and not (at[0] < width and at[1] < height):
        raise UsageError(f"{at[0]:g},{at[1]:g} is outside the photo, which is {width}x{height}.")
    ids = filled(before.ids, number, at)
    if (ids == before.ids).all():
        where = "no hole" if at is None else "no hole there"
        raise UsageError(f"object {number} has {where}; close its outline around what is to be filled, or paint it.")
    return ids


def _check_unlocked(before: _Edited, change: MaskEdit) -> None:
    """Raises UsageError if the change is to a locked object."""
    if isinstance(change, LockEdit):
        return
    for number in change.objects if isinstance(change, MergeEdit) else (change.object,):
        if number in before.items and before.items[number].locked:
            raise UsageError(f"object {number} is locked; unlock it to change it.")


def _kept(before: _Edited, after: _Edited) -> _Edited:
    """What was changed, with the outlines of locked objects as they were."""
    locked = [number for number, item in before.items.items() if item.locked]
    return replace(after, ids=np.where(np.isin(before.ids, locked), before.ids, after.ids))


def _known(before: _Edited, number: int) -> Instance:
    """Raises UsageError if there is no such object."""
    if number not in before.items:
        known = ", ".join(map(str, sorted(before.items))) or "none"
        raise UsageError(f"an edit is about object {number}, which is not there; objects: {known}. Undo the edit.")
    return before.items[number]


def _require_new(before: _Edited, number: int) -> None:
    """Raises UsageError if there is such an object."""
    if number in before.items:
        raise UsageError(f"an edit makes object {number}, which is there already; give it a number that is free.")


def _joined(text: str, more: str) -> str:
    return text if more in text else f"{text}, {more}"


def _backends(config: SegmentConfig) -> tuple[Chosen[Any], ...]:
    """What answers prompts, and what names what is painted."""
    return tuple(SEGMENTERS.chosen(each) for each in dict.fromkeys((config, promptable(config))))


EDIT = Stage(name="edit", record=Instances, run=edit, backends=_backends)
