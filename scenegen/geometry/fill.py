"""Pictures with holes, and what is known next to an outline."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Shaped
from scipy import ndimage

RIDGE = 0.1
"""How much the planes are held to be level, against the spread of what they are fitted to."""


def nearest_known(values: Shaped[np.ndarray, "h w *c"], known: Bool[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h w *c"]:
    """`values` where `known`, elsewhere those of the nearest known pixel. At least one pixel must be known."""
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return values[nearest[0], nearest[1]]


def trusted_depth(
    depth: Float[np.ndarray, "h w"], inside: Bool[np.ndarray, "h w"], rim: float
) -> Bool[np.ndarray, "h w"]:
    """Pixels of an object whose depth is known and believed: no outlier, and not along the outline, where it mixes with what is
    behind, unless that leaves too little.

    Args:
        depth: z-depth, positive where known.
        inside: the object.
        rim: along the outline, as a share of the picture's side.
    """
    known = inside & (depth > 0)
    inner = ndimage.binary_erosion(inside, iterations=max(1, round(rim * inside.shape[0]))) & known
    trusted = inner if np.count_nonzero(inner) > 0.2 * np.count_nonzero(known) else known
    values = depth[trusted]
    middle = np.median(values)
    spread = np.percentile(np.abs(values - middle), 90) + 1e-6 * middle
    return trusted & (np.abs(depth - middle) < 4 * spread)


def outline_distance(inside: Bool[np.ndarray, "s s"]) -> Float64[np.ndarray, "s s"]:
    """Distance of each pixel's centre to the outline, which runs between pixels, in pixels; positive inside. The picture's
    border is not an outline."""
    if inside.all():
        return np.full(inside.shape, float(inside.shape[0]))
    distance = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    return distance - 0.5 * np.sign(distance)


def continued_as_planes(
    depth: Float[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"], reach: float
) -> Float[np.ndarray, "h w"]:
    """`depth` where `known`, elsewhere that of the plane that fits best what is known around, the nearer the more.

    A plane's inverse depth is linear in the pixels, so planes are continued exactly but for what holds them level. Nothing
    becomes nearer or farther than all that is known; far from it the nearest known pixel is taken.

    Args:
        depth: z-depth, positive where known.
        known: at least one pixel.
        reach: standard deviation in pixels of the weight.
    """
    height, width = depth.shape
    y, x = np.meshgrid(np.arange(height) / reach, np.arange(width) / reach, indexing="ij")
    inverse = np.where(known, 1 / np.where(known, depth, 1), 0.0)

    def around(values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        return ndimage.gaussian_filter(values * known, reach, mode="constant", truncate=6)

    total, of_x, of_y, of_q = around(np.ones_like(x)), around(x), around(y), around(inverse)
    enough = total > 1e-6
    total = np.maximum(total, 1e-6)
    middle_x, middle_y, middle_q = of_x / total, of_y / total, of_q / total
    xx = around(x * x) / total - middle_x**2 + RIDGE
    yy = around(y * y) / total - middle_y**2 + RIDGE
    xy = around(x * y) / total - middle_x * middle_y
    xq = around(x * inverse) / total - middle_x * middle_q
    yq = around(y * inverse) / total - middle_y * middle_q
    determinant = xx * yy - xy**2
    along_x, along_y = (yy * xq - xy * yq) / determinant, (xx * yq - xy * xq) / determinant
    plane = middle_q + along_x * (x - middle_x) + along_y * (y - middle_y)
    plane = np.clip(plane, inverse[known].min(), inverse[known].max())
    return np.where(known, depth, np.where(enough, 1 / plane, nearest_known(depth, known)))


def averaged(
    values: Float[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"], sigma: float
) -> Float64[np.ndarray, "h w"]:
    """`values` where `known`, smoothed among themselves, elsewhere 0.

    Args:
        values: any numbers where they are not known.
        known: what is averaged.
        sigma: standard deviation of the weights, pixels.
    """
    share = ndimage.gaussian_filter(known.astype(np.float64), sigma)
    mean = ndimage.gaussian_filter(np.where(known, values, 0.0), sigma) / np.maximum(share, 1e-9)
    return np.where(known, mean, 0.0)


def pull_push(colors: Float32[np.ndarray, "h w c"], weight: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w c"]:
    """`colors` where their `weight` (0..1) is 1, elsewhere spread smoothly from there (Gortler and others 1996).

    Each level is half as large, and its pixels are the means of what is known below; what is not, is taken from the level above.
    """
    height, width = weight.shape
    if max(height, width) == 1 or weight.min() >= 1:
        return colors
    size = (width + 1) // 2, (height + 1) // 2
    share = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    mean = cv2.resize(colors * weight[..., None], size, interpolation=cv2.INTER_AREA).reshape(*share.shape, -1)
    above = pull_push(mean / np.maximum(share, 1e-6)[..., None], np.minimum(1, 4 * share))
    coarse = cv2.resize(above, (width, height), interpolation=cv2.INTER_LINEAR).reshape(colors.shape)
    return weight[..., None] * colors + (1 - weight[..., None]) * coarse
