"""Objects, depth, field of view and gravity from the perception network whose weights are part of the package.

The network runs once per photo; its answer is kept for the stages that ask next. It works on a small copy: the objects'
outlines are then moved to the photo's edges, and depth is enlarged object by object, so that it stays sharp between them.

Depth has no scale of its own: the objects are put as far away as the configuration says.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Integer, UInt8, UInt16

from scenegen.camera import intrinsics_from_fov
from scenegen.compute.networks import loaded
from scenegen.compute.recent import Recent, digest_of_image
from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import COMPACT_THREADS, device_memory, side_by_side, torch_device, torch_threads
from scenegen.config import EmbeddedDepthConfig, EmbeddedSegmentConfig
from scenegen.errors import InputError
from scenegen.ids import UNKNOWN, shows_object
from scenegen.perception import UNNAMED, DepthEstimate, Guess, Segmentation
from scenegen.perception.masks import snap_to_edges
from scenegen.perception.network import MULTIPLE, PerceptionNetwork, PerceptionSettings, Prediction, log_focal
from scenegen.perception.objects import PARTS, WHOLE, FoundObject, Look, find_objects
from scenegen.perception.relief import look_again
from scenegen.perception.scenery import is_scenery
from scenegen.weights import PERCEPTION
from scenegen.weights.file import read_weights
from scenegen.weights_registry import digest_of

logger = logging.getLogger(__name__)

NAME = "embedded perception network"
LICENCE = "Apache-2.0 (weights of this package; trunk from EfficientNet-Lite2, Apache-2.0)"

WEIGHTS = PERCEPTION

WORKING_SIDE = 384
"""Longer side of the copy the network sees, in pixels."""
KEPT = 4
"""Number of photos whose result is kept."""
SURE = 0.37
"""Objects found with a lower score are left out. On held-out photographs less finds hardly more, and more pieces of things."""
POOR_GUESS = 0.03
"""Nouns less likely than this are not kept."""
FARTHEST = 1.2
"""Logarithm of the largest depth over the picture's median. The network says "far" of sky and, wrongly, of bright walls, whose
error is then without bounds. On renders and photographs that it was trained on, what lies farther is judged best at this."""

PURITY = 4
"""Power to which the share of a cell that shows an object is raised, where its depth is enlarged."""
RIM_TRUST = 1e-4
"""What a cell beside an outline counts there, against one whose neighbours all show the object."""
SMOOTHING = 2.0
"""Standard deviation in cells of what an object's depth is averaged over."""
RELIEF_ERROR = 0.17
"""Of the depth across an object that no crop shows whole, as a share of its width: the relief itself has 0.16."""


_recent: Recent[Perception] = Recent(KEPT)


@dataclass(frozen=True, eq=False)
class Perception:
    """The network's answer for one photo, on the cells of its working copy."""

    prediction: Prediction
    """Of one picture, on the network's device: what prompts are answered from."""
    log_depth: Float32[np.ndarray, "h w"]
    """Natural logarithm of the z-depth, up to a constant."""
    log_error: Float32[np.ndarray, "h w"]
    """Logarithm of the scale of the Laplace distribution around `log_depth`."""
    fov_x_deg: float
    """Horizontal field of view, for a centred principal point and square pixels."""
    log_focal_error: float
    """Standard deviation of the logarithm of the focal length."""
    down: Float32[np.ndarray, "3"]
    """Unit vector of gravity in the camera's frame."""


def segment_embedded(
    image: UInt8[np.ndarray, "h w 3"], config: EmbeddedSegmentConfig, runtime: Runtime
) -> Segmentation:
    """The separate objects of a photo (sRGB), the surest first. Floors, walls, tables and shelves do not count as objects.

    Raises:
        WeightsError: if the package's weights are missing or damaged.
        ResourceError: if the device is absent or its memory full.
    """
    network = network_of(runtime)

    def look(window: tuple[float, float, float, float]) -> Look:
        return Look(perceive(image, runtime).prediction) if window == WHOLE else look_at(network, image, window)

    with torch_threads(COMPACT_THREADS), device_memory(torch_device(runtime)):
        looks = side_by_side(look, (WHOLE, *PARTS), torch_device(runtime))
        found = find_objects(network, looks, SURE)
    found = [each for each in found if not is_scenery(each.probability > 0.5)]
    ids, kept = drawn(found, image.shape[0], image.shape[1], config.min_area, config.max_objects)
    guesses = tuple(guessed(each.nouns, network.settings.nouns) for each in kept)
    named = [called(each, config) for each in guesses]
    return Segmentation(
        ids=snapped(image, ids),
        scores=tuple(round(each.score, 4) for each in kept),
        labels=tuple(label for label, _ in named),
        label_confidences=tuple(confidence for _, confidence in named),
        guesses=guesses,
        backend=NAME,
        licence=LICENCE,
    )


