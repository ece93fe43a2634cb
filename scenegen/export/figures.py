"""The report's pictures: photo, masks, depth and render as RGB arrays for people to look at."""

from __future__ import annotations

import base64
import colorsys
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped, UInt8
from scipy import ndimage

from scenegen.ids import object_ids, shows_object

GOLDEN_ANGLE = 0.381966
DEPTH_PERCENTILES = (1, 99)
DIFFERENCE_RANGE = 128
"""Difference in grey levels at which the heat map is brightest."""
JPEG_QUALITY = 88


def object_color(object_id: int) -> tuple[int, int, int]:
    """A colour (sRGB) for an object; neighbouring ids get hues far apart."""
    hue = (0.58 + object_id * GOLDEN_ANGLE) % 1.0
    red, green, blue = colorsys.hls_to_rgb(hue, 0.47, 0.72)
    return round(255 * red), round(255 * green), round(255 * blue)


def fitted(picture: Shaped[np.ndarray, "h w *c"], side: int, ids: bool = False) -> Shaped[np.ndarray, "h2 w2 *c"]:
    """`picture` with its longer side at most `side` pixels; `ids` are not interpolated."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    smaller: np.ndarray = cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST if ids else cv2.INTER_AREA)
    return smaller


def paint_masks(photo: UInt8[np.ndarray, "h w 3"], ids: Integer[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The photo in pale grey, with each object tinted and outlined in its colour."""
    grey = cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    painted = (0.55 * grey + 0.45 * 255).astype(np.uint8)
    for object_id in object_ids(ids):
        mask = ids == object_id
        painted[mask] = np.round(0.5 * photo[mask] + 0.5 * np.array(object_color(object_id))).astype(np.uint8)
    return paint_outlines(painted, ids)


def paint_outlines(picture: UInt8[np.ndarray, "h w 3"], ids: Integer[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """`picture` with the outline of every object in its colour, edged in white to show on any background."""
    painted = np.ascontiguousarray(picture).copy()
    thickness = max(1, round(max(ids.shape) / 640))
    for object_id in object_ids(ids):
        mask = (ids == object_id).astype(np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(painted, outlines, -1, (255, 255, 255), thickness + 2, cv2.LINE_AA)
        cv2.drawContours(painted, outlines, -1, object_color(object_id), thickness, cv2.LINE_AA)
    return painted


def label_places(ids: Integer[np.ndarray, "h w"]) -> dict[int, tuple[float, float]]:
    """Where to write each object's id, (u, v) in pixels: the point of its mask farthest from the mask's edge."""
    places = {}
    for object_id, window in enumerate(
        ndimage.find_objects(np.where(shows_object(ids), ids, 0).astype(np.int32)), start=1
    ):
        if window is not None:
            inside = ndimage.distance_transform_edt(np.pad(ids[window] == object_id, 1))[1:-1, 1:-1]
            v, u = np.unravel_index(int(inside.argmax()), inside.shape)
            places[object_id] = (window[1].start + float(u) + 0.5, window[0].start + float(v) + 0.5)
    return places


def depth_range(depth: Float[np.ndarray, "h w"]) -> tuple[float, float]:
    """Depths in metres at the ends of the colour scale; 0, 0 if no depth is known."""
    known = depth[depth > 0]
    if known.size == 0:
        return 0.0, 0.0
    near, far = np.percentile(known, DEPTH_PERCENTILES)
    return float(near), float(far)


def paint_depth(depth: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Depth over `depth_range`, even in 1 / depth, near yellow to far violet (viridis); grey where unknown."""
    near, far = depth_range(depth)
    known = depth > 0
    inverse = 1 / np.where(known, depth, np.inf)
    levels = (inverse - 1 / max(far, 1e-9)) / max(1 / max(near, 1e-9) - 1 / max(far, 1e-9), 1e-9)
    return np.where(known[..., None], _viridis(np.clip(levels, 0, 1)), np.uint8(128))


def depth_scale(stops: int = 9) -> list[str]:
    """CSS colours of the depth scale, near to far, evenly spaced in 1 / depth."""
    colors = _viridis(np.linspace(1, 0, stops)[None])[0]
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in colors.tolist()]


def paint_difference(
    photo: UInt8[np.ndarray, "h w 3"], rendered: UInt8[np.ndarray, "h w 3"], hit: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The largest channel difference as a heat map (black: none), mid grey where nothing was rendered."""
    difference = np.abs(photo.astype(np.int16) - rendered.astype(np.int16)).max(axis=-1)
    levels = np.clip(difference * (255 / DIFFERENCE_RANGE), 0, 255).astype(np.uint8)
    heat = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return np.where(hit[..., None], heat, np.uint8(128))


def cut_out(
    photo: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"], side: int
) -> UInt8[np.ndarray, "h2 w2 4"]:
    """The object under a non-empty `mask` cut out of the photo, RGBA, longer side at most `side` pixels."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return fitted(np.dstack([photo[box], mask[box].astype(np.uint8) * 255]), side)


def data_uri(picture: UInt8[np.ndarray, "h w c"], kind: Literal["jpeg", "png"]) -> str:
    """An RGB (or, as PNG, RGBA) picture as a data URI.

    Raises:
        ValueError: if it cannot be encoded.
    """
    swapped = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if kind == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 9]
    written, data = cv2.imencode(f".{kind}", swapped, options)
    if not written:
        raise ValueError(f"`picture` is {picture.dtype} {picture.shape}; it must be 8-bit RGB, or RGBA as PNG.")
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}"


def _viridis(levels: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    colors = cv2.applyColorMap(np.round(255 * levels).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    swapped: np.ndarray = cv2.cvtColor(colors, cv2.COLOR_BGR2RGB)
    return swapped
