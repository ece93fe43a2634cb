"""Photo, Instances -> Depth: how far away everything is, and the camera that saw it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scenegen.camera import intrinsics_from_focal_35mm, intrinsics_from_fov, vector
from scenegen.config import DepthSettings
from scenegen.perception import DepthEstimate
from scenegen.png import read_png
from scenegen.records import Depth, Instances, Intrinsics, Photo, Vector
from scenegen.registry import CAMERA_ESTIMATORS, DEPTH_ESTIMATORS, Chosen
from scenegen.remarks import note
from stages.stage import Stage, Work

USER_UNCERTAINTY = 0.01
"""Relative error taken for depth the user gave: that of a good sensor."""
USER_RELIEF_ERROR = 0.01
"""Its error across an object, as a share of the object's width."""


@dataclass(frozen=True)
class Camera:
    """The photo's camera, and where it comes from."""

    intrinsics: Intrinsics
    source: str
    """As `Depth.intrinsics_source`."""
    gravity: Vector | None
    warnings: tuple[str, ...] = ()


def depth(photo: Photo, instances: Instances, *, config: DepthSettings, work: Work) -> Depth:
    """z-depth of the photo, from the user's map, else the configured estimator; holes of the user's map stay 0.

    Raises:
        ScenegenError: from an estimator.
    """
    camera = _camera(photo, config, work)
    estimate = _estimate(photo, instances, camera.intrinsics, config, work)
    warnings = (*camera.warnings, *estimate.warnings)
    np.save(work.write("depth.npy"), estimate.depth, allow_pickle=False)
    return Depth(
        depth=work.artifact("depth.npy"),
        intrinsics=camera.intrinsics,
        intrinsics_source=camera.source,
        gravity=camera.gravity,
        metric=estimate.metric,
        uncertainty=estimate.uncertainty,
        relief_error=estimate.relief_error,
        backend=estimate.backend,
        licence=estimate.licence,
        warnings=warnings,
    )


def depth_backends(config: DepthSettings) -> tuple[Chosen[Any], ...]:
    """The configured estimators."""
    return DEPTH_ESTIMATORS.chosen(config.depth), CAMERA_ESTIMATORS.chosen(config.camera.estimator)


def _camera(photo: Photo, config: DepthSettings, work: Work) -> Camera:
    """Field of view from the user, else EXIF, else the configured estimator; gravity from the estimator."""
    width, height, settings = photo.width, photo.height, config.camera
    image = read_png(work.read(photo.image))
    estimate = CAMERA_ESTIMATORS.of(settings.estimator).run(image, settings.estimator, work.runtime)
    gravity = None if estimate.down is None else vector(estimate.down)
    if settings.fov_deg is not None:
        return Camera(intrinsics_from_fov(width, height, settings.fov_deg), "fov", gravity)
    if photo.focal_35mm is not None:
        return Camera(intrinsics_from_focal_35mm(width, height, photo.focal_35mm), "exif", gravity)
    fov, source, how = (
        settings.default_fov_deg,
        "default",
        f"{settings.default_fov_deg:g} degrees are assumed (horizontal)",
    )
    if estimate.fov_x_deg is not None:
        fov, source = estimate.fov_x_deg, settings.estimator.method
        how = f"{fov:.0f} degrees (horizontal) are estimated from the picture"
        if estimate.log_focal_error is not None:
            how += f", give or take {100 * estimate.log_focal_error:.0f} %"
    warning = note(f"the photo does not say its field of view: {how}; give --fov if you know it.")
    return Camera(intrinsics_from_fov(width, height, fov), source, gravity, (warning,))


def _estimate(
    photo: Photo, instances: Instances, camera: Intrinsics, config: DepthSettings, work: Work
) -> DepthEstimate:
    if photo.depth is not None:
        return DepthEstimate(
            depth=np.load(work.read(photo.depth), allow_pickle=False),
            metric=True,
            uncertainty=USER_UNCERTAINTY,
            relief_error=USER_RELIEF_ERROR,
            backend="user depth",
            licence="none: no weights",
        )
    image, ids = read_png(work.read(photo.image)), read_png(work.read(instances.masks))
    estimator = DEPTH_ESTIMATORS.of(config.depth)
    estimate = estimator.run(image, ids, camera, config.depth, work.runtime)
    return replace(estimate, backend=estimator.signed(estimate.backend))


DEPTH = Stage(name="depth", record=Depth, run=depth, backends=depth_backends)
