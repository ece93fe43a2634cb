"""Matchers of points across photos: SIFT, LightGlue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scenegen.compute.runtime import Runtime
from scenegen.config import LightGlueConfig, SiftConfig
from scenegen.registry import Matcher
from scenegen.weights_registry.models import LIGHTGLUE_NAME
from scenegen.weights_registry.needed import unless_given

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from scenegen.views.features import Matches


def _sift(images: Sequence[UInt8[np.ndarray, "_h _w 3"]], config: SiftConfig, runtime: Runtime) -> tuple[Matches, ...]:
    from scenegen.views.features import find_matches

    return find_matches(images)


def _lightglue(
    images: Sequence[UInt8[np.ndarray, "_h _w 3"]], config: LightGlueConfig, runtime: Runtime
) -> tuple[Matches, ...]:
    from scenegen.views.lightglue import match_lightglue

    return match_lightglue(images, config, runtime)


def _lightglue_weights(config: LightGlueConfig) -> Mapping[str, str]:
    from scenegen.perception.released import released_weights
    from scenegen.views.lightglue import FILES

    return released_weights(LIGHTGLUE_NAME, FILES, config.checkpoint)


SIFT = Matcher(config=SiftConfig, run=_sift, gives=("points",), finds_cameras=False)
LIGHTGLUE = Matcher(
    config=LightGlueConfig,
    run=_lightglue,
    gives=("points",),
    weights=_lightglue_weights,
    licence="other (SuperPoint)",
    needs=lambda config: unless_given([LIGHTGLUE_NAME], config.checkpoint),
    packages=("transformers>=5.24",),
    extra="full",
)
