"""Photo, Instances -> Depth: the depth of the photo, and its camera."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8, UInt16

from scenegen.camera import intrinsics_from_focal_35mm, intrinsics_from_fov, vector
from scenegen.config import CameraConfig, DepthSettings, Line
from scenegen.messages.remarks import note
from scenegen.perception import CameraEstimate, DepthEstimate
from scenegen.perception.given_depth import given_depth
from scenegen.records import Depth, Instances, Intrinsics, Metres, Photo, Vector
from scenegen.registry import CAMERA_ESTIMATORS, DEPTH_ESTIMATORS, Chosen
from scenegen.scene.lines import depth_at, fov_by_horizon, fov_by_lengths, gravity_along, gravity_below
from scenegen.scene.scale import ASSUMED, by_sizes, metres_remarks
from scenegen.store.png import read_png
from stages.stage import Stage, Work


@dataclass(frozen=True)
class Camera:
    """The photo's camera, and how it was found."""

    intrinsics: Intrinsics
    source: str
    """As `Depth.intrinsics_source`."""
    gravity: Vector | None
    gravity_shown: bool = False
    """Whether lines that the user has drawn tell it."""
    warnings: tuple[str, ...] = ()


def depth(photo: Photo, instances: Instances, *, config: DepthSettings, work: Work) -> Depth:
    """z-depth of the photo, from the user's map, else the configured estimator; holes of the user's map stay 0.

    Depth without a scale of its own gets one by the known sizes of what is seen; a length that the user knows counts in
    `stages.measure`.

    Raises:
        InputError: if near and far of the user's map look swapped.
        UsageError: if lines that the user has drawn tell nothing of the camera, or contradict each other.
        ScenegenError: from an estimator.
    """
    image, ids = (read_png(work.read(picture)) for picture in (photo.image, instances.masks))
    camera = _camera(photo, image, config, work)
    estimate = _estimate(photo, image, ids, camera.intrinsics, config, work)
    if (seen := _by_two_lengths(estimate.depth, photo, config.camera)) is not None:
        camera = replace(camera, intrinsics=seen, source="two lengths", warnings=())
        estimate = _estimate(photo, image, ids, seen, config, work)
    if config.camera.verticals:
        edges = [_at_working_size(line, photo) for line in config.camera.verticals]
        down = gravity_along(edges, camera.intrinsics, np.array(camera.gravity or (0.0, 1.0, 0.0)))
        camera = replace(camera, gravity=vector(down), gravity_shown=True)
    z, sized, metres, assumption = _in_metres(estimate, instances, ids, camera)
    np.save(work.write("depth.npy"), z, allow_pickle=False)
    return Depth(
        depth=work.artifact("depth.npy"),
        intrinsics=camera.intrinsics,
        intrinsics_source=camera.source,
        gravity=camera.gravity,
        gravity_shown=camera.gravity_shown,
        metres=metres,
        sized=sized,
        assumption=assumption,
        uncertainty=estimate.uncertainty,
        relief_error=estimate.relief_error,
        backend=estimate.backend,
        licence=estimate.licence,
        warnings=(*camera.warnings, *estimate.warnings, *metres_remarks(metres, assumption)),
    )


def depth_backends(config: DepthSettings) -> tuple[Chosen[Any], ...]:
    """The configured estimators."""
    return DEPTH_ESTIMATORS.chosen(config.depth), CAMERA_ESTIMATORS.chosen(config.camera.estimator)


def _camera(photo: Photo, image: UInt8[np.ndarray, "h w 3"], config: DepthSettings, work: Work) -> Camera:
    """The user's camera or field of view, else that of EXIF, else of the horizon or the configured estimator; gravity from
    the horizon, else from the estimator."""
    settings = config.camera
    estimate = CAMERA_ESTIMATORS.of(settings.estimator).run(image, settings.estimator, work.runtime)
    camera = _given_camera(photo, settings) or _estimated_camera(photo, settings, estimate)
    if settings.horizon is None:
        return replace(camera, gravity=None if estimate.down is None else vector(estimate.down))
    horizon = _at_working_size(settings.horizon, photo)
    if camera.warnings:  # the field of view is a guess
        down = np.array((0.0, 1.0, 0.0)) if estimate.down is None else np.array(estimate.down)
        fov = fov_by_horizon(horizon, camera.intrinsics, down)
        camera = Camera(intrinsics_from_fov(photo.width, photo.height, fov), "horizon", None)
    return replace(camera, gravity=vector(gravity_below(horizon, camera.intrinsics)), gravity_shown=True)


