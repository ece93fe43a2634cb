"""Photo -> Instances: which pixels show which object."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt16

from scenegen.config import EmbeddedSegmentConfig, RegionsConfig, SegmentConfig
from scenegen.ids import object_ids
from scenegen.perception import Segmentation
from scenegen.perception.masks import alpha_components, boxes_and_areas, clean_masks, renumbered, without_small
from scenegen.perception.regions import segment_regions
from scenegen.png import read_png, write_png
from scenegen.records import Instance, Instances, Photo
from scenegen.remarks import note
from scenegen.weights import perception_weights
from stages.stage import Stage, Work

MIN_USER_AREA = 64
"""Smallest object of the user's masks, in pixels: less has no shape."""

NAMED_IDS = 10
"""How many dropped objects a warning names."""

NOTHING_FOUND = (
    "no object was found: the scene holds its background only; give --masks, or try another segmenter, "
    "for example with --preset pixal3d."
)


def segment(photo: Photo, *, config: SegmentConfig, work: Work) -> Instances:
    """The objects of the photo: from the user's masks, else its alpha channel, else the configured segmenter.

    Small objects are dropped. What the user has drawn stays otherwise as it is; a segmenter's masks lose their stray specks
    and tiny holes. What is dropped is unknown, not background. Ids of the user's masks stay as they are; all others become
    1..n. A photo without objects is no error: `items` is then empty, and a warning says so.

    Raises:
        ScenegenError: from the segmenter.
    """
    found = _find(photo, config, work)
    given = photo.masks is not None
    min_area = MIN_USER_AREA if given else round(config.min_area * photo.width * photo.height)
    drawn = given or photo.alpha is not None
    clean = without_small(found.ids, min_area) if drawn else clean_masks(found.ids, min_area)
    warnings = list(found.warnings)
    if clean.dropped:
        named = ", ".join(str(number) for number in clean.dropped[:NAMED_IDS])
        more = ", ..." if len(clean.dropped) > NAMED_IDS else ""
        which = f" (ids {named}{more} of the given masks)" if given else ""
        text = f"dropped {len(clean.dropped)} object(s) smaller than {min_area} pixels{which}."
        warnings.append(text if given else note(text))
    ids, origins = renumbered(clean.ids)
    origin_of = dict(enumerate(origins, start=1))
    if given:
        ids, origin_of = clean.ids, {number: number for number in origins}
    items = tuple(
        Instance(
            id=number,
            label=found.labels[origin_of[number] - 1],
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


def segment_weights(config: SegmentConfig) -> Mapping[str, str]:
    """Revisions of the weights the configured segmenter uses."""
    if isinstance(config, RegionsConfig):
        return {}
    if isinstance(config, EmbeddedSegmentConfig):
        return perception_weights()
    from scenegen.perception.sam import sam_weights

    return sam_weights(config)


def _find(photo: Photo, config: SegmentConfig, work: Work) -> Segmentation:
    if photo.masks is not None:
        return _certain(read_png(work.read(photo.masks)), "user masks")
    if photo.alpha is not None:
        return _certain(alpha_components(read_png(work.read(photo.alpha)), config.max_objects), "alpha channel")
    image = read_png(work.read(photo.image))
    if isinstance(config, RegionsConfig):
        return segment_regions(image, config)
    if isinstance(config, EmbeddedSegmentConfig):
        from scenegen.perception.embedded import segment_embedded

        return segment_embedded(image, config, work.runtime)
    from scenegen.perception.sam import segment_sam

    return segment_sam(image, config, work.runtime)


def _certain(ids: UInt16[np.ndarray, "h w"], backend: str) -> Segmentation:
    """Objects somebody has drawn."""
    count = max(object_ids(ids), default=0)
    return Segmentation(
        ids=ids, scores=(1.0,) * count, labels=("object",) * count, backend=backend, licence="none: no weights"
    )


SEGMENT = Stage(name="segment", record=Instances, run=segment, weights=segment_weights)
