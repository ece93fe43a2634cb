"""Generate: one object as a textured mesh, in its crop camera's frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, UInt8

from scenegen.camera import crop_camera, warp_depth_to_crop, warp_to_crop
from scenegen.compute.runtime import Runtime
from scenegen.config import ObjectSettings
from scenegen.geometry.generator import MadeObject, ObjectView
from scenegen.geometry.mesh import TexturedMesh, check_object, load_mesh, save_mesh
from scenegen.geometry.posed import posed
from scenegen.records import Depth, Instances, Intrinsics, Layout, ObjectMesh, Photo
from scenegen.registry import OBJECT_GENERATORS
from scenegen.scene.layout import FLOOR, Floor, support_depth
from scenegen.store.png import read_png
from stages.stage import Stage, Work

SMALLEST_CROP = 160
POOR_IOU = 0.6
"""Below it a given mesh hardly shows the object."""


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
    """Object `object_id`: cropped, generated, unwrapped, baked; or the user's mesh of it, put in its place.

    Raises:
        InputError: if too little of the object is visible.
        WeightsError: if the generator's weights are missing or damaged.
        ResourceError: if the device is absent or its memory full.
        ValueError: if the generator's mesh cannot be an object.
    """
    mask = read_png(work.read(instances.masks)) == object_id
    z = np.load(work.read(depth.depth))
    floor = Floor(np.array(layout.floor.normal), layout.floor.offset, layout.floor_source)
    limit = np.load(work.read(layout.limit))
    if any(support.child == object_id and support.parent != FLOOR for support in layout.supports):
        limit = np.minimum(limit, support_depth(z, mask, layout.intrinsics, floor))
    image, largest = read_png(work.read(photo.image)), OBJECT_GENERATORS.of(config.generate).largest_crop
    view = object_view(image, mask, z, limit, floor.normal, layout.intrinsics, depth.relief_error, largest)
    given = next((given for given in photo.meshes if given.id == object_id), None)
    if given is None:
        made = make_object(view, config, work.runtime)
    else:
        made = given_object(load_mesh(work.read(given.mesh)), view, config)
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
    largest: int,
) -> ObjectView:
    """The object in `mask` seen through its crop camera, at about the photo's resolution, but at most `largest`."""
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


def make_object(view: ObjectView, config: ObjectSettings, runtime: Runtime) -> MadeObject:
    """The object, by the configured generator."""
    generator = OBJECT_GENERATORS.of(config.generate)
    made = generator.run(view, config.seed, config.generate, config.texture, runtime)
    return replace(made, backend=generator.signed(made.backend))


def given_object(mesh: TexturedMesh, view: ObjectView, config: ObjectSettings) -> MadeObject:
    """The user's mesh of the object, put where the photo shows it."""
    found = posed(mesh, view)
    warnings: tuple[str, ...] = ()
    if found.silhouette_iou < POOR_IOU:
        warnings = (
            f"the given mesh covers the object's mask with an IoU of {found.silhouette_iou:.2f} at best; check that it is the "
            "mesh of this object, upright (Y up), and that the mask is right",
        )
    return MadeObject(
        mesh=found.mesh, backend="user mesh", licence="none: no weights", seed=config.seed, warnings=warnings
    )


GENERATE = Stage(
    name="generate",
    record=ObjectMesh,
    run=generate,
    backends=lambda config: (OBJECT_GENERATORS.chosen(config.generate),),
)
