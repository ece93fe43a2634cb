"""Processes that render training pictures without end: composed scenes, and views of single objects."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from scenegen.errors import InputError
from scenegen.perception.relief import SIDE as CROP_SIDE
from scenegen.train.meshes import MeshFolder, mesh_folder
from scenegen.train.pictures import TrainingPicture
from scenegen.train.processes import Stream, stream
from scenegen.train.scenes import compose
from scenegen.train.views import view

logger = logging.getLogger(__name__)

VIEWS_PER_SCENE = 3
"""A view takes a fifth of the time of a scene."""
WAITING = 32
"""Pictures that may wait to be taken."""


def rendering(meshes: Path | None, workers: int, seed: int) -> AbstractContextManager[Stream[TrainingPicture]]:
    """`workers` processes that render pictures of a folder or pack of meshes until the block ends."""
    return stream(rendered, [(meshes, [seed, number]) for number in range(workers)], WAITING)


def rendered(meshes: Path, seed: list[int]) -> Iterator[TrainingPicture]:
    """Scenes and views without end; the same seed gives the same."""
    folder = mesh_folder(meshes)
    rng = np.random.default_rng(seed)
    kinds: list[Callable[[MeshFolder, int], TrainingPicture]] = [composed_picture, *[single_picture] * VIEWS_PER_SCENE]
    while True:
        for picture in kinds:
            number = int(rng.integers(2**62))
            try:
                yield picture(folder, number)
            except InputError as error:  # no draw shows an object well
                logger.debug("picture %d: %s", number, error)


def composed_picture(meshes: MeshFolder, seed: int) -> TrainingPicture:
    """A composed scene as a training picture."""
    scene = compose(meshes, seed)
    intrinsics = scene.camera.intrinsics
    return TrainingPicture(
        name=f"composed {seed}",
        image=scene.image,
        ids=scene.ids,
        exhaustive=True,
        log_depth=np.log(scene.depth).astype(np.float32),
        camera=np.array([intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy]),
        down=-scene.camera.camera_from_world[:3, 1],
        nouns={},
    )


def single_picture(meshes: MeshFolder, seed: int) -> TrainingPicture:
    """A view of one object as a training picture: id 1 is the object, and nothing is known of what surrounds it."""
    shown = view(meshes, seed, CROP_SIDE).view
    intrinsics = shown.crop.intrinsics
    with np.errstate(divide="ignore"):
        log_depth = np.log(shown.depth).astype(np.float32)
    return TrainingPicture(
        name=f"view {seed}",
        image=shown.image,
        ids=(shown.mask > 0.5).astype(np.uint8),
        exhaustive=False,
        log_depth=log_depth,
        camera=np.array([intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy]),
        down=None,
        nouns={},
    )
