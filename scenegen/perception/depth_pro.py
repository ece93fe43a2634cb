"""Depth Pro (Bochkovskii et al. 2024, arXiv:2410.02073) through transformers: metres and field of view of a photo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torch.nn import functional

from scenegen.camera import check_size, fov_x_deg
from scenegen.compute.networks import loaded
from scenegen.compute.recent import Recent, digest_of_image
from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import RELEASED_THREADS, device_memory, full_packages, torch_device, torch_threads
from scenegen.config import DepthProSettings
from scenegen.errors import WeightsError
from scenegen.perception import CameraEstimate, DepthEstimate
from scenegen.perception.released import CONFIG, WEIGHTS, load_released, read_kind, released_folder
from scenegen.records import Intrinsics
from scenegen.weights_registry import digest_of
from scenegen.weights_registry.models import DEPTH_PRO_NAME

FILES = (CONFIG, WEIGHTS)
WHAT = "Depth Pro"
UNCERTAINTY = 0.15
"""Assumed: about twice the relative error that the authors report over many kinds of photos."""
RELIEF_ERROR = 0.05
"""Assumed, not measured: the released weights were never run here. Trusted, though less than a sensor."""
LOG_FOCAL_ERROR = 0.12
"""Assumed: the authors' median error over many kinds of photos."""
NEAREST, FARTHEST = 1e-4, 1e4
"""Metres. The network's inverse depth is cut off there, as the authors do."""

_recent: Recent[Seen] = Recent(2)


@dataclass(frozen=True, eq=False)
class Seen:
    """What the network says of a photo."""

    inverse: Float32[np.ndarray, "h w"]
    """1 / z in 1/metres, for a focal length of one width of the photo."""
    fov_x_deg: float


def estimate_depth_pro(
    image: UInt8[np.ndarray, "h w 3"], camera: Intrinsics, config: DepthProSettings, runtime: Runtime
) -> DepthEstimate:
    """Depth of a photo (sRGB) taken with `camera`, of which only the field of view is used: z in metres.

    Raises:
        InputError: if `camera` is of another size than `image`.
        WeightsError: if weights or packages are missing, damaged or of another kind.
        ResourceError: if the device is absent or its memory full.
    """
    check_size(camera, image)
    seen = see(image, config, runtime)
    widths = 0.5 / np.tan(np.radians(fov_x_deg(camera)) / 2)  # the focal length
    return DepthEstimate(
        depth=(1 / np.clip(seen.inverse / widths, 1 / FARTHEST, 1 / NEAREST)).astype(np.float32),
        metric=True,
        uncertainty=UNCERTAINTY,
        relief_error=RELIEF_ERROR,
        backend=DEPTH_PRO_NAME,
        licence=_folder(config, runtime)[1],
    )


def estimate_camera_depth_pro(
    image: UInt8[np.ndarray, "h w 3"], config: DepthProSettings, runtime: Runtime
) -> CameraEstimate:
    """The field of view, which the network estimates beside the depth. It says nothing of gravity.

    Raises:
        WeightsError: if weights or packages are missing, damaged or of another kind.
        ResourceError: if the device is absent or its memory full.
    """
    fov = see(image, config, runtime).fov_x_deg
    return CameraEstimate(fov, LOG_FOCAL_ERROR) if 1 < fov < 170 else CameraEstimate()


def see(image: UInt8[np.ndarray, "h w 3"], config: DepthProSettings, runtime: Runtime) -> Seen:
    """What the network says of a photo. The answers for the last photos are kept: camera and depth need the same.

    Raises:
        WeightsError: if weights or packages are missing, damaged or of another kind.
        ResourceError: if the device is absent or its memory full.
    """
    folder, _ = _folder(config, runtime)
    device = torch_device(runtime)
    digests = tuple(digest_of(folder / name) for name in FILES)

    def look() -> Seen:
        with device_memory(device), torch_threads(RELEASED_THREADS), torch.inference_mode():
            network = loaded(("depth-pro", digests, str(device)), lambda: _load(folder, device))
            said = network(pixel_values=_pixels(image, _side(network), device))
        inverse, fov = said.predicted_depth[0].float().cpu().numpy(), float(said.field_of_view[0])
        if not (np.isfinite(inverse).all() and np.isfinite(fov)):
            raise WeightsError(
                f"the network of {folder} returned values that are not finite; fetch or copy its weights again."
            )
        return Seen(cv2.resize(inverse, image.shape[1::-1], interpolation=cv2.INTER_LINEAR), fov)

    return _recent.of((digest_of_image(image), digests, str(device)), look)


def _pixels(image: UInt8[np.ndarray, "h w 3"], side: int, device: Any) -> Float[Tensor, "1 3 s s"]:
    """The photo from -1 to 1, squeezed into a square without smoothing, as in training."""
    colours = torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float() / 127.5 - 1
    return functional.interpolate(colours, (side, side), mode="bilinear")


def _side(network: Any) -> int:
    """Pixels of the square that the network sees: its smallest copy of the photo fills one patch."""
    return round(network.config.patch_size / network.config.scaled_images_ratios[0])


def _folder(config: DepthProSettings, runtime: Runtime) -> tuple[Path, str]:
    return released_folder(DEPTH_PRO_NAME, FILES, config.checkpoint, "depth.checkpoint", runtime)


def _load(folder: Path, device: Any) -> Any:
    if not read_kind(folder, WHAT, ("depth_pro",)).get("use_fov_model"):
        raise WeightsError(
            f"{folder / CONFIG} describes a Depth Pro without field of view; it must have `use_fov_model`."
        )
    with full_packages():
        from transformers import DepthProForDepthEstimation
    return load_released(DepthProForDepthEstimation, folder, WHAT).to(device)
