"""Generate: one object as a textured mesh, in its crop camera's frame."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8

from scenegen.camera import camera_from_crop, crop_camera, padded, warp_depth_to_crop, warp_to_crop
from scenegen.completion.hidden import completed_depth
from scenegen.compute.runtime import Runtime
from scenegen.config import ObjectSettings
from scenegen.errors import InputError, UsageError
from scenegen.geometry.bake import textured
from scenegen.geometry.consistent import consistent
from scenegen.geometry.generator import THIN_SOLID, USER_MESH, MadeObject, ObjectView, OtherView, Unfinished
from scenegen.geometry.mesh import TexturedMesh, check_object, load_mesh, save_mesh
from scenegen.geometry.posed import posed
from scenegen.geometry.repaint import enlargement, repainted
from scenegen.geometry.thin import is_thin, thin_solid
from scenegen.ids import BACKGROUND
from scenegen.records import (
    BegunObject,
    Completion,
    CropCamera,
    Depth,
    Instances,
    Intrinsics,
    Layout,
    ObjectMesh,
    OutlinedObject,
    Photo,
    SeenView,
    Views,
)
from scenegen.registry import OBJECT_GENERATORS, Chosen, ObjectGenerator
from scenegen.scene.layout import FLOOR, Floor, support_depth
from scenegen.store.png import read_png
from stages.stage import Halves, Stage, Work

SMALLEST_CROP = 160
USUAL_RESOLUTION = 96
"""Cells across an object that a generator is taken to have if its settings do not say."""
THIN_CROP = 1024
"""Largest crop of what is too thin for them."""
THIN_ENLARGED = 2
"""Pixels of such a crop for each of the photo: a thing two pixels wide has no pixel to lose to resampling."""
THIN_FACES = 8000
BEGUN = "begun.npz"
"""File in the stage's folder, between its two halves."""
SEVERAL, LEFT_OUT = "several", "left_out"
"""Facts of an unfinished object: whether several views made it, and what is said of views that did not."""
POOR_IOU = 0.6
"""Below it a given mesh hardly shows the object."""


def generate(
    photo: Photo,
    instances: Instances,
    depth: Depth,
    layout: Layout,
    item: int | OutlinedObject,
    views: Views = Views(),
    completion: Completion | None = None,
    *,
    config: ObjectSettings,
    work: Work,
) -> ObjectMesh:
    """An object, by its id or with its edited outline: cropped, generated, unwrapped, baked; or the user's mesh of it, put in
    its place.

    Where several photos show it, `views` are those that do, this one first; then its mesh is in metres.
    A completed object is made from its whole picture; its depth is what was seen.

    Raises:
        InputError: if too little of the object is visible.
        WeightsError: if the generator's weights are missing or damaged.
        ResourceError: if the device is absent or its memory full.
        ValueError: if the generator's mesh cannot be an object.
    """
    view, made = _begun((photo, instances, depth, layout, item, views, completion), config, work)
    if isinstance(made, Unfinished):
        made = finish_object(made, config)
    return _stored(made, _id(item), view.crop, work)


def begin(
    photo: Photo,
    instances: Instances,
    depth: Depth,
    layout: Layout,
    item: int | OutlinedObject,
    views: Views = Views(),
    completion: Completion | None = None,
    *,
    config: ObjectSettings,
    work: Work,
) -> ObjectMesh | BegunObject:
    """The part of `generate` that needs the device. What it leaves to `finish` is in a file of the stage's folder."""
    view, made = _begun((photo, instances, depth, layout, item, views, completion), config, work)
    if isinstance(made, MadeObject):
        return _stored(made, _id(item), view.crop, work)
    np.savez(work.write(BEGUN), **made.arrays)  # type: ignore[arg-type]
    return BegunObject(id=_id(item), crop=view.crop, facts=json.dumps(dict(made.facts)))


def finish(begun: BegunObject, *, config: ObjectSettings, work: Work) -> ObjectMesh:
    """The rest of `generate`, in any process."""
    file = work.folder / BEGUN
    with np.load(file) as arrays:
        unfinished = Unfinished(dict(arrays), json.loads(begun.facts))
    made = finish_object(unfinished, config)
    stored = _stored(made, begun.id, begun.crop, work)
    file.unlink()  # last: what fails for want of memory is tried again
    return stored


def _id(item: int | OutlinedObject) -> int:
    return item if isinstance(item, int) else item.id


