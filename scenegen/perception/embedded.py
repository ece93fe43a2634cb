"""Objects, depth, field of view and gravity from the perception network whose weights are part of the package.

The network sees a photo once; what it says is kept for the stages that ask next. It works on a small copy: the objects'
outlines are then moved to the photo's edges, and depth is enlarged object by object, so that it stays sharp between them.

Depth has no scale of its own. Metres follow a convention: the objects are as far away as the configuration says.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Integer, UInt8, UInt16

from scenegen.config import EmbeddedDepthConfig, EmbeddedSegmentConfig
from scenegen.errors import InputError
from scenegen.ids import shows_object
from scenegen.models import digest_of
from scenegen.networks import loaded
from scenegen.perception import DepthEstimate, Segmentation
from scenegen.perception.masks import snap_to_edges
from scenegen.perception.network import MULTIPLE, PerceptionNetwork, PerceptionSettings, log_focal
from scenegen.remarks import note
from scenegen.runtime import Runtime
from scenegen.torch_env import COMPACT_THREADS, device_memory, torch_device, torch_threads
from scenegen.weights import PERCEPTION
from scenegen.weights.file import read_weights

logger = logging.getLogger(__name__)

NAME = "embedded perception network"
LICENCE = "Apache-2.0 (weights of this package; trunk from EfficientNet-Lite0, Apache-2.0)"

WEIGHTS = PERCEPTION

WORKING_SIDE = 384
"""Longer side of the copy the network sees, in pixels."""
KEPT = 4
"""Photos whose outcome is kept."""

OBJECT = 0.5
"""Probability of showing an object above which a cell may belong to one."""
SEED = 0.6
"""Seeds below this start no object; this and `FRESH` gave the best F-score on held-out training scenes."""
NEAR = 0.5
"""Nearness to a centre above which a cell belongs to it; what the loss draws the line at."""
FRESH = 0.7
"""Share of a new object that must not belong to earlier ones."""
MIN_CELLS = 4
"""Smallest object the network was taught to group, in cells."""

PURITY = 4
"""Power to which the share of a cell that shows an object is raised, where its depth is enlarged."""
RIM_TRUST = 1e-4
"""What a cell beside an outline counts there, against one whose neighbours all show the object."""
SMOOTHING = 2.0
"""Standard deviation in cells of what an object's depth is averaged over."""
RELIEF_ERROR = 0.17
"""Measured on held-out renders, 147 objects: median error of the depth across an object, as a share of its width. The relief
itself has 0.16; the network gives about a sixth of it."""


@dataclass(frozen=True, eq=False)
class Perception:
    """What the network says of one photo, on cells of its working copy."""

    object_probability: Float32[np.ndarray, "h w"]
    seed: Float32[np.ndarray, "h w"]
    """0..1, high near the middle of an object's embeddings."""
    embedding: Float32[np.ndarray, "h w e"]
    log_precision: Float32[np.ndarray, "h w"]
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


@dataclass(frozen=True, eq=False)
class Group:
    """One object as the network groups it."""

    centre: Float32[np.ndarray, "e"]
    precision: float
    score: float
    """0..1."""
    cells: int


def segment_embedded(
    image: UInt8[np.ndarray, "h w 3"], config: EmbeddedSegmentConfig, runtime: Runtime
) -> Segmentation:
    """The separate objects of a photo (sRGB), the surest first. Floors, walls, tables and shelves are no objects.

    Raises:
        WeightsError: where the package's weights are missing or damaged.
        ResourceError: where the device is absent or its memory full.
    """
    perception = perceive(image, runtime)
    ids, scores = instances(perception, image.shape[0], image.shape[1], config.min_area, config.max_objects)
    scale = max(image.shape[:2]) / WORKING_SIDE
    if scale > 1:
        ids = snap_to_edges(image, ids, reach=int(np.ceil(2 * scale)))
    return Segmentation(ids=ids, scores=scores, labels=("object",) * len(scores), backend=NAME, licence=LICENCE)


def estimate_depth_embedded(
    image: UInt8[np.ndarray, "h w 3"], ids: Integer[np.ndarray, "h2 w2"], config: EmbeddedDepthConfig, runtime: Runtime
) -> DepthEstimate:
    """Depth of a photo, sharp at the outlines of its objects.

    Args:
        image: sRGB.
        ids: id of the object each pixel shows.
        config: says the scale.
        runtime: device.

    Raises:
        InputError: where `ids` is of another size than `image`.
        WeightsError: where the package's weights are missing or damaged.
        ResourceError: where the device is absent or its memory full.
    """
    height, width = image.shape[:2]
    if ids.shape != (height, width):
        raise InputError(f"`ids` is {ids.shape[1]}x{ids.shape[0]}; it must be {width}x{height}, the photo's size.")
    perception = perceive(image, runtime)
    relative = np.exp(enlarged_by_object(perception.log_depth, ids))
    shown = shows_object(ids)
    scale = config.distance_m / float(np.median(relative[shown] if shown.any() else relative))
    return DepthEstimate(
        depth=(relative * scale).astype(np.float32),
        metric=False,
        # Of a Laplace distribution the standard deviation is the root of two times its scale.
        uncertainty=float(np.sqrt(2) * np.exp(np.median(perception.log_error))),
        relief_error=RELIEF_ERROR,
        backend=NAME,
        licence=LICENCE,
        warnings=(
            note(
                f"depth has no scale: the {'objects' if shown.any() else 'surfaces'} are taken to be "
                f"{config.distance_m:g} m away; give --depth for true metres, or set depth.distance_m."
            ),
        ),
    )


