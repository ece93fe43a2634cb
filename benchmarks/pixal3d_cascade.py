"""The whole single-view cascade at the released sizes with random weights: time, memory and rate of each stage.

    python benchmarks/pixal3d_cascade.py --tree FOLDER [--residency NAME ...] [--coarse N] [--device cuda] [--json FILE]

Made for a data-centre GPU: about 2,500 voxels in the coarse stage become about 20,000 tokens in the fine ones and about five
million voxels in the decoder, as a usual object does. FOLDER gets the random checkpoints (24 GB, once) in the released layout,
so that `staged` and `streamed` read real files. The structure decoder is run, and its answer replaced by a shell of N voxels:
random weights would leave none or all. Of each way the second run is reported, with warm kernels and a warm file cache.

On a machine without a GPU it runs with any small tree in the released layout (`--device cpu`), which checks the code and
measures nothing of worth. At the released sizes **it has not been run yet**: no GPU was at hand.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scenegen.pixal3d.dino import VITL16, Dinov3
from scenegen.pixal3d.flow import LatentFlow, StructureFlow, count_flops
from scenegen.pixal3d.generation import Generated
from scenegen.pixal3d.naf import NafUpsampler
from scenegen.pixal3d.pipeline import Pixal3DPipeline
from scenegen.pixal3d.projection import distance_from_fov, front_cameras
from scenegen.pixal3d.sampler import schedule
from scenegen.pixal3d.settings import NETWORKS, PIPELINE, SHAPE_NORMALISATION, TEXTURE_NORMALISATION, PipelineSettings
from scenegen.pixal3d.weights import CLASSES, NAF_RELEASED

FLOW = {
    "model_channels": 1536,
    "cond_channels": 1024,
    "num_blocks": 30,
    "num_heads": 12,
    "mlp_ratio": 5.3334,
    "dtype": "bfloat16",
}
LATENT = FLOW | {"in_channels": 32, "out_channels": 32, "proj_in_channels": 2048}
SPARSE = {
    "model_channels": [1024, 512, 256, 128, 64],
    "latent_channels": 32,
    "num_blocks": [4, 16, 8, 4, 0],
    "block_type": ["SparseConvNeXtBlock3d"] * 5,
    "up_block_type": ["SparseResBlockC2S3d"] * 4,
    "use_fp16": True,
}
RELEASED: dict[str, tuple[str, dict[str, Any]]] = {
    "sparse_structure_flow_model": (
        "SparseStructureFlowModel",
        FLOW | {"resolution": 16, "in_channels": 8, "out_channels": 8},
    ),
    "sparse_structure_decoder": (
        "SparseStructureDecoder",
        {
            "out_channels": 1,
            "latent_channels": 8,
            "num_res_blocks": 2,
            "num_res_blocks_middle": 2,
            "channels": [512, 128, 32],
            "use_fp16": True,
        },
    ),
    "shape_slat_flow_model_512": ("ElasticSLatFlowModel", LATENT | {"resolution": 32}),
    "shape_slat_flow_model_1024": ("ElasticSLatFlowModel", LATENT | {"resolution": 64}),
    "tex_slat_flow_model_1024": ("ElasticSLatFlowModel", LATENT | {"resolution": 64, "in_channels": 64}),
    "shape_slat_decoder": ("FlexiDualGridVaeDecoder", SPARSE | {"resolution": 256}),
    "tex_slat_decoder": ("SparseUnetVaeDecoder", SPARSE | {"out_channels": 6, "pred_subdiv": False}),
}
FLOW_OF = {
    "structure": "sparse_structure_flow_model",
    "coarse shape": "shape_slat_flow_model_512",
    "fine shape": "shape_slat_flow_model_1024",
    "texture": "tex_slat_flow_model_1024",
}
FOV = 0.857556
PRODUCT = 8192
"""Side of the plain products that the flows' rate is compared with."""


def write_tree(folder: Path) -> None:
    """Random checkpoints: names, shapes, types on disk and layout as released."""
    generator = torch.Generator().manual_seed(0)

    def random_state(network: nn.Module, half: bool) -> dict[str, Tensor]:
        state = {}
        for name, tensor in network.state_dict().items():
            plain = tensor.ndim == 1
            values = torch.empty(tensor.shape).normal_(0, 0.02, generator=generator)
            values += float(plain and not name.endswith(("bias", "modulation")))  # gains of norms
            state[name] = values.half() if half and tensor.dtype == torch.float16 else values
        return state

    for name, (kind, args) in RELEASED.items():
        path = folder / "ckpts" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        with torch.device("meta"):
            network = CLASSES[kind](**args)
        save_file(random_state(network, half="decoder" in name), path)
        path.with_suffix(".json").write_text(json.dumps({"name": kind, "args": args}))
    for name, network, config in (
        ("dinov3", Dinov3(VITL16), VITL16),
        ("naf", NafUpsampler(**NAF_RELEASED), NAF_RELEASED),
    ):
        (folder / name).mkdir(exist_ok=True)
        save_file(
            {key: value.contiguous() for key, value in network.state_dict().items()},
            folder / name / "model.safetensors",
        )
        (folder / name / "config.json").write_text(json.dumps(dict(config)))

    def sampler(settings: Any) -> dict[str, Any]:
        params = {
            key: getattr(settings, key)
            for key in ("steps", "guidance_strength", "guidance_rescale", "guidance_interval", "rescale_t")
        }
        return {"name": "FlowEulerGuidanceIntervalSampler", "args": {"sigma_min": settings.sigma_min}, "params": params}

    released = PipelineSettings()
    normal = {"shape": SHAPE_NORMALISATION, "tex": TEXTURE_NORMALISATION}
    args = {
        "models": {name: f"ckpts/{name}" for name in NETWORKS},
        "sparse_structure_sampler": sampler(released.structure_sampler),
        "shape_slat_sampler": sampler(released.shape_sampler),
        "tex_slat_sampler": sampler(released.texture_sampler),
        **{f"{name}_slat_normalization": {"mean": value.mean, "std": value.std} for name, value in normal.items()},
    }
    (folder / PIPELINE["one"]).write_text(json.dumps({"name": "Pixal3DImageTo3DPipeline", "args": args}))