def _begun(
    inputs: tuple[Photo, Instances, Depth, Layout, int | OutlinedObject, Views, Completion | None],
    config: ObjectSettings,
    work: Work,
) -> tuple[ObjectView, MadeObject | Unfinished]:
    """The object's view, and what the generator makes of it, or the user's mesh, or that of a thin object."""
    photo, instances, depth, layout, item, views, completion = inputs
    object_id, z = _id(item), np.load(work.read(depth.depth))
    floor = Floor(np.array(layout.floor.normal), layout.floor.offset, layout.floor_source)
    ids, limit = read_png(work.read(instances.masks)), np.load(work.read(layout.limit))
    z = levelled(z, ids, limit)
    if isinstance(item, int):
        mask = ids == item
        on_object = any(support.child == item and support.parent != FLOOR for support in layout.supports)
        relief_error = depth.relief_error
    else:
        mask, limit = read_png(work.read(item.mask)) > 0, np.load(work.read(item.limit))
        z[mask] = np.load(work.read(item.depth))
        on_object, relief_error = item.on_object, item.relief_error
    if on_object:
        limit = np.minimum(limit, support_depth(z, mask, layout.intrinsics, floor))
    image, camera, whole = read_png(work.read(photo.image)), layout.intrinsics, mask
    if completion is not None:
        image, whole = read_png(work.read(completion.picture)), read_png(work.read(completion.mask)) > 0
        camera = padded(camera, completion.pad)
        z, limit = completed_depth(z, mask, whole, completion.pad), np.pad(limit, completion.pad)
    picture = next((read_png(work.read(given.picture)) for given in photo.pictures if given.id == object_id), None)
    thin = is_thin(whole, getattr(config.generate, "resolution", USUAL_RESOLUTION))
    largest = THIN_CROP if thin else OBJECT_GENERATORS.of(config.generate).largest_crop
    view = object_view(
        image,
        whole,
        z,
        limit,
        floor.normal,
        camera,
        relief_error,
        largest,
        max(THIN_ENLARGED if thin else 1, 1 if picture is None else enlargement(picture, whole)),
    )
    if picture is not None:
        view = replace(view, image=repainted(view.image, view.mask, picture))
    view = replace(view, others=tuple(other_view(each, object_id, floor.normal, view, work) for each in views.others))
    given = next((given for given in photo.meshes if given.id == object_id), None)
    if given is not None:
        return view, given_object(load_mesh(work.read(given.mesh)), view, config)
    if thin:
        return view, thin_object(view, config)
    return view, _from_all(view, config, work.runtime)


def _stored(made: MadeObject, object_id: int, crop: CropCamera, work: Work) -> ObjectMesh:
    check_object(made.mesh)
    save_mesh(made.mesh, work.write("mesh.npz"))
    return ObjectMesh(
        id=object_id,
        mesh=work.artifact("mesh.npz"),
        crop=crop,
        backend=made.backend,
        licence=made.licence,
        seed=made.seed,
        check=made.check,
        economy=made.economy,
        warnings=made.warnings,
    )


def levelled(
    depth: Float[np.ndarray, "h w"], ids: Integer[np.ndarray, "h w"], behind: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w"]:
    """The depth map with the background, where it is seen and known, as the layout has it (`behind`): the floor is a plane.

    By an estimate of each pixel's own, the floor before an object may come out so near that it seems to hide the object.
    """
    return np.where((ids == BACKGROUND) & (depth > 0), behind, depth)


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


def finish_object(begun: Unfinished, config: ObjectSettings) -> MadeObject:
    """What is left to do after `begin_object`."""
    generator = OBJECT_GENERATORS.of(config.generate)
    maker = generator.several if begun.facts[SEVERAL] else generator
    assert maker is not None
    assert maker.finish is not None
    made = maker.finish(begun, config.generate, config.texture)
    return replace(made, backend=generator.signed(made.backend), warnings=(*begun.facts[LEFT_OUT], *made.warnings))


def begin_object(view: ObjectView, config: ObjectSettings, runtime: Runtime) -> MadeObject | Unfinished:
    """The object, by the configured generator, as far as it needs the device.

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
    if isinstance(made, Unfinished):
        return Unfinished(made.arrays, {**made.facts, SEVERAL: bool(view.others), LEFT_OUT: list(left_out)})
    return replace(made, backend=generator.signed(made.backend), warnings=(*left_out, *made.warnings))


def _from_all(view: ObjectView, config: ObjectSettings, runtime: Runtime) -> MadeObject | Unfinished:
    """The object from all views of it, or from this one alone if the generator can make nothing of all together."""
    try:
        return begin_object(view, config, runtime)
    except InputError as error:
        if not view.others:
            raise
        alone = begin_object(replace(view, others=()), config, runtime)
        said = (
            f"it is made from one of its {len(view.all)} views, because together they contradict each other ({error})"
        )
        if isinstance(alone, Unfinished):
            return Unfinished(alone.arrays, {**alone.facts, LEFT_OUT: [*alone.facts[LEFT_OUT], said]})
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


HALVES = Halves(begin, finish)
GENERATE_FROM_VIEWS = Stage(
    name="generate", record=ObjectMesh, run=generate, backends=_backends_for_several, halves=HALVES
)
GENERATE = Stage(
    name="generate",
    record=ObjectMesh,
    run=generate,
    backends=lambda config: (OBJECT_GENERATORS.chosen(config.generate),),
    halves=HALVES,
)
