"""segment-anything (Kirillov et al. 2023, arXiv:2304.02643): automatic masks, or boxes and points as prompts.

SAM proposes overlapping masks of wholes, parts and groups. A scene needs one object per pixel: `resolve_overlaps` says
how that is decided.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8, UInt16

from scenegen.compute.networks import loaded
from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import (
    RELEASED_THREADS,
    device_memory,
    full_packages,
    require_exact,
    torch_device,
    torch_threads,
)
from scenegen.config import SamConfig
from scenegen.errors import WeightsError
from scenegen.ids import UNKNOWN
from scenegen.messages.remarks import note
from scenegen.perception import UNNAMED, Segmentation
from scenegen.perception.masks import paint
from scenegen.perception.prompts import Prompt, answered
from scenegen.weights_registry import MODELS, check_digest, digest_of, locate, registered

SAME_IOU = 0.8
"""Masks that agree more than this show the same thing."""
INSIDE_SHARE = 0.8
"""Share of a mask that must lie in another to be a part of it."""
FAR_LARGER = 10.0
"""A whole this many times its part's area is rather what the part stands on or before."""
STAGE_SHARE = 0.15
"""Share of the picture such a whole must cover; below it, small parts (handles, buttons) stay with their whole."""
SIDE_SHARE = 0.1
"""Share of a side of the picture a mask must cover to reach that side."""
BACKGROUND_SIDES = 3
"""A mask that reaches this many sides is floor, wall or sky."""


def build_network(model: str) -> Any:
    """segment-anything's network `model` (`vit_b`, `vit_l`, `vit_h`), not yet loaded."""
    from segment_anything import sam_model_registry

    return sam_model_registry[model]()


def segment_sam(
    image: UInt8[np.ndarray, "h w 3"],
    config: SamConfig,
    runtime: Runtime,
    prompts: Sequence[Prompt] = (),
    build: Callable[[str], Any] = build_network,
) -> Segmentation:
    """The objects of a photo.

    With prompts, each gives one object: the best of SAM's three proposals by its own estimate. Without, the automatic masks
    are reduced by `resolve_overlaps`, and the largest `max_objects` are kept.

    Args:
        image: sRGB.
        config: model and thresholds.
        runtime: device and models folder. The network is never used.
        prompts: in pixels of `image`.
        build: from the model's name to the network the checkpoint is loaded into.

    Raises:
        WeightsError: if weights or packages are missing, damaged or of another kind.
        ResourceError: if the device is absent or its memory full.
    """
    path, licence = _checkpoint(config, runtime)
    warnings: list[str] = []
    with full_packages():
        import segment_anything  # noqa: F401  (fails here, not in the middle)
        import torch
    device = torch_device(runtime)
    if device.type == "mps" and not prompts:
        device = torch.device("cpu")
        warnings.append(
            note("segment: SAM's automatic masks need float64, which mps does not have, so they were made on the CPU.")
        )
    with device_memory(device), torch_threads(RELEASED_THREADS):
        network = loaded(
            ("sam", config.model, build, digest_of(path), path.suffix, str(device)),
            lambda: _network(config.model, build, path, device),
        )
        masks, scores = _prompted(network, image, prompts) if prompts else _automatic(network, image, config)
    scores = np.clip(scores, 0, 1)
    backend = f"sam-{config.model}"
    if prompts:
        unnamed = (UNNAMED,) * len(masks), (None,) * len(masks)
        return answered(masks, scores.tolist(), *unnamed, backend, licence)
    ids, order = resolve_overlaps(masks, scores, config.min_area, config.max_area)
    if len(order) > config.max_objects:
        warnings.append(
            f"segment: SAM found {len(order)} objects; the largest {config.max_objects} are kept. "
            "Raise segment.max_objects to keep more."
        )
        order = order[: config.max_objects]
        ids[ids > config.max_objects] = UNKNOWN
    return Segmentation(
        ids=ids,
        scores=tuple(scores[order].tolist()),
        labels=(UNNAMED,) * len(order),
        label_confidences=(None,) * len(order),
        backend=backend,
        licence=licence,
        warnings=tuple(warnings),
    )


