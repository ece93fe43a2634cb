"""Generate: one object as a textured mesh, in its crop camera's frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, UInt8

from scenegen.camera import crop_camera, warp_depth_to_crop, warp_to_crop
from scenegen.config import (
    EmbeddedGeneratorConfig,
    GenerateConfig,
    InflateConfig,
    ObjectSettings,
    Pixal3DConfig,
    TextureConfig,
)
from scenegen.generator import MadeObject, ObjectView
from scenegen.geometry.bake import textured
from scenegen.geometry.inflate import inflate
from scenegen.geometry.mesh import check_object, save_mesh
from scenegen.png import read_png
from scenegen.records import Depth, Instances, Intrinsics, Layout, ObjectMesh, Photo
from scenegen.runtime import Runtime
from scenegen.scene.layout import FLOOR, Floor, support_depth
from scenegen.torch_env import full_packages
from scenegen.weights import generator_weights
from stages.stage import Stage, Work

SMALLEST_CROP, LARGEST_CROP = 160, 768
LARGEST_PIXAL3D_CROP = 1024
"""What its image network looks at."""


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
        WeightsError: where the generator's weights are missing or damaged.
        ResourceError: where the device is absent or its memory full.
        ValueError: where the generator makes a mesh that cannot be an object.
    """
    mask = read_png(work.read(instances.masks)) == object_id
    z = np.load(work.read(depth.depth))
    floor = Floor(np.array(layout.floor.normal), layout.floor.offset, layout.floor_source)
    limit = np.load(work.read(layout.limit))
    if any(support.child == object_id and support.parent != FLOOR for support in layout.supports):
        limit = np.minimum(limit, support_depth(z, mask, layout.intrinsics, floor))
    image, largest = read_png(work.read(photo.image)), largest_crop(config.generate)
    view = object_view(image, mask, z, limit, floor.normal, layout.intrinsics, depth.relief_error, largest)
    made = make_object(view, config, work.runtime)
    check_object(made.mesh)
    save_mesh(made.mesh, work.write("mesh.npz"))
    instance = next(item for item in instances.items if item.id == object_id)
    return ObjectMesh(
        id=object_id,
        label=instance.label,
        label_confidence=instance.label_confidence,
        mesh=work.artifact("mesh.npz"),
        crop=view.crop,
        backend=made.backend,
        licence=made.licence,
        seed=made.seed,
        check=made.check,
        economy=made.economy,
        warnings=made.warnings,
    )


def object_view(
    image: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    depth: Float[np.ndarray, "h w"],
    limit: Float[np.ndarray, "h w"],
    up: Float[np.ndarray, "3"],
    camera: Intrinsics,
    relief_error: float,
    largest: int = LARGEST_CROP,
) -> ObjectView:
    """The object that `mask` shows, through its crop camera, at about the photo's own resolution, at most `largest`."""
    extent = max(np.ptp(axis) + 1 for axis in np.nonzero(mask))
    size = int(np.clip(2 * round(0.55 * extent), SMALLEST_CROP, largest))
    crop = crop_camera(camera, mask, size)
    return ObjectView(
        image=warp_to_crop(image, camera, crop),
        mask=warp_to_crop(mask.astype(np.float32), camera, crop),
        depth=warp_depth_to_crop(depth, camera, crop),
        limit=warp_depth_to_crop(limit, camera, crop),
        up=(np.array(crop.crop_from_camera) @ up).astype(np.float32),
        crop=crop,
        relief_error=relief_error,
    )


def largest_crop(config: GenerateConfig) -> int:
    """Most pixels along a side of the crop that the configured generator makes use of."""
    return LARGEST_PIXAL3D_CROP if isinstance(config, Pixal3DConfig) else LARGEST_CROP


def make_object(view: ObjectView, config: ObjectSettings, runtime: Runtime) -> MadeObject:
    """The object, by the configured generator."""
    if isinstance(config.generate, InflateConfig):
        return inflated(view, config.seed, config.generate, config.texture)
    with full_packages():
        from scenegen.pixal3d.backend import generate_pixal3d
        from scenegen.pixal3d.embedded import generate_embedded

    if isinstance(config.generate, EmbeddedGeneratorConfig):
        return generate_embedded(view, config.seed, config.generate, config.texture, runtime)
    return generate_pixal3d(view, config.seed, config.generate, config.texture, runtime)


def generate_weights(config: ObjectSettings) -> Mapping[str, str]:
    """Revisions of the weights the configured generator uses."""
    if isinstance(config.generate, InflateConfig):
        return {}
    if isinstance(config.generate, EmbeddedGeneratorConfig):
        return generator_weights()
    with full_packages():
        from scenegen.pixal3d.backend import pixal3d_weights

    return pixal3d_weights(config.generate)


def inflated(view: ObjectView, seed: int, config: InflateConfig, texture: TextureConfig) -> MadeObject:
    """The object without weights: inflated, and the photo baked on it."""
    mesh, warnings = textured(inflate(view, seed, config), view, texture)
    return MadeObject(mesh, config.method, "none: no weights", seed, warnings)


GENERATE = Stage(name="generate", record=ObjectMesh, run=generate, weights=generate_weights)
