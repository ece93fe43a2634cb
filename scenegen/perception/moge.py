"""MoGe-2: depth in metres, normals, field of view and gravity of a photo.

Its own package needs opencv-python, which overwrites the one without a window system, and a web server. So the network is built
here (`scenegen.perception.moge_network`) from the released checkpoint, and its points are solved for focal length and shift.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from scipy.optimize import least_squares

from scenegen.camera import check_size, fov_x_deg
from scenegen.compute.networks import loaded
from scenegen.compute.recent import Recent, digest_of_image
from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import RELEASED_THREADS, device_memory, require_exact, torch_device, torch_threads
from scenegen.config import MogeSettings
from scenegen.errors import WeightsError
from scenegen.perception import CameraEstimate, DepthEstimate
from scenegen.perception.moge_network import BACKBONES, Moge, plane_positions
from scenegen.records import Intrinsics
from scenegen.weights_registry import check_digest, digest_of, locate, registered
from scenegen.weights_registry.models import MOGE_NAME

UNCERTAINTY = 0.1
"""Assumed: about twice the relative error of metric depth that the authors report over many kinds of photos."""
RELIEF_ERROR = 0.04
"""Assumed, not measured: the released weights were never run here. Trusted, though less than a sensor."""
LOG_FOCAL_ERROR = 0.06
"""Assumed: about three degrees at a field of view of 60, as the authors report."""
SAMPLES = 64
"""Rows and columns of the points that focal length and shift are solved from."""
WITHIN_DEG = 10.0
"""Normals this close to the vertical count as those of level surfaces."""
LEAST_SHARE = 0.05
"""Share of the normals that level surfaces must have for gravity to be known."""
UPRIGHT_DEG = 60.0
"""How far the vertical may lean from that of the picture."""

_recent: Recent[Seen] = Recent(2)


@dataclass(frozen=True, eq=False)
class Seen:
    """What the network says of a photo."""

    points: Float32[np.ndarray, "h w 3"]
    """In the camera's frame, but for a scale and a shift of z."""
    mask: Bool[np.ndarray, "h w"]
    """Where something is at a finite distance."""
    normals: Float32[np.ndarray, "h w 3"] | None
    """Unit vectors in the camera's frame, towards the camera; None from a network without them."""
    metres: float
    """For each unit of `points`."""


def estimate_depth_moge(
    image: UInt8[np.ndarray, "h w 3"], camera: Intrinsics, config: MogeSettings, runtime: Runtime
) -> DepthEstimate:
    """Depth of a photo (sRGB) taken with `camera`, of which only the field of view is used: z in metres, 0 where it is sky.

    Raises:
        InputError: if `camera` is of another size than `image`.
        WeightsError: if the weights are missing, damaged or of another kind.
        ResourceError: if the device is absent or its memory full.
    """
    check_size(camera, image)
    height, width = image.shape[:2]
    seen = see(image, config, runtime)
    focal = 1 / np.tan(np.radians(fov_x_deg(camera)) / 2) * width / np.hypot(width, height)
    shift = solve_shift(seen, focal)
    depth = (seen.points[..., 2] + shift) * seen.metres
    return DepthEstimate(
        depth=np.where(seen.mask & (depth > 0), depth, 0).astype(np.float32),
        metric=True,
        uncertainty=UNCERTAINTY,
        relief_error=RELIEF_ERROR,
        backend=MOGE_NAME,
        licence=_checkpoint(config, runtime)[1],
    )


def estimate_camera_moge(image: UInt8[np.ndarray, "h w 3"], config: MogeSettings, runtime: Runtime) -> CameraEstimate:
    """Field of view from the points; gravity from the normals of level surfaces, if the photo shows enough of them.

    Raises:
        WeightsError: if the weights are missing, damaged or of another kind.
        ResourceError: if the device is absent or its memory full.
    """
    seen = see(image, config, runtime)
    height, width = image.shape[:2]
    focal, _ = solve_focal_and_shift(seen)
    fov = float(np.degrees(2 * np.arctan(width / np.hypot(width, height) / focal)))
    if not 1 < fov < 170:
        return CameraEstimate()
    down = None if seen.normals is None else gravity(seen.normals, seen.mask)
    return CameraEstimate(fov, LOG_FOCAL_ERROR, down)


def moge_weights(config: MogeSettings) -> Mapping[str, str]:
    """What the result depends on: the sha256 of the checkpoint.

    Raises:
        WeightsError: if the local checkpoint cannot be read.
    """
    if config.checkpoint is None:
        return {MOGE_NAME: str(registered(MOGE_NAME).files[0].sha256)}
    return {MOGE_NAME: config.sha256 or digest_of(config.checkpoint)}


def see(image: UInt8[np.ndarray, "h w 3"], config: MogeSettings, runtime: Runtime) -> Seen:
    """What the network says of a photo. The answers for the last photos are kept: camera and depth need the same.

    Raises:
        WeightsError: if the weights are missing, damaged or of another kind.
        ResourceError: if the device is absent or its memory full.
    """
    path, _ = _checkpoint(config, runtime)
    device = torch_device(runtime)

    def look() -> Seen:
        with device_memory(device), torch_threads(RELEASED_THREADS), torch.inference_mode():
            network = loaded(("moge", digest_of(path), str(device)), lambda: load_moge(path).to(device))
            return _look(network, image, config.detail, device, path)

    return _recent.of((digest_of_image(image), digest_of(path), config.detail, str(device)), look)


