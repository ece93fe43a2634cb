"""What of the networks of a stage stays on a graphics card: one rule for all stages, by arithmetic alone.

Sizes are in 10^9 bytes. Weights are counted from the networks; what they compute in is an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Residency = Literal["resident", "staged", "streamed"]
"""`resident`: every network stays on the device. `staged`: one at a time, copied to it when it is used. `streamed`: one layer of
one at a time, while the next one is copied."""
RESIDENCIES: tuple[Residency, ...] = ("resident", "staged", "streamed")
"""In order of memory, most first."""
AskedResidency = Literal["auto", "resident", "staged", "streamed"]
"""What the user may ask for: one of these, or what fits."""
USABLE = 0.9
"""Share of a card's memory to plan with. The rest goes to the driver and the screen, and lies between tensors."""


@dataclass(frozen=True)
class Demand:
    """What networks that work together need of a card.

    Examples:
        >>> qwen = Demand(networks=(40.9, 0.25), working=4.0, layer=0.7, guest=16.6)
        >>> [qwen.fitting(card) for card in (85.0, 51.0, 25.4)]
        ['resident', 'staged', 'streamed']
    """

    networks: tuple[float, ...]
    """Weights of each."""
    working: float
    """What they compute in."""
    layer: float | None = None
    """Most weights on the card while layers are streamed to it; None for networks that always stay."""
    guest: float = 0.0
    """Weights of one more, which comes between two uses of these and leaves again; it runs on the CPU where it has no room."""

    def peak(self, residency: Residency) -> float:
        """Largest memory, without the guest's if these leave the card before it comes.

        Example:
            >>> Demand((2.0, 1.0), 0.5, layer=0.1).peak("staged")
            2.5
        """
        if residency == "resident":
            return sum(self.networks) + self.guest + self.working
        return (max(self.networks) if residency == "staged" else self.layer or 0.0) + self.working

    def needed(self, residency: Residency, card: float) -> float:
        """Largest memory on a card of this size, with the guest's if it runs there.

        Example:
            >>> demand = Demand((2.0, 1.0), 0.5, layer=0.1, guest=1.5)
            >>> demand.needed("streamed", card=8.0), demand.needed("streamed", card=2.0)
            (2.0, 0.6)
        """
        visit = self.guest + self.working if self.guest and self.welcomes(card) else 0.0
        return max(self.peak(residency), visit)

    def to_come(self, residency: Residency, card: float, here: bool) -> float:
        """What must be free of a card of this size: that, less the weights of networks that are `here` already and stay.

        Example:
            >>> demand = Demand((2.0, 1.0), 0.5, layer=0.1)
            >>> demand.to_come("resident", 8.0, here=False), demand.to_come("resident", 8.0, here=True)
            (3.5, 0.5)
        """
        return self.needed(residency, card) - (sum(self.networks) if here and residency == "resident" else 0.0)

    def fits(self, residency: Residency, card: float) -> bool:
        """Whether a card of this size holds that."""
        return self.peak(residency) <= USABLE * card

    def fitting(self, card: float) -> Residency:
        """The residency with which most stays on a card of this size; the most frugal one even if that is too large too."""
        if self.layer is None:
            return "resident"
        return next((each for each in RESIDENCIES if self.fits(each, card)), RESIDENCIES[-1])

    def chosen(self, asked: AskedResidency, card: float, economy: int) -> Residency:
        """What is asked for, or what is `fitting`; more frugal than that where `Runtime.economy` wants it.

        Example:
            >>> demand = Demand((2.0, 1.0), 0.5, layer=0.1)
            >>> [demand.chosen("auto", 8, economy) for economy in (0, 1, 2)], demand.chosen("streamed", 8, 1)
            (['resident', 'staged', 'streamed'], 'streamed')
        """
        residency = self.fitting(card) if asked == "auto" else asked
        return max(residency, RESIDENCIES[economy], key=RESIDENCIES.index)

    def welcomes(self, card: float) -> bool:
        """Whether the guest runs on a card of this size."""
        return self.guest + self.working <= USABLE * card
