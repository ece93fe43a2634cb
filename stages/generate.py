"""Generate: one object as a textured mesh, in its crop camera's frame."""

from __future__ import annotations

import logging

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from scenegen.camera import crop_camera, warp_depth_to_crop, warp_to_crop
from scenegen.config import ObjectSettings
from scenegen.generator import ObjectView, Shape
from scenegen.geometry.bake import bake
from scenegen.geometry.inflate import inflate
from scenegen.geometry.mesh import save_mesh
from scenegen.geometry.unwrap import unwrap
from scenegen.png import read_png
from scenegen.records import Depth, Instances, Intrinsics, Layout, ObjectMesh, Photo
from scenegen.scene.layout import FLOOR, Floor, support_depth
from stages.stage import Stage, Work

logger = logging.getLogger(__name__)

SMALLEST_CROP, LARGEST_CROP = 160, 768


def generate(
    photo: Photo,
    instances: Instances,
    depth: Depth,
    layout: Layout,
    object_id: int,
    *,
    config: ObjectSettings,
    work: Work,
) -> ObjectMesh:
    """Object `object_id`: cropped, generated, unwrapped, baked.

    Raises:
        InputError: where the object shows too little to make anything of.
    """
    mask = read_png(work.read(instances.masks)) == object_id
    z = np.load(work.read(depth.depth))
    floor = Floor(np.array(layout.floor.normal), layout.floor.offset, layout.floor_source)
    limit = np.load(work.read(layout.limit))
    if any(support.child == object_id and support.parent != FLOOR for support in layout.supports):
        limit = np.minimum(limit, support_depth(z, mask, layout.intrinsics, floor))
    view = object_view(read_png(work.read(photo.image)), mask, z, limit, floor.normal, layout.intrinsics)
    shape = generate_shape(view, config)
    texels = min(config.texture.size, int(2 ** np.ceil(np.log2(1.2 * view.image.shape[0]))))
    atlas = unwrap(shape.vertices, shape.faces, texels, config.texture.unwrap_timeout_s)
    save_mesh(bake(shape, atlas, view, texels), work.write("mesh.npz"))
    warnings = (*shape.warnings, *atlas.warnings)
    for warning in warnings:
        logger.warning("object %d: %s", object_id, warning)
    return ObjectMesh(
        id=object_id,
        label=next(item.label for item in instances.items if item.id == object_id),
        mesh=work.artifact("mesh.npz"),
        crop=view.crop,
        backend=config.generate.method,
        licence="none: no weights",
        seed=config.seed,
        warnings=warnings,
    )


def object_view(
    image: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    depth: Float[np.ndarray, "h w"],
    limit: Float[np.ndarray, "h w"],
    up: Float[np.ndarray, "3"],
    camera: Intrinsics,
) -> ObjectView:
    """The object that `mask` shows, through its crop camera, at about the photo's own resolution."""
    extent = max(np.ptp(axis) + 1 for axis in np.nonzero(mask))
    size = int(np.clip(2 * round(0.55 * extent), SMALLEST_CROP, LARGEST_CROP))
    crop = crop_camera(camera, mask, size)
    return ObjectView(
        image=warp_to_crop(image, camera, crop, cv2.INTER_AREA),
        mask=warp_to_crop(mask.astype(np.float32), camera, crop),
        depth=warp_depth_to_crop(depth, camera, crop),
        limit=warp_depth_to_crop(limit, camera, crop),
        up=(np.array(crop.crop_from_camera) @ up).astype(np.float32),
        crop=crop,
    )


def generate_shape(view: ObjectView, config: ObjectSettings) -> Shape:
    """The shape, by the configured generator."""
    return inflate(view, config.seed, config.generate)


GENERATE = Stage(name="generate", version=1, record=ObjectMesh, run=generate)
