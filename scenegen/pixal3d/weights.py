"""From released files to networks: a config names the class and its arguments, a safetensors file holds every tensor.

Keys are strict: a missing or unexpected tensor, or one of another shape, is an error that names it. Tensors are converted one
by one while they are read, so that a checkpoint never stands twice in memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from scenegen.errors import WeightsError
from scenegen.pixal3d.flow import LatentFlow, StructureFlow
from scenegen.pixal3d.latent_decoder import FlexiDualGridVaeDecoder, SparseUnetVaeDecoder
from scenegen.pixal3d.structure_decoder import SparseStructureDecoder

CLASSES: Mapping[str, type[nn.Module]] = MappingProxyType(
    {
        "SparseStructureFlowModel": StructureFlow,
        "ElasticSLatFlowModel": LatentFlow,
        "SLatFlowModel": LatentFlow,
        "SparseStructureDecoder": SparseStructureDecoder,
        "FlexiDualGridVaeDecoder": FlexiDualGridVaeDecoder,
        "SparseUnetVaeDecoder": SparseUnetVaeDecoder,
    }
)
"""Released class names."""

DERIVED = "rope_phases"
"""A complex table the released structure flow stores. Ours follows from the resolution; a stored one must equal it."""

Precision = Literal["released", "float32"]
"""`released`: bfloat16 or float16 inside the blocks, as the config says."""


def build(name: str, args: Mapping[str, Any], precision: Precision = "released") -> nn.Module:
    """The network of a released config, without weights, on the meta device: it takes no memory.

    Raises:
        WeightsError: for a class or arguments that no network here has.
    """
    if name not in CLASSES:
        raise WeightsError(f"`name` is {name!r}; the networks are {', '.join(CLASSES)}.")
    arguments = dict(args)
    if precision == "float32":
        arguments.update({key: value for key, value in (("dtype", "float32"), ("use_fp16", False)) if key in arguments})
    try:
        with torch.device("meta"):
            return CLASSES[name](**arguments)
    except TypeError as error:
        raise WeightsError(f"the config of {name} does not fit: {error}.") from error


def load_network(stem: Path, device: torch.device | str = "cpu", precision: Precision = "released") -> nn.Module:
    """The network of `<stem>.json` with the weights of `<stem>.safetensors`, in evaluation mode.

    Raises:
        WeightsError: where a file is missing or damaged, or its tensors are not exactly those of the network.
    """
    path = stem.parent / f"{stem.name}.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        network = build(config["name"], config["args"], precision)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} is no readable config with `name` and `args` ({error}); fetch it again.") from error
    return load_weights(network, stem.parent / f"{stem.name}.safetensors", device)


def load_weights(network: nn.Module, path: Path, device: torch.device | str = "cpu") -> nn.Module:
    """Fills a network built on the meta device with the tensors of `path`, each in the type the network has it in.

    Raises:
        WeightsError: where the file is missing or damaged, or its tensors are not exactly those of the network.
    """
    wanted = network.state_dict()
    state: dict[str, torch.Tensor] = {}
    try:
        with safe_open(path, "pt") as file:
            stored = set(file.keys())
            derived = stored & {DERIVED} if isinstance(network, StructureFlow) else set()
            check_names(stored - derived, set(wanted), path)
            for name, tensor in wanted.items():
                shape = tuple(file.get_slice(name).get_shape())
                if shape != tuple(tensor.shape):
                    raise WeightsError(
                        f"{path}: `{name}` has the shape {shape}; the network has {tuple(tensor.shape)}. Is this the "
                        "checkpoint of another config?"
                    )
                state[name] = file.get_tensor(name).to(device=device, dtype=tensor.dtype)
            phases = file.get_tensor(DERIVED) if derived else None
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read ({error}); fetch it again.") from error
    network.load_state_dict(state, strict=True, assign=True)
    if phases is not None and isinstance(network, StructureFlow):
        _check_phases(network, phases, path)
    return network.eval().requires_grad_(False)


def check_names(stored: set[str], wanted: set[str], path: Path) -> None:
    """Raises `WeightsError`, naming them, where tensors are missing or unexpected."""
    problems = []
    for what, names in (("missing", wanted - stored), ("unexpected", stored - wanted)):
        if names:
            some = ", ".join(sorted(names)[:5])
            problems.append(f"{len(names)} tensors are {what} ({some}{', ...' if len(names) > 5 else ''})")
    if problems:
        raise WeightsError(f"{path}: {'; '.join(problems)}. Is this the checkpoint of another config?")


def _check_phases(network: StructureFlow, stored: torch.Tensor, path: Path) -> None:
    ours = network.rope_phases
    if stored.shape != ours.shape or not torch.allclose(stored, ours.to(stored.device), atol=1e-4):
        raise WeightsError(f"{path}: `{DERIVED}` is not that of a grid of {network.resolution}; fetch the file again.")
