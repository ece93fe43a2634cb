"""Runs segment-anything in a process of its own and writes what happened as JSON.

The library imports torchvision, which cannot be installed beside every torch, and which must not be stood in for where
transformers could see it. So this process supplies the four functions that are needed, and nothing else shares it.
"""

from __future__ import annotations

import json
import pickle
import sys
import types
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import install_import_hook
from PIL import Image
from safetensors.torch import save_file

from tests import typecheck  # noqa: F401  (the hook below does not import it)


def batched_nms(boxes, scores, categories, iou_threshold):
    """Greedy suppression within each category; indices by falling score."""
    kept: list[int] = []
    for index in torch.argsort(scores, descending=True).tolist():
        rivals = [other for other in kept if categories[other] == categories[index]]
        low = torch.maximum(boxes[rivals][:, :2], boxes[index, :2])
        high = torch.minimum(boxes[rivals][:, 2:], boxes[index, 2:])
        common = (high - low).clamp(min=0).prod(1)
        union = box_area(boxes[rivals]) + box_area(boxes[index : index + 1]) - common
        if not (common > iou_threshold * union).any():
            kept.append(index)
    return torch.tensor(kept, dtype=torch.int64)


def box_area(boxes):
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def supply_torchvision() -> None:
    functions = {
        "torchvision.ops.boxes": {"batched_nms": batched_nms, "box_area": box_area},
        "torchvision.transforms.functional": {
            "resize": lambda picture, size: picture.resize(tuple(size)[::-1], Image.Resampling.BILINEAR),
            "to_pil_image": Image.fromarray,
        },
    }
    for name in ("torchvision", "torchvision.ops", "torchvision.transforms", *functions):
        module = types.ModuleType(name)
        module.__dict__.update(functions.get(name, {}))
        sys.modules[name] = module


supply_torchvision()
with install_import_hook("scenegen", "tests.typecheck.check"):
    from scenegen.cli.commands import main
    from scenegen.compute.runtime import Runtime
    from scenegen.config import SamConfig
    from scenegen.errors import ScenegenError
    from scenegen.export.manifest import read_manifest
    from scenegen.perception import sam
    from scenegen.perception.prompts import configured_prompts
    from scenegen.perception.sam import build_network, segment_sam
    from scenegen.weights_registry import digest_of

SIDE = 128


def small_network(model: str):
    """segment-anything's own classes, two layers deep and 32 wide."""
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    torch.manual_seed(0)
    width, grid = 32, SIDE // 16
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=SIDE,
            embed_dim=width,
            depth=2,
            num_heads=2,
            out_chans=width,
            use_rel_pos=True,
            window_size=4,
            global_attn_indexes=(1,),
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        ),
        prompt_encoder=PromptEncoder(width, (grid, grid), (SIDE, SIDE), mask_in_chans=4),
        mask_decoder=MaskDecoder(
            transformer_dim=width,
            transformer=TwoWayTransformer(depth=1, embedding_dim=width, num_heads=2, mlp_dim=64),
        ),
    )