def sam_weights(config: SamConfig) -> Mapping[str, str]:
    """What the result depends on: the sha256 of the checkpoint.

    Raises:
        WeightsError: if the local checkpoint cannot be read.
    """
    if config.checkpoint is None:
        return {f"sam-{config.model}": str(registered(f"sam-{config.model}").files[0].sha256)}
    return {f"sam-{config.model}": config.sha256 or digest_of(config.checkpoint)}


def resolve_overlaps(
    masks: Bool[np.ndarray, "n h w"], scores: Float[np.ndarray, " n"], min_area: float, max_area: float
) -> tuple[UInt16[np.ndarray, "h w"], list[int]]:
    """One object per pixel from overlapping proposals.

    1. Size: masks of less than `min_area` or more than `max_area` of the picture go.
    2. Background: a mask that covers a tenth or more of each of three sides of the picture is floor, wall or sky, and
       goes. Objects cut off by the picture reach two at most.
    3. Duplicates: of masks with an IoU above 0.8, the one with the best score stays.
    4. Parts and wholes, from the largest mask down: a mask of which 0.8 lies in a larger kept one is its part, and
       goes, so that an object stays in one piece. But where the larger mask is over ten times as large and covers over
       0.15 of the picture, it is what the other stands on or before (a cup on a table): then both stay.
    5. What still overlaps is painted with the smaller mask on top (`paint`).

    Args:
        masks: proposals.
        scores: how good each is; only their order counts.
        min_area: share of the picture.
        max_area: share of the picture.

    Returns:
        The ids, 1..m by descending visible area, and the index in `masks` of each.
    """
    pixels = masks.shape[1] * masks.shape[2]
    areas = masks.sum((1, 2))
    fits = (areas >= min_area * pixels) & (areas <= max_area * pixels)
    candidates = [index for index in np.flatnonzero(fits).tolist() if not _is_background(masks[index])]
    shared = dict(zip(candidates, _intersections(masks[candidates]), strict=True))
    column = {index: place for place, index in enumerate(candidates)}

    different: list[int] = []
    for index in sorted(candidates, key=lambda index: -scores[index]):
        common = [shared[index][column[other]] for other in different]
        if all(
            both <= SAME_IOU * (areas[index] + areas[other] - both)
            for both, other in zip(common, different, strict=True)
        ):
            different.append(index)

    def is_part(part: int, whole: int) -> bool:
        inside = shared[part][column[whole]] >= INSIDE_SHARE * areas[part]
        stage = areas[whole] > FAR_LARGER * areas[part] and areas[whole] > STAGE_SHARE * pixels
        return bool(inside and not stage)

    kept: list[int] = []
    for index in sorted(different, key=lambda index: -areas[index]):
        if not any(is_part(index, whole) for whole in kept):
            kept.append(index)
    ids, order = paint(masks[kept])
    ranks = np.argsort(-np.bincount(ids.ravel(), minlength=len(order) + 1)[1:], kind="stable")
    number = np.zeros(len(order) + 1, np.uint16)
    number[1 + ranks] = np.arange(1, len(order) + 1)
    return number[ids], [kept[order[rank]] for rank in ranks.tolist()]


def _is_background(mask: Bool[np.ndarray, "h w"]) -> bool:
    sides = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    return sum(bool(side.mean() >= SIDE_SHARE) for side in sides) >= BACKGROUND_SIDES


def _intersections(masks: Bool[np.ndarray, "n h w"]) -> Int[np.ndarray, "n n"]:
    """Pixels each pair of masks shares."""
    flat = masks.reshape(len(masks), masks.shape[1] * masks.shape[2])
    shared = np.zeros((len(masks), len(masks)), np.int64)
    for start in range(
        0, flat.shape[1], 1 << 16
    ):  # in blocks, since a float copy of everything would be four times as large
        block = flat[:, start : start + (1 << 16)].astype(np.float32)
        shared += (block @ block.T).astype(np.int64)
    return shared


