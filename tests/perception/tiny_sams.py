"""Small networks with random weights, in the layout and with the names of the released folders of SAM 2.1 and SAM 3."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.perception.tiny_geometry import lively

SIDE = 112


def write_sam2(folder: Path) -> Path:
    from transformers import Sam2VideoConfig, Sam2VideoModel

    torch.manual_seed(0)
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [128, 128],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 24, 32],
        "num_attention_heads_per_stage": [1, 1, 1, 1],
        "global_attention_blocks": [3],
        "window_size_per_stage": [8, 4, 8, 4],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [32, 24, 16, 8],
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        "fpn_hidden_size": 32,
    }
    config = Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 32, "image_size": 128, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
        image_size=128,
        **_memory(),
    )
    network = Sam2VideoModel(config)
    lively(network)
    network.save_pretrained(folder)
    return folder


def write_sam3(folder: Path) -> Path:
    from transformers import Sam3VideoConfig, Sam3VideoModel

    torch.manual_seed(0)
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "window_size": 4,
        "global_attn_indexes": [1],
        "pretrain_image_size": SIDE,
    }
    vision = {
        "model_type": "sam3_vision_model",
        "backbone_config": backbone,
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    }
    text = {
        "model_type": "clip_text_model",
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "projection_dim": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "hidden_act": "gelu",
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    part = {"hidden_size": 32, "num_attention_heads": 2}
    layer = part | {"num_layers": 1, "intermediate_size": 64}
    config = Sam3VideoConfig(
        detector_config={
            "model_type": "sam3",
            "vision_config": vision,
            "text_config": text,
            "geometry_encoder_config": layer,
            "detr_encoder_config": layer,
            "detr_decoder_config": layer | {"num_queries": 6},
            "mask_decoder_config": part,
        },
        tracker_config={
            "model_type": "sam3_tracker_video",
            "vision_config": vision,
            "prompt_encoder_config": {"hidden_size": 32, "image_size": SIDE, "mask_input_channels": 4},
            "mask_decoder_config": part | {"mlp_dim": 32, "iou_head_hidden_dim": 16},
            "image_size": SIDE,
            **_memory(),
        },
    )
    network = Sam3VideoModel(config)
    lively(network)
    network.save_pretrained(folder)
    # transformers 5.24 writes the tracker's prefix twice; the released file has it once.
    tensors = load_file(folder / "model.safetensors")
    once = {name.replace("tracker_model.tracker_model.", "tracker_model."): value for name, value in tensors.items()}
    save_file(once, folder / "model.safetensors", metadata={"format": "pt"})
    write_clip_tokenizer(folder / "tokenizer.json")
    return folder


def write_clip_tokenizer(path: Path) -> None:
    """CLIP's tokenizer, but with single letters for all tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1} | {word: 2 + place for place, word in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(words, [], unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("<|endoftext|>", 1), ("<|startoftext|>", 0))
    tokenizer.save(str(path))


def _memory() -> dict:
    """The video network's memory, which pictures do not need."""
    return {
        "memory_encoder_hidden_size": 32,
        "memory_encoder_output_channels": 16,
        "memory_attention_hidden_size": 32,
        "memory_attention_num_layers": 1,
        "memory_attention_num_attention_heads": 1,
        "memory_attention_feed_forward_hidden_size": 32,
        "memory_attention_rope_feat_sizes": [8, 8],
        "memory_fuser_embed_dim": 32,
        "memory_fuser_intermediate_dim": 32,
        "memory_fuser_num_layers": 1,
        "mask_downsampler_embed_dim": 32,
    }
