"""Layout: gravity and floor, what stands on what, and the background as meshes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Integer
from scipy import ndimage

from scenegen.camera import matrix4, rays, unproject, vector
from scenegen.config import LayoutConfig
from scenegen.geometry.mesh import save_mesh
from scenegen.ids import BACKGROUND, shows_object
from scenegen.records import Depth, Instances, Layout, Photo, Plane, SeenView, Surface, Views
from scenegen.scene.backdrop import background_surfaces
from scenegen.scene.background import background_depth, below_objects
from scenegen.scene.elsewhere import OtherPhoto
from scenegen.scene.layout import (
    Floor,
    find_floor,
    find_supports,
    floor_through,
    is_same_floor,
    plane_tolerance,
    world_from_camera,
)
from scenegen.scene.lines import depth_at
from scenegen.scene.room import find_room
from scenegen.store.png import read_png
from stages.stage import Stage, Work


def layout(
    photo: Photo,
    instances: Instances,
    depth: Depth,
    views: Views = Views(),
    before: Layout | None = None,
    *,
    config: LayoutConfig,
    work: Work,
) -> Layout:
    """The room: see `Layout` for what comes back, `scenegen.scene` for how.

    Where there are several photos, `views` has them all, this one first: they show some of what is hidden in it. If the floor
    is that of `before` as far as depth tells, it stays where it is there, so that an edit of one object does not move others.

    Raises:
        UsageError: if no depth is known where the floor was shown, or it would be above the camera.
    """
    image = read_png(work.read(photo.image))
    ids = read_png(work.read(instances.masks))
    z = np.load(work.read(depth.depth))
    camera = depth.intrinsics
    floor = find_floor(z, ids, camera, config, depth.gravity, depth.uncertainty, depth.gravity_shown)
    if config.floor_at is not None:
        pixel = np.array(photo.at_working_size(config.floor_at))
        floor = floor_through(floor, depth_at(z, photo, config.floor_at) * rays(camera, pixel))
    points = unproject(camera, z)
    of_interest = shows_object(ids) & (z > 0)
    if not of_interest.any():
        of_interest = z > 0
    centre = np.median(points[of_interest], axis=0) if of_interest.any() else np.array([0.0, 0.0, 1.0])
    upright = matrix4(world_from_camera(floor, centre))
    if before is not None:
        there = Floor(np.array(before.floor.normal), before.floor.offset, before.floor_source, floor.warnings)
        if is_same_floor(there, floor, plane_tolerance(config, depth.uncertainty)):
            floor, upright = there, before.world_from_camera
    behind, is_floor = background_depth(z, ids, camera, floor, config, depth.uncertainty)
    np.save(work.write("limit.npy"), behind)
    others = [_other_photo(each, work) for each in views.others]
    surfaces = []
    below = below_objects(z, ids, camera, floor, depth.uncertainty)
    room = find_room(z, ids, is_floor, camera, floor, config, depth.uncertainty)
    # Around a cut-out there is nothing, and so nothing of the background but what the picture shows.
    visible = None if photo.alpha is None else ids == BACKGROUND
    for name, mesh in background_surfaces(
        image, _shows_background(ids), room, camera, floor, below, visible, others
    ).items():
        save_mesh(mesh, work.write(f"{name}.npz"))
        surfaces.append(Surface(name=name, mesh=work.artifact(f"{name}.npz")))
    return Layout(
        intrinsics=camera,
        world_from_camera=upright,
        floor=Plane(normal=vector(floor.normal), offset=floor.offset),
        floor_source=floor.source,
        surfaces=tuple(surfaces),
        supports=find_supports(z, ids, camera, floor),
        limit=work.artifact("limit.npy"),
        backend=config.method,
        warnings=floor.warnings,
    )


def _shows_background(ids: Integer[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The pixels that show nothing else: objects leave a rim of mixed pixels around their masks."""
    rim = max(2, round(0.006 * max(ids.shape)))
    return ~ndimage.binary_dilation(ids != BACKGROUND, iterations=rim)


def _other_photo(seen: SeenView, work: Work) -> OtherPhoto:
    return OtherPhoto(
        read_png(work.read(seen.photo.image)),
        _shows_background(read_png(work.read(seen.instances.masks))),
        np.load(work.read(seen.depth.depth)),
        seen.depth.intrinsics,
        np.linalg.inv(np.array(seen.main_from_camera)),
    )


LAYOUT = Stage(name="layout", record=Layout, run=layout)
