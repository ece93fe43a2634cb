"""Measure: the depth of an edited photo, and its metres. Objects are generated in the unit of what was seen first."""

from __future__ import annotations

import numpy as np

from scenegen.config import MeasureSettings
from scenegen.records import Depth, Instances, OutlinedObjects, Photo
from scenegen.scene.scale import by_length, by_sizes, metres_remarks
from scenegen.store.png import read_png
from stages.stage import Stage, Work


def measure(
    photo: Photo, instances: Instances, depth: Depth, outlined: OutlinedObjects, *, config: MeasureSettings, work: Work
) -> Depth:
    """The depth with that of the objects whose outlines were edited, at the scale that a known length tells, else the sizes of
    the objects as they are named now, unless it was measured.

    Args:
        photo: the photo.
        instances: its objects as edited.
        depth: as it was seen first.
        outlined: the objects with edited outlines.
        config: the length that is known.
        work: of the stage.

    Raises:
        UsageError: if no depth is known at an end of the length, or both are one point.
    """
    z, ids = np.load(work.read(depth.depth)), read_png(work.read(instances.masks))
    for each in outlined.items:
        z[read_png(work.read(each.mask)) > 0] = np.load(work.read(each.depth))
    factor, sized, metres = 1.0, depth.sized, depth.metres
    if config.known_length is not None:
        factor, metres = by_length(z, config.known_length, photo, depth.intrinsics)
    elif depth.sized is not None:
        assumed = (z / depth.sized).astype(np.float32)
        sized, metres = by_sizes(assumed, instances, ids, depth.intrinsics, depth.gravity)
        factor = sized / depth.sized
    np.save(work.write("depth.npy"), (z * factor).astype(np.float32), allow_pickle=False)
    said = metres_remarks(depth.metres, depth.assumption)
    warnings = tuple(warning for warning in depth.warnings if warning not in said)
    return depth.model_copy(
        update={
            "depth": work.artifact("depth.npy"),
            "sized": sized,
            "metres": metres,
            "warnings": (*warnings, *metres_remarks(metres, depth.assumption)),
        }
    )


MEASURE = Stage(name="measure", record=Depth, run=measure)
