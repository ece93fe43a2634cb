"""Generate: one object as a textured mesh, in its crop camera's frame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from scenegen.camera import camera_from_crop, crop_camera, padded, warp_depth_to_crop, warp_to_crop
from scenegen.completion.hidden import completed_depth
from scenegen.compute.runtime import Runtime
from scenegen.config import ObjectSettings
from scenegen.errors import InputError, UsageError
from scenegen.geometry.bake import textured
from scenegen.geometry.consistent import consistent
from scenegen.geometry.generator import THIN_SOLID, USER_MESH, MadeObject, ObjectView, OtherView
from scenegen.geometry.mesh import TexturedMesh, check_object, load_mesh, save_mesh
from scenegen.geometry.posed import posed
from scenegen.geometry.thin import is_thin, thin_solid
from scenegen.records import Completion, Depth, Instances, Intrinsics, Layout, ObjectMesh, Photo, SeenView, Views
from scenegen.registry import OBJECT_GENERATORS, Chosen, ObjectGenerator
from scenegen.scene.layout import FLOOR, Floor, support_depth
from scenegen.store.png import read_png
from stages.stage import Stage, Work

SMALLEST_CROP = 160
USUAL_RESOLUTION = 96
"""Cells across an object that a generator is taken to have if its settings do not say."""
THIN_CROP = 1024
"""Largest crop of what is too thin for them."""
THIN_ENLARGED = 2
"""Pixels of such a crop for each of the photo: a thing two pixels wide has no pixel to lose to resampling."""
THIN_FACES = 8000
POOR_IOU = 0.6
"""Below it a given mesh hardly shows the object."""


def generate(
    photo: Photo,
    instances: Instances,
    depth: Depth,
    layout: Layout,
    object_id: int,
    views: Views = Views(),
    completion: Completion | None = None,
    *,
    config: ObjectSettings,
    work: Work,
) -> ObjectMesh:
    """Object `object_id`: cropped, generated, unwrapped, baked; or the user's mesh of it, put in its place.

    Where several photos show it, `views` are those that do, this one first; then its mesh is in metres.
    A completed object is made from its whole picture; its depth is what was seen.

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
    image, camera, whole = read_png(work.read(photo.image)), layout.intrinsics, mask
    if completion is not None:
        image, whole = read_png(work.read(completion.picture)), read_png(work.read(completion.mask)) > 0
        camera = padded(camera, completion.pad)
        z, limit = completed_depth(z, mask, whole, completion.pad), np.pad(limit, completion.pad)
    thin = is_thin(whole, getattr(config.generate, "resolution", USUAL_RESOLUTION))
    largest = THIN_CROP if thin else OBJECT_GENERATORS.of(config.generate).largest_crop
    view = object_view(
        image,
        whole,
        z,
        limit,
        floor.normal,
        camera,
        depth.relief_error,
        largest,
        THIN_ENLARGED if thin else 1,
    )
    view = replace(view, others=tuple(other_view(each, object_id, floor.normal, view, work) for each in views.others))
    given = next((given for given in photo.meshes if given.id == object_id), None)
    if given is not None:
        made = given_object(load_mesh(work.read(given.mesh)), view, config)
    elif thin:
        made = thin_object(view, config)
    else:
        made = _from_all(view, config, work.runtime)
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
    enlarged: int = 1,
) -> ObjectView:
    """The object in `mask` seen through its crop camera, at about the photo's resolution times `enlarged`, at most `largest`."""
    extent = enlarged * max(np.ptp(axis) + 1 for axis in np.nonzero(mask))
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


def other_view(seen: SeenView, object_id: int, up: Float[np.ndarray, "3"], main: ObjectView, work: Work) -> OtherView:
    """The object as another photo shows it.

    Args:
        seen: the photo; its pose is relative to the camera of the main view.
        object_id: the object.
        up: against gravity, in the frame of the main view's camera.
        main: the main view.
        work: to read from.
    """
    z = np.load(work.read(seen.depth.depth))
    main_from_camera = np.array(seen.main_from_camera)
    view = object_view(
        read_png(work.read(seen.photo.image)),
        read_png(work.read(seen.instances.masks)) == object_id,
        z,
        np.zeros_like(z),
        main_from_camera[:3, :3].T @ up,
        seen.depth.intrinsics,
        seen.depth.relief_error,
        main.crop.intrinsics.width,
    )
    camera_from_main_crop = np.linalg.inv(main_from_camera) @ camera_from_crop(main.crop, 1.0)
    return OtherView(view, np.linalg.inv(camera_from_crop(view.crop, 1.0)) @ camera_from_main_crop)


def make_object(view: ObjectView, config: ObjectSettings, runtime: Runtime) -> MadeObject:
    """The object, by the configured generator.

    Raises:
        UsageError: if there are several views of it, and the generator makes use of one only.
    """
    generator = OBJECT_GENERATORS.of(config.generate)
    view, left_out = consistent(view)
    maker = generator.several if view.others else generator
    if maker is None:
        raise UsageError(
            f"`generate` is {generator.name}, which makes an object from one view, but there are {len(view.all)}; give one "
            "photo, or choose a generator for several: --set generate=embedded."
        )
    made = maker.run(view, config.seed, config.generate, config.texture, runtime)
    return replace(made, backend=generator.signed(made.backend), warnings=(*left_out, *made.warnings))


def _from_all(view: ObjectView, config: ObjectSettings, runtime: Runtime) -> MadeObject:
    """The object from all views of it, or from this one alone if the generator can make nothing of all together."""
    try:
        return make_object(view, config, runtime)
    except InputError as error:
        if not view.others:
            raise
        alone = make_object(replace(view, others=()), config, runtime)
        said = (
            f"it is made from one of its {len(view.all)} views, because together they contradict each other ({error})"
        )
        return replace(alone, warnings=(*alone.warnings, said))


def thin_object(view: ObjectView, config: ObjectSettings) -> MadeObject:
    """An object that is too thin for the generator's grid."""
    shape = thin_solid(view, getattr(config.generate, "max_faces", THIN_FACES))
    mesh, warnings = textured(shape, view, config.texture)
    return MadeObject(mesh=mesh, backend=THIN_SOLID, licence="none: no weights", seed=config.seed, warnings=warnings)


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
        mesh=found.mesh, backend=USER_MESH, licence="none: no weights", seed=config.seed, warnings=warnings
    )


def _backends_for_several(config: ObjectSettings) -> tuple[Chosen[ObjectGenerator[Any]], ...]:
    """The generator, and what it makes objects of several views with."""
    chosen = OBJECT_GENERATORS.chosen(config.generate)
    several = chosen.backend.several
    return (chosen,) if several is None else (chosen, Chosen(several, chosen.settings))


GENERATE_FROM_VIEWS = Stage(name="generate", record=ObjectMesh, run=generate, backends=_backends_for_several)
GENERATE = Stage(
    name="generate",
    record=ObjectMesh,
    run=generate,
    backends=lambda config: (OBJECT_GENERATORS.chosen(config.generate),),
)
