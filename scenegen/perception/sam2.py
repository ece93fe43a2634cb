"""SAM 2.1 (Ravi et al. 2024, arXiv:2408.00714) through transformers: automatic masks, or boxes and clicks as prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from scenegen.compute.networks import loaded
from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import RELEASED_THREADS, device_memory, full_packages, torch_device, torch_threads
from scenegen.config import Sam2Config
from scenegen.perception import Segmentation
from scenegen.perception.overlaps import drawn_objects
from scenegen.perception.promptable import IMAGENET, Promptable, propose, segment_prompts
from scenegen.perception.prompts import Prompt
from scenegen.perception.released import CONFIG, WEIGHTS, load_released, read_kind, released_folder
from scenegen.weights_registry import digest_of
from scenegen.weights_registry.models import SAM2_NAME

FILES = (CONFIG, WEIGHTS)
KINDS = ("sam2", "sam2_video")
"""The released folders describe the video network, which the picture's is a part of."""


def segment_sam2(
    image: UInt8[np.ndarray, "h w 3"], config: Sam2Config, runtime: Runtime, prompts: Sequence[Prompt] = ()
) -> Segmentation:
    """The objects of a photo (sRGB): one for each prompt, or else all that `drawn_objects` keeps of the automatic masks.

    Raises:
        WeightsError: if weights or packages are missing, damaged or of another kind.
        ResourceError: if the device is absent or its memory full.
    """
    folder, licence = released_folder(SAM2_NAME, FILES, config.checkpoint, "segment.checkpoint", runtime)
    device = torch_device(runtime)
    digests = tuple(digest_of(folder / name) for name in FILES)
    with device_memory(device), torch_threads(RELEASED_THREADS), torch.inference_mode():
        asked = loaded(("sam2", digests, str(device)), lambda: _load(folder, device))
        if prompts:
            return segment_prompts(asked, image, prompts, SAM2_NAME, licence)
        found = propose(asked, image, config.points_per_side, config.min_iou, config.min_stability)
    return drawn_objects(found, config, config.max_area, SAM2_NAME, licence)


def _load(folder: Path, device: Any) -> Promptable:
    read_kind(folder, "SAM 2.1", KINDS)
    with full_packages():
        from transformers import Sam2Model
    network = load_released(Sam2Model, folder, "SAM 2.1").to(device)
    return Promptable(network, network.config.prompt_encoder_config.image_size, IMAGENET)