def shell_logits(like: Tensor, count: int) -> Tensor:
    """Occupancy logits of which, on a grid half as fine, the `count` voxels nearest to a sphere are positive."""
    side = like.shape[-1] // 2
    axis = torch.arange(side, device=like.device) + 0.5 - side / 2
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    nearest = (radius - 0.4 * side).abs().flatten().topk(count, largest=False).indices
    logits = torch.full((side**3,), -1.0, device=like.device)
    logits[nearest] = 1.0
    dense = logits.reshape(1, 1, side, side, side)
    return dense.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)


def planted(pipeline: Pixal3DPipeline, coarse: int) -> Pixal3DPipeline:
    """The pipeline, its structure decoder run and its answer replaced."""

    class Shell(nn.Module):
        def __init__(self, decoder: nn.Module) -> None:
            super().__init__()
            self.decoder = decoder

        def forward(self, latent: Tensor) -> Tensor:
            return shell_logits(self.decoder(latent), coarse)

    def networks(name: str) -> AbstractContextManager[Any]:
        @contextlib.contextmanager
        def opened() -> Iterator[Any]:
            with pipeline.networks(name) as network:
                yield Shell(network) if name == "sparse_structure_decoder" else network

        return opened()

    return replace(pipeline, networks=networks)


def forwards(settings: Any) -> int:
    """How often a stage calls its flow."""
    low, high = settings.guidance_interval
    guided = sum(low <= t <= high for t in schedule(settings)[:-1])
    return settings.steps + guided * (settings.guidance_strength not in (0, 1))


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of plain square products; the best of several."""
    size = PRODUCT if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(8):
        start = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def measure(pipeline: Pixal3DPipeline, coarse: int, rate: float) -> dict[str, Any]:
    """The second of two runs."""
    cameras = front_cameras(torch.tensor([FOV]), torch.tensor([distance_from_fov(FOV)]), torch.ones(1))
    tokens: dict[str, int] = {}

    def observe(stage: str, results: Any) -> None:
        tokens[stage] = results["features"].flatten(0, -2).shape[0] if "features" in results else len(results["coords"])

    picture = torch.rand(1, 1, 3, 2048, 2048)

    def images(size: int) -> Tensor:
        return picture[..., :size, :size]

    device = next(pipeline.extractor.parameters()).device
    run = planted(pipeline, coarse)
    for _ in range(2):
        if device.type == "cuda":
            torch.cuda.empty_cache()
        start = time.perf_counter()
        made: Generated = run(images, cameras, seed=1, observe=observe)
        took = time.perf_counter() - start
    settings = pipeline.settings
    samplers = {
        "structure": settings.structure_sampler,
        "coarse shape": settings.shape_sampler,
        "fine shape": settings.shape_sampler,
        "texture": settings.texture_sampler,
    }
    stages: dict[str, Any] = {}
    for usage in made.usage:
        entry: dict[str, Any] = {
            "tokens": tokens[usage.stage],
            "seconds": round(usage.seconds, 3),
            "peak_gib": round(usage.peak_bytes / 2**30, 2),
            "peak_of": usage.peak_of,
        }
        if usage.stage in FLOW_OF:
            with pipeline.networks(FLOW_OF[usage.stage]) as flow:
                config = config_of(flow)
            operations = forwards(samplers[usage.stage]) * count_flops(config, tokens[usage.stage])
            entry |= {
                "tflop": round(operations / 1e12, 1),
                "share_of_product_rate": round(operations / usage.seconds / rate, 3),
            }
        stages[usage.stage] = entry
    peak = max(usage.peak_bytes for usage in made.usage) / 2**30
    return {"seconds": round(took, 2), "peak_gib": round(peak, 2), "voxels": len(made.coords), "stages": stages}


def config_of(flow: StructureFlow | LatentFlow) -> dict[str, Any]:
    """What `count_flops` asks for."""
    block = flow.blocks[0]
    return {
        "model_channels": flow.input_layer.out_features,
        "cond_channels": flow.cond_channels,
        "proj_in_channels": flow.proj_in_channels,
        "mlp_ratio": block.mlp.mlp[0].out_features / flow.input_layer.out_features,
        "num_blocks": len(flow.blocks),
        "in_channels": flow.in_channels,
        "out_channels": flow.out_layer.out_features,
    }


def main() -> None:
    """Measures each way of holding the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tree", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--residency", nargs="+", default=["resident", "staged", "streamed"])
    parser.add_argument("--coarse", type=int, default=2500, help="voxels of the coarse stage")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not (options.tree / PIPELINE["one"]).exists():
        write_tree(options.tree)
    device = torch.device(options.device)
    on_cpu = device.type == "cpu"
    rate = product_rate(device, torch.float32 if on_cpu else torch.bfloat16)
    name = "cpu" if on_cpu else torch.cuda.get_device_name(device)
    results: dict[str, Any] = {"device": name, "torch": torch.__version__, "product_tflops": round(rate / 1e12, 2)}
    for residency in options.residency:
        pipeline = Pixal3DPipeline.from_pretrained(
            options.tree,
            device=device,
            residency=residency,
            precision="float32" if on_cpu else "released",
            offline=True,
        )
        results[residency] = measure(pipeline, options.coarse, rate)
        print(json.dumps({residency: results[residency]}, indent=1), flush=True)
        del pipeline
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