def guessed(likely: Float32[np.ndarray, "c"], nouns: Sequence[str]) -> tuple[Guess, ...]:
    """The nouns that are likelier than `POOR_GUESS`, the likeliest first."""
    order = np.argsort(-likely, kind="stable").tolist()
    return tuple((nouns[index], round(float(likely[index]), 4)) for index in order if likely[index] > POOR_GUESS)


def called(guesses: Sequence[Guess], config: EmbeddedSegmentConfig) -> tuple[str, float | None]:
    """A label and how likely it is right: the best guess where that is likely enough, else `UNNAMED`."""
    return guesses[0] if guesses and guesses[0][1] >= config.min_label_confidence else (UNNAMED, None)


def snapped(image: UInt8[np.ndarray, "h w 3"], ids: UInt16[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
    """`ids` with their outlines at the photo's edges, as far as the network's cells are coarser than the photo."""
    scale = max(image.shape[:2]) / WORKING_SIDE
    return snap_to_edges(image, ids, reach=int(np.ceil(2 * scale))) if scale > 1 else ids


def estimate_depth_embedded(
    image: UInt8[np.ndarray, "h w 3"], ids: Integer[np.ndarray, "h2 w2"], config: EmbeddedDepthConfig, runtime: Runtime
) -> DepthEstimate:
    """Depth of a photo, sharp at the outlines of its objects.

    Args:
        image: sRGB.
        ids: id of the object each pixel shows.
        config: gives the scale.
        runtime: device.

    Raises:
        InputError: if `ids` is of another size than `image`.
        WeightsError: if the package's weights are missing or damaged.
        ResourceError: if the device is absent or its memory full.
    """
    height, width = image.shape[:2]
    if ids.shape != (height, width):
        raise InputError(f"`ids` is {ids.shape[1]}x{ids.shape[0]}; it must be {width}x{height}, the photo's size.")
    perception = perceive(image, runtime)
    network = network_of(runtime)
    log_depth = enlarged_by_object(perception.log_depth, ids)
    errors = []
    camera = intrinsics_from_fov(width, height, perception.fov_x_deg)
    with torch_threads(COMPACT_THREADS), device_memory(torch_device(runtime)):
        for number, relief in look_again(network, image, ids, camera):
            mask = ids == number
            log_depth[mask] = log_depth[mask].mean() + relief.log_depth
            errors.append(relief.error)
    relative = np.exp(np.minimum(log_depth - np.median(log_depth), FARTHEST))
    shown = shows_object(ids)
    scale = config.distance_m / float(np.median(relative[shown] if shown.any() else relative))
    return DepthEstimate(
        depth=(relative * scale).astype(np.float32),
        metric=False,
        # Of a Laplace distribution the standard deviation is the root of two times its scale.
        uncertainty=float(np.sqrt(2) * np.exp(np.median(perception.log_error))),
        relief_error=float(np.median(errors)) if errors else RELIEF_ERROR,
        backend=NAME,
        licence=LICENCE,
        any_scale=config.known_sizes,
        assumption=f"depth has no scale: the {'objects' if shown.any() else 'surfaces'} are taken to be {config.distance_m:g} m "
        "away; give --depth for true metres, or set depth.distance_m.",
    )


def perceive(image: UInt8[np.ndarray, "h w 3"], runtime: Runtime) -> Perception:
    """The network's answer for a photo. The answers for the last few photos are kept.

    Raises:
        WeightsError: if the package's weights are missing or damaged.
        ResourceError: if the device is absent or its memory full.
    """

    def look() -> Perception:
        with device_memory(torch_device(runtime)):
            return observe(network_of(runtime), image, WORKING_SIDE)

    return _recent.of((digest_of_image(image), WEIGHTS, runtime.device), look)


def network_of(runtime: Runtime) -> PerceptionNetwork:
    """The package's network on the device of `runtime`; loaded once per process."""
    return _network(WEIGHTS, str(torch_device(runtime)))


def load_network(path: Path) -> PerceptionNetwork:
    """The network that a weight file describes, in float32; without settings in the file, they are `PerceptionSettings()`.

    Raises:
        WeightsError: if the file is missing, damaged, or of another network.
    """
    return read_weights(path, PerceptionNetwork, PerceptionSettings()).requires_grad_(False)


@torch_threads(COMPACT_THREADS)
def observe(network: PerceptionNetwork, image: UInt8[np.ndarray, "h w 3"], side: int) -> Perception:
    """Runs the network on a copy of `image` whose longer side is at most about `side` pixels."""
    height, width = image.shape[:2]
    with torch.inference_mode():
        prediction = _predicted(network, image, min(1.0, side / max(height, width)))
        mean, error = log_focal(prediction.focal_logits)
    focal = float(mean.exp()[0]) * max(height, width)
    return Perception(
        prediction=prediction,
        log_depth=prediction.log_depth[0].float().cpu().numpy(),
        log_error=prediction.log_error[0].float().cpu().numpy(),
        fov_x_deg=float(np.degrees(2 * np.arctan(width / (2 * focal)))),
        log_focal_error=float(error[0]),
        down=prediction.down[0].cpu().numpy(),
    )


def _predicted(network: PerceptionNetwork, image: UInt8[np.ndarray, "h w 3"], scale: float) -> Prediction:
    """What the network says of a copy of `image`, about `scale` times its size."""
    height, width = image.shape[:2]
    size = tuple(max(1, round(length * scale / MULTIPLE)) * MULTIPLE for length in (width, height))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    device = next(network.parameters()).device
    prediction: Prediction = network(torch.from_numpy(small).to(device).permute(2, 0, 1)[None].float() / 255)
    return prediction


@torch.inference_mode()
def look_at(
    network: PerceptionNetwork,
    image: UInt8[np.ndarray, "h w 3"],
    window: tuple[float, float, float, float],
    side: int = WORKING_SIDE,
) -> Look:
    """What the network says of a window of a photo; the window then lies on whole pixels.

    Args:
        network: on any device.
        image: sRGB.
        window: left, top, right and bottom, in shares of the photo.
        side: longer side of the copy the network sees, in pixels, even if the window has fewer.
    """
    height, width = image.shape[:2]
    left, right = round(window[0] * width), max(round(window[2] * width), round(window[0] * width) + 1)
    top, bottom = round(window[1] * height), max(round(window[3] * height), round(window[1] * height) + 1)
    part = np.ascontiguousarray(image[top:bottom, left:right])
    prediction = _predicted(network, part, side / max(part.shape[:2]))
    return Look(prediction, (left / width, top / height, right / width, bottom / height))


def drawn(
    found: Sequence[FoundObject], height: int, width: int, min_area: float, max_objects: int
) -> tuple[UInt16[np.ndarray, "h w"], list[FoundObject]]:
    """Ids at the photo's size, the surest object first, and the objects that got one.

    What is smaller than `min_area` of the picture gets none, nor what is beyond `max_objects`: there the ids are `UNKNOWN`.
    """
    large = [each for each in found if np.count_nonzero(each.probability > 0.5) >= min_area * each.probability.size]
    kept = large[:max_objects]
    best = np.full((height, width), 0.5, np.float32)
    ids = np.zeros((height, width), np.uint16)
    for number, each in enumerate([*kept, *(each for each in found if each not in kept)], start=1):
        # Enlarged before it is compared, so that outlines are smooth.
        probability = cv2.resize(each.probability, (width, height), interpolation=cv2.INTER_LINEAR)
        likelier = probability > best
        best[likelier] = probability[likelier]
        ids[likelier] = number if number <= len(kept) else UNKNOWN
    return ids, kept


def enlarged_by_object(
    log_depth: Float32[np.ndarray, "h w"], ids: Integer[np.ndarray, "height width"]
) -> Float32[np.ndarray, "height width"]:
    """`log_depth` at the size of `ids`: every object, and the background, from the cells well inside it.

    The network blurs depth across outlines, by about a cell to either side. Cells there count for little where better ones
    are near, and what is near is averaged, since single cells are noisy.
    """
    cells = log_depth.shape[::-1]
    enlarged = np.zeros(ids.shape, np.float32)
    for number in np.unique(ids):
        mask = ids == number
        purity = cv2.resize(mask.astype(np.float32), cells, interpolation=cv2.INTER_AREA)
        inner = cv2.erode(purity, np.ones((3, 3)), borderType=cv2.BORDER_REPLICATE)
        trust = inner**PURITY + RIM_TRUST * purity**PURITY
        weight = cv2.GaussianBlur(trust, (0, 0), SMOOTHING)
        mean = cv2.GaussianBlur(trust * log_depth, (0, 0), SMOOTHING) / np.maximum(weight, np.finfo(np.float32).tiny)
        known = (purity > 0).astype(np.float32)
        share = cv2.resize(known, ids.shape[::-1], interpolation=cv2.INTER_LINEAR)[mask]
        enlarged[mask] = cv2.resize(known * mean, ids.shape[::-1], interpolation=cv2.INTER_LINEAR)[mask] / share
    return enlarged


def _network(path: Path, device: str) -> PerceptionNetwork:
    return loaded(("perception", digest_of(path), device), lambda: load_network(path).to(device))
