"""Depth estimators: the embedded network, a ground plane, Depth Anything V2, MoGe-2, Depth Pro."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scenegen.backends.measuring import (
    depth_pro_needs,
    depth_pro_on_card,
    depth_pro_weights,
    moge_needs,
    moge_on_card,
    moge_weights,
)
from scenegen.compute.residency import Demand
from scenegen.compute.runtime import Runtime
from scenegen.config import DepthAnythingConfig, DepthProDepthConfig, EmbeddedDepthConfig, GroundConfig, MogeDepthConfig
from scenegen.records import Intrinsics
from scenegen.registry import DepthEstimator
from scenegen.weights import perception_weights
from scenegen.weights_registry.models import depth_anything_name, registered
from scenegen.weights_registry.needed import unless_given

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Integer, UInt8

    from scenegen.perception import DepthEstimate

WORKING_GB = 2.0
"""What Depth Anything computes in, an estimate; 10^9 bytes."""


def _embedded(
    image: UInt8[np.ndarray, "h w 3"],
    ids: Integer[np.ndarray, "h w"],
    camera: Intrinsics,
    config: EmbeddedDepthConfig,
    runtime: Runtime,
) -> DepthEstimate:
    from scenegen.perception.embedded import estimate_depth_embedded

    return estimate_depth_embedded(image, ids, config, runtime)


def _ground(
    image: UInt8[np.ndarray, "h w 3"],
    ids: Integer[np.ndarray, "h w"],
    camera: Intrinsics,
    config: GroundConfig,
    runtime: Runtime,
) -> DepthEstimate:
    from scenegen.perception.ground import estimate_ground

    return estimate_ground(ids, camera, config)


def _depth_anything(
    image: UInt8[np.ndarray, "h w 3"],
    ids: Integer[np.ndarray, "h w"],
    camera: Intrinsics,
    config: DepthAnythingConfig,
    runtime: Runtime,
) -> DepthEstimate:
    from scenegen.perception.depth_anything import estimate_depth_anything

    return estimate_depth_anything(image, camera, config, runtime)


def _depth_anything_weights(config: DepthAnythingConfig) -> Mapping[str, str]:
    from scenegen.perception.depth_anything import depth_anything_weights

    return depth_anything_weights(config)


def _depth_anything_needs(config: DepthAnythingConfig) -> Sequence[str]:
    return unless_given([depth_anything_name(config.variant, config.size)], config.checkpoint)


def _moge(
    image: UInt8[np.ndarray, "h w 3"],
    ids: Integer[np.ndarray, "h w"],
    camera: Intrinsics,
    config: MogeDepthConfig,
    runtime: Runtime,
) -> DepthEstimate:
    from scenegen.perception.moge import estimate_depth_moge

    return estimate_depth_moge(image, camera, config, runtime)


def _depth_pro(
    image: UInt8[np.ndarray, "h w 3"],
    ids: Integer[np.ndarray, "h w"],
    camera: Intrinsics,
    config: DepthProDepthConfig,
    runtime: Runtime,
) -> DepthEstimate:
    from scenegen.perception.depth_pro import estimate_depth_pro

    return estimate_depth_pro(image, camera, config, runtime)


EMBEDDED = DepthEstimator(
    config=EmbeddedDepthConfig,
    run=_embedded,
    gives=("depth",),
    weights=lambda config: perception_weights(),
    licence="Apache-2.0",
)
GROUND = DepthEstimator(config=GroundConfig, run=_ground, gives=("depth",))
DEPTH_ANYTHING = DepthEstimator(
    config=DepthAnythingConfig,
    run=_depth_anything,
    by_object=False,
    gives=("depth", "metres"),
    weights=_depth_anything_weights,
    licence="Apache-2.0 (small), CC-BY-NC-4.0 (base, large)",
    needs=_depth_anything_needs,
    on_card=lambda config: Demand(
        (registered(depth_anything_name(config.variant, config.size)).gigabytes,), WORKING_GB
    ),
    packages=("transformers>=5.24",),
    extra="full",
)
MOGE = DepthEstimator(
    config=MogeDepthConfig,
    run=_moge,
    by_object=False,
    gives=("depth", "metres"),
    weights=moge_weights,
    licence="MIT",
    needs=moge_needs,
    on_card=moge_on_card,
)
DEPTH_PRO = DepthEstimator(
    config=DepthProDepthConfig,
    run=_depth_pro,
    by_object=False,
    gives=("depth", "metres"),
    weights=depth_pro_weights,
    licence="Apple AMLR",
    needs=depth_pro_needs,
    on_card=depth_pro_on_card,
    packages=("transformers>=5.24",),
    extra="full",
)
