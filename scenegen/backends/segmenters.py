"""Segmenters: the embedded network, superpixels, segment-anything, SAM 2.1, SAM 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scenegen.compute.residency import Demand
from scenegen.compute.runtime import Runtime
from scenegen.config import EmbeddedSegmentConfig, RegionsConfig, Sam2Config, Sam3Config, SamConfig
from scenegen.registry import Segmenter
from scenegen.weights import perception_weights
from scenegen.weights_registry.models import SAM2_NAME, SAM3_NAME, registered, sam_name
from scenegen.weights_registry.needed import unless_given

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8, UInt16

    from scenegen.perception import Names, Segmentation
    from scenegen.perception.prompts import Prompt

WORKING_GB = 3.0
"""What the released segmenters compute in, an estimate; 10^9 bytes."""


def _embedded(
    image: UInt8[np.ndarray, "h w 3"], prompts: Sequence[Prompt], config: EmbeddedSegmentConfig, runtime: Runtime
) -> Segmentation:
    from scenegen.perception.embedded import segment_embedded
    from scenegen.perception.finding import known_nouns, only_called
    from scenegen.perception.prompted import segment_prompted

    if prompts:
        return segment_prompted(image, prompts, config, runtime)
    known_nouns(config.find)
    found = segment_embedded(image, config, runtime)
    return only_called(found, config.find) if config.find else found


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


def _sam2(
    image: UInt8[np.ndarray, "h w 3"], prompts: Sequence[Prompt], config: Sam2Config, runtime: Runtime
) -> Segmentation:
    from scenegen.perception.sam2 import segment_sam2

    return segment_sam2(image, config, runtime, prompts)


def _sam2_weights(config: Sam2Config) -> Mapping[str, str]:
    from scenegen.perception.released import released_weights
    from scenegen.perception.sam2 import FILES

    return released_weights(SAM2_NAME, FILES, config.checkpoint)


def _sam3(
    image: UInt8[np.ndarray, "h w 3"], prompts: Sequence[Prompt], config: Sam3Config, runtime: Runtime
) -> Segmentation:
    from scenegen.perception.sam3 import segment_sam3

    return segment_sam3(image, config, runtime, prompts)


def _sam3_weights(config: Sam3Config) -> Mapping[str, str]:
    from scenegen.perception.released import released_weights
    from scenegen.perception.sam3 import FILES

    return released_weights(SAM3_NAME, FILES, config.checkpoint)


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
    on_card=lambda config: Demand((registered(sam_name(config.model)).gigabytes,), WORKING_GB),
    packages=("segment-anything>=1",),
    extra="full",
)
SAM2 = Segmenter(
    config=Sam2Config,
    run=_sam2,
    gives=("masks",),
    weights=_sam2_weights,
    licence="Apache-2.0",
    needs=lambda config: unless_given([SAM2_NAME], config.checkpoint),
    on_card=lambda config: Demand((registered(SAM2_NAME).gigabytes,), WORKING_GB),
    packages=("transformers>=5.24",),
    extra="full",
)
SAM3 = Segmenter(
    config=Sam3Config,
    run=_sam3,
    gives=("masks", "labels"),
    weights=_sam3_weights,
    licence="SAM License",
    needs=lambda config: unless_given([SAM3_NAME], config.checkpoint),
    on_card=lambda config: Demand((registered(SAM3_NAME).gigabytes,), WORKING_GB),
    packages=("transformers>=5.24",),
    extra="full",
)