def _prompted(
    network: Any, image: UInt8[np.ndarray, "h w 3"], prompts: Sequence[Prompt]
) -> tuple[Bool[np.ndarray, "n h w"], Float[np.ndarray, " n"]]:
    """The best proposal for each prompt."""
    from segment_anything import SamPredictor

    predictor = SamPredictor(network)
    predictor.set_image(image)
    best_masks, best_scores = [], []
    for prompt in prompts:
        clicks = [*prompt.inside, *prompt.outside]
        masks, scores, _ = predictor.predict(
            point_coords=np.array(clicks) if clicks else None,
            point_labels=np.repeat([1, 0], [len(prompt.inside), len(prompt.outside)]) if clicks else None,
            box=None if prompt.box is None else np.array(prompt.box),
        )
        best_masks.append(masks[scores.argmax()])
        best_scores.append(scores.max())
    return np.stack(best_masks), np.array(best_scores, float)


def _automatic(
    network: Any, image: UInt8[np.ndarray, "h w 3"], config: SamConfig
) -> tuple[Bool[np.ndarray, "n h w"], Float[np.ndarray, " n"]]:
    """Every proposal over a grid of points that SAM itself finds good and stable."""
    from segment_anything import SamAutomaticMaskGenerator

    generator = SamAutomaticMaskGenerator(
        network,
        points_per_side=config.points_per_side,
        pred_iou_thresh=config.min_iou,
        stability_score_thresh=config.min_stability,
    )
    proposals = generator.generate(image)
    masks = np.zeros((len(proposals), *image.shape[:2]), bool)
    for mask, proposal in zip(masks, proposals, strict=True):
        mask[:] = proposal["segmentation"]
    return masks, np.array([proposal["predicted_iou"] for proposal in proposals], float)


def _checkpoint(config: SamConfig, runtime: Runtime) -> tuple[Path, str]:
    """The checkpoint file, its digest checked, and its licence."""
    if config.checkpoint is None:
        model = registered(f"sam-{config.model}")
        return locate(model.name, runtime) / model.files[0].name, model.licence
    if config.sha256 is not None:
        check_digest(config.checkpoint, config.sha256)
    digest = (config.sha256 or digest_of(config.checkpoint)).lower()
    licences = {file.sha256: model.licence for model in MODELS.values() for file in model.files}
    if config.sha256 is None and config.checkpoint.suffix == ".pth" and digest not in licences:
        raise WeightsError(
            f"`segment.checkpoint` {config.checkpoint} is not a registered file, and no digest was given to check it against. "
            f"Its sha256 is {digest}; if you trust it: --set segment.sha256={digest}"
        )
    return config.checkpoint, licences.get(digest, "unknown (local checkpoint)")


def _network(model: str, build: Callable[[str], Any], path: Path, device: Any) -> Any:
    network = build(model).eval()
    _load(network, _read_tensors(path), path)
    return network.to(device)


def _read_tensors(path: Path) -> dict[str, Any]:
    """The tensors of a `.pth` or `.safetensors` file. Nothing but tensors is ever built from it."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)
        elif path.suffix == ".pth":
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise WeightsError(f"`segment.checkpoint` {path} must end in .pth or .safetensors.")
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        raise WeightsError(f"{path} does not hold plain tensors: {error}") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise WeightsError(f"{path} is not a plain mapping of names to tensors; save a state dict.")
    return tensors


def _load(network: Any, tensors: dict[str, Any], path: Path) -> None:
    """Loads `tensors` into `network`, every one of them accounted for."""
    expected = network.state_dict()
    common = expected.keys() & tensors.keys()
    misshapen = [name for name in common if expected[name].shape != tensors[name].shape]
    require_exact(path, expected.keys() - common, tensors.keys() - common, misshapen)
    network.load_state_dict(tensors)
