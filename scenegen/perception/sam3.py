"""SAM 3 (Carion et al. 2025, arXiv:2511.16719) through transformers: every instance of what a noun names, or boxes and clicks.

One file holds two networks: the detector, which is asked for nouns, and the tracker, which answers boxes and clicks. Without
either, the detector is asked for every noun of `scenegen.perception.nouns`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from scenegen.compute.networks import loaded
from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import RELEASED_THREADS, device_memory, full_packages, torch_device, torch_threads
from scenegen.config import Sam3Config
from scenegen.perception import Segmentation
from scenegen.perception.finding import not_found
from scenegen.perception.nouns import NOUNS
from scenegen.perception.overlaps import Proposals, drawn_objects
from scenegen.perception.promptable import HALVES, Promptable, as_pixels, segment_prompts
from scenegen.perception.prompts import Prompt
from scenegen.perception.released import CONFIG, WEIGHTS, load_released, read_kind, released_folder, unreadable
from scenegen.weights_registry import digest_of
from scenegen.weights_registry.models import SAM3_NAME

TOKENIZER = "tokenizer.json"
FILES = (CONFIG, WEIGHTS, TOKENIZER)
KINDS = ("sam3_video", "sam3")
"""The released folder describes the video network, which detector and tracker are parts of."""
WORDS_LENGTH = 32
"""Tokens that every noun is padded or cut to."""
PAD = "<|endoftext|>"
MOST_PROPOSALS = 256


@dataclass(frozen=True, eq=False)
class Detector:
    """The network that is asked for nouns."""

    network: Any
    tokenizer: Any


def segment_sam3(
    image: UInt8[np.ndarray, "h w 3"], config: Sam3Config, runtime: Runtime, prompts: Sequence[Prompt] = ()
) -> Segmentation:
    """The objects of a photo (sRGB): one for each prompt, or all that the nouns of `find`, or else everyday nouns, name.

    Raises:
        WeightsError: if weights or packages are missing, damaged or of another kind.
        ResourceError: if the device is absent or its memory full.
    """
    folder, licence = released_folder(SAM3_NAME, FILES, config.checkpoint, "segment.checkpoint", runtime)
    device = torch_device(runtime)
    digests = tuple(digest_of(folder / name) for name in FILES)
    with device_memory(device), torch_threads(RELEASED_THREADS), torch.inference_mode():
        if prompts:
            asked = loaded(("sam3-tracker", digests, str(device)), lambda: _load_tracker(folder, device))
            return segment_prompts(asked, image, prompts, SAM3_NAME, licence)
        detector = loaded(("sam3", digests, str(device)), lambda: _load_detector(folder, device))
        names = tuple(dict.fromkeys(config.find or NOUNS))
        found = detect(detector, image, names, config.min_score)
    drawn = drawn_objects(found, config, config.max_area, SAM3_NAME, licence, asked_for=bool(config.find))
    missing = [name for name in config.find if name not in drawn.labels]
    return replace(drawn, warnings=(*drawn.warnings, *not_found(missing)))


def detect(detector: Detector, image: UInt8[np.ndarray, "h w 3"], names: Sequence[str], min_score: float) -> Proposals:
    """Every instance of each of `names` that the detector is sure enough of; at most the `MOST_PROPOSALS` surest."""
    network = detector.network
    device = next(network.parameters()).device
    side = network.config.vision_config.backbone_config.image_size
    seen = network.get_vision_features(as_pixels(image, side, HALVES, device))
    tokens, attended = _tokens(detector.tokenizer, names)
    instances: list[tuple[float, str, Float[Tensor, "m m"]]] = []
    for name, ids, mask in zip(names, tokens.to(device), attended.to(device), strict=True):
        said = network(vision_embeds=seen, input_ids=ids[None], attention_mask=mask[None])
        scores = said.pred_logits[0].sigmoid() * said.presence_logits[0].sigmoid()
        for index in (scores >= min_score).nonzero().flatten().tolist():
            instances.append((float(scores[index]), name, said.pred_masks[0, index]))
    instances.sort(key=lambda instance: -instance[0])
    instances = instances[:MOST_PROPOSALS]
    height, width = image.shape[:2]
    masks = np.zeros((len(instances), height, width), bool)
    for mask, (_, _, logits) in zip(masks, instances, strict=True):
        share = functional.interpolate(logits.sigmoid()[None, None].float(), (height, width), mode="bilinear")[0, 0]
        mask[:] = (share > 0.5).cpu().numpy()
    return Proposals(masks, np.array([score for score, *_ in instances]), tuple(name for _, name, _ in instances))


def _tokens(tokenizer: Any, names: Sequence[str]) -> tuple[Int[Tensor, "n t"], Int[Tensor, "n t"]]:
    """Ids of the tokens, and 1 for those that are not padding."""
    encoded = tokenizer.encode_batch(list(names))
    return torch.tensor([each.ids for each in encoded]), torch.tensor([each.attention_mask for each in encoded])


def _load_detector(folder: Path, device: Any) -> Detector:
    read_kind(folder, "SAM 3", KINDS)
    with full_packages():
        from tokenizers import Tokenizer
        from transformers import Sam3Model
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # the library raises nothing narrower
        raise unreadable(folder / TOKENIZER, "the tokenizer of SAM 3", error) from error
    pad = tokenizer.token_to_id(PAD)
    if pad is None:
        raise unreadable(folder / TOKENIZER, "the tokenizer of SAM 3", ValueError(f"it has no token {PAD}"))
    tokenizer.enable_truncation(WORDS_LENGTH)
    tokenizer.enable_padding(length=WORDS_LENGTH, pad_id=pad, pad_token=PAD)
    return Detector(load_released(Sam3Model, folder, "SAM 3").to(device), tokenizer)


def _load_tracker(folder: Path, device: Any) -> Promptable:
    read_kind(folder, "SAM 3", KINDS)
    with full_packages():
        from transformers import Sam3TrackerModel
    network = load_released(Sam3TrackerModel, folder, "the tracker of SAM 3").to(device)
    return Promptable(network, network.config.prompt_encoder_config.image_size, HALVES)
