"""What Pixal3D takes on a graphics card, at the released sizes with random weights: `measure` of `benchmarks/gpu.py`.

    python -m benchmarks.card --device cuda [--tiny] [--golden DIR] STEP...

Every number is told on a line of its own as soon as it is found, so that whatever ends a step early (`benchmarks/steps.py`), what
came before is there. `tiny` runs every step on a CPU in seconds, which checks the code and measures nothing of worth. What was
found on real cards is in docs/cards and docs/gpu.md.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.steps import DONE
from scenegen.compute.residency import Residency
from scenegen.config import Pixal3DConfig, TextureConfig
from scenegen.pixal3d.attention import preferred_kernels
from scenegen.pixal3d.dino import VITL16, Dinov3
from scenegen.pixal3d.features import ExtractorSettings, FeatureExtractor
from scenegen.pixal3d.finish import finished
from scenegen.pixal3d.flow import FlowTransformer, LatentFlow, count_flops
from scenegen.pixal3d.generation import Generated, generate
from scenegen.pixal3d.host import HostWeights, size_of
from scenegen.pixal3d.memory import WorkingMemory
from scenegen.pixal3d.naf import NafUpsampler
from scenegen.pixal3d.projection import distance_from_fov, focal_pixels, front_cameras
from scenegen.pixal3d.residency import Networks, open_extractor, open_networks, streaming
from scenegen.pixal3d.sampler import SamplerSettings, schedule
from scenegen.pixal3d.settings import PipelineSettings
from scenegen.pixal3d.silhouette import silhouette
from scenegen.pixal3d.sparse import NeighbourMap, SubmanifoldConv3d, all_taps, tap_by_tap
from scenegen.pixal3d.surface import DualGrid, clean_surface, dual_grid_to_mesh
from scenegen.pixal3d.weights import CLASSES, NAF_RELEASED, build, config_file, fill, tensor_file
from scenegen.records import Intrinsics

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
STRUCTURE_DECODER = {
    "out_channels": 1,
    "latent_channels": 8,
    "num_res_blocks": 2,
    "num_res_blocks_middle": 2,
    "channels": [512, 128, 32],
    "use_fp16": True,
}
COARSE, FINE = "shape_slat_flow_model_512", "shape_slat_flow_model_1024"
FLOW_OF = {
    "structure": "sparse_structure_flow_model",
    "coarse shape": COARSE,
    "fine shape": FINE,
    "texture": "tex_slat_flow_model_1024",
}
FOV = 0.857556
NUMERICS_S = 50
"""Limit of one comparison with the stored numbers."""
Tell = Callable[[str, Any], None]
"""Takes the name of a number and the number."""
KERNELS = ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION")


def networks_of(
    flow: Mapping[str, Any], latent: Mapping[str, Any], sparse: Mapping[str, Any], decoder: Mapping[str, Any]
) -> dict[str, Any]:
    """Class and arguments of every network."""
    return {
        "sparse_structure_flow_model": (
            "SparseStructureFlowModel",
            {**flow, "resolution": 16, "in_channels": 8, "out_channels": 8},
        ),
        "sparse_structure_decoder": ("SparseStructureDecoder", decoder),
        COARSE: ("ElasticSLatFlowModel", {**latent, "resolution": 32}),
        FINE: ("ElasticSLatFlowModel", {**latent, "resolution": 64}),
        "tex_slat_flow_model_1024": ("ElasticSLatFlowModel", {**latent, "resolution": 64, "in_channels": 64}),
        "shape_slat_decoder": ("FlexiDualGridVaeDecoder", {**sparse, "resolution": 256}),
        "tex_slat_decoder": ("SparseUnetVaeDecoder", {**sparse, "out_channels": 6, "pred_subdiv": False}),
    }


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    networks: Mapping[str, tuple[str, Mapping[str, Any]]]
    dino: Mapping[str, Any]
    naf: Mapping[str, Any]
    settings: PipelineSettings
    coarse: int
    """Voxels of the coarse stage."""
    product: int
    """Side of the plain products."""
    tokens: tuple[int, ...]
    levels: tuple[tuple[int, int, int], ...]
    """Channels, voxels and grid of the convolutions."""
    surfaces: tuple[int, ...]
    """Grids of the spheres that are cleaned: about 6 faces for each square of the grid's side."""
    runs: int = 5
    objects: int = 8
    """Those of the scene that tells how busy the device is."""


