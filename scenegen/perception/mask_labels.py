"""What the names of mask pictures say about the objects they show: `masks/02_coffee_mug.png` shows a coffee mug."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from scenegen.perception.nouns import noun_number

GENERIC = frozenset(
    {"id", "ids", "image", "img", "instance", "mask", "masks", "obj", "object", "objects", "seg", "segment"}
)
"""Words that say what the file is, not what it shows."""
MAX_LABEL = 60
"""Characters."""
_BETWEEN_WORDS = re.compile(r"[\W\d_]+|(?<=[a-z])(?=[A-Z])")


def mask_labels(pictures: Sequence[PurePath]) -> tuple[str, ...]:
    """What each picture's object is called; empty if its name does not say.

    One picture holds the ids of all objects, and names none. A name that all pictures share names the set, unless it is an
    everyday noun.

    >>> from pathlib import Path
    >>> mask_labels([Path("01_coffee_mug.png"), Path("mask_02.png"), Path("chair-2.png")])
    ('coffee mug', '', 'chair')
    """
    if len(pictures) == 1:
        return ("",)
    labels = tuple(label_of(picture.stem) for picture in pictures)
    return ("",) * len(labels) if len(set(labels)) == 1 and noun_number(labels[0]) < 0 else labels


def label_of(text: str) -> str:
    """The words of a name that say what something is.

    >>> label_of("06_FruitApple")
    'fruit apple'
    """
    words = [word.lower() for word in _BETWEEN_WORDS.split(text)]
    return " ".join(word for word in words if len(word) > 1 and word not in GENERIC)[:MAX_LABEL].strip()
