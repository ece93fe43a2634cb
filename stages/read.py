"""Reads the photo and what the user gave with it into records at working size."""

from __future__ import annotations

import numpy as np

from scenegen.camera import matrix4, resized
from scenegen.config import ReadConfig
from scenegen.records import GivenCamera, GivenMesh, GivenPicture, Intrinsics, Photo, Source
from scenegen.untrusted.decoding import ALPHA, DEPTH, IMAGE, MASKS, MESH, PICTURE, Decoded, Request, decode
from stages.stage import Stage, Work


def read(source: Source, *, config: ReadConfig, work: Work) -> Photo:
    """Decodes what `source` names, in a child process.

    Raises:
        InputError: if a file cannot be used; the message says which one, and why.
    """
    decoded = decode(
        Request(
            name=source.name,
            photo=str(work.read(source.photo)),
            masks=tuple(str(work.read(mask)) for mask in source.masks),
            mask_names=source.mask_names,
            mask_labels=source.mask_labels,
            depth=None if source.depth is None else str(work.read(source.depth)),
            camera=tuple(str(work.read(file)) for file in source.camera),
            meshes=tuple((given.id, str(work.read(given.mesh))) for given in source.meshes),
            pictures=tuple((given.id, str(work.read(given.picture))) for given in source.pictures),
            folder=str(work.folder),
            max_side=config.max_side,
            max_pixels=config.max_pixels,
            max_memory_mb=config.max_memory_mb,
            timeout_s=config.timeout_s,
            depth_unit_m=config.depth_unit_m,
            depth_kind=config.depth_kind,
        )
    )
    return Photo(
        name=source.name,
        image=work.artifact(IMAGE),
        alpha=work.artifact(ALPHA) if decoded.alpha else None,
        masks=work.artifact(MASKS) if source.masks else None,
        mask_labels=decoded.mask_labels,
        depth=None if source.depth is None else work.artifact(DEPTH),
        depth_kind=decoded.depth_kind,
        width=decoded.width,
        height=decoded.height,
        original_width=decoded.original_width,
        original_height=decoded.original_height,
        focal_35mm=decoded.focal_35mm,
        focal_source=decoded.focal_source,
        camera=_camera(decoded),
        meshes=tuple(GivenMesh(id=given.id, mesh=work.artifact(MESH.format(given.id))) for given in source.meshes),
        pictures=tuple(
            GivenPicture(id=given.id, picture=work.artifact(PICTURE.format(given.id))) for given in source.pictures
        ),
        warnings=decoded.warnings,
    )


def _camera(decoded: Decoded) -> GivenCamera | None:
    """The given camera at working size."""
    given = decoded.camera
    if given is None:
        return None
    size = {"width": decoded.original_width, "height": decoded.original_height}
    whole = Intrinsics(**size, fx=given.fx, fy=given.fy, cx=given.cx, cy=given.cy)
    pose = given.world_from_camera
    return GivenCamera(
        intrinsics=resized(whole, decoded.width, decoded.height),
        world_from_camera=None if pose is None else matrix4(np.reshape(pose, (4, 4))),
        of_depth=decoded.camera_of_depth,
    )


READ = Stage(name="read", record=Photo, run=read)
