"""A second look at each object, alone and large: how its depth varies across it, which the whole picture hardly shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Integer, UInt8

from scenegen.camera import crop_camera, project, rays, warp_to_crop
from scenegen.compute.torch_env import side_by_side
from scenegen.errors import InputError
from scenegen.ids import object_ids
from scenegen.perception.network import RELIEF_UNITS, STRIDE, PerceptionNetwork
from scenegen.records import CropCamera, Intrinsics

SIDE = 192
"""Of the crops, pixels; what the network was taught on."""
MARGIN = 1.25
"""Side of a crop over that of its object's box."""
GREY = 128
"""What surrounds the object in its crop."""
AT_ONCE = 8
"""Objects looked at together."""


@dataclass(frozen=True, eq=False)
class Relief:
    """How the depth of one object varies."""

    log_depth: Float32[np.ndarray, "n"]
    """Natural logarithm of the z-depth (photo camera) of the object's pixels in reading order, about its mean."""
    error: float
    """One standard deviation of the relief, as a share of the object's width."""


def look_again(
    network: PerceptionNetwork,
    image: UInt8[np.ndarray, "h w 3"],
    ids: Integer[np.ndarray, "h w"],
    camera: Intrinsics,
) -> Iterator[tuple[int, Relief]]:
    """The relief of every object that has a crop of its own, by id. Each is seen twice, once mirrored."""
    crops: list[tuple[int, CropCamera]] = []
    for number in object_ids(ids):
        try:
            crops.append((number, crop_camera(camera, ids == number, SIDE, MARGIN)))
        except InputError:  # no camera sees the whole of it: it keeps the relief of the whole picture's depth
            continue
    device = next(network.parameters()).device
    for start in range(0, len(crops), AT_ONCE):
        some = crops[start : start + AT_ONCE]
        pictures = np.stack([_alone(image, ids == number, camera, crop) for number, crop in some])
        batch = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 255
        straight, mirrored = side_by_side(torch.inference_mode()(network), [batch, batch.flip(3)], device)
        relief = (straight.relief + mirrored.relief.flip(2)) / 2
        log_error = (straight.relief_log_error + mirrored.relief_log_error.flip(2)) / 2
        for (number, crop), cells, errors in zip(some, relief.cpu().numpy(), log_error.cpu().numpy(), strict=True):
            yield number, _in_photo(cells, errors, ids == number, camera, crop)


def _alone(
    image: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"], camera: Intrinsics, crop: CropCamera
) -> UInt8[np.ndarray, "s s 3"]:
    """The crop with all but the object grey."""
    seen = warp_to_crop(image, camera, crop)
    shown = warp_to_crop(mask.astype(np.float32), camera, crop) > 0.5
    return np.where(shown[..., None], seen, GREY).astype(np.uint8)


def _in_photo(
    cells: Float32[np.ndarray, "c c"],
    log_error: Float32[np.ndarray, "c c"],
    mask: Bool[np.ndarray, "h w"],
    camera: Intrinsics,
    crop: CropCamera,
) -> Relief:
    """The relief at the photo's pixels, from the crop's cells that lie inside the object."""
    share = cv2.resize(warp_to_crop(mask.astype(np.float32), camera, crop), cells.shape, interpolation=cv2.INTER_AREA)
    trust = (share**2 + 1e-4).astype(np.float32)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    turned = rays(camera)[window] @ np.array(crop.crop_from_camera).T
    along = np.maximum(turned[..., 2], 1e-3)
    places = (project(crop.intrinsics, turned / along[..., None]) / STRIDE - 0.5).astype(np.float32)

    def enlarged(values: Float32[np.ndarray, "c c"]) -> Float32[np.ndarray, "h2 w2"]:
        return cv2.remap(values, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    # Weighted, so that cells beyond the outline say nothing. A point's z along the crop's axis is that along the photo's times
    # what its ray gains.
    width_at_one = crop.intrinsics.width / crop.intrinsics.fx
    log_depth = (enlarged(trust * cells) / enlarged(trust) * width_at_one - np.log(along))[mask[window]]
    inner = share > 0.9
    error = np.exp(np.median(log_error[inner if inner.any() else share > 0]))
    return Relief((log_depth - log_depth.mean()).astype(np.float32), float(np.sqrt(2) * error / RELIEF_UNITS * MARGIN))
