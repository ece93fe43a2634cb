"""What both image editors need: the object on white, the mask of what they return, and networks from folders of diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

from scenegen.completion import PartView
from scenegen.compute.residency import Demand, Residency
from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import card_gigabytes, full_packages, require_exact
from scenegen.config import EditorConfig
from scenegen.errors import WeightsError
from scenegen.untrusted.documents import read_json
from scenegen.weights_registry import digest_of, locate, registered

INDEX = "model_index.json"
WHITE = 255
COLOURED = 14
"""A pixel that differs from white by more grey levels shows the object."""


def on_white(view: PartView) -> UInt8[np.ndarray, "s s 3"]:
    """What is seen of the object, with white for everything else."""
    return np.where(view.seen[..., None], view.image, np.uint8(WHITE))


def drawn_on_white(image: UInt8[np.ndarray, "s s 3"], seen: Bool[np.ndarray, "s s"]) -> Bool[np.ndarray, "s s"]:
    """Where an editor has drawn the object on white: what is coloured and hangs together with what was seen, without holes.

    Examples:
        >>> image = np.full((8, 8, 3), 255, np.uint8)
        >>> image[2:6, 2:6], image[0, 7] = 90, 0
        >>> seen = np.zeros((8, 8), bool)
        >>> seen[3, 3] = True
        >>> int(drawn_on_white(image, seen).sum())
        16
    """
    coloured = seen | (image.min(axis=-1) < WHITE - COLOURED)
    labels, _ = ndimage.label(coloured, np.ones((3, 3)))
    return ndimage.binary_fill_holes(np.isin(labels, np.unique(labels[seen])) & coloured)


def squared(picture: UInt8[np.ndarray, "h w *c"], side: int) -> UInt8[np.ndarray, "s s *c"]:
    """A picture of another size."""
    smaller = picture.shape[0] > side
    resized: np.ndarray = cv2.resize(
        picture, (side, side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    )
    return resized


def editor_folder(name: str, pipeline: str, checkpoint: Path | None, runtime: Runtime) -> tuple[Path, str]:
    """The folder of a registered editor, or the user's, and its licence.

    Args:
        name: of the registered model.
        pipeline: the class in diffusers that its index must name.
        checkpoint: a folder of the user's.
        runtime: where models are kept.

    Raises:
        WeightsError: if it is absent, damaged or of another pipeline.
    """
    folder = locate(name, runtime) if checkpoint is None else checkpoint
    licence = registered(name).licence if checkpoint is None else "unknown (local checkpoint)"
    try:
        kind = read_json(folder / INDEX)["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder / INDEX} cannot be read: {error}; give a folder of diffusers.") from error
    if kind != pipeline:
        raise WeightsError(f"{folder / INDEX} describes a {kind!r}; it must be a {pipeline!r}.")
    return folder, licence


def editor_weights(name: str, checkpoint: Path | None) -> dict[str, str]:
    """What a result depends on: the registered revision, or the digests of all of a user's files.

    Raises:
        WeightsError: if a file of the user's folder cannot be read.
    """
    if checkpoint is None:
        return {name: str(registered(name).revision)}
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(checkpoint).as_posix(): digest_of(path) for path in files}


def load_part(network: Any, folder: Path, dtype: Any, variant: str | None = None) -> Any:
    """One network of a folder of diffusers, for inference on the CPU, every tensor accounted for.

    Args:
        network: its class in diffusers or transformers.
        folder: with its config and safetensors.
        dtype: of its weights.
        variant: `fp16`, if its files have that in their names.

    Raises:
        WeightsError: if a file is missing, damaged or of another network.
    """
    with full_packages():
        from diffusers.utils import logging as diffusers_logging
        from safetensors import SafetensorError
        from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    try:
        made, report = network.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported below, by name, with the others
            output_loading_info=True,
            variant=variant,
            **{_dtype_argument(network): dtype},
        )
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{folder} cannot be read as {network.__name__}: {error}; fetch or copy it again."
        ) from error
    misshapen = [name for name, *_ in report["mismatched_keys"]]
    require_exact(folder, report["missing_keys"], report["unexpected_keys"], misshapen)
    return made.eval().requires_grad_(False)


def residency_on(device: Any, demand: Demand, config: EditorConfig, economy: int) -> Residency:
    """What of an editor's networks stays on `device`; elsewhere than on a graphics card all do."""
    return "resident" if device.type != "cuda" else demand.chosen(config.residency, card_gigabytes(device), economy)


def placed(pipeline: Any, device: Any, residency: Residency) -> Any:
    """A pipeline of diffusers on `device`: all of its networks, one at a time, or one layer at a time.

    Raises:
        WeightsError: if accelerate, which moves networks to and fro, is missing.
    """
    if residency == "resident":
        return pipeline.to(device)
    with full_packages():
        import accelerate  # noqa: F401  (diffusers fails without words)
    if residency == "staged":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)
    return pipeline


def _dtype_argument(network: Any) -> str:
    """What the two libraries call the type of the weights."""
    return "torch_dtype" if network.__module__.startswith("diffusers") else "dtype"
