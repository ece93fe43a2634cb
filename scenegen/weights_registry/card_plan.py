"""The plan for one graphics card: what of each stage's networks is on it, stage after stage.

All objects of a photo are segmented, then all are completed, then one after another is generated: the networks of a stage leave
for those of the next where there is no room for both. Several cards take objects side by side, each by this plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scenegen.compute.residency import AskedResidency, Demand, Residency
from scenegen.registry import CAMERA_ESTIMATORS, COMPLETERS, DEPTH_ESTIMATORS, OBJECT_GENERATORS, SEGMENTERS, Chosen

if TYPE_CHECKING:
    from scenegen.config import Config

CARDS = (8, 12, 16, 24, 48, 80)
"""Usual sizes, as cards are sold."""
SOLD_GB = 1.04
"""10^9 bytes that a program sees of what is sold as one GB, at the least."""


@dataclass(frozen=True)
class Step:
    """A stage on a card; sizes are in 10^9 bytes."""

    stage: str
    backend: str
    residency: Residency
    peak: float
    """Of the card's memory."""
    fits: bool
    """Whether the card has that."""
    host: float
    """Weights in the machine's memory, from where they are copied; 0 if all are on the card."""
    guest: str
    """Where the network runs that comes between two uses of the others: `card` or `CPU`; empty without one."""


def card_plan(config: Config, sold_gb: float) -> tuple[Step, ...]:
    """The stages of `config` with networks of some size, in their order, on a card of so many GB.

    Examples:
        >>> from scenegen.config import load_config
        >>> [(step.stage, step.residency) for step in card_plan(load_config("paper"), 24)]
        [('segment', 'resident'), ('depth, camera', 'resident'), ('complete', 'streamed'), ('generate', 'staged')]
    """
    card = sold_gb * SOLD_GB
    return tuple(_step(stage, chosen, demand, card) for stage, chosen, demand in _demands(config))


def _demands(config: Config) -> Iterator[tuple[str, Chosen[Any], Demand]]:
    together = config.depth.method == config.camera.estimator.method
    chosen: list[tuple[str, Chosen[Any]]] = [
        ("segment", SEGMENTERS.chosen(config.segment)),
        ("depth, camera" if together else "depth", DEPTH_ESTIMATORS.chosen(config.depth)),
        *([] if together else [("camera", CAMERA_ESTIMATORS.chosen(config.camera.estimator))]),
        ("complete", COMPLETERS.chosen(config.complete)),
        ("generate", OBJECT_GENERATORS.chosen(config.generate)),
    ]
    for stage, each in chosen:
        demand = each.backend.on_card(each.settings)
        if demand is not None:
            yield stage, each, demand


def _step(stage: str, chosen: Chosen[Any], demand: Demand, card: float) -> Step:
    asked: AskedResidency = getattr(chosen.settings, "residency", "auto")
    residency = demand.chosen(asked, card, economy=0)
    return Step(
        stage=stage,
        backend=chosen.backend.name,
        residency=residency,
        peak=demand.needed(residency, card),
        fits=demand.fits(residency, card),
        host=0.0 if residency == "resident" else sum(demand.networks) + demand.guest,
        guest=("card" if demand.welcomes(card) else "CPU") if demand.guest else "",
    )
