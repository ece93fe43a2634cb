"""Measure: the depth of an edited photo, and its metres. Objects are generated in the unit of what was seen first."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from scenegen.camera import matrix4
from scenegen.config import MeasureSettings
from scenegen.records import Depth, Instances, Metres, OutlinedObjects, Photo, Views
from scenegen.scene.scale import by_length, by_sizes, metres_remarks
from scenegen.store.png import read_png
from stages.stage import Stage, Work


def measure(
    photo: Photo, instances: Instances, depth: Depth, outlined: OutlinedObjects, *, config: MeasureSettings, work: Work
) -> Depth:
    """The depth with that of the objects whose outlines were edited, at the scale that a known length tells, else the sizes of
    the objects as they are named now, unless it was measured. Where these say what they said first, the metres stay.

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
        sized, metres = by_sizes(assumed, instances, ids, depth.intrinsics, depth.gravity, depth.sized)
        factor = sized / depth.sized
    return _told(depth, "depth.npy", z * factor, metres, work).model_copy(update={"sized": sized})


def _told(depth: Depth, name: str, z: Float[np.ndarray, "h w"], metres: Metres, work: Work) -> Depth:
    """The depth with other metres, and what is to be said of those."""
    np.save(work.write(name), z.astype(np.float32), allow_pickle=False)
    said = metres_remarks(depth.metres, depth.assumption)
    warnings = tuple(warning for warning in depth.warnings if warning not in said)
    warnings += tuple(metres_remarks(metres, depth.assumption))
    return depth.model_copy(update={"depth": work.artifact(name), "metres": metres, "warnings": warnings})


def measure_views(views: Views, *, config: MeasureSettings, work: Work) -> Views:
    """Several photos of a scene at the scale that a length tells which is known in the first.

    Raises:
        UsageError: as `measure`.
    """
    main = views.items[0]
    assert config.known_length is not None
    z = np.load(work.read(main.depth.depth))
    factor, metres = by_length(z, config.known_length, main.photo, main.depth.intrinsics)
    items = []
    for seen in views.items:
        own = np.load(work.read(seen.depth.depth))
        depth = _told(seen.depth, f"depth-{seen.photo.name}.npy", own * factor, metres, work)
        pose = np.array(seen.main_from_camera)
        pose[:3, 3] *= factor
        items.append(seen.model_copy(update={"depth": depth, "main_from_camera": matrix4(pose)}))
    return views.model_copy(update={"items": tuple(items)})


MEASURE_VIEWS = Stage(name="measure", record=Views, run=measure_views)
MEASURE = Stage(name="measure", record=Depth, run=measure)
