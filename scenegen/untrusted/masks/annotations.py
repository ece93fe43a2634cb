"""Masks in JSON: COCO, the lists of segment-anything and what is like them, LabelMe."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw

from scenegen.errors import InputError
from scenegen.untrusted.documents import read_json
from scenegen.untrusted.fit import checked_size, fitted
from scenegen.untrusted.masks.layer import Layer
from scenegen.untrusted.masks.layers import MOST
from scenegen.untrusted.masks.rle import mask_of_runs
from scenegen.untrusted.names import entry_of, label_of
from scenegen.untrusted.photo import UprightPhoto

WHAT = "`masks`"
LABELS = ("label", "class_name", "category", "category_name", "name", "caption", "phrase")
OUTSIDE = 1.02
"""Of the width and height of a picture: polygons that reach farther were drawn on a larger one."""
SHAPES = ("polygon", "rectangle", "rotation", "circle", "mask", "")
"""LabelMe's shapes that have an area."""


def read_annotations(path: Path, photo: UprightPhoto, name: str, notes: dict[str, None]) -> list[Layer]:
    """The masks of one photo in a JSON file.

    Args:
        path: the file.
        photo: the photo.
        name: its name, which picks one of several pictures.
        notes: gets a line for what is left out.

    Raises:
        InputError: if it holds no masks of this photo.
        ValueError: if it is not JSON, or damaged.
    """
    value = read_json(path)
    if isinstance(value, dict) and "shapes" in value:
        found = _labelme(value, notes)
    elif isinstance(value, dict) and isinstance(value.get("images"), list):
        found = _coco(value, name, notes)
    else:
        found = _listed(value, notes)
    layers = []
    for number, (label, mask) in enumerate(found, start=1):
        if number > MOST:
            raise InputError(f"{WHAT} has more than {MOST} annotations of this photo.")
        what = f"annotation {number}" + (f" ({label})" if label else "")
        layers.append(Layer.of(what, label_of(label), fitted(mask(photo), f"{what} of {WHAT}", photo, notes)))
    if not layers:
        left = "; ".join(note.removeprefix("masks: ") for note in notes) or "it lists none"
        raise InputError(
            f"{WHAT} has no mask of this photo: {left}. Give annotations with a `segmentation`, or pictures of masks."
        )
    return layers


class _Drawn:
    """A mask that is not drawn before its size has been checked."""

    def __init__(self, segmentation: Any, size: tuple[int, int] | None, notes: dict[str, None]) -> None:
        self.segmentation, self.size, self.notes = segmentation, size, notes

    def __call__(self, photo: UprightPhoto) -> Bool[np.ndarray, "h w"]:
        if isinstance(self.segmentation, Mapping):
            height, width = (int(side) for side in self.segmentation["size"])
            checked_size((width, height), WHAT, photo)
            return mask_of_runs(self.segmentation["counts"], height, width)
        width, height = self.size or photo.size
        checked_size((width, height), WHAT, photo)
        if any(_reaches_out(polygon, width, height) for polygon in _listed_polygons(self.segmentation)):
            self.notes[
                f"masks: polygons reach beyond the picture of {width}x{height} pixels; check that they were drawn at this size"
            ] = None
        return polygons(self.segmentation, width, height)


Found = Iterator[tuple[str, Any]]


def _coco(value: Mapping[str, Any], name: str, notes: dict[str, None]) -> Found:
    image = entry_of(name, value["images"], "file_name", WHAT + " has {} images")
    categories = {category["id"]: str(category.get("name", "")) for category in value.get("categories", [])}
    size = (int(image["width"]), int(image["height"])) if "width" in image and "height" in image else None
    mine = [each for each in value.get("annotations", []) if str(each.get("image_id")) == str(image.get("id"))]
    crowds = [each for each in mine if each.get("iscrowd")]
    if crowds and len(crowds) == len(mine):
        # Some tools mark whatever they write as run lengths so, objects too.
        notes["masks: all annotations are marked as crowds, and each is taken as one object"] = None
    elif crowds:
        notes[f"masks: {len(crowds)} annotation(s) of crowds are left out, because they are not one object each"] = None
        mine = [each for each in mine if not each.get("iscrowd")]
    drawn = [each for each in mine if each.get("segmentation")]
    for annotation in drawn:
        yield categories.get(annotation.get("category_id"), ""), _Drawn(annotation["segmentation"], size, notes)
    _say_bare(len(mine) - len(drawn), notes)


def _say_bare(count: int, notes: dict[str, None]) -> None:
    if count:
        notes[f"masks: {count} annotation(s) without a `segmentation` are left out"] = None