RELEASED = Sizes(
    networks=networks_of(FLOW, LATENT, SPARSE, STRUCTURE_DECODER),
    dino=VITL16,
    naf=NAF_RELEASED,
    settings=PipelineSettings(),
    coarse=2500,
    product=8192,
    tokens=(4096, 20_000, 49_000),
    levels=((512, 70_000, 128), (256, 300_000, 256), (128, 1_200_000, 512)),
    surfaces=(410, 920),
)


def tiny() -> Sizes:
    """Sizes for a dry run on a CPU."""
    flow = FLOW | {"model_channels": 32, "cond_channels": 32, "num_blocks": 2, "num_heads": 2, "dtype": "float32"}
    latent = LATENT | flow | {"proj_in_channels": 64}
    sparse = SPARSE | {"model_channels": [32, 16, 16, 8, 8], "num_blocks": [1, 1, 1, 0, 0], "use_fp16": False}
    decoder = STRUCTURE_DECODER | {"channels": [32, 16, 8], "num_res_blocks": 1, "use_fp16": False}
    released = PipelineSettings()

    def short(sampler: SamplerSettings) -> SamplerSettings:
        return replace(sampler, steps=2)

    def small(view: ExtractorSettings) -> ExtractorSettings:
        return replace(view, image_size=160, naf_target_size=40 if view.use_naf else None)

    views = ("structure_view", "coarse_view", "fine_view", "texture_view")
    samplers = ("structure_sampler", "shape_sampler", "texture_sampler")
    return Sizes(
        networks=networks_of(flow, latent, sparse, decoder),
        dino=VITL16 | {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
        naf=NAF_RELEASED | {"dim": 32},
        settings=replace(
            released,
            **{name: small(getattr(released, name)) for name in views},
            **{name: short(getattr(released, name)) for name in samplers},
        ),
        coarse=12,
        product=64,
        tokens=(40, 70),
        levels=((16, 300, 16),),
        surfaces=(24,),
        runs=1,
        objects=2,
    )


def ceilings(tell: Tell, device: torch.device, sizes: Sizes, golden: Path | None) -> None:
    """What the card can do at best: products, its memory, copies to it."""
    side = sizes.product
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        tell(f"tflops in {dtype}", product_rate(device, sizes, dtype))
    block = torch.empty(side * side * 4, dtype=torch.uint8, device=device)
    host = torch.empty(side * side * 4, dtype=torch.uint8, pin_memory=device.type == "cuda")
    tell("memory_gb_s", 2 * len(block) / seconds(lambda: block.clone(), device, sizes.runs) / 1e9)
    copied = seconds(lambda: block.copy_(host, non_blocking=True), device, sizes.runs)
    tell("pinned_copy_gb_s", len(host) / copied / 1e9)


def product_rate(device: torch.device, sizes: Sizes, dtype: torch.dtype) -> float:
    """TFLOP/s of one large product."""
    side = sizes.product
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / seconds(lambda: a @ b, device, sizes.runs) / 1e12


def numerics(tell: Tell, device: torch.device, sizes: Sizes, golden: Path | None) -> None:
    """The stored numbers of the reference, on the device, in each precision."""
    if golden is None:
        tell("left out", "no --golden")
        return
    for dtype in ("float32", "bfloat16", "float16"):
        command = [sys.executable, "-m", "scenegen.pixal3d.verify", golden, "--device", device, "--dtype", dtype]
        try:
            done = subprocess.run(
                [str(word) for word in command], capture_output=True, text=True, check=False, timeout=NUMERICS_S
            )
        except subprocess.TimeoutExpired:
            tell(dtype, f"took more than {NUMERICS_S} s")
            continue
        lines = (done.stdout + done.stderr).splitlines()
        tell(dtype, {"code": done.returncode, "said": [line for line in lines if not line.startswith("ok")][-40:]})


def kernels(tell: Tell, device: torch.device, sizes: Sizes, golden: Path | None) -> None:
    """Self-attention at each number of tokens, by every kernel, and in the stated order."""
    heads = sizes.networks[FINE][1]["num_heads"]
    width = sizes.networks[FINE][1]["model_channels"] // heads
    for tokens in sizes.tokens:
        q, k, v = (torch.randn(1, heads, tokens, width, device=device).bfloat16() for _ in range(3))

        def attend(q: Tensor = q, k: Tensor = k, v: Tensor = v) -> Tensor:
            return functional.scaled_dot_product_attention(q, k, v)

        times: dict[str, Any] = {}
        for name in KERNELS:
            try:
                with sdpa_kernel(getattr(SDPBackend, name)):
                    times[name] = seconds(attend, device, sizes.runs)
            except (RuntimeError, TypeError) as error:
                times[name] = f"{type(error).__name__}: {str(error)[:100]}"
        with preferred_kernels(device):
            times["stated order"] = seconds(attend, device, sizes.runs)
        times["tflops in the stated order"] = 4 * tokens**2 * heads * width / times["stated order"] / 1e12
        tell(str(tokens), times)


def block(tell: Tell, device: torch.device, sizes: Sizes, golden: Path | None) -> None:
    """A latent flow of one block: a first step, a later one, one without the photo; and compiled."""
    config = dict(sizes.networks[FINE][1]) | {"num_blocks": 1}
    for compiled in (False, True):
        flow = _random(LatentFlow, config, device)
        assert isinstance(flow, LatentFlow)
        if compiled and device.type == "cuda":
            flow.compile_blocks()
        for tokens in sizes.tokens:
            x, coords, t, shown, voxels = _inputs(flow, tokens, device)
            once = flow.at(coords, shown, voxels, product_bytes=0)
            kept = flow.at(coords, shown, voxels, product_bytes=2**40)
            times = {
                "first step": seconds(lambda a=once, x=x, t=t: a(x, t, True), device, sizes.runs),
                "later step": seconds(lambda a=kept, x=x, t=t: a(x, t, True), device, sizes.runs),
                "without the photo": seconds(lambda a=kept, x=x, t=t: a(x, t, False), device, sizes.runs),
            }
            tflops = count_flops(config, tokens) / 1e12
            name = f"{tokens} tokens, {'compiled' if compiled else 'eager'}"
            tell(name, times | {"tflops": tflops / times["first step"]})


def convolution(tell: Tell, device: torch.device, sizes: Sizes, golden: Path | None) -> None:
    """The sparse convolution as a CPU does it, and as a card does."""
    budget = WorkingMemory.of(device).rows
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    for channels, voxels, grid in sizes.levels:
        coords = shell(grid, voxels, device)
        neighbours = NeighbourMap.of(coords)
        feats = torch.randn(len(coords), channels, device=device).to(dtype)
        weight, bias = SubmanifoldConv3d(channels, channels).to(device, dtype).parameters()
        times = {
            "taps there": 1 + 2 * sum(len(a) for a, _ in neighbours.pairs) / len(coords),
            "neighbours": seconds(lambda c=coords: NeighbourMap.of(c).table, device, 1),
        }
        for name, way in (("by tap", tap_by_tap), ("all taps at once", all_taps)):
            times[name] = seconds(partial(way, feats, neighbours, weight, bias, budget), device, sizes.runs)
        tell(f"{channels} channels, {len(coords)} voxels", times)


def cascade(tell: Tell, device: torch.device, sizes: Sizes, golden: Path | None) -> None:
    """A whole object, twice, with every network on the device: time, memory, rate of each stage; whether the bytes agree."""
    networks, extractor = _resident(sizes, device)
    digests = []
    for run in ("first", "second"):
        start = time.perf_counter()
        made, tokens = _generated(networks, extractor, sizes, device)
        tell(run, time.perf_counter() - start)
        digests.append(_digest(made))
    tell("equal bytes", digests[0] == digests[1])
    tell("peak_gib", max(usage.peak_bytes for usage in made.usage) / 2**30)
    tell("voxels", len(made.coords))
    tell("faces", len(made.faces))
    rate = product_rate(device, sizes, torch.bfloat16)
    settings = sizes.settings
    samplers = {
        "structure": settings.structure_sampler,
        "coarse shape": settings.shape_sampler,
        "fine shape": settings.shape_sampler,
        "texture": settings.texture_sampler,
    }
    stages: dict[str, Any] = {}
    for usage in made.usage:
        entry = {"tokens": tokens[usage.stage], "seconds": usage.seconds, "peak_gib": usage.peak_bytes / 2**30}
        entry["reserved_gib"] = usage.reserved_bytes / 2**30
        if usage.stage in FLOW_OF:
            # Those of the reference; what is kept from step to step is not done again.
            config = sizes.networks[FLOW_OF[usage.stage]][1]
            tflop = forwards(samplers[usage.stage]) * count_flops(config, tokens[usage.stage]) / 1e12
            entry |= {"tflop": tflop, "share_of_product_rate": tflop / usage.seconds / rate}
        stages[usage.stage] = entry
    tell("stages", stages)


def residencies(tell: Tell, device: torch.device, sizes: Sizes, golden: Path | None) -> None:
    """Two objects from real files, their networks on the device one at a time, then a layer at a time: time, memory, bytes."""
    with TemporaryDirectory() as folder:
        stems = {}
        for name, (kind, args) in sizes.networks.items():
            stems[name] = Path(folder) / name
            save_file(_random(CLASSES[kind], args, device).state_dict(), tensor_file(stems[name]))
            config_file(stems[name]).write_text(json.dumps({"name": kind, "args": dict(args)}))
        images = {"dino": (Dinov3(dict(sizes.dino)), sizes.dino), "naf": (NafUpsampler(**sizes.naf), sizes.naf)}
        files = {}
        for name, (network, config) in images.items():
            files[name] = Path(folder) / f"{name}-files" / "model.safetensors"
            files[name].parent.mkdir()
            save_file(network.state_dict(), files[name])
            (files[name].parent / "config.json").write_text(json.dumps(dict(config)))
        tell("gb of files", sum(tensor_file(stem).stat().st_size for stem in stems.values()) / 1e9)
        digests = []
        ways: tuple[Residency, ...] = ("staged", "streamed")
        for residency in ways:
            networks = planted(open_networks(stems, device, residency, "released"), sizes.coarse)
            extractor = open_extractor(files["dino"], files["naf"], device, residency)
            for run in ("first", "second"):
                start = time.perf_counter()
                made, _ = _generated(networks, extractor, sizes, device)
                tell(f"{residency}, {run}", time.perf_counter() - start)
            digests.append(_digest(made))
            tell(f"{residency}, peak_gib", max(usage.peak_bytes for usage in made.usage) / 2**30)
            tell(f"{residency}, stages", {usage.stage: usage.seconds for usage in made.usage})
            del networks, extractor
        tell("equal bytes", digests[0] == digests[1])


def objects(tell: Tell, device: torch.device, sizes: Sizes, golden: Path | None) -> None:
    """A scene's objects one after another, each finished by another process while the device makes the next.

    Random weights decode to no surface, so a sphere is finished in place of each.
    """
    networks, extractor = _resident(sizes, device)
    sphere = _sphere(sizes.surfaces[0], torch.device("cpu"))
    processes = max(1, min(sizes.objects, (os.cpu_count() or 1) - 2))
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_finish, [_sphere(24, torch.device("cpu"))] * processes))  # they have imported what they need
        _generated(networks, extractor, sizes, device)
        start = time.perf_counter()
        busy, begun = 0.0, []
        for _ in range(sizes.objects):
            made, _ = _generated(networks, extractor, sizes, device)
            busy += sum(usage.seconds for usage in made.usage)
            begun.append(pool.submit(_finish, sphere))
        last = time.perf_counter() - start
        finishing = [each.result() for each in begun]
        wall = time.perf_counter() - start
    tell("objects", sizes.objects)
    tell("faces of each", len(sphere.faces))
    tell("wall", wall)
    tell("until the last leaves the device", last)
    tell("busy", busy / wall)
    tell("finishing, seconds each", finishing)


