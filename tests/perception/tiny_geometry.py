"""Small networks with random weights, in the format of the released MoGe-2 and Depth Pro."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from scenegen.perception.moge_network import Moge, VitSize

BACKBONES = {"dinov2_vits14": VitSize(32, 3, 2)}
WIDTHS = [16, 12, 8, 8, 8]


def _stack(out: int | None, ins: list[int], blocks: list[int]) -> dict[str, Any]:
    return {
        "dim_in": ins,
        "dim_res_blocks": WIDTHS,
        "dim_out": None if out is None else [None] * 4 + [out],
        "num_res_blocks": blocks,
        "res_block_in_norm": "layer_norm" if out is None else "none",
        "res_block_hidden_norm": "none",
        "resamplers": ["conv_transpose", "bilinear", "pixel_shuffle", "nearest"],
    }


MOGE: dict[str, Any] = {
    "encoder": {"backbone": "dinov2_vits14", "intermediate_layers": [0, 2], "dim_out": 16},
    "neck": _stack(None, [18, 2, 2, 2, 2], [1, 1, 1, 1, 1]),
    "points_head": _stack(3, WIDTHS, [1, 1, 0, 0, 0]),
    "mask_head": _stack(1, WIDTHS, [1, 1, 0, 0, 0]),
    "normal_head": _stack(3, WIDTHS, [1, 1, 0, 0, 0]),
    "scale_head": {"dims": [32, 32, 1]},
    "remap_output": "exp",
    "num_tokens_range": [12, 30],
}


def write_moge(path: Path) -> Path:
    torch.manual_seed(3)
    network = Moge(MOGE, BACKBONES)
    lively(network)
    with torch.no_grad():  # most of the picture is at a finite distance, before the camera
        network.mask_head.output_blocks[4].bias.fill_(2.0)
        network.points_head.output_blocks[4].bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
        network.points_head.output_blocks[4].weight.mul_(0.2)
    torch.save({"model_config": MOGE, "model": network.state_dict()}, path)
    return path


def write_depth_pro(folder: Path) -> Path:
    from transformers import DepthProConfig, DepthProForDepthEstimation

    torch.manual_seed(0)
    vit = {
        "model_type": "dinov2",
        "image_size": 28,
        "patch_size": 14,
        "hidden_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
    }
    config = DepthProConfig(
        fusion_hidden_size=16,
        patch_size=28,
        intermediate_hook_ids=[3, 1],
        intermediate_feature_dims=[16, 16],
        scaled_images_feature_dims=[16, 16, 16],
        merge_padding_value=0,
        use_fov_model=True,
        image_model_config=vit,
        patch_model_config=vit,
        fov_model_config=vit,
    )
    network = DepthProForDepthEstimation(config)
    lively(network)
    with torch.no_grad():
        for parameter in network.fov_model.parameters():
            last = parameter
        last.fill_(50.0)
    network.save_pretrained(folder)
    return folder


def lively(network: torch.nn.Module) -> None:
    """Weights of unit gain: the libraries' own initial values see next to nothing."""
    with torch.no_grad():
        for weights in network.parameters():
            if weights.dim() >= 2:
                weights.copy_(torch.randn_like(weights) / weights[0].numel() ** 0.5)


def waved(network: torch.nn.Module) -> None:
    """Weights that a formula gives, so that they are the same with every library."""
    with torch.no_grad():
        for number, (_, weights) in enumerate(sorted(network.named_parameters())):
            wave = torch.sin(0.7 * torch.arange(weights.numel()) + number).reshape(weights.shape)
            weights.copy_(wave * (0.8 / weights[0].numel() ** 0.5 if weights.dim() >= 2 else 0.3))
