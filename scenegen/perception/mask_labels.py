"""What the names of mask pictures say about the objects they show: `masks/02_coffee_mug.png` shows a coffee mug."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from scenegen.perception.nouns import noun_number
from scenegen.untrusted.names import label_of


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
