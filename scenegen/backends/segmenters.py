"""Segmenters: the embedded network, superpixels, segment-anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scenegen.compute.runtime import Runtime
from scenegen.config import EmbeddedSegmentConfig, RegionsConfig, SamConfig
from scenegen.registry import Segmenter
from scenegen.weights import perception_weights
from scenegen.weights_registry.models import sam_name
from scenegen.weights_registry.needed import unless_given

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8, UInt16

    from scenegen.perception import Names, Segmentation
    from scenegen.perception.prompts import Prompt


def _embedded(
    image: UInt8[np.ndarray, "h w 3"], prompts: Sequence[Prompt], config: EmbeddedSegmentConfig, runtime: Runtime
) -> Segmentation:
    from scenegen.perception.embedded import segment_embedded
    from scenegen.perception.prompted import segment_prompted

    if prompts:
        return segment_prompted(image, prompts, config, runtime)
    return segment_embedded(image, config, runtime)


def _embedded_names(
    image: UInt8[np.ndarray, "h w 3"],
    ids: UInt16[np.ndarray, "h w"],
    numbers: Sequence[int],
    config: EmbeddedSegmentConfig,
    runtime: Runtime,
) -> Names:
    from scenegen.perception.prompted import name_objects

    return name_objects(image, ids, numbers, config, runtime)


def _regions(
    image: UInt8[np.ndarray, "h w 3"], prompts: Sequence[Prompt], config: RegionsConfig, runtime: Runtime
) -> Segmentation:
    from scenegen.perception.regions import segment_regions

    return segment_regions(image, config)


def _sam(
    image: UInt8[np.ndarray, "h w 3"], prompts: Sequence[Prompt], config: SamConfig, runtime: Runtime
) -> Segmentation:
    from scenegen.perception.sam import segment_sam

    return segment_sam(image, config, runtime, prompts)


def _sam_weights(config: SamConfig) -> Mapping[str, str]:
    from scenegen.perception.sam import sam_weights

    return sam_weights(config)


def _sam_needs(config: SamConfig) -> Sequence[str]:
    return unless_given([sam_name(config.model)], config.checkpoint)


EMBEDDED = Segmenter(
    config=EmbeddedSegmentConfig,
    run=_embedded,
    name_objects=_embedded_names,
    gives=("masks", "labels"),
    weights=lambda config: perception_weights(),
    licence="Apache-2.0",
)
REGIONS = Segmenter(config=RegionsConfig, run=_regions, gives=("masks",))
SAM = Segmenter(
    config=SamConfig,
    run=_sam,
    gives=("masks",),
    weights=_sam_weights,
    licence="Apache-2.0",
    needs=_sam_needs,
    packages=("segment-anything>=1",),
    extra="full",
)