def _finish(made: Generated) -> float:
    torch.set_num_threads(1)
    start = time.perf_counter()
    finished(made, Pixal3DConfig(), TextureConfig())
    return time.perf_counter() - start


def weights(tell: Tell, device: torch.device, sizes: Sizes, golden: Path | None) -> None:
    """One flow from one real file: reading it, copying it, and a step with it resident and streamed."""
    kind, args = sizes.networks[FINE]
    with TemporaryDirectory() as folder:
        stem = Path(folder) / FINE
        state = _random(CLASSES[kind], args, torch.device("cpu")).state_dict()
        save_file({name: value.float() for name, value in state.items()}, tensor_file(stem))
        config_file(stem).write_text(json.dumps({"name": kind, "args": dict(args)}))
        del state
        host = HostWeights({FINE: stem}, "released", pinned=device.type == "cuda")
        start = time.perf_counter()
        tensors = host.take(FINE)
        read = time.perf_counter() - start
        flow, streamed = build(kind, args), build(kind, args)
        assert isinstance(flow, LatentFlow)
        assert isinstance(streamed, LatentFlow)
        copied = seconds(lambda: fill(flow, tensors.__getitem__, device), device, 1)
        tell("gb", size_of(flow) / 1e9)
        tell("read and converted", read)
        tell("copied", copied)
        fill(streamed, tensors.__getitem__, device, without="blocks")
        with streaming(streamed.blocks, lambda index, key: tensors[f"blocks.{index}.{key}"], device):
            for tokens in sizes.tokens[:2]:
                x, coords, t, shown, voxels = _inputs(flow, tokens, device)
                for name, network in (("resident", flow), ("streamed", streamed)):
                    velocity = network.at(coords, shown, voxels, product_bytes=0)
                    took = seconds(lambda v=velocity, x=x, t=t: v(x, t, True), device, 2)
                    tell(f"step of {tokens} tokens, {name}", took)