def perceive(image: UInt8[np.ndarray, "h w 3"], runtime: Runtime) -> Perception:
    """What the network says of a photo. Of the last few photos the answer is kept.

    Raises:
        WeightsError: where the package's weights are missing or damaged.
        ResourceError: where the device is absent or its memory full.
    """
    key = (hashlib.sha256(image.tobytes()).hexdigest(), image.shape, WEIGHTS, runtime.device)
    with _lock:
        if key not in _kept:
            device = torch_device(runtime)
            with device_memory(device):
                _kept[key] = observe(_network(WEIGHTS, str(device)), image, WORKING_SIDE)
        _kept.move_to_end(key)
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
        return _kept[key]


def load_network(path: Path) -> PerceptionNetwork:
    """The network that a weight file describes, in float32; one that states no settings has `PerceptionSettings()`.

    Raises:
        WeightsError: where the file is missing, damaged, or of another network.
    """
    return read_weights(path, PerceptionNetwork, PerceptionSettings()).requires_grad_(False)


@torch_threads(COMPACT_THREADS)
def observe(network: PerceptionNetwork, image: UInt8[np.ndarray, "h w 3"], side: int) -> Perception:
    """Runs the network on a copy of `image` whose longer side is at most about `side` pixels."""
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = tuple(max(1, round(length * scale / MULTIPLE)) * MULTIPLE for length in (width, height))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    device = next(network.parameters()).device
    pictures = torch.from_numpy(small).to(device).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        prediction = network(pictures)
        mean, error = log_focal(prediction.focal_logits)
    focal = float(mean.exp()[0]) * max(height, width)
    down = prediction.down[0].cpu().numpy()

    def plane(values: torch.Tensor) -> Float32[np.ndarray, "h w"]:
        return values[0].float().cpu().numpy()

    return Perception(
        object_probability=plane(prediction.object_logit.sigmoid()),
        seed=plane(prediction.seed_logit.sigmoid()),
        embedding=np.ascontiguousarray(prediction.embedding[0].float().cpu().numpy().transpose(1, 2, 0)),
        log_precision=plane(prediction.log_precision),
        log_depth=plane(prediction.log_depth),
        log_error=plane(prediction.log_error),
        fov_x_deg=float(np.degrees(2 * np.arctan(width / (2 * focal)))),
        log_focal_error=float(error[0]),
        down=down,
    )


def instances(
    perception: Perception, height: int, width: int, min_area: float, max_objects: int
) -> tuple[UInt16[np.ndarray, "h w"], tuple[float, ...]]:
    """Ids at the photo's size, the surest object first, and the objects' scores."""
    cells = perception.seed.size
    found = [group for group in groups(perception) if group.cells >= min_area * cells][:max_objects]
    size = (width, height)
    best = np.full((height, width), NEAR, np.float32)
    ids = np.zeros((height, width), np.uint16)
    for number, group in enumerate(found, start=1):
        # Enlarged before it is compared, so that outlines are smooth.
        near = cv2.resize(nearness(perception.embedding, group), size, interpolation=cv2.INTER_LINEAR)
        nearer = near > best
        best[nearer] = near[nearer]
        ids[nearer] = number
    probability = cv2.resize(perception.object_probability, size, interpolation=cv2.INTER_LINEAR)
    ids[probability <= OBJECT] = 0
    return ids, tuple(round(group.score, 4) for group in found)


def groups(perception: Perception) -> list[Group]:
    """The objects, the surest first: around the best seed left, what is near it is one object, and is left no more."""
    embedding, seed = perception.embedding, perception.seed
    open_cells = perception.object_probability > OBJECT
    left = open_cells.copy()
    found = []
    while True:
        candidates = np.where(left, seed, 0)
        start = np.unravel_index(int(candidates.argmax()), seed.shape)
        if candidates[start] < SEED:
            break
        first = Group(embedding[start], float(np.exp(perception.log_precision[start])), 0.0, 0)
        near = (nearness(embedding, first) > NEAR) & open_cells
        fresh = near & left
        left &= ~near
        left[start] = False
        cells = int(fresh.sum())
        if cells < MIN_CELLS or cells < FRESH * near.sum():
            continue
        found.append(
            Group(
                centre=embedding[fresh].mean(axis=0),
                precision=float(np.exp(perception.log_precision[fresh].mean())),
                score=float((seed * perception.object_probability)[fresh].mean()),
                cells=cells,
            )
        )
    return sorted(found, key=lambda group: -group.score)


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


def nearness(embedding: Float32[np.ndarray, "h w e"], group: Group) -> Float32[np.ndarray, "h w"]:
    """How near each cell is to the middle of a group: 1 there, and `NEAR` where the loss draws the line."""
    return np.exp(-group.precision * np.square(embedding - group.centre).sum(axis=-1))


_lock = threading.Lock()
_kept: OrderedDict[tuple[str, tuple[int, ...], Path, str], Perception] = OrderedDict()


def _network(path: Path, device: str) -> PerceptionNetwork:
    return loaded(("perception", digest_of(path), device), lambda: load_network(path).to(device))
