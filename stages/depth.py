"""Photo, Instances -> Depth: how far away everything is, and the camera that saw it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from scenegen.camera import intrinsics_from_focal_35mm, intrinsics_from_fov
from scenegen.config import CameraConfig, DepthSettings, GroundConfig
from scenegen.perception import DepthEstimate
from scenegen.perception.ground import estimate_ground
from scenegen.png import read_png
from scenegen.records import Depth, Instances, Intrinsics, Photo
from stages.stage import Stage, Work

logger = logging.getLogger(__name__)

USER_UNCERTAINTY = 0.01
"""Relative error taken for depth the user gave: that of a good sensor."""


def depth(photo: Photo, instances: Instances, *, config: DepthSettings, work: Work) -> Depth:
    """z-depth of the photo, from the user's map, else the configured estimator; holes of the user's map stay 0.

    Raises:
        ScenegenError: from the estimator.
    """
    intrinsics, source, camera_warnings = _intrinsics(photo, config.camera)
    estimate = _estimate(photo, instances, intrinsics, config, work)
    warnings = (*camera_warnings, *estimate.warnings)
    for warning in warnings:
        logger.warning("%s: %s", photo.name, warning)
    np.save(work.write("depth.npy"), estimate.depth, allow_pickle=False)
    return Depth(
        depth=work.artifact("depth.npy"),
        intrinsics=intrinsics,
        intrinsics_source=source,
        metric=estimate.metric,
        uncertainty=estimate.uncertainty,
        backend=estimate.backend,
        licence=estimate.licence,
        warnings=warnings,
    )


def depth_weights(config: DepthSettings) -> Mapping[str, str]:
    """Revisions of the weights the configured estimator uses."""
    if isinstance(config.depth, GroundConfig):
        return {}
    from scenegen.perception.depth_anything import depth_anything_weights

    return depth_anything_weights(config.depth)


def _intrinsics(photo: Photo, config: CameraConfig) -> tuple[Intrinsics, str, tuple[str, ...]]:
    """The photo's camera, where it comes from, and what to warn of."""
    if config.fov_deg is not None:
        return intrinsics_from_fov(photo.width, photo.height, config.fov_deg), "fov", ()
    if photo.focal_35mm is not None:
        return intrinsics_from_focal_35mm(photo.width, photo.height, photo.focal_35mm), "exif", ()
    warning = (
        f"the photo does not say its field of view: {config.default_fov_deg:g} degrees are assumed (horizontal); "
        "give --fov if you know it."
    )
    return intrinsics_from_fov(photo.width, photo.height, config.default_fov_deg), "default", (warning,)


def _estimate(
    photo: Photo, instances: Instances, camera: Intrinsics, config: DepthSettings, work: Work
) -> DepthEstimate:
    if photo.depth is not None:
        return DepthEstimate(
            depth=np.load(work.read(photo.depth), allow_pickle=False),
            metric=True,
            uncertainty=USER_UNCERTAINTY,
            backend="user depth",
            licence="none: no weights",
        )
    if isinstance(config.depth, GroundConfig):
        return estimate_ground(read_png(work.read(instances.masks)), camera, config.depth)
    from scenegen.perception.depth_anything import estimate_depth_anything

    return estimate_depth_anything(read_png(work.read(photo.image)), camera, config.depth, work.runtime)


DEPTH = Stage(name="depth", version=1, record=Depth, run=depth, weights=depth_weights)
