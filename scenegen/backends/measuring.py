"""What the depth and the camera estimator of one network have in common: its weights, and what it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scenegen.compute.residency import Demand
from scenegen.weights_registry.models import DEPTH_PRO_NAME, MOGE_NAME, registered
from scenegen.weights_registry.needed import unless_given

if TYPE_CHECKING:
    from scenegen.config import DepthProSettings, MogeSettings

MOGE_WORKING_GB, DEPTH_PRO_WORKING_GB = 2.0, 3.0
"""What they compute in, estimates; 10^9 bytes."""


def moge_weights(config: MogeSettings) -> Mapping[str, str]:
    """As `Backend.weights`."""
    from scenegen.perception.moge import moge_weights as weights

    return weights(config)


def moge_needs(config: MogeSettings) -> Sequence[str]:
    """As `Backend.needs`."""
    return unless_given([MOGE_NAME], config.checkpoint)


def moge_on_card(config: MogeSettings) -> Demand:
    """As `Backend.on_card`."""
    return Demand((registered(MOGE_NAME).gigabytes,), MOGE_WORKING_GB)


def depth_pro_weights(config: DepthProSettings) -> Mapping[str, str]:
    """As `Backend.weights`."""
    from scenegen.perception.depth_pro import FILES
    from scenegen.perception.released import released_weights

    return released_weights(DEPTH_PRO_NAME, FILES, config.checkpoint)


def depth_pro_needs(config: DepthProSettings) -> Sequence[str]:
    """As `Backend.needs`."""
    return unless_given([DEPTH_PRO_NAME], config.checkpoint)


def depth_pro_on_card(config: DepthProSettings) -> Demand:
    """As `Backend.on_card`."""
    return Demand((registered(DEPTH_PRO_NAME).gigabytes,), DEPTH_PRO_WORKING_GB)
