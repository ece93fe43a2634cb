"""Camera estimators: none, the embedded network, MoGe-2, Depth Pro."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scenegen.compute.runtime import Runtime
from scenegen.config import DefaultCameraConfig, DepthProCameraConfig, EmbeddedCameraConfig, MogeCameraConfig
from scenegen.registry import CameraEstimator
from scenegen.weights import perception_weights
from scenegen.weights_registry.models import DEPTH_PRO_NAME, MOGE_NAME
from scenegen.weights_registry.needed import unless_given

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from scenegen.perception import CameraEstimate


def _default(image: UInt8[np.ndarray, "h w 3"], config: DefaultCameraConfig, runtime: Runtime) -> CameraEstimate:
    from scenegen.perception import CameraEstimate

    return CameraEstimate()


def _embedded(image: UInt8[np.ndarray, "h w 3"], config: EmbeddedCameraConfig, runtime: Runtime) -> CameraEstimate:
    from scenegen.perception import CameraEstimate
    from scenegen.perception.embedded import perceive

    seen = perceive(image, runtime)
    return CameraEstimate(seen.fov_x_deg, seen.log_focal_error, seen.down)


def _moge(image: UInt8[np.ndarray, "h w 3"], config: MogeCameraConfig, runtime: Runtime) -> CameraEstimate:
    from scenegen.perception.moge import estimate_camera_moge

    return estimate_camera_moge(image, config, runtime)


def _moge_weights(config: MogeCameraConfig) -> Mapping[str, str]:
    from scenegen.perception.moge import moge_weights

    return moge_weights(config)


def _depth_pro(image: UInt8[np.ndarray, "h w 3"], config: DepthProCameraConfig, runtime: Runtime) -> CameraEstimate:
    from scenegen.perception.depth_pro import estimate_camera_depth_pro

    return estimate_camera_depth_pro(image, config, runtime)


def _depth_pro_weights(config: DepthProCameraConfig) -> Mapping[str, str]:
    from scenegen.perception.depth_pro import FILES
    from scenegen.perception.released import released_weights

    return released_weights(DEPTH_PRO_NAME, FILES, config.checkpoint)


DEFAULT = CameraEstimator(config=DefaultCameraConfig, run=_default, gives=())
EMBEDDED = CameraEstimator(
    config=EmbeddedCameraConfig,
    run=_embedded,
    gives=("focal length", "gravity"),
    weights=lambda config: perception_weights(),
    licence="Apache-2.0",
)
MOGE = CameraEstimator(
    config=MogeCameraConfig,
    run=_moge,
    gives=("focal length", "gravity"),
    weights=_moge_weights,
    licence="MIT",
    needs=lambda config: unless_given([MOGE_NAME], config.checkpoint),
)
DEPTH_PRO = CameraEstimator(
    config=DepthProCameraConfig,
    run=_depth_pro,
    gives=("focal length",),
    weights=_depth_pro_weights,
    licence="Apple AMLR",
    needs=lambda config: unless_given([DEPTH_PRO_NAME], config.checkpoint),
    packages=("transformers>=5.24",),
    extra="full",
)
