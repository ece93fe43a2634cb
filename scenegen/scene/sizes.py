"""The sizes of everyday objects, which give a picture its metres if it was not measured.

A size is the middle of what people have, its spread a factor that two things of three lie within. Things stand as they mostly
do in photographs: the height of a horse reaches to its head, a person may sit. Nouns whose sizes spread by a factor of two or
more (boats, trees, buildings) say nothing about the scale, and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Measure = Literal["height", "length"]
"""`height`: along the vertical. `length`: the longest side of the box around the thing, however it lies."""


@dataclass(frozen=True)
class Size:
    """How large a thing is."""

    measure: Measure
    metres: float
    spread: float
    """As a factor: 1.2 says that two of three lie between size / 1.2 and size * 1.2."""
    source: str
    """One of `SOURCES`."""


SOURCES = {
    "animals": "breed standards for pets, horses and cattle; field guides for wild animals",
    "anthropometry": "NCD Risk Factor Collaboration, A century of trends in adult human height, eLife 2016;5:e13410: women "
    "1.59 m, men 1.71 m; less, and spread wider, for children and for people who sit or bend",
    "devices": "keys 19 mm apart, screens of 13 to 16 inches in laptops, of 24 to 50 inches in televisions and monitors; else "
    "what makers state",
    "food": "what bakeries and restaurants sell",
    "furniture": "E. Neufert, Architects' Data: seats 0.45 m, tables 0.75 m, beds 2 m, worktops 0.85 to 0.9 m",
    "household": "what shops sell",
    "luggage": "cabin bags as IATA advises, 0.56 m; else what makers state",
    "packaging": "what makers state: wine 0.75 l 0.30 m, PET 0.5 l 0.22 m, drink cans 0.115 to 0.122 m, cartons and small "
    "parcels 0.15 to 0.4 m, drums of 200 l 0.88 m",
    "print": "ISO 216: A5 0.21 m, A4 0.297 m, and the usual formats between",
    "produce": "size classes of the UNECE standards FFV-50 (apples) and FFV-14 (citrus) and of Codex Stan 205 (bananas); else "
    "what shops sell",
    "sports": "ITF Rules of Tennis: rackets up to 0.737 m; Official Baseball Rules: bats up to 1.07 m; else what makers state",
    "street": "Manual on Uniform Traffic Control Devices: stop signs 0.75 m, lenses of signals 0.2 and 0.3 m; else what makers "
    "state",
    "tableware": "what shops sell: dinner plates 0.25 to 0.28 m, mugs 0.09 to 0.11 m, cutlery 0.16 to 0.22 m",
    "vehicles": "what makers state: cars 1.4 to 1.7 m high; Council Directive 96/53/EC for the largest buses and lorries (4 m)",
}
"""Where the sizes are from. Where no document says more, the spread covers what is on sale."""

SIZES = {
    "apple": Size("length", 0.08, 1.12, "produce"),
    "backpack": Size("length", 0.46, 1.2, "luggage"),
    "ball": Size("length", 0.2, 1.6, "sports"),
    "banana": Size("length", 0.18, 1.15, "produce"),
    "barrel": Size("length", 0.9, 1.2, "packaging"),
    "baseball bat": Size("length", 0.84, 1.1, "sports"),
    "baseball glove": Size("length", 0.3, 1.15, "sports"),
    "basket": Size("length", 0.38, 1.4, "household"),
    "bathtub": Size("length", 1.7, 1.1, "furniture"),
    "bear": Size("height", 1.1, 1.4, "animals"),
    "bed": Size("length", 2.0, 1.15, "furniture"),
    "bench": Size("height", 0.75, 1.35, "furniture"),
    "bicycle": Size("height", 1.05, 1.12, "vehicles"),
    "bird": Size("length", 0.2, 1.8, "animals"),
    "book": Size("length", 0.24, 1.2, "print"),
    "bottle": Size("length", 0.24, 1.3, "packaging"),
    "bowl": Size("length", 0.16, 1.3, "tableware"),
    "box": Size("length", 0.25, 1.6, "packaging"),
    "bread": Size("length", 0.25, 1.5, "food"),
    "broccoli": Size("length", 0.14, 1.5, "food"),
    "bucket": Size("length", 0.29, 1.25, "household"),
    "bus": Size("height", 3.1, 1.15, "vehicles"),
    "cabinet": Size("height", 0.9, 1.5, "furniture"),
    "cake": Size("length", 0.22, 1.5, "food"),
    "can": Size("length", 0.115, 1.2, "packaging"),
    "candle": Size("length", 0.13, 1.7, "household"),
    "car": Size("height", 1.5, 1.1, "vehicles"),
    "carrot": Size("length", 0.17, 1.3, "produce"),
    "cat": Size("length", 0.45, 1.25, "animals"),
    "cell phone": Size("length", 0.145, 1.15, "devices"),
    "chair": Size("height", 0.87, 1.15, "furniture"),
    "clock": Size("length", 0.28, 1.6, "household"),
    "couch": Size("height", 0.83, 1.15, "furniture"),
    "cow": Size("height", 1.45, 1.15, "animals"),
    "cup": Size("length", 0.11, 1.25, "tableware"),
    "dog": Size("height", 0.55, 1.5, "animals"),
    "donut": Size("length", 0.09, 1.15, "food"),
    "elephant": Size("height", 2.8, 1.25, "animals"),
    "fire hydrant": Size("height", 0.75, 1.2, "street"),
    "food": Size("length", 0.12, 1.6, "food"),
    "fork": Size("length", 0.19, 1.15, "tableware"),
    "frisbee": Size("length", 0.27, 1.1, "sports"),
    "giraffe": Size("height", 4.6, 1.2, "animals"),
    "handbag": Size("length", 0.32, 1.4, "luggage"),
    "horse": Size("height", 1.85, 1.2, "animals"),
    "hot dog": Size("length", 0.16, 1.2, "food"),
    "jar": Size("length", 0.14, 1.35, "packaging"),
    "keyboard": Size("length", 0.43, 1.15, "devices"),
    "kite": Size("length", 1.2, 1.5, "sports"),
    "knife": Size("length", 0.23, 1.25, "tableware"),
    "lamp": Size("length", 0.6, 1.8, "household"),
    "laptop": Size("length", 0.34, 1.12, "devices"),
    "microwave": Size("length", 0.48, 1.15, "devices"),
    "motorcycle": Size("height", 1.15, 1.15, "vehicles"),
    "mouse": Size("length", 0.11, 1.15, "devices"),
    "orange": Size("length", 0.075, 1.12, "produce"),
    "oven": Size("height", 0.8, 1.25, "furniture"),
    "pan": Size("length", 0.44, 1.25, "tableware"),
    "parking meter": Size("height", 1.4, 1.25, "street"),
    "person": Size("height", 1.6, 1.2, "anthropometry"),
    "pillow": Size("length", 0.5, 1.35, "household"),
    "pizza": Size("length", 0.3, 1.25, "food"),
    "plate": Size("length", 0.25, 1.2, "tableware"),
    "pot": Size("length", 0.27, 1.35, "tableware"),
    "potted plant": Size("length", 0.4, 1.8, "household"),
    "refrigerator": Size("height", 1.7, 1.2, "furniture"),
    "remote": Size("length", 0.18, 1.25, "devices"),
    "sandwich": Size("length", 0.13, 1.35, "food"),
    "scissors": Size("length", 0.19, 1.25, "household"),
    "sheep": Size("height", 0.8, 1.2, "animals"),
    "shelf": Size("height", 1.4, 1.5, "furniture"),
    "sink": Size("length", 0.55, 1.35, "furniture"),
    "skateboard": Size("length", 0.8, 1.1, "sports"),
    "skis": Size("length", 1.7, 1.1, "sports"),
    "snowboard": Size("length", 1.55, 1.1, "sports"),
    "spoon": Size("length", 0.18, 1.25, "tableware"),
    "stool": Size("height", 0.6, 1.3, "furniture"),
    "stop sign": Size("length", 0.75, 1.15, "street"),
    "suitcase": Size("length", 0.63, 1.2, "luggage"),
    "surfboard": Size("length", 2.1, 1.25, "sports"),
    "table": Size("height", 0.72, 1.25, "furniture"),
    "teddy bear": Size("length", 0.35, 1.5, "household"),
    "tennis racket": Size("length", 0.69, 1.05, "sports"),
    "tie": Size("length", 0.5, 1.4, "household"),
    "toilet": Size("height", 0.75, 1.2, "furniture"),
    "tool": Size("length", 0.25, 1.6, "household"),
    "toothbrush": Size("length", 0.19, 1.1, "household"),
    "toy": Size("length", 0.18, 1.8, "household"),
    "traffic light": Size("length", 0.95, 1.2, "street"),
    "train": Size("height", 3.9, 1.1, "vehicles"),
    "truck": Size("height", 2.8, 1.35, "vehicles"),
    "tv": Size("length", 0.8, 1.5, "devices"),
    "umbrella": Size("length", 1.0, 1.25, "household"),
    "vase": Size("length", 0.25, 1.45, "household"),
    "wine glass": Size("length", 0.2, 1.2, "tableware"),
    "zebra": Size("height", 1.55, 1.2, "animals"),
}
"""By noun of `scenegen.perception.nouns`."""
