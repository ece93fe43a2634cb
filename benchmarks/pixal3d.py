"""Time, rate and peak memory of each part of Pixal3D, at the released widths with random weights.

    python benchmarks/pixal3d.py [--device cpu|cuda] [--dtype NAME] [--blocks N] [--tokens N] [--parts NAME ...] [--json FILE]

A flow's rate is its matrix products' operations over its time; it stands beside the rate of plain square products in the same
dtype, measured in turns with it. Times are the shortest of several runs after one that does not count. On a CPU the peak is the
largest resident set of the process so far (give `--parts` for that of one part), on a GPU what each part allocates. The whole
cascade is measured by `pixal3d_cascade.py`.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scenegen.pixal3d.dino import VITL16, Dinov3
from scenegen.pixal3d.features import ExtractorSettings, FeatureExtractor, ImageFeatures
from scenegen.pixal3d.flow import DTYPES, LatentFlow, StructureFlow, count_flops
from scenegen.pixal3d.naf import NafUpsampler
from scenegen.pixal3d.projection import distance_from_fov, front_cameras
from scenegen.pixal3d.settings import PipelineSettings
from scenegen.pixal3d.sparse import TAPS, WORKING_BYTES, NeighbourMap, SubmanifoldConv3d
from scenegen.pixal3d.structure_decoder import SparseStructureDecoder
from scenegen.pixal3d.surface import DualGrid, dual_grid_to_mesh

RELEASED_BLOCKS = 30
TURNS = 4
FLOW = {"model_channels": 1536, "cond_channels": 1024, "num_heads": 12, "mlp_ratio": 5.3334}
STRUCTURE = FLOW | {"resolution": 16, "in_channels": 8, "out_channels": 8, "proj_in_channels": 1024}
LATENT = FLOW | {"resolution": 64, "in_channels": 32, "out_channels": 32, "proj_in_channels": 2048}
DECODER = {"out_channels": 1, "latent_channels": 8, "num_res_blocks": 2, "channels": [512, 128, 32]}
CONV_WIDTH, CONV_FINER = 256, 4
"""The latent decoder's third level: its width, and how much finer than the latent it is."""
SURFACE_FINER = 8
COARSE_TOKENS = 8192
"""Up to so many voxels an object is in the coarse stage, which sees smaller pictures."""
GLOBAL_TOKENS = 5
FOV = 0.857556


@dataclass(frozen=True)
class Setup:
    """What is measured, and where."""

    device: torch.device
    dtype: torch.dtype
    blocks: int
    tokens: int

    @property
    def views(self) -> dict[str, ExtractorSettings]:
        """The stages that have about so many voxels."""
        settings = PipelineSettings()
        if self.tokens <= COARSE_TOKENS:
            return {"coarse": settings.coarse_view}
        return {"fine": settings.fine_view, "texture": settings.texture_view}

    @property
    def grid(self) -> int:
        return next(iter(self.views.values())).grid_resolution


