"""The rules for masks that may overlap: background, parts within wholes, doubles, overlaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from scenegen.errors import InputError
from scenegen.untrusted.masks.ids import EIGHT, MAX_OBJECTS, PIECE_SHARE, SHOWN, border_share, in_pieces, separated
from scenegen.untrusted.masks.layer import Layer, Masks

MOST = 2048
"""Masks, parts among them."""
FILLS = 0.98
"""Share of the picture from which on a mask has no outline, as a photo or a depth map among masks."""
BACKGROUND_BORDER = 0.45
"""Share of the picture's border: an unnamed mask with so much of it is a wall, a floor or all that is no object."""
BACKGROUND_LABELS = frozenset({"background", "bg", "void", "unlabeled", "unlabelled", "ignore"})
HOLE = "hole"
INSIDE = 0.9
"""Share of a mask that lies in a larger one, from which on it is within it."""
ALIKE = 0.85
"""Share of the larger mask that the smaller one covers too, from which on both are of one object."""
OVERLAP = 0.01
"""Share of the smaller mask from which on an overlap is said."""


def merged(layers: Sequence[Layer], notes: dict[str, None]) -> Masks:
    """The objects of overlapping masks, with ids from 1 in the given order.

    Raises:
        InputError: if no object is left, or more than `MAX_OBJECTS` are.
    """
    if len(layers) > MOST:
        raise InputError(f"`masks` has {len(layers)} masks; at most {MOST} are allowed.")
    filled = [layer for layer in layers if layer.area]
    _say(notes, [layer for layer in layers if not layer.area], "masks: at working size no pixel is left of {}")
    if not filled:
        raise InputError("`masks` has no object with a pixel left at working size. Mark at least one larger object.")
    if len(filled) == 1 and not filled[0].label:
        return _alone(filled[0].mask, notes)
    filled = _not_inverted(filled, notes)
    named = [layer for layer in filled if layer.label in BACKGROUND_LABELS or layer.label == HOLE]
    others = [layer for layer in filled if layer not in named]
    objects = [_without(named, layer, notes) for layer in others if not _is_background(layer)]
    _say(notes, named, "masks: {} is left out, because its name says that it is no object")
    _say(
        notes,
        [layer for layer in others if _is_background(layer)],
        "masks: {} has so much of the picture or of its border that it is background, not an object; name its file after the "
        "object to keep what does not fill the picture, such as 03_table.png",
    )
    if not objects:
        raise InputError("`masks` shows only background. Mark each object, and nothing else.")
    kept, inside = _nested(objects, notes)
    if len(kept) > MAX_OBJECTS:
        raise InputError(f"`masks` has {len(kept)} objects; at most {MAX_OBJECTS} are allowed.")
    ids = _painted(kept, inside)
    _say_overlaps(kept, inside, notes)
    hidden = [layer for number, layer in enumerate(kept, start=1) if not (ids == number).any()]
    _say(notes, hidden, "masks: nothing is left of {}, which others cover")
    in_pieces(ids, {number: layer.name for number, layer in enumerate(kept, start=1)}, notes)
    return Masks(ids, tuple(layer.label for layer in kept))


def _alone(mask: Bool[np.ndarray, "h w"], notes: dict[str, None]) -> Masks:
    """The objects of the only mask, which may be inverted."""
    if mask.mean() >= FILLS:
        raise InputError("`masks` fills the picture, so the object has no outline. Mark the object, and not the rest.")
    if _is_inverted(mask):
        notes[
            "masks: the mask has nearly the whole border of the picture, so it is inverted: the object is what it leaves out"
        ] = None
        mask = ~mask
    return separated(mask, notes)


def _not_inverted(layers: list[Layer], notes: dict[str, None]) -> list[Layer]:
    """The masks, or what they leave out where all of them have the border of the picture."""
    if any(layer.label or not _is_inverted(layer.mask) for layer in layers):
        return layers
    notes[f"masks: all {len(layers)} masks are inverted, and the objects are what they leave out"] = None
    return [Layer.of(layer.name, layer.label, ~layer.mask) for layer in layers]


def _is_inverted(mask: Bool[np.ndarray, "h w"]) -> bool:
    return not mask.all() and border_share(mask) >= 0.9


def _is_background(layer: Layer) -> bool:
    if layer.area >= FILLS * layer.shape[0] * layer.shape[1]:
        return True
    return not layer.label and border_share(layer.mask) >= BACKGROUND_BORDER


def _without(named: Sequence[Layer], layer: Layer, notes: dict[str, None]) -> Layer:
    """A mask without those in it that are named as no object: its holes."""
    holes = [each for each in named if each.area < layer.area and layer.common(each) >= INSIDE * each.area]
    if not holes:
        return layer
    _say(notes, holes, f"masks: {{}} is a hole in {layer.name}")
    return Layer.of(layer.name, layer.label, layer.mask & ~np.logical_or.reduce([hole.mask for hole in holes]))


