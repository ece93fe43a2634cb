"""segment-anything (Kirillov et al. 2023, arXiv:2304.02643): automatic masks, or boxes and points as prompts.

SAM proposes overlapping masks of wholes, parts and groups; `scenegen.perception.overlaps` makes one object per pixel of them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from scenegen.compute.networks import loaded
from scenegen.compute.recent import Recent, digest_of_image
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
from scenegen.messages.remarks import note
from scenegen.perception import UNNAMED, Segmentation
from scenegen.perception.overlaps import Proposals, drawn_objects
from scenegen.perception.prompts import Prompt, answered
from scenegen.weights_registry import MODELS, check_digest, digest_of, locate, registered

KEPT = 2
"""Photos that stay encoded."""


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
    are reduced by `drawn_objects`.

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
        sam = loaded(
            ("sam", config.model, build, digest_of(path), path.suffix, str(device)),
            lambda: _Sam(_network(config.model, build, path, device)),
        )
        masks, scores = _prompted(sam, image, prompts) if prompts else _automatic(sam.network, image, config)
    scores = np.clip(scores, 0, 1)
    backend = f"sam-{config.model}"
    if prompts:
        unnamed = (UNNAMED,) * len(masks), (None,) * len(masks)
        return answered(masks, scores.tolist(), *unnamed, backend, licence)
    return drawn_objects(Proposals(masks, scores), config, config.max_area, backend, licence, tuple(warnings))


def sam_weights(config: SamConfig) -> Mapping[str, str]:
    """What the result depends on: the sha256 of the checkpoint.

    Raises:
        WeightsError: if the local checkpoint cannot be read.
    """
    if config.checkpoint is None:
        return {f"sam-{config.model}": str(registered(f"sam-{config.model}").files[0].sha256)}
    return {f"sam-{config.model}": config.sha256 or digest_of(config.checkpoint)}


@dataclass(frozen=True, eq=False)
class _Sam:
    network: Any
    predictors: Recent[Any] = field(default_factory=lambda: Recent(KEPT))
    """Of the last photos, which they have encoded."""


def _prompted(
    sam: _Sam, image: UInt8[np.ndarray, "h w 3"], prompts: Sequence[Prompt]
) -> tuple[Bool[np.ndarray, "n h w"], Float[np.ndarray, " n"]]:
    """The best proposal for each prompt."""
    from segment_anything import SamPredictor

    def encoded() -> Any:
        predictor = SamPredictor(sam.network)
        predictor.set_image(image)
        return predictor

    predictor = sam.predictors.of(digest_of_image(image), encoded)
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
