"""Qwen-Image-Edit (Wu et al. 2025, arXiv:2508.02324) through diffusers: redraws a partly hidden object as a whole one.

The language model reads instruction and picture here, not in diffusers' pipeline: that one does not tell transformers 5 which
tokens are pictures, without which their places in the picture are lost. It also leaves the card before the editor draws, and
stays on the CPU if it does not fit the card.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from scenegen.completion import PartView, WholeView
from scenegen.completion.editing import (
    drawn_on_white,
    editor_folder,
    load_part,
    on_white,
    placed,
    residency_on,
    squared,
)
from scenegen.compute.networks import loaded, make_room
from scenegen.compute.residency import Residency
from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import (
    RELEASED_THREADS,
    card_gigabytes,
    device_memory,
    full_packages,
    torch_device,
    torch_threads,
)
from scenegen.config import QwenEditConfig
from scenegen.errors import WeightsError
from scenegen.weights_registry.editors import QWEN_DEMAND, QWEN_EDIT_NAME

PIPELINE = "QwenImageEditPipeline"
INSTRUCTION = (
    "This {label} was cut out of a photo, and parts of it are missing because other things stood before it. Complete the "
    "{label}: draw its missing parts, keep everything that is there as it is, and keep the plain white background."
)
UNWANTED = " "
"""What guidance leads away from; the authors' choice."""
IMAGE_TOKEN = "<|image_pad|>"


@dataclass(frozen=True, eq=False)
class Reader:
    """The language model, and how it is given text and pictures."""

    network: Any
    tokenizer: Any
    pictures: Any


def complete_qwen(view: PartView, seed: int, config: QwenEditConfig, runtime: Runtime) -> WholeView:
    """The whole object, drawn by the editor on white.

    Raises:
        WeightsError: if weights or packages are missing, damaged or of another kind.
        ResourceError: if the device is absent or its memory full.
    """
    folder, licence = editor_folder(QWEN_EDIT_NAME, PIPELINE, config.checkpoint, runtime)
    device = torch_device(runtime)
    residency = residency_on(device, QWEN_DEMAND, config, runtime.economy)
    reader_key, editor_key = ("qwen-reader", str(folder)), ("qwen-editor", str(folder), str(device), residency)
    side = view.image.shape[0]
    with device_memory(device), torch_threads(RELEASED_THREADS), torch.inference_mode():
        make_room(str(device), QWEN_DEMAND, residency, editor_key, reader_key)
        reader = loaded(reader_key, lambda: load_reader(folder))
        editor = loaded(editor_key, lambda: load_editor(folder, device, residency))
        from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit import calculate_dimensions

        # The size that the pipeline would give a square picture.
        picture = squared(on_white(view), calculate_dimensions(1024 * 1024, 1.0)[0])
        texts = (INSTRUCTION.format(label=view.label), UNWANTED)
        if device.type != "cuda" or QWEN_DEMAND.welcomes(card_gigabytes(device)):
            reader.network.to(device)  # otherwise it reads on the CPU
        wanted, unwanted = (encode(reader, editor, text, picture).to(device) for text in texts)
        if device.type == "cuda":
            reader.network.to("cpu")
        drawn = editor(
            image=Image.fromarray(picture),
            prompt_embeds=wanted,
            prompt_embeds_mask=torch.ones(wanted.shape[:2], dtype=torch.long, device=device),
            negative_prompt_embeds=unwanted,
            negative_prompt_embeds_mask=torch.ones(unwanted.shape[:2], dtype=torch.long, device=device),
            true_cfg_scale=config.guidance,
            num_inference_steps=config.steps,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="pil",
        ).images[0]
    image = squared(np.asarray(drawn.convert("RGB")), side)
    return WholeView(image, drawn_on_white(image, view.seen), QWEN_EDIT_NAME, licence)


def encode(reader: Reader, editor: Any, text: str, picture: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "1 t d"]:
    """What the language model makes of an instruction about a picture, without the tokens before the instruction."""
    device = reader.network.device
    seen = reader.pictures(images=Image.fromarray(picture), return_tensors="pt")
    count = int(seen["image_grid_thw"][0].prod()) // reader.pictures.merge_size**2
    words = editor.prompt_template_encode.format(text).replace(IMAGE_TOKEN, IMAGE_TOKEN * count)
    ids = torch.tensor([reader.tokenizer.encode(words, add_special_tokens=False).ids], device=device)
    said = reader.network(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=seen["pixel_values"].to(device, reader.network.dtype),
        image_grid_thw=seen["image_grid_thw"].to(device),
        mm_token_type_ids=(ids == reader.tokenizer.token_to_id(IMAGE_TOKEN)).int(),
        output_hidden_states=True,
    )
    return said.hidden_states[-1][:, editor.prompt_template_encode_start_idx :].to(editor.transformer.dtype)


def load_reader(folder: Path) -> Reader:
    """The language model of a released folder, in bfloat16, on the CPU.

    Raises:
        WeightsError: if a file is missing, damaged or of another network.
    """
    with full_packages():
        from tokenizers import Tokenizer
        from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil
    try:
        tokenizer = Tokenizer.from_file(str(folder / "processor" / "tokenizer.json"))
        pictures = Qwen2VLImageProcessorPil.from_pretrained(folder / "processor", local_files_only=True)
    except Exception as error:  # the tokenizers raise nothing narrower
        raise WeightsError(f"{folder / 'processor'} cannot be read: {error}; fetch or copy it again.") from error
    if tokenizer.token_to_id(IMAGE_TOKEN) is None:
        raise WeightsError(f"{folder / 'processor' / 'tokenizer.json'} has no {IMAGE_TOKEN}; fetch or copy it again.")
    return Reader(
        load_part(Qwen2_5_VLForConditionalGeneration, folder / "text_encoder", torch.bfloat16), tokenizer, pictures
    )


def load_editor(folder: Path, device: Any, residency: Residency) -> Any:
    """The editor of a released folder, without the language model: diffusers' pipeline on `device`, in bfloat16.

    Raises:
        WeightsError: if a file is missing, damaged or of another network.
    """
    with full_packages():
        from diffusers import (
            AutoencoderKLQwenImage,
            FlowMatchEulerDiscreteScheduler,
            QwenImageEditPipeline,
            QwenImageTransformer2DModel,
        )
    transformer = load_part(QwenImageTransformer2DModel, folder / "transformer", torch.bfloat16)
    vae = load_part(AutoencoderKLQwenImage, folder / "vae", torch.bfloat16)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
    pipeline = QwenImageEditPipeline(
        scheduler=scheduler, vae=vae, text_encoder=None, tokenizer=None, processor=None, transformer=transformer
    )
    pipeline.set_progress_bar_config(disable=True)
    return placed(pipeline, device, residency)