def _listed(value: Any, notes: dict[str, None]) -> Found:
    """What segment-anything's `amg.py --convert-to-rle`, SA-1B and Grounded SAM write: annotations with a `segmentation`."""
    entries = value.get("annotations", value.get("masks", [])) if isinstance(value, dict) else value
    if not isinstance(entries, list) or not any(
        isinstance(entry, dict) and "segmentation" in entry for entry in entries
    ):
        keys = ", ".join(map(str, list(value)[:6])) if isinstance(value, dict) else type(value).__name__
        raise InputError(
            f"{WHAT} is JSON of another kind ({keys}); allowed: COCO, a list of annotations with `segmentation`, LabelMe."
        )
    entries = [entry for entry in entries if isinstance(entry, dict)]
    images = {str(entry["image_id"]) for entry in entries if "image_id" in entry}
    if len(images) > 1:
        raise InputError(
            f"{WHAT} has the annotations of {len(images)} images and does not say which is this photo's. Give COCO's file with "
            "`images`, or the annotations of this photo alone."
        )
    size = None
    if isinstance(value, dict):
        inner = value.get("image")
        image: dict[str, Any] = inner if isinstance(inner, dict) else value
        for width, height in (("width", "height"), ("img_width", "img_height")):
            if width in image and height in image:
                size = int(image[width]), int(image[height])
    drawn = [entry for entry in entries if entry.get("segmentation")]
    _say_bare(len(entries) - len(drawn), notes)
    for entry in drawn:
        yield (
            next((str(entry[key]) for key in LABELS if entry.get(key)), ""),
            _Drawn(entry["segmentation"], size, notes),
        )


def _labelme(value: Mapping[str, Any], notes: dict[str, None]) -> Found:
    """Shapes of one group are one object."""
    sides = value.get("imageWidth"), value.get("imageHeight")
    size = (int(sides[0]), int(sides[1])) if sides[0] and sides[1] else None
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    left = []
    for number, shape in enumerate(value["shapes"]):
        if (shape.get("shape_type") or "") not in SHAPES:
            left.append(str(shape.get("label", "")))
            continue
        group = shape.get("group_id")
        key = number if group is None else (str(shape.get("label")), str(group))
        groups.setdefault(key, []).append(shape)
    if left:
        notes[f"masks: {len(left)} shape(s) without an area are left out: {', '.join(left[:5])}"] = None
    for shapes in groups.values():
        yield str(shapes[0].get("label", "")), _Shapes(shapes, size)


class _Shapes:
    """LabelMe's shapes of one object."""

    def __init__(self, shapes: Sequence[Mapping[str, Any]], size: tuple[int, int] | None) -> None:
        self.shapes, self.size = shapes, size

    def __call__(self, photo: UprightPhoto) -> Bool[np.ndarray, "h w"]:
        width, height = self.size or photo.size
        checked_size((width, height), WHAT, photo)
        return np.logical_or.reduce([_shape(shape, width, height) for shape in self.shapes])


def _shape(shape: Mapping[str, Any], width: int, height: int) -> Bool[np.ndarray, "h w"]:
    points = np.array(shape["points"], float).reshape(-1, 2)
    match shape.get("shape_type") or "polygon":
        case "rectangle":
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        case "circle":
            angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
            points = points[0] + np.linalg.norm(points[1] - points[0]) * np.stack([np.cos(angles), np.sin(angles)], -1)
        case "mask":
            return _pasted(shape["mask"], points[0], width, height)
    return polygons([points.ravel().tolist()], width, height)


def _pasted(text: str, corner: np.ndarray, width: int, height: int) -> Bool[np.ndarray, "h w"]:
    """A small picture of an object, at its place."""
    picture = Image.new("1", (width, height))
    with Image.open(io.BytesIO(base64.b64decode(text)), formats=("PNG",)) as part:
        picture.paste(part.convert("L").point([0] + [255] * 255).convert("1"), (round(corner[0]), round(corner[1])))
    return np.asarray(picture)


def _listed_polygons(values: Sequence[Any]) -> Sequence[Any]:
    """Polygons, where one alone need not be in a list."""
    return values if np.ndim(values[0]) else [values]


def _reaches_out(polygon: Any, width: int, height: int) -> bool:
    return bool(
        (np.array(polygon, float).reshape(-1, 2).max(axis=0, initial=0) > OUTSIDE * np.array([width, height])).any()
    )


def polygons(values: Sequence[Any], width: int, height: int) -> Bool[np.ndarray, "h w"]:
    """What closed polygons cover, each a list x, y, x, y and so on, or of points, in pixels from the picture's corner. One of
    fewer than three points, as a stray click makes it, covers nothing.

    Raises:
        ValueError: if a polygon has a point that is not finite.
    """
    picture = Image.new("1", (width, height))
    for polygon in _listed_polygons(values):
        points = np.array(polygon, float).reshape(-1, 2)
        if not np.isfinite(points).all():
            raise ValueError("a polygon has a point that is not finite")
        if len(points) < 3:
            continue
        # Pillow draws through the middles of pixels, whose corners polygons count from.
        low, high = (-width, -height), (2 * width, 2 * height)
        ImageDraw.Draw(picture).polygon([tuple(point) for point in np.clip(points - 0.5, low, high)], fill=1)
    return np.asarray(picture)
