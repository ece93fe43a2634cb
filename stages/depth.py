"""Photo, Instances -> Depth: how far away everything is, and the camera that saw it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scenegen.camera import intrinsics_from_focal_35mm, intrinsics_from_fov, vector
from scenegen.config import DepthSettings, EmbeddedDepthConfig, GroundConfig
from scenegen.perception import DepthEstimate
from scenegen.perception.ground import estimate_ground
from scenegen.png import read_png
from scenegen.records import Depth, Instances, Intrinsics, Photo, Vector
from scenegen.remarks import note
from scenegen.weights import perception_weights
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


def depth_weights(config: DepthSettings) -> Mapping[str, str]:
    """Revisions of the weights the configured estimators use."""
    weights: dict[str, str] = {}
    if isinstance(config.depth, EmbeddedDepthConfig) or config.camera.estimator == "embedded":
        weights.update(perception_weights())
    if not isinstance(config.depth, GroundConfig | EmbeddedDepthConfig):
        from scenegen.perception.depth_anything import depth_anything_weights

        weights.update(depth_anything_weights(config.depth))
    return weights


def _camera(photo: Photo, config: DepthSettings, work: Work) -> Camera:
    """Field of view from the user, else EXIF, else the configured estimator; gravity from the estimator."""
    width, height, settings = photo.width, photo.height, config.camera
    estimated: Camera | None = None
    if settings.estimator == "embedded":
        estimated = _embedded_camera(photo, work)
    gravity = None if estimated is None else estimated.gravity
    if settings.fov_deg is not None:
        return Camera(intrinsics_from_fov(width, height, settings.fov_deg), "fov", gravity)
    if photo.focal_35mm is not None:
        return Camera(intrinsics_from_focal_35mm(width, height, photo.focal_35mm), "exif", gravity)
    if estimated is not None:
        return estimated
    warning = note(
        f"the photo does not say its field of view: {settings.default_fov_deg:g} degrees are assumed (horizontal); "
        "give --fov if you know it."
    )
    return Camera(intrinsics_from_fov(width, height, settings.default_fov_deg), "default", None, (warning,))


def _embedded_camera(photo: Photo, work: Work) -> Camera:
    from scenegen.perception.embedded import perceive

    perception = perceive(read_png(work.read(photo.image)), work.runtime)
    warning = note(
        f"the photo does not say its field of view: {perception.fov_x_deg:.0f} degrees (horizontal) are estimated from "
        f"the picture, give or take {100 * perception.log_focal_error:.0f} %; give --fov if you know it."
    )
    camera = intrinsics_from_fov(photo.width, photo.height, perception.fov_x_deg)
    return Camera(camera, "embedded", vector(perception.down), (warning,))


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
    ids = read_png(work.read(instances.masks))
    if isinstance(config.depth, GroundConfig):
        return estimate_ground(ids, camera, config.depth)
    image = read_png(work.read(photo.image))
    if isinstance(config.depth, EmbeddedDepthConfig):
        from scenegen.perception.embedded import estimate_depth_embedded

        return estimate_depth_embedded(image, ids, config.depth, work.runtime)
    from scenegen.perception.depth_anything import estimate_depth_anything

    return estimate_depth_anything(image, camera, config.depth, work.runtime)


DEPTH = Stage(name="depth", record=Depth, run=depth, weights=depth_weights)