def cpu_stages(tell: Tell, device: torch.device, sizes: Sizes, golden: Path | None) -> None:
    """What follows the networks: the silhouette on the device, then cleaning on one core."""
    for grid in sizes.surfaces:
        sphere = _sphere(grid, device)
        vertices, faces = sphere.vertices, sphere.faces
        focal = focal_pixels(FOV, 1024)
        camera = Intrinsics(width=1024, height=1024, fx=focal, fy=focal, cx=512.0, cy=512.0)
        away = vertices + torch.tensor([0, 0, distance_from_fov(FOV)], device=device)
        shown = seconds(lambda p=away, f=faces, c=camera: silhouette(p, f, c), device, 1)
        start = time.process_time()
        clean = clean_surface(vertices.cpu().double().numpy(), faces.cpu().numpy(), max_faces=50_000)
        took = time.process_time() - start
        tell(f"{len(faces)} faces", {"silhouette": shown, "clean": took, "closed": clean.closed})


def _sphere(grid: int, device: torch.device) -> Generated:
    """A closed surface with about 6 faces for each square of the grid's side."""
    coords = shell(grid, 6 * grid * grid, device)
    # A voxel's own edges end in its upper corner, where it meets the three voxels beside each.
    end = coords[:, 1:].float() + 1 - grid / 2
    begin = end[:, None] - torch.eye(3, device=device)
    crossed = (end.norm(dim=1) < 0.4 * grid)[:, None] != (begin.norm(dim=2) < 0.4 * grid)
    half = torch.full_like(end, 0.5)
    vertices, faces = dual_grid_to_mesh(DualGrid(coords, half, crossed, half[:, :1]), grid)
    return Generated(vertices, faces, coords[:, 1:], torch.full((len(coords), 6), 0.5, device=device), grid)