def solve_focal_and_shift(seen: Seen) -> tuple[float, float]:
    """The focal length, in half diagonals, and the shift of z with which the points lie on the rays of their pixels."""
    places, across, along = _sampled(seen)
    if len(places) < 2:
        return 1.0, 0.0

    def focal(shift: float) -> float:
        projected = across / (along + shift)[:, None]
        return float((projected * places).sum() / np.square(projected).sum())

    def error(shift: Float[np.ndarray, "1"]) -> Float[np.ndarray, "n"]:
        return (focal(shift[0]) * across / (along + shift[0])[:, None] - places).ravel()

    shift = float(least_squares(error, x0=np.zeros(1), ftol=1e-3, method="lm").x[0])
    return focal(shift), shift


def solve_shift(seen: Seen, focal: float) -> float:
    """The shift of z, as by `solve_focal_and_shift`, for a known focal length."""
    places, across, along = _sampled(seen)
    if len(places) < 2:
        return 0.0

    def error(shift: Float[np.ndarray, "1"]) -> Float[np.ndarray, "n"]:
        return (focal * across / (along + shift[0])[:, None] - places).ravel()

    return float(least_squares(error, x0=np.zeros(1), ftol=1e-3, method="lm").x[0])


def gravity(normals: Float32[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, "3"] | None:
    """The direction down, against the normals that most level surfaces share; None if too few do.

    Of the normals within `UPRIGHT_DEG` of the picture's vertical, it is the mean of those about their densest direction.

    Examples:
        >>> floor = np.zeros((4, 4, 3), np.float32)
        >>> floor[..., 1] = -1
        >>> gravity(floor, np.ones((4, 4), bool)).tolist()
        [-0.0, 1.0, -0.0]
    """
    rows, columns = _grid(mask.shape)
    valid = mask[rows, columns]
    sampled = normals[rows, columns][valid].astype(float)
    upright = sampled[sampled[:, 1] < -np.cos(np.radians(UPRIGHT_DEG))]
    if len(upright) < max(1, LEAST_SHARE * len(sampled)):
        return None
    near = upright @ upright.T > np.cos(np.radians(WITHIN_DEG))
    level = near[near.sum(1).argmax()]
    if level.sum() < LEAST_SHARE * len(sampled):
        return None
    mean = upright[level].mean(axis=0)
    return (-mean / np.linalg.norm(mean)).astype(np.float32)


def load_moge(path: Path) -> Moge:
    """The network of a released checkpoint, a pickle of which plain values and tensors alone are read; every tensor is
    accounted for.

    Raises:
        WeightsError: if the file is damaged, or of another network.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        network = Moge(stored["model_config"], BACKBONES)
        tensors = stored["model"]
        expected = network.state_dict()
        common = expected.keys() & tensors.keys()
        misshapen = [name for name in common if expected[name].shape != tensors[name].shape]
    except (
        OSError,
        EOFError,
        RuntimeError,
        pickle.UnpicklingError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        raise WeightsError(f"{path} cannot be read as MoGe-2: {error!r}; fetch or copy it again.") from error
    require_exact(path, expected.keys() - common, tensors.keys() - common, misshapen)
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def _look(network: Moge, image: UInt8[np.ndarray, "h w 3"], detail: int, device: torch.device, path: Path) -> Seen:
    tokens = round(network.least_tokens + detail / 9 * (network.most_tokens - network.least_tokens))
    picture = torch.from_numpy(image).to(device).permute(2, 0, 1).float() / 255
    # As the authors run it: half precision is made for graphics cards.
    with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
        output = network(picture, tokens)
    points = output.points.cpu().numpy()
    if not np.isfinite(points).all() or not np.isfinite(output.metres):
        raise WeightsError(
            f"the network of {path} returned values that are not finite; fetch or copy its weights again."
        )
    normals = None
    if output.normals is not None:
        away = (output.normals * output.points).sum(-1, keepdim=True) > 0
        normals = torch.where(away, -output.normals, output.normals).cpu().numpy()
    return Seen(points, (output.mask > 0.5).cpu().numpy(), normals, output.metres)


def _sampled(
    seen: Seen,
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2"], Float[np.ndarray, "n"]]:
    """Positions on the picture in half diagonals, and x, y and z of the points there."""
    height, width = seen.mask.shape
    rows, columns = _grid(seen.mask.shape)
    valid = seen.mask[rows, columns]
    places = plane_positions(height, width, width / height).numpy()[rows, columns][valid].astype(float)
    points = seen.points[rows, columns][valid].astype(float)
    return places, points[:, :2], points[:, 2]


def _grid(shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Rows and columns of `SAMPLES` x `SAMPLES` pixels, as nearest-neighbour resampling takes them."""
    rows, columns = (np.arange(SAMPLES) * length // SAMPLES for length in shape)
    return rows[:, None], columns[None]


def _checkpoint(config: MogeSettings, runtime: Runtime) -> tuple[Path, str]:
    """The checkpoint file, its digest checked, and its licence."""
    if config.checkpoint is None:
        model = registered(MOGE_NAME)
        return locate(MOGE_NAME, runtime) / model.files[0].name, model.licence
    if config.sha256 is None:
        digest = digest_of(config.checkpoint)
        raise WeightsError(
            f"the checkpoint {config.checkpoint} of MoGe-2 is a pickle, and no digest was given to check it against. Its sha256 "
            f"is {digest}; if you trust it, set `sha256` beside `checkpoint`."
        )
    check_digest(config.checkpoint, config.sha256)
    return config.checkpoint, "unknown (local checkpoint)"
