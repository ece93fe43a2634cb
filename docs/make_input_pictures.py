"""Makes docs/inputs/*.png: what each rule for masks and depth makes of what is given, by the readers themselves.

python docs/make_input_pictures.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from scenegen.ids import UNKNOWN
from scenegen.perception.given_depth import given_depth
from scenegen.records import Intrinsics
from scenegen.untrusted.depth import read_depth
from scenegen.untrusted.masks import read_masks
from scenegen.untrusted.photo import UprightPhoto

FOLDER = Path(__file__).parent / "inputs"
WIDTH, HEIGHT, ZOOM, GAP = 72, 48, 2, 6
PHOTO = UprightPhoto(Image.new("RGB", (WIDTH, HEIGHT)), None, (WIDTH, HEIGHT), None, (WIDTH, HEIGHT), None, ())
CAMERA = Intrinsics(width=WIDTH, height=HEIGHT, fx=70, fy=70, cx=WIDTH / 2, cy=HEIGHT / 2)
COLOURS = ((255, 255, 255), (214, 96, 77), (67, 147, 195), (90, 174, 97), (153, 112, 171))
"""Of background and the objects 1, 2 and so on."""
GREY = (190, 190, 190)
"""Of what is unknown."""

MUG, BOWL, LID, BAR = (8, 8, 28, 32), (38, 14, 66, 42), (12, 11, 20, 19), (30, 4, 34, 44)


def shapes(*drawn: tuple[tuple[int, int, int, int], object], ground: object = 0, scale: int = 1) -> Image.Image:
    """Discs, and a box for `BAR`, each with its value."""
    picture = Image.new("L" if isinstance(ground, int) else "RGB", (WIDTH * scale, HEIGHT * scale), ground)
    pen = ImageDraw.Draw(picture)
    for box, value in drawn:
        scaled = tuple(scale * side for side in box)
        pen.rectangle(scaled, fill=value) if box == BAR else pen.ellipse(scaled, fill=value)
    return picture


def mask(*boxes: tuple[int, int, int, int]) -> Image.Image:
    """White shapes on black."""
    return shapes(*((box, 255) for box in boxes))


def inverted(picture: Image.Image) -> Image.Image:
    """Black for white."""
    return picture.point(lambda value: 255 - value)


def read(pictures: Sequence[Image.Image], labels: Sequence[str] = ()) -> Image.Image:
    """What the reader makes of masks, in `COLOURS`."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.png" for number in range(len(pictures))]
        for path, picture in zip(paths, pictures, strict=True):
            picture.save(path)
        ids = read_masks(paths, PHOTO, labels=labels).ids
    colours = np.array(COLOURS, np.uint8)[np.where(ids == UNKNOWN, 0, ids)]
    colours[ids == UNKNOWN] = GREY
    return Image.fromarray(colours)


def row(*pictures: Image.Image) -> Image.Image:
    """Pictures side by side, the last one after a wider gap, each in a frame."""
    width, height = WIDTH * ZOOM, HEIGHT * ZOOM
    strip = Image.new("RGB", (len(pictures) * (width + GAP) + 3 * GAP, height + 2), (250, 250, 250))
    for place, picture in enumerate(pictures):
        left = place * (width + GAP) + (3 * GAP if place == len(pictures) - 1 else 0)
        shown = picture.convert("RGB").resize((width, height), Image.Resampling.NEAREST)
        strip.paste((120, 120, 120), (left, 0, left + width + 2, height + 2))
        strip.paste(shown, (left + 1, 1))
    return strip.quantize(64)


def rules_for_masks() -> dict[str, Image.Image]:
    """Given, and what becomes of it, by the name of each rule."""
    smoothed = shapes((MUG, (200, 0, 0)), (BOWL, (0, 0, 200)), ground=(0, 0, 0), scale=4).resize((WIDTH, HEIGHT))
    given: dict[str, tuple[list[Image.Image], list[str]]] = {
        "background-colour": ([shapes((MUG, (200, 0, 0)), (BOWL, (0, 0, 0)), ground=(255, 255, 255))], []),
        "background-mask": ([inverted(mask(MUG, BOWL)), mask(MUG), mask(BOWL)], []),
        "inverted": ([inverted(mask(BOWL))], []),
        "all-inverted": ([inverted(mask(MUG)), inverted(mask(BOWL))], []),
        "all-at-once": ([mask(MUG, BOWL), mask(MUG), mask(BOWL)], []),
        "double": ([mask(MUG), mask((8, 8, 28, 31)), mask(BOWL)], []),
        "part": ([mask(MUG), mask(LID), mask(BOWL)], []),
        "named-part": ([mask(MUG), mask(LID), mask(BOWL)], ["mug", "lid", "bowl"]),
        "overlap": ([mask(MUG), mask((20, 12, 48, 40))], []),
        "several": ([mask(MUG, BOWL)], []),
        "ignored": ([shapes((MUG, 1), (BOWL, 2), (BAR, 255))], []),
        "smoothed": ([smoothed], []),
    }
    found = {name: row(*pictures, read(pictures, labels)) for name, (pictures, labels) in given.items()}
    ids = given["ignored"][0]
    found["ignored"] = row(ids[0].point(lambda value: min(255, 80 * value)), read(ids))
    return found


def rules_for_depth() -> dict[str, Image.Image]:
    """Depth as given, and as z-depth; near is dark, unknown red."""
    z = 3 - 1.5 * np.mgrid[:HEIGHT, :WIDTH][0] / HEIGHT
    for box in (MUG, BOWL):
        inside = np.asarray(mask(box)) > 0
        z[inside] = z[inside].min() - 0.2
    hole = np.asarray(mask((44, 2, 70, 12))) > 0
    found = {}
    for name, values, kind in (
        ("sky", np.where(hole, 1e10, z), "auto"),
        ("disparity", 1 / z, "disparity"),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "depth.npy"
            np.save(path, values.astype(np.float32))
            depth = read_depth(path, PHOTO, max_pixels=WIDTH * HEIGHT, kind=kind)
        made = given_depth(depth.values, depth.kind, np.zeros((HEIGHT, WIDTH), np.uint16), CAMERA).depth
        found[name] = row(shaded(np.where(values > 1e9, values[values < 1e9].max(), values)), shaded(made))
    return found


def shaded(values: np.ndarray) -> Image.Image:
    """Values from dark to bright; 0 is red."""
    known = values > 0
    low, high = values[known].min(), values[known].max()
    grey = np.clip(30 + 220 * (values - low) / (high - low), 0, 255).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=2)
    picture[~known] = (200, 60, 60)
    return Image.fromarray(picture)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for rule, strip in {**rules_for_masks(), **rules_for_depth()}.items():
        strip.save(FOLDER / f"{rule}.png", optimize=True)
