"""Stable Diffusion XL inpainting (Podell et al. 2023, arXiv:2307.01952) through diffusers: draws what is hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

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
from scenegen.compute.torch_env import RELEASED_THREADS, device_memory, full_packages, torch_device, torch_threads
from scenegen.config import SdxlInpaintingConfig
from scenegen.weights_registry.editors import SDXL_INPAINTING_NAME, sdxl_demand

PIPELINE = "StableDiffusionXLInpaintPipeline"
WANTED = "a photo of one whole {label}, plain white background"
UNWANTED = "parts missing, cropped, shadow, text, other things"
STRENGTH = 0.99
"""Of the noise. The authors' choice: at 1 nothing would be left of the colours around."""
MULTIPLE = 64


def complete_sdxl(view: PartView, seed: int, config: SdxlInpaintingConfig, runtime: Runtime) -> WholeView:
    """The object with what the network draws where it may hide.

    Raises:
        WeightsError: if weights or packages are missing, damaged or of another kind.
        ResourceError: if the device is absent or its memory full.
    """
    folder, licence = editor_folder(SDXL_INPAINTING_NAME, PIPELINE, config.checkpoint, runtime)
    device = torch_device(runtime)
    demand = sdxl_demand(config.side)
    residency = residency_on(device, demand, config, runtime.economy)
    key = ("sdxl-inpainting", str(folder), str(device), residency)
    side = config.side // MULTIPLE * MULTIPLE
    with device_memory(device), torch_threads(RELEASED_THREADS), torch.inference_mode():
        make_room(str(device), demand, residency, key)
        pipeline = loaded(key, lambda: load_inpainter(folder, device, residency))
        drawn = pipeline(
            prompt=WANTED.format(label=view.label),
            negative_prompt=UNWANTED,
            image=Image.fromarray(squared(on_white(view), side)),
            mask_image=Image.fromarray(squared(view.may_hide.astype(np.uint8) * 255, side)),
            height=side,
            width=side,
            strength=STRENGTH,
            guidance_scale=config.guidance,
            num_inference_steps=config.steps,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="pil",
        ).images[0]
    image = squared(np.asarray(drawn.convert("RGB")), view.image.shape[0])
    return WholeView(image, drawn_on_white(image, view.seen), SDXL_INPAINTING_NAME, licence)


def load_inpainter(folder: Path, device: Any, residency: Residency) -> Any:
    """Diffusers' pipeline of a released folder on `device`: float16 on a graphics card, float32 elsewhere.

    Raises:
        WeightsError: if a file is missing, damaged or of another network.
    """
    with full_packages():
        from diffusers import (
            AutoencoderKL,
            EulerDiscreteScheduler,
            StableDiffusionXLInpaintPipeline,
            UNet2DConditionModel,
        )
        from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
    half = torch.float16 if device.type == "cuda" else torch.float32
    parts = {
        "text_encoder": load_part(CLIPTextModel, folder / "text_encoder", half, "fp16"),
        "text_encoder_2": load_part(CLIPTextModelWithProjection, folder / "text_encoder_2", half, "fp16"),
        "unet": load_part(UNet2DConditionModel, folder / "unet", half, "fp16"),
        "vae": load_part(AutoencoderKL, folder / "vae", half, "fp16"),
    }
    pipeline = StableDiffusionXLInpaintPipeline(
        **parts,
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2", local_files_only=True),
        scheduler=EulerDiscreteScheduler.from_pretrained(folder / "scheduler", local_files_only=True),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return placed(pipeline, device, residency)
