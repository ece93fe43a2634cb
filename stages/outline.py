"""Outline: an object with an edited outline, in the photo as it was seen first.

What the other edits have done to other objects does not count, so that an edit makes anew what it is about, and nothing else.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, UInt16

from scenegen.config import OutlineSettings
from scenegen.edits.masks import redrawn
from scenegen.ids import BACKGROUND, UNKNOWN
from scenegen.records import Depth, Instances, Layout, Outline, OutlinedObject, Photo
from scenegen.registry import DEPTH_ESTIMATORS
from scenegen.scene.background import background_depth
from scenegen.scene.layout import FLOOR, Floor, find_supports
from scenegen.store.png import read_png
from stages.stage import Stage, Work


def outline(
    photo: Photo,
    instances: Instances,
    depth: Depth,
    layout: Layout,
    drawn: Outline,
    *,
    config: OutlineSettings,
    work: Work,
) -> OutlinedObject:
    """The depth of the object, of what is behind it, and whether it stands on another.

    Args:
        photo: the photo.
        instances: its objects as they were found first; so are `depth` and `layout`.
        depth: of the whole photo.
        layout: of the room.
        drawn: the object's outline now.
        config: settings of the depth estimator and of the layout.
        work: of the stage.

    Raises:
        ScenegenError: from the depth estimator.
    """
    first, mask = read_png(work.read(instances.masks)), read_png(work.read(drawn.mask)) > 0
    z = np.load(work.read(depth.depth))
    own, relief_error = _own_depth(photo, depth, drawn.id, z, first, mask, config, work)
    z[mask] = own
    ids = redrawn(first, drawn.id, mask)
    floor = Floor(np.array(layout.floor.normal), layout.floor.offset, layout.floor_source)
    limit, _ = background_depth(z, ids, depth.intrinsics, floor, config.layout, depth.uncertainty)
    supports = {support.child: support.parent for support in find_supports(z, ids, depth.intrinsics, floor)}
    np.save(work.write("depth.npy"), own, allow_pickle=False)
    np.save(work.write("limit.npy"), limit, allow_pickle=False)
    return OutlinedObject(
        id=drawn.id,
        mask=drawn.mask,
        depth=work.artifact("depth.npy"),
        relief_error=relief_error,
        limit=work.artifact("limit.npy"),
        on_object=supports[drawn.id] != FLOOR,
    )


def _own_depth(
    photo: Photo,
    depth: Depth,
    number: int,
    z: Float32[np.ndarray, "h w"],
    first: UInt16[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"],
    config: OutlineSettings,
    work: Work,
) -> tuple[Float32[np.ndarray, "n"], float]:
    """Depth of the object's pixels, and the error of its relief: from the estimator, in the unit of the photo's depth."""
    estimator = DEPTH_ESTIMATORS.of(config.depth)
    if photo.depth is not None or not estimator.by_object:
        return z[mask], depth.relief_error
    alone = np.where(mask, np.uint16(number), np.where(first == BACKGROUND, BACKGROUND, UNKNOWN)).astype(np.uint16)
    found = estimator.run(read_png(work.read(photo.image)), alone, depth.intrinsics, config.depth, work.runtime)
    both = (z > 0) & (found.depth > 0) & ~mask
    scale = float(np.median(z[both] / found.depth[both])) if both.any() else 1.0
    return (found.depth[mask] * scale).astype(np.float32), found.relief_error


OUTLINE = Stage(
    name="outline",
    record=OutlinedObject,
    run=outline,
    backends=lambda config: (DEPTH_ESTIMATORS.chosen(config.depth),),
)
