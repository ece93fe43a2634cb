"""Checks names, shapes and types of our networks against manifests of the released checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scenegen.pixal3d.dino import VITL16, Dinov3
from scenegen.pixal3d.naf import NafUpsampler
from scenegen.pixal3d.weights import DERIVED, build

TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def released_network(name: str, config: dict[str, Any] | None) -> nn.Module:
    """The network that a manifest describes, on the meta device."""
    with torch.device("meta"):
        if name == "DINOv3ViTModel":
            return Dinov3(VITL16)
        if name == "NAF":
            return NafUpsampler()
    return build(name, config or {})


def compare_manifest(path: Path) -> list[str] | None:
    """What differs between a manifest and our network, one line each; None if the file is not a manifest of a network."""
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if "tensors" not in manifest:
        return None
    ours = released_network(manifest["class"], manifest.get("config")).state_dict()
    listed = {name: entry for name, entry in manifest["tensors"].items() if name != DERIVED}
    differences = [f"missing: {name}" for name in sorted(listed.keys() - ours.keys())]
    differences += [f"unexpected: {name}" for name in sorted(ours.keys() - listed.keys())]
    for name in sorted(ours.keys() & listed.keys()):
        entry = listed[name]
        if list(ours[name].shape) != entry["shape"]:
            differences.append(f"{name}: shape {list(ours[name].shape)} instead of {entry['shape']}")
        wanted = TYPES[entry.get("dtype_in_reference_model", entry["dtype_on_disk"])]
        if ours[name].dtype != wanted:
            differences.append(f"{name}: {ours[name].dtype} instead of {wanted}")
    return differences
