"""Makes networks from released files: a config names the class and its arguments, a safetensors file holds every tensor.

Keys are strict: a missing or unexpected tensor, or one of another shape, is an error that names it. Tensors are converted one
by one while they are read, so that a checkpoint is never in memory twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
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
from scenegen.untrusted.documents import read_json

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
"""A complex table that the released structure flow stores. Ours follows from the resolution, and a stored one must equal it."""

NAF_RELEASED: Mapping[str, Any] = MappingProxyType(
    {"dim": 256, "heads_attn": 4, "heads_rope": 4, "kernel_size": 9, "rope_base": 100.0, "img_layers": 2}
)
"""Arguments of the released NAF."""

Precision = Literal["released", "float32"]
"""`released`: bfloat16 or float16 inside the blocks, as the config says."""


def config_file(stem: Path) -> Path:
    """The config of the network whose files are `stem` and a suffix; a stem may hold dots."""
    return stem.with_name(f"{stem.name}.json")


def tensor_file(stem: Path) -> Path:
    """The weights of the network whose files are `stem` and a suffix."""
    return stem.with_name(f"{stem.name}.safetensors")


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
        raise WeightsError(f"the config of {name} does not fit its network: {error}; fetch it again.") from error


def build_network(stem: Path, precision: Precision = "released") -> nn.Module:
    """The network of `<stem>.json`, on the meta device, after a check of the header of `<stem>.safetensors` against it.

    Raises:
        WeightsError: if a file is missing or damaged, or its tensors are not exactly those of the network.
    """
    path = config_file(stem)
    try:
        config = read_json(path)
        network = build(config["name"], config["args"], precision)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path} is not a readable config with `name` and `args` ({error}); fetch it again."
        ) from error
    check_tensors(network, tensor_file(stem))
    return network


def load_network(stem: Path, device: torch.device | str = "cpu", precision: Precision = "released") -> nn.Module:
    """The network of `<stem>.json` with the weights of `<stem>.safetensors`, in evaluation mode.

    Raises:
        WeightsError: if a file is missing or damaged, or its tensors are not exactly those of the network.
    """
    return load_weights(build_network(stem, precision), tensor_file(stem), device)


def load_weights(network: nn.Module, path: Path, device: torch.device | str = "cpu", *, without: str = "") -> nn.Module:
    """`fill` with the tensors of `path`.

    Raises:
        WeightsError: if the file is missing or damaged, or its tensors are not exactly those of the network.
    """
    check_tensors(network, path)
    with tensors_of(path) as tensor:
        return fill(network, tensor, device, without=without)


@contextlib.contextmanager
def tensors_of(path: Path) -> Iterator[Callable[[str], torch.Tensor]]:
    """Gives the tensor of a name in `path`, until the block ends.

    Raises:
        WeightsError: if the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            yield file.get_tensor
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read ({error}); fetch it again.") from error


def fill(
    network: nn.Module, tensor: Callable[[str], torch.Tensor], device: torch.device | str, *, without: str = ""
) -> nn.Module:
    """Fills a network, each tensor in the type that the network has it in.

    Args:
        network: its tensors are replaced, wherever they are; best built on the meta device.
        tensor: gives the tensor of a name. One in pinned memory is copied to a graphics card while the caller goes on.
        device: where the tensors go.
        without: a module of the network that keeps its tensors; none by default.

    Returns:
        The network, in evaluation mode, without gradients.
    """
    state = network.state_dict()
    for name, own in state.items():
        if not (without and name.startswith(f"{without}.")):
            state[name] = tensor(name).to(device=device, dtype=own.dtype, non_blocking=True)
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def image_config(weights: Path, released: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an image network: those in `config.json` beside its weights, or else the `released` ones.

    Arguments that are not among the released ones are ignored: transformers would act on some of them.

    Raises:
        WeightsError: if the file cannot be read.
    """
    path = weights.with_name("config.json")
    if not path.exists():
        return dict(released)
    try:
        stored = read_json(path)
        return {name: stored.get(name, value) for name, value in released.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise WeightsError(f"{path} is not a readable config ({error}); fetch it again, or remove it.") from error


def check_tensors(network: nn.Module, path: Path) -> None:
    """Compares names and shapes of the tensors in `path` with those of `network`; reads little more than the header.

    Raises:
        WeightsError: if the file is missing or damaged, or its tensors are not exactly those of the network.
    """
    try:
        with safe_open(path, "pt") as file:
            stored = set(file.keys())
            derived = stored & {DERIVED} if isinstance(network, StructureFlow) else set()
            wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
            check_names(stored - derived, set(wanted), path)
            for name, shape in wanted.items():
                found = tuple(file.get_slice(name).get_shape())
                if found != shape:
                    raise WeightsError(
                        f"{path}: `{name}` has the shape {found}; the network has {shape}. Is this the checkpoint of "
                        "another config?"
                    )
            phases = file.get_tensor(DERIVED) if derived else None
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read ({error}); fetch it again.") from error
    if phases is not None and isinstance(network, StructureFlow):
        _check_phases(network, phases, path)


def check_names(stored: set[str], wanted: set[str], path: Path) -> None:
    """Raises a `WeightsError` that names the tensors if any are missing or unexpected."""
    problems = []
    for what, names in (("missing", wanted - stored), ("unexpected", stored - wanted)):
        if names:
            some = ", ".join(sorted(names)[:5])
            problems.append(f"{len(names)} tensors are {what} ({some}{', ...' if len(names) > 5 else ''})")
    if problems:
        raise WeightsError(f"{path}: {'; '.join(problems)}. Is this the checkpoint of another config?")


def _check_phases(network: StructureFlow, stored: torch.Tensor, path: Path) -> None:
    ours = network.rotation_on(stored.device).phases
    if stored.shape != ours.shape or not torch.allclose(stored, ours, atol=1e-4):
        raise WeightsError(f"{path}: `{DERIVED}` is not that of a grid of {network.resolution}; fetch the file again.")