RECTANGLES = ((8, 10, 44, 40), (60, 20, 118, 52), (30, 58, 70, 90))
"""x0, y0, x1, y1 of what the picture shows."""
COLOURS = ((220, 60, 60), (60, 220, 60), (80, 80, 230))


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A picture of three rectangles, and their masks."""
    image = np.full((96, SIDE, 3), 40, np.uint8)
    masks = np.zeros((3, 96, SIDE), bool)
    for mask, (x0, y0, x1, y1), colour in zip(masks, RECTANGLES, COLOURS, strict=True):
        mask[y0:y1, x0:x1] = True
        image[mask] = colour
    return image, masks


def trained_weights() -> dict[str, torch.Tensor]:
    """Weights with which the small network knows `scene()`: every prompt gives the rectangle it points at."""
    from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, pad

    image, masks = scene()
    network = small_network("vit_b")
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    rng = np.random.default_rng(0)
    picture = network.preprocess(torch.as_tensor(image).permute(2, 0, 1)[None].float())
    shown = np.concatenate([masks, ~masks.any(0)[None]])
    targets = torch.tensor(np.concatenate([masks, np.zeros_like(masks[:1])])).float()[:, None]
    targets = interpolate(pad(targets, (0, 0, 0, SIDE - 96)), (SIDE // 4, SIDE // 4), mode="area")
    for _ in range(250):
        which = rng.integers(0, 4, 12)
        points = [rng.choice(np.argwhere(shown[index])[:, ::-1]) for index in which]
        prompts = (
            {"points": (torch.tensor(np.array(points)).float()[:, None], torch.ones(12, 1)), "boxes": None},
            {"points": None, "boxes": torch.tensor(RECTANGLES).float() + torch.randn(3, 4)},
        )
        features = network.image_encoder(picture)
        loss = torch.tensor(0.0)
        for prompt, target in zip(prompts, (targets[which], targets[:3]), strict=True):
            sparse, dense = network.prompt_encoder(**prompt, masks=None)
            logits, quality = network.mask_decoder(
                features, network.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=True
            )
            target = target.expand_as(logits)
            common, union = ((logits > 0) & (target > 0.5)).sum((2, 3)), ((logits > 0) | (target > 0.5)).sum((2, 3))
            loss = loss + binary_cross_entropy_with_logits(logits, target)
            loss = loss + 0.2 * ((quality - common / union.clamp(min=1)) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.state_dict()


AUTOMATIC = {"points_per_side": 8, "min_iou": 0.5, "min_stability": 0.5}


def attempt(**settings: object) -> dict[str, object]:
    """What `segment_sam` makes of the scene with the small network: the result, or the error."""
    image, masks = scene()
    device = str(settings.pop("device", "cpu"))
    build = settings.pop("build", small_network)
    config = SamConfig(**settings)
    try:
        prompts = configured_prompts(config.boxes, config.points, (SIDE, 96))
        result = segment_sam(image, config, Runtime(device=device, offline=True), prompts, build)
    except ScenegenError as error:
        return {"error": type(error).__name__, "exit_code": error.exit_code, "message": str(error)}
    shown = [result.ids == number for number in range(1, len(result.scores) + 1)]
    return {
        "iou": [[float((mine & true).sum() / (mine | true).sum()) for true in masks] for mine in shown],
        "areas": [int(mine.sum()) for mine in shown],
        "scores": result.scores,
        "labels": result.labels,
        "backend": result.backend,
        "licence": result.licence,
        "warnings": result.warnings,
        "bytes": result.ids.tobytes().hex(),
    }


class Hostile:
    """Unpickling this would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def out_of_memory(model: str):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def small_scenarios(folder: Path) -> dict[str, dict[str, object]]:
    """Every case of the small network, by name."""
    weights = trained_weights()
    lacking = {name: tensor for name, tensor in weights.items() if name != "mask_decoder.iou_token.weight"}
    variants = {
        "good": weights,
        "missing": lacking,
        "extra": weights | {"surprise.weight": torch.zeros(1)},
        "shape": weights | {"mask_decoder.iou_token.weight": torch.zeros(1, 7)},
        "nested": {"model": weights},
    }
    paths = {name: folder / f"{name}.pth" for name in variants}
    for name, tensors in variants.items():
        torch.save(tensors, paths[name])
    paths["safe"] = folder / "good.safetensors"
    save_file(weights, paths["safe"])
    paths["hostile"], touched = folder / "hostile.pth", folder / "touched"
    paths["hostile"].write_bytes(pickle.dumps(Hostile(touched)))
    paths["cut"] = folder / "cut.pth"
    paths["cut"].write_bytes(paths["good"].read_bytes()[:-2000])
    paths["suffix"] = folder / "weights.bin"
    paths["suffix"].write_bytes(paths["good"].read_bytes())

    def trusted(name: str) -> dict[str, object]:
        return {"checkpoint": paths[name], "sha256": digest_of(paths[name])}

    good = trusted("good")
    results = {
        "automatic": attempt(**good, **AUTOMATIC),
        "again": attempt(**good, **AUTOMATIC),
        "largest": attempt(**good, **AUTOMATIC, max_objects=1),
        "none": attempt(**good, points_per_side=2, min_iou=1.0),
        "boxes": attempt(**good, boxes=RECTANGLES[:2]),
        "points": attempt(**good, points=((50, 74), ((20, 20), (90, 36, 0)))),
        "both": attempt(**good, boxes=RECTANGLES[1:2], points=((90, 36),)),
        "safetensors": attempt(checkpoint=paths["safe"], boxes=RECTANGLES[:1]),
        "untrusted": attempt(checkpoint=paths["good"]),
        "digest": attempt(checkpoint=paths["good"], sha256="0" * 64),
        "no cuda": attempt(**good, device="cuda:63"),
        "bad device": attempt(**good, device="abacus"),
        "memory": attempt(**good, build=out_of_memory),
    }
    for name in ("missing", "extra", "shape", "nested", "hostile", "cut", "suffix"):
        results[name] = attempt(**trusted(name))
    results["hostile"]["touched"] = touched.exists()
    results["command line"] = from_the_command_line(folder, **good)
    return results


def from_the_command_line(folder: Path, checkpoint: Path, sha256: str) -> dict[str, object]:
    """A scene of the picture, twice as large."""
    photo = folder / "rectangles.png"
    Image.fromarray(scene()[0]).resize((2 * SIDE, 2 * 96), Image.Resampling.NEAREST).save(photo)
    box = ",".join(str(2 * side) for side in RECTANGLES[1])
    chosen = {"segment": "sam", "segment.checkpoint": checkpoint, "segment.sha256": sha256}
    chosen |= {"texture.size": 64, "export.usdz": "false", "generate.max_faces": 300}
    settings = [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]
    words = ["--preset", "training-free", "--device", "cpu", "--offline", "--box", box, *settings]
    sam.segment_sam = partial(segment_sam, build=small_network)
    code = main([str(photo), "-o", str(folder / "out"), *words])
    manifest = read_manifest(folder / "out" / "rectangles")
    used = next(entry.backend for entry in manifest.stages if entry.stage == "segment")
    return {"code": code, "state": manifest.state, "objects": len(manifest.objects), "backend": used}


def released_architecture(folder: Path) -> dict[str, dict[str, object]]:
    """The real vit_b, with random weights in the released format, on one box."""
    torch.manual_seed(0)
    path = folder / "sam_vit_b.pth"
    torch.save(build_network("vit_b").state_dict(), path)
    digest = digest_of(path)
    return {"vit_b": attempt(checkpoint=path, sha256=digest, boxes=RECTANGLES[:1], build=build_network)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    scenarios, target = sys.argv[1], Path(sys.argv[2])
    run = {"small": small_scenarios, "released": released_architecture}[scenarios]
    (target / "results.json").write_text(json.dumps(run(target)))
