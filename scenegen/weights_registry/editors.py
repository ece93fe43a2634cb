"""The registered image editors and inpainters: folders of diffusers, one network to a sub-folder."""

from __future__ import annotations

from scenegen.compute.residency import Demand
from scenegen.weights_registry.model import Model, ModelFile

QWEN_EDIT_NAME, SDXL_INPAINTING_NAME = "qwen-image-edit", "sdxl-inpainting"
WORKING_GB = 4.0
"""What an editor computes a picture of a megapixel in, an estimate; 10^9 bytes."""
QWEN_DEMAND = Demand(networks=(40.9, 0.25), working=WORKING_GB, layer=0.7, guest=16.6)
"""Transformer and decoder; the language model comes before them."""


def sdxl_demand(side: int) -> Demand:
    """Two text encoders, the network that draws a square with so many pixels along a side, and the decoder.

    Example:
        >>> round(sdxl_demand(1024).peak("staged"), 2)
        9.14
    """
    return Demand(networks=(0.25, 1.39, 5.14, 0.17), working=WORKING_GB * (side / 1024) ** 2, layer=0.1)


def _shards(stem: str, count: int) -> tuple[str, ...]:
    """The parts of a large safetensors file, and the index of what is in which."""
    parts = (f"{stem}-{part:05d}-of-{count:05d}.safetensors" for part in range(1, count + 1))
    return *parts, f"{stem}.safetensors.index.json"


def _files(*names: str) -> tuple[ModelFile, ...]:
    return tuple(ModelFile(name) for name in names)


QWEN_EDIT = Model(
    name=QWEN_EDIT_NAME,
    kind="complete",
    repo="Qwen/Qwen-Image-Edit",
    revision="ac7f9318f633fc4b5778c59367c8128225f1e3de",
    files=_files(
        "model_index.json",
        "scheduler/scheduler_config.json",
        *(
            f"processor/{name}"
            for name in (
                "added_tokens.json",
                "chat_template.jinja",
                "merges.txt",
                "preprocessor_config.json",
                "special_tokens_map.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "video_preprocessor_config.json",
                "vocab.json",
            )
        ),
        *(
            f"tokenizer/{name}"
            for name in (
                "added_tokens.json",
                "chat_template.jinja",
                "merges.txt",
                "special_tokens_map.json",
                "tokenizer_config.json",
                "vocab.json",
            )
        ),
        "text_encoder/config.json",
        "text_encoder/generation_config.json",
        *(f"text_encoder/{name}" for name in _shards("model", 4)),
        "transformer/config.json",
        *(f"transformer/{name}" for name in _shards("diffusion_pytorch_model", 9)),
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ),
    licence="Apache-2.0",
    licence_from='its model card: "license: apache-2.0"',
    note="Qwen-Image-Edit (Wu et al. 2025), 20 billion parameters with a language model of 8 billion, in bfloat16.",
    about_gb=57.7,
)
SDXL_INPAINTING = Model(
    name=SDXL_INPAINTING_NAME,
    kind="complete",
    repo="diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
    revision="115134f363124c53c7d878647567d04daf26e41e",
    files=_files(
        "model_index.json",
        "scheduler/scheduler_config.json",
        *(
            f"{folder}/{name}"
            for folder in ("tokenizer", "tokenizer_2")
            for name in ("merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json")
        ),
        "text_encoder/config.json",
        "text_encoder/model.fp16.safetensors",
        "text_encoder_2/config.json",
        "text_encoder_2/model.fp16.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ),
    licence="OpenRAIL++",
    licence_from='the card of its base model, stabilityai/stable-diffusion-xl-base-1.0: "license: openrail++"',
    note="Stable Diffusion XL 1.0 inpainting 0.1, in float16. CreativeML Open RAIL++-M allows commercial use, and lists uses "
    "that it forbids: read it.",
    about_gb=6.94,
)