def _nested(objects: list[Layer], notes: dict[str, None]) -> tuple[list[Layer], dict[int, set[int]]]:
    """The objects that stay, and for each, by its place among them, those that it lies in.

    An unnamed mask within another is a part of it. A named one is an object, before what it lies in.
    """
    parts: dict[int, int] = {}
    doubles: dict[int, int] = {}
    within: dict[int, set[int]] = {}
    by_size = sorted(range(len(objects)), key=lambda index: (-objects[index].area, index))
    for place, large in enumerate(by_size):
        if large in doubles:
            continue
        for small in by_size[place + 1 :]:
            common = objects[large].common(objects[small])
            if small in doubles or common < INSIDE * objects[small].area:
                continue
            if common >= ALIKE * objects[large].area:
                doubles[max(large, small)] = min(large, small)
            elif objects[small].label:
                within.setdefault(small, set()).add(large)
            else:
                parts.setdefault(small, large)
    groups = [index for index, count in Counter(parts.values()).items() if count > 1 and _is_group(index, objects)]
    if groups:
        _say(
            notes,
            [objects[index] for index in groups],
            "masks: {} shows several of the other masks at once and is left out",
        )
        return _nested([layer for index, layer in enumerate(objects) if index not in groups], notes)
    _say_pairs(
        notes,
        doubles,
        objects,
        "masks: {} shows the same object as {} and is left out",
        "masks: {} masks show the same objects as others and are left out: {}",
    )
    parts = {small: large for small, large in parts.items() if small not in doubles}
    _say_pairs(
        notes,
        parts,
        objects,
        "masks: {} lies within {}: an unnamed mask there is a part, not an object; name it after the object to have both",
        "masks: {} masks lie within larger ones: unnamed, they are parts, not objects; name them to have all: {}",
    )
    left = [index for index in range(len(objects)) if index not in parts and index not in doubles]
    number = {index: place for place, index in enumerate(left)}
    inside = {
        number[small]: {number[large] for large in larger if large in number}
        for small, larger in within.items()
        if small in number
    }
    return [objects[index] for index in left], inside


def _is_group(index: int, objects: Sequence[Layer]) -> bool:
    """Whether an unnamed mask is several of the others, which do not touch."""
    group = objects[index]
    pieces, count = ndimage.label(group.box, EIGHT)
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    large = [piece for piece in range(1, count + 1) if areas[piece] >= PIECE_SHARE * group.area]
    if group.label or len(large) < 2:
        return False
    others = [layer for place, layer in enumerate(objects) if place != index]
    return all(any(_is_alike(group.part(pieces == piece), other) for other in others) for piece in large)


def _is_alike(a: Layer, b: Layer) -> bool:
    return a.common(b) >= ALIKE * max(a.area, b.area)


def _painted(kept: list[Layer], inside: dict[int, set[int]]) -> np.ndarray:
    """One id per pixel: what lies within another is before it; elsewhere the earlier one keeps the pixel."""
    ids = np.zeros(kept[0].shape, np.uint16)
    for index in sorted(range(len(kept)), key=lambda index: (len(inside.get(index, ())), -index)):
        layer = kept[index]
        ids[layer.rows, layer.columns][layer.box] = index + 1
    return ids


def _say_overlaps(kept: list[Layer], inside: dict[int, set[int]], notes: dict[str, None]) -> None:
    found = []
    for first, a in enumerate(kept):
        for second, b in enumerate(kept[first + 1 :], start=first + 1):
            if second in inside.get(first, ()) or first in inside.get(second, ()):
                continue
            if (common := a.common(b)) > OVERLAP * min(a.area, b.area):
                found.append(f"{a.name} and {b.name} by {common} pixels")
    if found:
        more = f" and {len(found) - SHOWN} more pairs" if len(found) > SHOWN else ""
        notes[f"masks: {', '.join(found[:SHOWN])}{more} overlap; the first of two keeps what both have"] = None


def _say_pairs(notes: dict[str, None], pairs: dict[int, int], objects: list[Layer], one: str, several: str) -> None:
    names = [(objects[small].name, objects[large].name) for small, large in sorted(pairs.items())]
    if len(names) == 1:
        notes[one.format(*names[0])] = None
    elif names:
        listed = ", ".join(f"{small} in {large}" for small, large in names[:SHOWN]) + (
            ", ..." if len(names) > SHOWN else ""
        )
        notes[several.format(len(names), listed)] = None


def _say(notes: dict[str, None], layers: Sequence[Layer], text: str) -> None:
    if layers:
        more = f" and {len(layers) - SHOWN} more" if len(layers) > SHOWN else ""
        notes[text.format(", ".join(layer.name for layer in layers[:SHOWN]) + more)] = None
