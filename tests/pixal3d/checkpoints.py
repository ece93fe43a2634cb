"""Small random checkpoints in the released format: names, types on disk, the complex table, `pipeline.json`."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.card import networks_of
from scenegen.pixal3d.dino import VITL16, Dinov3
from scenegen.pixal3d.flow import StructureFlow
from scenegen.pixal3d.naf import NafUpsampler
from scenegen.pixal3d.structure_decoder import SparseStructureDecoder
from scenegen.pixal3d.weights import CLASSES

DINO = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "patch_size": 16,
    "num_register_tokens": 4,
}
NAF = {"dim": 32, "heads_attn": 2, "heads_rope": 2}
FLOW = {
    "model_channels": 48,
    "cond_channels": 32,
    "num_blocks": 3,
    "num_heads": 3,
    "mlp_ratio": 2.0,
    "pe_mode": "rope",
    "share_mod": True,
    "initialization": "scaled",
    "qk_rms_norm": True,
    "qk_rms_norm_cross": True,
    "dtype": "bfloat16",
    "image_attn_mode": "proj",
    "out_channels": 32,
}
SPARSE = {
    "model_channels": [16, 16, 8, 8, 8],
    "latent_channels": 32,
    "num_blocks": [1, 0, 0, 0, 0],
    "block_type": ["SparseConvNeXtBlock3d"] * 5,
    "up_block_type": ["SparseResBlockC2S3d"] * 4,
    "block_args": [{}] * 5,
    "use_fp16": True,
}
STRUCTURE_DECODER = {
    "out_channels": 1,
    "latent_channels": 8,
    "num_res_blocks": 1,
    "channels": [16, 8, 8],
    "num_res_blocks_middle": 1,
    "norm_type": "layer",
    "use_fp16": True,
}
STEMS = {
    "sparse_structure_flow_model": "ss_flow",
    "sparse_structure_decoder": "ss_dec",
    "shape_slat_flow_model_512": "shape_512",
    "shape_slat_flow_model_1024": "shape_1024",
    "tex_slat_flow_model_1024": "tex_1024",
    "shape_slat_decoder": "shape_dec",
    "tex_slat_decoder": "tex_dec",
}
NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    name: (STEMS[name], kind, args)
    for name, (kind, args) in networks_of(
        FLOW, {**FLOW, "in_channels": 32, "proj_in_channels": 64}, SPARSE, STRUCTURE_DECODER
    ).items()
}


def randomised(network: nn.Module, seed: int) -> nn.Module:
    """Every parameter random, none of them zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan = max(1, parameter[0].numel()) if parameter.ndim > 1 else 1
            spread = 0.7 / fan**0.5 if parameter.ndim > 1 else 0.1
            centre = 1.0 if parameter.ndim == 1 and parameter.mean() > 0.5 else 0.0
            drawn = centre + spread * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn.to(parameter.dtype))
    return network


def _sparse(network: nn.Module) -> nn.Module:
    """Random decoders would fill the whole cube: shift what decides about voxels, so that few are left."""
    with torch.no_grad():
        if isinstance(network, SparseStructureDecoder):
            latent = torch.randn((4, 8, 16, 16, 16), generator=torch.Generator().manual_seed(0))
            full = copy.deepcopy(network)
            full.to_dtype(torch.float32)  # half precision convolutions are slow on a CPU
            network.out_layer[2].bias -= torch.quantile(full(latent)[:, :, ::2, ::2, ::2].flatten(), 0.9998)
        for module_name, module in network.named_modules():
            if module_name.endswith("to_subdiv"):
                module.weight *= 0.5
                module.bias.fill_(0.05)
    return network


def stored_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict in the types of the released files."""
    state = {name: value.clone() for name, value in network.state_dict().items()}
    if isinstance(network, SparseStructureDecoder):
        return state  # as in the module: body half, the rest full
    if hasattr(network, "rope_phases") or hasattr(network, "t_embedder"):
        full = {name: value.float() for name, value in state.items()}
        return {**full, "rope_phases": network.rope_phases} if isinstance(network, StructureFlow) else full
    return {name: value.half() for name, value in state.items()}


def write_network(stem: Path, name: str, args: dict[str, Any], seed: int) -> None:
    """`<stem>.json` and `<stem>.safetensors`."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    network = _sparse(randomised(CLASSES[name](**args), seed))
    stem.with_name(f"{stem.name}.json").write_text(json.dumps({"name": name, "args": args}))
    save_file(stored_state(network), stem.with_name(f"{stem.name}.safetensors"))


VIEWS = {
    "structure_view": {"image_size": 160, "grid_resolution": 16},
    "coarse_view": {"image_size": 160, "grid_resolution": 32, "use_naf": True, "naf_target_size": 160},
    "fine_view": {"image_size": 160, "grid_resolution": 64, "use_naf": True, "naf_target_size": 160},
    "texture_view": {"image_size": 160, "grid_resolution": 64, "use_naf": True, "naf_target_size": 160},
}
"""Smaller pictures than the released ones, which `pipeline.json` need not name."""


def write_tree(folder: Path, steps: int = 2) -> Path:
    """A pipeline folder in the released layout, with small views, and the image networks in `dinov3` and `naf`."""
    for seed, (stem, name, args) in enumerate(NETWORKS.values()):
        write_network(folder / "ckpts" / stem, name, args, seed)

    def sampler(strength: float, rescale: float, interval: list[float], shift: float) -> dict[str, Any]:
        return {
            "name": "FlowEulerGuidanceIntervalSampler",
            "args": {"sigma_min": 1e-5},
            "params": {
                "steps": steps,
                "guidance_strength": strength,
                "guidance_rescale": rescale,
                "guidance_interval": interval,
                "rescale_t": shift,
            },
        }

    plain = {"mean": [0.0] * 32, "std": [1.0] * 32}
    args = {
        "models": {key: f"ckpts/{stem}" for key, (stem, _, _) in NETWORKS.items()},
        "sparse_structure_sampler": sampler(7.5, 0.7, [0.6, 1.0], 5.0),
        "shape_slat_sampler": sampler(7.5, 0.5, [0.6, 1.0], 3.0),
        "tex_slat_sampler": sampler(1.0, 0.0, [0.6, 0.9], 3.0),
        "shape_slat_normalization": plain,
        "tex_slat_normalization": plain,
        "default_pipeline_type": "1024_cascade",
        "views": VIEWS,
    }
    (folder / "pipeline.json").write_text(json.dumps({"name": "Pixal3DImageTo3DPipeline", "args": args}))
    for name, network, config, seed in (
        ("dinov3", Dinov3({**VITL16, **DINO}), DINO, 20),
        ("naf", NafUpsampler(**NAF), NAF, 21),
    ):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
        save_file(stored_full(randomised(network, seed)), folder / name / "model.safetensors")
    return folder


def stored_full(network: nn.Module) -> dict[str, torch.Tensor]:
    """In float32, as DINOv3 and NAF are released."""
    return {name: value.float().clone() for name, value in network.state_dict().items()}