def seconds(work: Callable[[], object], device: torch.device, runs: int) -> float:
    """The shortest of so many runs, after one that does not count if there are several."""

    def once() -> float:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    times = [once() for _ in range(runs + (runs > 1))]
    return min(times[-runs:])


def shell(grid: int, count: int, device: torch.device) -> Tensor:
    """Coordinates [count, 4] of the voxels nearest to a sphere, in lexicographic order."""
    axis = torch.arange(grid, device=device) + 0.5 - grid / 2
    off = ((axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt() - 0.4 * grid).abs()
    place = off.flatten().topk(min(count, grid**3), largest=False).indices.sort().values
    return torch.stack([torch.zeros_like(place), place // grid**2, place // grid % grid, place % grid], dim=1).int()


def shell_logits(like: Tensor, count: int) -> Tensor:
    """Occupancy logits of which, on a grid half as fine, the `count` voxels nearest to a sphere are positive."""
    side = like.shape[-1] // 2
    x, y, z = shell(side, count, like.device).long()[:, 1:].unbind(1)
    dense = torch.full((1, 1, side, side, side), -1.0, device=like.device)
    dense[0, 0, x, y, z] = 1.0
    return dense.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)


def planted(networks: Networks, coarse: int) -> Networks:
    """The networks; the structure decoder is run and its answer replaced, because random weights would leave no voxel or all."""

    @contextlib.contextmanager
    def use(name: str) -> Iterator[Callable[..., Any]]:
        with networks(name) as network:
            planting = name == "sparse_structure_decoder"
            yield (lambda latent: shell_logits(network(latent), coarse)) if planting else network

    return use


def _resident(sizes: Sizes, device: torch.device) -> tuple[Networks, FeatureExtractor]:
    """Every network with random weights, on the device."""
    kept = {name: _random(CLASSES[kind], args, device) for name, (kind, args) in sizes.networks.items()}
    dino, naf = Dinov3(dict(sizes.dino)).to(device), NafUpsampler(**sizes.naf).to(device)
    return planted(lambda name: contextlib.nullcontext(kept[name]), sizes.coarse), FeatureExtractor(dino, naf)


def forwards(settings: SamplerSettings) -> int:
    """How often a stage calls its flow."""
    low, high = settings.guidance_interval
    guided = sum(low <= t <= high for t in schedule(settings)[:-1])
    return settings.steps + guided * (settings.guidance_strength not in (0, 1))


def _generated(
    networks: Networks, extractor: FeatureExtractor, sizes: Sizes, device: torch.device
) -> tuple[Generated, dict[str, int]]:
    tokens: dict[str, int] = {}

    def observe(stage: str, results: Mapping[str, Tensor]) -> None:
        tokens[stage] = results["features"].flatten(0, -2).shape[0] if "features" in results else len(results["coords"])

    picture = torch.rand(1, 1, 3, 2048, 2048, generator=torch.Generator().manual_seed(0))
    made = generate(
        networks,
        extractor,
        lambda size: picture[..., :size, :size],
        front_cameras(torch.tensor([FOV]), torch.tensor([distance_from_fov(FOV)]), torch.ones(1)),
        sizes.settings,
        seed=1,
        observe=observe,
    )
    return made, tokens


def _digest(made: Generated) -> str:
    parts = (made.vertices, made.faces, made.coords, made.attributes)
    return hashlib.sha256(b"".join(part.cpu().contiguous().numpy().tobytes() for part in parts)).hexdigest()


def _random(kind: Callable[..., nn.Module], args: Mapping[str, Any], device: torch.device) -> nn.Module:
    """A network with seeded weights."""
    with torch.device("meta"):
        network = kind(**args)
    generator = torch.Generator(device).manual_seed(0)
    network = network.to_empty(device=device)
    for name, tensor in network.state_dict().items():
        gain = tensor.ndim == 1 and not name.endswith(("bias", "modulation"))
        tensor.copy_(torch.empty(tensor.shape, device=device).normal_(float(gain), 0.02, generator=generator))
    return network.eval().requires_grad_(False)


def _inputs(flow: FlowTransformer, tokens: int, device: torch.device) -> tuple[Tensor, ...]:
    """x, coords, t, global tokens and voxel features."""
    return (
        torch.randn(tokens, flow.in_channels, device=device),
        shell(max(8, int(tokens**0.5)), tokens, device),
        torch.tensor([500.0], device=device),
        torch.randn(1, 5, flow.cond_channels, device=device),
        torch.randn(tokens, flow.proj_in_channels, device=device),
    )


def _rounded(value: Any) -> Any:
    """Floats to four digits, for reading."""
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


STEPS: Mapping[str, Callable[[Tell, torch.device, Sizes, Path | None], None]] = {
    step.__name__: step
    for step in (ceilings, cascade, numerics, residencies, objects, kernels, block, convolution, weights, cpu_stages)
}


def main() -> None:
    """Runs the steps that are named, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="+", choices=STEPS)
    parser.add_argument("--device", type=torch.device, required=True)
    parser.add_argument("--tiny", action="store_true", help="a dry run")
    parser.add_argument("--golden", type=Path, help="stored cases of the reference")
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what else is printed is not an answer
    device = options.device

    def tell(step: str, name: str, value: Any) -> None:
        answers.write(json.dumps([step, name, _rounded(value)]) + "\n")
        answers.flush()

    tell("machine", "card", torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu")
    tell("machine", "torch", torch.__version__)
    tell("machine", "cuda", torch.version.cuda)
    tell("machine", "cores", os.cpu_count())
    for name in options.steps:
        start = time.perf_counter()
        with torch.inference_mode():
            STEPS[name](partial(tell, name), device, tiny() if options.tiny else RELEASED, options.golden)
        tell(name, DONE, time.perf_counter() - start)
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
