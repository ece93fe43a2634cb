"""Small networks with random weights, in the layout and with the names of the released editors' folders."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")


def write_qwen(folder: Path) -> Path:
    from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "transformer": QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
        "vae": AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "text_encoder": Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(
                text_config={
                    "hidden_size": 16,
                    "intermediate_size": 16,
                    "num_hidden_layers": 1,
                    "num_attention_heads": 2,
                    "num_key_value_heads": 2,
                    "vocab_size": 128,
                    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
                },
                vision_config={
                    "depth": 1,
                    "hidden_size": 16,
                    "intermediate_size": 16,
                    "num_heads": 2,
                    "out_hidden_size": 16,
                    "fullatt_block_indexes": [0],
                },
                vision_start_token_id=3,
                vision_end_token_id=4,
                image_token_id=5,
            )
        ),
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    processor = folder / "processor"
    processor.mkdir()
    _write_tokenizer(processor / "tokenizer.json")
    picture = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": 14,
        "merge_size": 2,
        "temporal_patch_size": 2,
    }
    limits = {"size": {"shortest_edge": 56 * 56, "longest_edge": 56 * 56}}
    (processor / "preprocessor_config.json").write_text(json.dumps(picture | limits))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "QwenImageEditPipeline"}))
    return folder


def _write_tokenizer(path: Path) -> None:
    """One token for every character."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

    characters = sorted(set(string.printable) - {"\r", "\x0b", "\x0c"})
    words = {word: place for place, word in enumerate([*SPECIAL, *characters])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in SPECIAL])
    tokenizer.save(str(path))


def write_sdxl(folder: Path) -> Path:
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    text = CLIPTextConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=64,
        projection_dim=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    parts: dict[str, Any] = {
        "unet": UNet2DConditionModel(
            sample_size=8,
            in_channels=9,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(2, 4),
            norm_num_groups=8,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 1),
            projection_class_embeddings_input_dim=6 * 8 + 16,
            cross_attention_dim=32,
        ),
        "vae": AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
            latent_channels=4,
            sample_size=64,
        ),
        "text_encoder": CLIPTextModel(text),
        "text_encoder_2": CLIPTextModelWithProjection(text),
    }
    for name, part in parts.items():
        part.half().save_pretrained(folder / name, variant="fp16")
    EulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    letters = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase), ",</w>"]
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1} | {word: 2 + place for place, word in enumerate(letters)}
    for name in ("tokenizer", "tokenizer_2"):
        tokenizer = folder / name
        tokenizer.mkdir()
        (tokenizer / "vocab.json").write_text(json.dumps(words))
        (tokenizer / "merges.txt").write_text("#version: 0.2\n")
        settings = {"model_max_length": 77, "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
        more = {"pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer"}
        (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings | more))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLInpaintPipeline"}))
    return folder
