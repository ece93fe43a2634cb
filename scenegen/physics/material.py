"""What objects are taken to be made of, by their labels: friction, restitution and density. No photo shows them; all are assumed.

Friction is that of the material on wood or a hard floor, dry (Engineering Toolbox, friction coefficients); restitution is that
of a drop of about a metre onto a hard floor. Density is that of the whole thing in the room it takes up, since meshes are solid
while mugs and boxes are not: what makers state of their weight, over their volume.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Substance:
    """How a class of things behaves when it is touched."""

    name: str
    friction: float
    """Coulomb's, static and dynamic alike."""
    restitution: float


@dataclass(frozen=True)
class Assumed:
    """What is taken for one object."""

    substance: Substance
    density: float | None
    """Kilograms per cubic metre of the room it takes up; None: nothing is known of things of this name."""


ANYTHING = Substance("unknown", 0.5, 0.2)
CERAMIC = Substance("ceramic", 0.5, 0.3)
GLASS = Substance("glass", 0.4, 0.4)
METAL = Substance("metal", 0.4, 0.3)
PAPER = Substance("paper", 0.45, 0.1)
PLASTIC = Substance("plastic", 0.4, 0.4)
PRODUCE = Substance("produce", 0.5, 0.3)
RUBBER = Substance("rubber", 0.9, 0.7)
TEXTILE = Substance("textile", 0.6, 0.05)
WOOD = Substance("wood", 0.45, 0.3)

ASSUMED = {
    "apple": Assumed(PRODUCE, 840),
    "backpack": Assumed(TEXTILE, 150),
    "ball": Assumed(RUBBER, 90),
    "banana": Assumed(PRODUCE, 950),
    "barrel": Assumed(METAL, 150),
    "basket": Assumed(WOOD, 80),
    "bathtub": Assumed(CERAMIC, 300),
    "bed": Assumed(TEXTILE, 120),
    "bench": Assumed(WOOD, 200),
    "book": Assumed(PAPER, 700),
    "bottle": Assumed(GLASS, 800),
    "bowl": Assumed(CERAMIC, 1200),
    "box": Assumed(PAPER, 200),
    "bread": Assumed(PRODUCE, 280),
    "cabinet": Assumed(WOOD, 200),
    "can": Assumed(METAL, 950),
    "candle": Assumed(PLASTIC, 900),
    "carrot": Assumed(PRODUCE, 1000),
    "cell phone": Assumed(GLASS, 1800),
    "chair": Assumed(WOOD, 300),
    "couch": Assumed(TEXTILE, 90),
    "cup": Assumed(CERAMIC, 1000),
    "fork": Assumed(METAL, 4000),
    "jar": Assumed(GLASS, 1000),
    "keyboard": Assumed(PLASTIC, 700),
    "knife": Assumed(METAL, 3000),
    "laptop": Assumed(METAL, 1300),
    "microwave": Assumed(METAL, 250),
    "mouse": Assumed(PLASTIC, 600),
    "orange": Assumed(PRODUCE, 870),
    "oven": Assumed(METAL, 250),
    "pan": Assumed(METAL, 1500),
    "pillow": Assumed(TEXTILE, 40),
    "plate": Assumed(CERAMIC, 1800),
    "pot": Assumed(METAL, 800),
    "refrigerator": Assumed(METAL, 110),
    "scissors": Assumed(METAL, 2500),
    "shelf": Assumed(WOOD, 300),
    "sink": Assumed(CERAMIC, 500),
    "spoon": Assumed(METAL, 4000),
    "stool": Assumed(WOOD, 300),
    "suitcase": Assumed(PLASTIC, 180),
    "table": Assumed(WOOD, 400),
    "teddy bear": Assumed(TEXTILE, 60),
    "toy": Assumed(PLASTIC, 400),
    "tv": Assumed(PLASTIC, 250),
    "vase": Assumed(CERAMIC, 900),
    "wine glass": Assumed(GLASS, 900),
}
"""By noun of `scenegen.perception.nouns`."""


def assumed(label: str) -> Assumed:
    """What is taken for an object of this name.

    Examples:
        >>> assumed("apple").density
        840
        >>> assumed("no such thing").substance.name
        'unknown'
    """
    return ASSUMED.get(label, Assumed(ANYTHING, None))
