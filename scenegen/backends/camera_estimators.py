"""Camera estimators: none, the embedded network, MoGe-2, Depth Pro."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenegen.backends.measuring import (
    depth_pro_needs,
    depth_pro_on_card,
    depth_pro_weights,
    moge_needs,
    moge_on_card,
    moge_weights,
)
from scenegen.compute.runtime import Runtime
from scenegen.config import DefaultCameraConfig, DepthProCameraConfig, EmbeddedCameraConfig, MogeCameraConfig
from scenegen.registry import CameraEstimator
from scenegen.weights import perception_weights

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


def _depth_pro(image: UInt8[np.ndarray, "h w 3"], config: DepthProCameraConfig, runtime: Runtime) -> CameraEstimate:
    from scenegen.perception.depth_pro import estimate_camera_depth_pro

    return estimate_camera_depth_pro(image, config, runtime)


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
    weights=moge_weights,
    licence="MIT",
    needs=moge_needs,
    on_card=moge_on_card,
)
DEPTH_PRO = CameraEstimator(
    config=DepthProCameraConfig,
    run=_depth_pro,
    gives=("focal length",),
    weights=depth_pro_weights,
    licence="Apple AMLR",
    needs=depth_pro_needs,
    on_card=depth_pro_on_card,
    packages=("transformers>=5.24",),
    extra="full",
)