def once(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def seconds(work: Callable[[], object], device: torch.device, runs: int = 2, enough: float = 2.0) -> float:
    """The shortest of at least so many runs; of more, up to `enough` seconds in all."""
    once(work, device)
    times = [once(work, device) for _ in range(runs)]
    while sum(times) < enough:
        times.append(once(work, device))
    return min(times)


def beside_products(work: Callable[[], object], flops: float, setup: Setup) -> dict[str, Any]:
    """Time and rate of `work`, and its share of the rate of plain square products as large as the layers' are.

    Both take turns, and the share is the median over turns: other work on the machine slows a turn's two runs alike.
    """
    size = 8192 if setup.device.type == "cuda" else 4096
    a, b = (torch.randn(size, size, device=setup.device).to(setup.dtype) for _ in range(2))
    turns = [(once(work, setup.device), once(lambda: a @ b, setup.device)) for _ in range(1 + TURNS)][1:]
    worked, multiplied = (min(times) for times in zip(*turns, strict=True))
    return {
        "seconds": worked,
        "tflops": flops / worked / 1e12,
        "product_tflops": 2 * size**3 / multiplied / 1e12,
        "share_of_product_rate": statistics.median(flops / w * m / (2 * size**3) for w, m in turns),
    }


def shell(grid: int, count: int, device: torch.device) -> Tensor:
    """Coordinates [count, 4] of the voxels nearest to a sphere, in lexicographic order."""
    axis = torch.arange(grid, device=device) + 0.5 - grid / 2
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    nearest = (radius - 0.4 * grid).abs().flatten().topk(count, largest=False).indices.sort().values
    place = [torch.zeros_like(nearest), nearest // grid**2, nearest // grid % grid, nearest % grid]
    return torch.stack(place, dim=1).int()


def step(work: Callable[[], object], config: dict[str, Any], tokens: int, setup: Setup) -> dict[str, Any]:
    """One forward of a flow; the time of all blocks follows from the share of the operations measured."""
    measured, released = (
        count_flops(config | {"num_blocks": count}, tokens, GLOBAL_TOKENS) for count in (setup.blocks, RELEASED_BLOCKS)
    )
    result = beside_products(work, measured, setup)
    how = "measured" if setup.blocks == RELEASED_BLOCKS else f"scaled from {setup.blocks} by operations"
    return {
        "tokens": tokens,
        "blocks": setup.blocks,
        **result,
        f"seconds_{RELEASED_BLOCKS}_blocks": result["seconds"] * released / measured,
        f"seconds_{RELEASED_BLOCKS}_blocks_are": how,
    }


def structure_flow(setup: Setup) -> dict[str, Any]:
    with setup.device:
        flow = StructureFlow(**STRUCTURE, num_blocks=setup.blocks, dtype=name_of(setup.dtype)).eval()
        side = STRUCTURE["resolution"]
        x, t = torch.randn(1, STRUCTURE["in_channels"], side, side, side), torch.tensor([700.0])
        tokens = torch.randn(1, GLOBAL_TOKENS, STRUCTURE["cond_channels"])
        voxels = torch.randn(1, side**3, STRUCTURE["proj_in_channels"])
    return step(lambda: flow(x, t, tokens, voxels), STRUCTURE, side**3, setup)


def latent_flow(setup: Setup) -> dict[str, Any]:
    coords = shell(setup.grid, setup.tokens, setup.device)
    with setup.device:
        flow = LatentFlow(**LATENT, num_blocks=setup.blocks, dtype=name_of(setup.dtype)).eval()
        x, t = torch.randn(setup.tokens, LATENT["in_channels"]), torch.tensor([700.0])
        tokens = torch.randn(1, GLOBAL_TOKENS, LATENT["cond_channels"])
        voxels = torch.randn(setup.tokens, LATENT["proj_in_channels"])
    return step(lambda: flow(x, coords, t, tokens, voxels), LATENT, setup.tokens, setup)


def projection(setup: Setup) -> dict[str, Any]:
    """In float32, as in the reference. The image network is not run, so that one layer of it will do."""
    extractor = FeatureExtractor(Dinov3({**VITL16, "num_hidden_layers": 1}), NafUpsampler()).to(setup.device)
    distance = distance_from_fov(FOV)
    cameras = front_cameras(torch.tensor([FOV]), torch.tensor([distance]), torch.ones(1))
    coords, width = shell(setup.grid, setup.tokens, setup.device), VITL16["hidden_size"]
    result: dict[str, Any] = {"tokens": setup.tokens}
    for name, view in setup.views.items():
        cells = view.image_size // VITL16["patch_size"]
        with setup.device:
            images = torch.rand(1, 1, 3, view.image_size, view.image_size)
            features = ImageFeatures(
                images, torch.randn(1, 1, GLOBAL_TOKENS, width), torch.randn(1, 1, width, cells, cells)
            )
        took = seconds(
            lambda features=features, view=view: extractor.project(features, cameras, view, coords),
            setup.device,
            TURNS,
        )
        result[name] = {"image_size": view.image_size, "naf_target_size": view.naf_target_size, "seconds": took}
    return result


def encode(setup: Setup) -> dict[str, Any]:
    """In float32, as in the reference."""
    extractor = FeatureExtractor(Dinov3(VITL16), None).to(setup.device)
    sizes = (512, 1024) if setup.device.type == "cuda" else (512,)
    result = {}
    for size in sizes:
        images = torch.rand(1, 1, 3, size, size, device=setup.device)
        result[str(size)] = {"seconds": seconds(lambda images=images: extractor.encode(images), setup.device)}
    return result


def structure_decoder(setup: Setup) -> dict[str, Any]:
    with setup.device:
        decoder = SparseStructureDecoder(**DECODER).eval()
        latent = torch.randn(1, DECODER["latent_channels"], *3 * (STRUCTURE["resolution"],))
    decoder.to_dtype(setup.dtype)
    return {"seconds": seconds(lambda: decoder(latent), setup.device)}


def submanifold_conv(setup: Setup) -> dict[str, Any]:
    coords = shell(CONV_FINER * setup.grid, CONV_FINER**2 * setup.tokens, setup.device)
    neighbours = NeighbourMap.of(coords)
    feats = torch.randn(len(coords), CONV_WIDTH, device=setup.device).to(setup.dtype)
    conv = SubmanifoldConv3d(CONV_WIDTH, CONV_WIDTH).to(setup.device, setup.dtype)
    flops = 2 * len(TAPS) * CONV_WIDTH**2 * len(coords)
    return {
        "voxels": len(coords),
        "channels": CONV_WIDTH,
        "neighbours_seconds": seconds(lambda: NeighbourMap.of(coords), setup.device),
        **beside_products(lambda: conv(feats, neighbours, WORKING_BYTES), flops, setup),
    }


def surface(setup: Setup) -> dict[str, Any]:
    """A sphere: an edge of the grid is crossed where its ends are on different sides."""
    resolution = SURFACE_FINER * setup.grid
    coords = shell(resolution, SURFACE_FINER**2 * setup.tokens, setup.device)
    corner = coords[:, 1:].float() - resolution / 2
    ends = corner[:, None] + torch.eye(3, device=setup.device)
    inside, radius = corner.norm(dim=1) < 0.4 * resolution, 0.4 * resolution
    crossed = inside[:, None] != (ends.norm(dim=2) < radius)
    half = torch.full_like(corner, 0.5)
    grid = DualGrid(coords, half, crossed, half[:, :1])
    faces = len(dual_grid_to_mesh(grid, resolution)[1])
    took = seconds(lambda: dual_grid_to_mesh(grid, resolution), setup.device)
    return {"resolution": resolution, "voxels": len(coords), "faces": faces, "seconds": took}


PARTS: dict[str, Callable[[Setup], dict[str, Any]]] = {
    function.__name__: function
    for function in (surface, submanifold_conv, structure_decoder, encode, structure_flow, projection, latent_flow)
}


def name_of(dtype: torch.dtype) -> str:
    return next(name for name, value in DTYPES.items() if value == dtype)


def peak_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def rounded(value: Any) -> Any:
    """Floats to four digits, for reading."""
    if isinstance(value, dict):
        return {name: rounded(entry) for name, entry in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


@torch.inference_mode()
def main() -> None:
    """Measures every part asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, help="inside flows and decoders; float32 on a CPU, else bfloat16")
    parser.add_argument("--blocks", type=int, help=f"of the flows; 1 on a CPU, else {RELEASED_BLOCKS}")
    parser.add_argument("--tokens", type=int, help="of the latent flow; 4000 on a CPU, else 20000")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    dtype, blocks, tokens = ("float32", 1, 4000) if options.device == "cpu" else ("bfloat16", RELEASED_BLOCKS, 20_000)
    device = torch.device(options.device)
    setup = Setup(device, DTYPES[options.dtype or dtype], options.blocks or blocks, options.tokens or tokens)
    results: dict[str, Any] = {
        "setup": {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "dtype": name_of(setup.dtype),
            "weights": "random",
            "peak_mb_is": "allocated by the part" if device.type == "cuda" else "resident set of the process so far",
        }
    }
    print(json.dumps(results, indent=1), flush=True)
    for name in (part for part in PARTS if part in options.parts):
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        results[name] = {**PARTS[name](setup), "peak_mb": peak_mb(device)}
        if name == "latent_flow" and "projection" in results:
            full = results[name][f"seconds_{RELEASED_BLOCKS}_blocks"]
            shares = {view: results["projection"][view]["seconds"] / full for view in setup.views}
            results[name]["projection_share_of_step"] = shares
        print(json.dumps({name: rounded(results[name])}, indent=1), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rounded(results), indent=1))


if __name__ == "__main__":
    main()