def _given_camera(photo: Photo, settings: CameraConfig) -> Camera | None:
    """The user's camera or field of view, else that of EXIF; without gravity."""
    width, height, given = photo.width, photo.height, photo.camera
    if given is not None and not (given.of_depth and settings.fov_deg is not None):
        return Camera(given.intrinsics, "depth file" if given.of_depth else "camera", None)
    if settings.fov_deg is not None:
        return Camera(intrinsics_from_fov(width, height, settings.fov_deg), "fov", None)
    if photo.focal_35mm is not None:
        return Camera(intrinsics_from_focal_35mm(width, height, photo.focal_35mm), "exif", None)
    return None


def _estimated_camera(photo: Photo, settings: CameraConfig, estimate: CameraEstimate) -> Camera:
    """A centred camera with the estimated field of view, or the assumed one; without gravity. Its warning says so."""
    if estimate.fov_x_deg is None:
        fov, source = settings.default_fov_deg, "default"
        how = f"{fov:g} degrees are assumed (horizontal)"
    else:
        fov, source = estimate.fov_x_deg, settings.estimator.method
        how = f"{fov:.0f} degrees (horizontal) are estimated from the picture"
        if estimate.log_focal_error is not None:
            how += f", give or take {100 * estimate.log_focal_error:.0f} %"
    warning = note(f"the photo does not say its field of view: {how}; give --fov if you know it.")
    return Camera(intrinsics_from_fov(photo.width, photo.height, fov), source, None, warnings=(warning,))


def _by_two_lengths(z: Float32[np.ndarray, "h w"], photo: Photo, settings: CameraConfig) -> Intrinsics | None:
    """The camera with which two known lengths are in their ratio, if two are known.

    Raises:
        UsageError: if they do not tell it, or one ends where no depth is known.
    """
    if settings.known_length is None or settings.second_length is None:
        return None
    lengths = settings.known_length, settings.second_length
    ends = np.stack([_at_working_size(length, photo) for length in lengths])
    depths = np.array([[depth_at(z, photo, place) for place in (length.start, length.end)] for length in lengths])
    camera = intrinsics_from_fov(photo.width, photo.height, settings.default_fov_deg)
    fov = fov_by_lengths(ends, depths, np.array([length.metres for length in lengths]), camera)
    return intrinsics_from_fov(photo.width, photo.height, fov)


def _at_working_size(line: Line, photo: Photo) -> Float[np.ndarray, "2 2"]:
    return np.array([photo.at_working_size(line.start), photo.at_working_size(line.end)])


def _in_metres(
    estimate: DepthEstimate, instances: Instances, ids: UInt16[np.ndarray, "h w"], camera: Camera
) -> tuple[Float32[np.ndarray, "h w"], float | None, Metres, str]:
    """The depth at its scale; the factor by which known sizes gave it, None where they may not; where it comes from; what is
    assumed if nothing tells."""
    if estimate.metric:
        measured = Metres(source="measured", factor=1 + estimate.uncertainty)
        return estimate.depth, None, measured, estimate.assumption
    if not estimate.any_scale:
        return estimate.depth, None, ASSUMED, estimate.assumption
    scale, metres = by_sizes(estimate.depth, instances, ids, camera.intrinsics, camera.gravity)
    return (estimate.depth * scale).astype(np.float32), scale, metres, estimate.assumption


def _estimate(
    photo: Photo,
    image: UInt8[np.ndarray, "h w 3"],
    ids: UInt16[np.ndarray, "h w"],
    camera: Intrinsics,
    config: DepthSettings,
    work: Work,
) -> DepthEstimate:
    if photo.depth is not None:
        return given_depth(np.load(work.read(photo.depth), allow_pickle=False), photo.depth_kind, ids, camera)
    estimator = DEPTH_ESTIMATORS.of(config.depth)
    estimate = estimator.run(image, ids, camera, config.depth, work.runtime)
    return replace(estimate, backend=estimator.signed(estimate.backend))


DEPTH = Stage(name="depth", record=Depth, run=depth, backends=depth_backends)
