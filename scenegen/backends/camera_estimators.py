"""Camera estimators: none, or the embedded network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenegen.compute.runtime import Runtime
from scenegen.config import DefaultCameraConfig, EmbeddedCameraConfig
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


DEFAULT = CameraEstimator(config=DefaultCameraConfig, run=_default, gives=())
EMBEDDED = CameraEstimator(
    config=EmbeddedCameraConfig,
    run=_embedded,
    gives=("focal length", "gravity"),
    weights=lambda config: perception_weights(),
    licence="Apache-2.0",
)
