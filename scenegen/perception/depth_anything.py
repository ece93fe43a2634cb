"""Depth Anything V2 (Yang et al. 2024, arXiv:2406.09414) through transformers.

The metric models were fine-tuned on one camera each and are not told the photo's. If its field of view differs, their
metres are off by about the ratio of the focal lengths. A warning says so; like the authors, we do not correct it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from scenegen.camera import check_size, fov_x_deg
from scenegen.compute.networks import loaded
from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import (
    RELEASED_THREADS,
    device_memory,
    full_packages,
    torch_device,
    torch_threads,
)
from scenegen.config import DepthAnythingConfig
from scenegen.errors import WeightsError
from scenegen.messages.remarks import note
from scenegen.perception import DepthEstimate
from scenegen.perception.released import (
    CONFIG,
    WEIGHTS,
    load_released,
    read_kind,
    released_folder,
    released_weights,
    unreadable,
)
from scenegen.records import Intrinsics
from scenegen.weights_registry import digest_of
from scenegen.weights_registry.models import depth_anything_name

FILES = (CONFIG, "preprocessor_config.json", WEIGHTS)
WHAT = "Depth Anything V2"

METRIC_UNCERTAINTY = 0.15
"""About twice the relative error the authors report for the small model on rooms like those it was fine-tuned on."""
RELATIVE_UNCERTAINTY = 0.3
"""Even if the assumed distances are right, the shift of the inverse depth is only a guess."""
RELIEF_ERROR = 0.06
"""Assumed, not measured: the released weights were never run here. Trusted, though less than a sensor."""

TRAINED_FOV_DEG = {"metric-indoor": 60.0, "metric-outdoor": 81.2}
"""Horizontal field of view of Hypersim and of Virtual KITTI 2."""
FOCAL_TOLERANCE = 1.25
"""Ratio of focal lengths beyond which a metric result comes with a warning."""


def estimate_depth_anything(
    image: UInt8[np.ndarray, "h w 3"], camera: Intrinsics, config: DepthAnythingConfig, runtime: Runtime
) -> DepthEstimate:
    """Depth of a photo.

    Args:
        image: sRGB.
        camera: camera of the photo, of which only the field of view is used.
        config: which model, and where a relative one puts its nearest and farthest points.
        runtime: device and models folder. The network is never used.

    Returns:
        z-depth in metres at the photo's size.

    Raises:
        InputError: if `camera` is of another size than `image`.
        WeightsError: if weights or packages are missing, damaged or of another kind.
        ResourceError: if the device is absent or its memory full.
    """
    check_size(camera, image)
    height, width = image.shape[:2]
    metric = config.variant != "relative"
    folder, licence = released_folder(_name(config), FILES, config.checkpoint, "depth.checkpoint", runtime)
    _check_kind(folder, config)
    with full_packages():
        import torch
    device = torch_device(runtime)
    digests = tuple(digest_of(folder / name) for name in FILES)
    with device_memory(device), torch_threads(RELEASED_THREADS), torch.inference_mode():
        network, processor = loaded(("depth-anything", digests, str(device)), lambda: _load(folder, device))
        pixels = processor(images=image, return_tensors="pt")["pixel_values"]
        predicted = network(pixel_values=pixels.to(device)).predicted_depth[0]
        raw = predicted.float().cpu().numpy()
    if not np.isfinite(raw).all():
        raise WeightsError(
            f"the network of {folder} returned values that are not finite; fetch or copy its weights again."
        )
    raw = cv2.resize(raw, (width, height), interpolation=cv2.INTER_LINEAR)
    if metric:
        depth, assumption = np.maximum(raw, 0), _trained_field_of_view(camera, config.variant)
        warnings: tuple[str, ...] = ()
    else:
        depth, warnings = depth_from_disparity(raw, config.near_m, config.far_m), _relative_warnings(raw, config)
        assumption = f"metres are assumed: the nearest point is taken to be {config.near_m:g} m away; give --depth for true ones."
    name = _name(config)
    return DepthEstimate(
        depth=depth,
        metric=metric,
        uncertainty=METRIC_UNCERTAINTY if metric else RELATIVE_UNCERTAINTY,
        relief_error=RELIEF_ERROR,
        backend=name if config.checkpoint is None else f"{name} from {folder.name}",
        licence=licence,
        assumption=assumption,
        warnings=warnings,
    )


def depth_anything_weights(config: DepthAnythingConfig) -> Mapping[str, str]:
    """What the result depends on: the registered revision, or the digests of a local folder's files.

    Raises:
        WeightsError: if a file of the local folder cannot be read.
    """
    return released_weights(_name(config), FILES, config.checkpoint)


def depth_from_disparity(
    disparity: Float32[np.ndarray, "h w"], near_m: float, far_m: float
) -> Float32[np.ndarray, "h w"]:
    """z-depth in metres from inverse depth known up to scale and shift.

    1/z = 1/far + (d - d_min) / (d_max - d_min) * (1/near - 1/far): the nearest point lies at `near_m`, the farthest at
    `far_m`, and planes stay planes. If there is no relief, all of it is put at `far_m`.
    """
    low, high = float(disparity.min()), float(disparity.max())
    share = (disparity - low) / (high - low) if high > low else np.zeros_like(disparity)
    inverse: Float32[np.ndarray, "h w"] = 1 / far_m + share * (1 / near_m - 1 / far_m)
    return (1 / inverse).astype(np.float32)


def _name(config: DepthAnythingConfig) -> str:
    return depth_anything_name(config.variant, config.size)


def _check_kind(folder: Path, config: DepthAnythingConfig) -> None:
    """Refuses a folder without Depth Anything of the variant asked for, before any class is built from it."""
    text = read_kind(folder, WHAT, ("depth_anything",))
    try:
        backbone = text["backbone_config"]["model_type"]
    except (KeyError, TypeError) as error:
        raise unreadable(folder / CONFIG, WHAT, error) from error
    if backbone != "dinov2":
        raise WeightsError(f"{folder / CONFIG} describes a 'depth_anything' on {backbone!r}; it must be on 'dinov2'.")
    estimates = text.get("depth_estimation_type", "relative")
    if estimates != config.variant.split("-")[0]:
        raise WeightsError(
            f"`depth.variant` is {config.variant!r}, but {folder} holds a {estimates} model; set depth.variant to match."
        )


def _load(folder: Path, device: Any) -> tuple[Any, Any]:
    """The network and its image processor."""
    with full_packages():
        from transformers import DepthAnythingForDepthEstimation, DPTImageProcessorPil

    network = load_released(DepthAnythingForDepthEstimation, folder, WHAT)
    try:
        processor = DPTImageProcessorPil.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise unreadable(folder, WHAT, error) from error
    return network.to(device), processor


def _trained_field_of_view(camera: Intrinsics, variant: str) -> str:
    """What the metres suffer from a field of view that the model was not trained for; empty if it was."""
    trained, fov = TRAINED_FOV_DEG[variant], fov_x_deg(camera)
    ratio = math.tan(math.radians(trained) / 2) / math.tan(math.radians(fov) / 2)
    if 1 / FOCAL_TOLERANCE <= ratio <= FOCAL_TOLERANCE:
        return ""
    return (
        f"depth: the {variant} model was fine-tuned at {trained:.0f} degrees field of view and the photo has {fov:.0f}; its "
        f"metres may be off by a factor of about {ratio:.2f}."
    )


def _relative_warnings(disparity: Float32[np.ndarray, "h w"], config: DepthAnythingConfig) -> tuple[str, ...]:
    assumed = note(
        f"depth is relative: the farthest point is taken to be {config.far_m / config.near_m:.3g} times as far away as the "
        "nearest; set depth.near_m and depth.far_m."
    )
    flat = "depth: the network found no relief, so everything is equally far away."
    return (assumed,) if disparity.max() > disparity.min() else (assumed, flat)
