"""Weight files that say how their network is built: safetensors in half precision, the settings in the metadata."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from scenegen.compute.torch_env import require_exact
from scenegen.errors import UsageError, WeightsError
from scenegen.weights.record import RECORD, recorded_digest, write_record

N = TypeVar("N", bound=nn.Module)
S = TypeVar("S")

SETTINGS = "settings"
"""Name of the metadata that holds the network's settings as JSON."""


def write_weights(network: nn.Module, settings: object, path: Path, **notes: str) -> None:
    """Writes the weights of `network` in half precision, whole or not at all.

    If the folder keeps a record of digests, as the package's does, the record is updated.

    Args:
        network: the network, whose whole state is written.
        settings: a frozen dataclass from which `read_weights` can build the network again.
        path: the safetensors file.
        notes: further metadata, such as the step of the training.
    """
    state = {name: value.detach().cpu().half().contiguous() for name, value in network.state_dict().items()}
    stated = TypeAdapter(type(settings)).dump_json(settings).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(".partial")
    save_file(state, whole, metadata={SETTINGS: stated, **notes})
    whole.replace(path)
    if path.with_name(RECORD).is_file():
        write_record(path.parent)


def read_weights(path: Path, build: Callable[[S], N], undeclared: S) -> N:
    """The network that a file describes, with its weights, in float32 and ready to use.

    Args:
        path: a file that `write_weights` wrote.
        build: makes the network from its settings; its tensors must be exactly those of the file.
        undeclared: the settings of a file that states none; those of any other file are of the same type.

    Raises:
        WeightsError: if the file is absent, damaged, not the one that the record in its folder names, or of another
            network or version.
    """
    if path.with_name(RECORD).is_file():
        recorded_digest(path)
    try:
        with safe_open(path, "pt") as file:
            stated = (file.metadata() or {}).get(SETTINGS)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a mapping)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path} cannot be read as weights ({error}). If it is part of this package, install the package again."
        ) from error
    network = build(undeclared if stated is None else _parsed(path, stated, undeclared))
    expected = network.state_dict()
    misshapen = [name for name in expected.keys() & tensors.keys() if expected[name].shape != tensors[name].shape]
    require_exact(path, expected.keys() - tensors.keys(), tensors.keys() - expected.keys(), misshapen)
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return network.eval()


def _parsed(path: Path, stated: str, like: S) -> S:
    """The settings that a file states, every one of them known and none left out."""
    adapter = TypeAdapter(type(like))
    try:
        settings = adapter.validate_json(stated, strict=True)
        names, known = _names(json.loads(stated)), _names(adapter.dump_python(settings, mode="json"))
    except (ValidationError, UsageError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path} has settings that fit no network of this version ({reason}): {stated}.") from error
    if names != known:
        other = ", ".join(sorted(names ^ known))
        raise WeightsError(f"{path} belongs to another version of the network: its settings differ in {other}.")
    return settings


def _names(value: object, prefix: str = "") -> set[str]:
    """Dotted names of everything in nested JSON objects."""
    if not isinstance(value, dict):
        return {prefix}
    return {name for key, item in value.items() for name in _names(item, f"{prefix}.{key}" if prefix else key)}
