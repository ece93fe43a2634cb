"""LightGlue (Lindenberger et al. 2023, arXiv:2306.13643) on SuperPoint's features (DeTone et al. 2018), through transformers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8

from scenegen.compute.networks import loaded
from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import RELEASED_THREADS, device_memory, full_packages, torch_device, torch_threads
from scenegen.config import LightGlueConfig
from scenegen.errors import WeightsError
from scenegen.perception.released import CONFIG, WEIGHTS, load_released, read_kind, released_folder
from scenegen.views.features import Matches, agreeing
from scenegen.weights_registry import digest_of
from scenegen.weights_registry.models import LIGHTGLUE_NAME

FILES = (CONFIG, WEIGHTS)
WHAT = "LightGlue with SuperPoint"
CELL = 8
"""Pixels along each side of a cell of SuperPoint's grid."""


def match_lightglue(
    images: Sequence[UInt8[np.ndarray, "_h _w 3"]], config: LightGlueConfig, runtime: Runtime
) -> tuple[Matches, ...]:
    """The matches of every pair of photos (sRGB) that has any, in agreement with one fundamental matrix.

    Raises:
        WeightsError: if weights or packages are missing, damaged or of another kind.
        ResourceError: if the device is absent or its memory full.
    """
    folder, _ = released_folder(LIGHTGLUE_NAME, FILES, config.checkpoint, "views.match.checkpoint", runtime)
    device = torch_device(runtime)
    digests = tuple(digest_of(folder / name) for name in FILES)
    found = []
    with device_memory(device), torch_threads(RELEASED_THREADS), torch.inference_mode():
        network = loaded(("lightglue", digests, str(device)), lambda: _load(folder, device))
        for first, second in itertools.combinations(range(len(images)), 2):
            pixels = matched_pixels(network, (images[first], images[second]), config.max_side)
            found.append(Matches(first, second, pixels))
    return agreeing(found, images)


def matched_pixels(
    network: Any, images: tuple[UInt8[np.ndarray, "_h _w 3"], UInt8[np.ndarray, "_h2 _w2 3"]], max_side: int
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, "n 2"]]:
    """Where the network sees the same points in two photos, in their pixels (centres at +0.5).

    Args:
        network: `LightGlueForKeypointMatching`.
        images: two photos (sRGB).
        max_side: longer side, in pixels, that larger ones are reduced to.
    """
    small = [_reduced(image, max_side) for image in images]
    height, width = (-(-max(grey.shape[axis] for grey in small) // CELL) * CELL for axis in (0, 1))
    # Both must be of one size. An edge that goes on has no corners, where features would be found.
    padded = [
        np.pad(grey, ((0, height - grey.shape[0]), (0, width - grey.shape[1])), mode="edge")[None].repeat(3, axis=0)
        for grey in small
    ]
    device = next(network.parameters()).device
    said = network(pixel_values=torch.from_numpy(np.stack(padded)[None]).to(device))
    partner = said.matches[0, 0].cpu().numpy().astype(int)
    places = [(side * said.keypoints.new_tensor([width, height])).cpu().numpy() for side in said.keypoints[0]]
    own = np.flatnonzero((said.mask[0, 0].cpu().numpy() > 0) & (partner >= 0))
    pixels = [np.round(places[side][index]) + 0.5 for side, index in enumerate((own, partner[own]))]
    inside = np.ones(len(own), bool)
    for at, grey in zip(pixels, small, strict=True):
        inside &= (at < grey.shape[::-1]).all(axis=1)
    first, second = (
        at[inside].astype(np.float64) * (np.array(image.shape[1::-1]) / grey.shape[::-1])
        for at, image, grey in zip(pixels, images, small, strict=True)
    )
    return first, second


def _reduced(image: UInt8[np.ndarray, "h w 3"], max_side: int) -> Float32[np.ndarray, "h2 w2"]:
    """The photo in grey, 0..1."""
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    scale = max_side / max(grey.shape)
    if scale < 1:
        size = max(CELL, round(grey.shape[1] * scale)), max(CELL, round(grey.shape[0] * scale))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return grey.astype(np.float32) / 255


def _load(folder: Path, device: Any) -> Any:
    detector = read_kind(folder, WHAT, ("lightglue",)).get("keypoint_detector_config") or {}
    kind = detector.get("model_type") if isinstance(detector, dict) else None
    if kind != "superpoint":
        raise WeightsError(
            f"{folder / CONFIG} describes LightGlue for {kind!r}; it must be for 'superpoint': others bring code of their own, "
            "which is never run."
        )
    with full_packages():
        from transformers import LightGlueForKeypointMatching
    return load_released(LightGlueForKeypointMatching, folder, WHAT).to(device)
