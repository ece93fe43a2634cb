"""Small networks with random weights, in the formats of the released MoGe-2, Depth Pro and Depth Anything V2."""

from __future__ import annotations

import json
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

PREPROCESSOR: dict[str, Any] = {
    "do_normalize": True,
    "do_pad": False,
    "do_rescale": True,
    "do_resize": True,
    "ensure_multiple_of": 14,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "DPTImageProcessor",
    "image_std": [0.229, 0.224, 0.225],
    "keep_aspect_ratio": True,
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 518, "width": 518},
    "size_divisor": None,
}
"""As released, for pictures of 518 pixels."""


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


def write_depth_anything(folder: Path, kind: str, max_depth: int) -> Path:
    """A small network with random weights, in the layout and with the names of the released folders."""
    from transformers import DepthAnythingConfig as Architecture
    from transformers import DepthAnythingForDepthEstimation, Dinov2Config

    torch.manual_seed(0)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=70,
        out_features=stages,
        reshape_hidden_states=False,
    )
    architecture = Architecture(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 16, 24, 32],
        fusion_hidden_size=16,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=max_depth,
    )
    network = DepthAnythingForDepthEstimation(architecture)
    with torch.no_grad():  # the library's own initial values see next to no relief
        for weights in network.parameters():
            if weights.dim() == 4:
                weights.copy_(torch.randn_like(weights) / weights[0].numel() ** 0.5)
        network.head.conv3.bias.fill_(0.5)
    network.save_pretrained(folder)
    small = PREPROCESSOR | {"size": {"height": 56, "width": 56}}
    (folder / "preprocessor_config.json").write_text(json.dumps(small, indent=2) + "\n")
    return folder


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
