"""A stored case of the reference, and the difference between our numbers and its."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

HALF_TOLERANCE = 1e-3
"""Largest difference from 1 of a cosine in half precision."""


@dataclass(frozen=True, eq=False)
class Case:
    """One file: inputs, weights and outputs of one module of the reference."""

    name: str
    path: Path
    config: Mapping[str, Any]
    """Arguments of the reference's module."""
    tensors: Mapping[str, torch.Tensor]
    """Inputs, intermediates and outputs, by name."""
    weights: Mapping[str, torch.Tensor]
    """State dict of the module under the reference's keys."""
    dtype: torch.dtype = torch.float32
    """Inside the blocks of our module."""

    @property
    def half(self) -> bool:
        """Whether our module computes in half precision; then only directions are compared."""
        return self.dtype != torch.float32


@dataclass(frozen=True)
class Measured:
    """One comparison."""

    what: str
    absolute: float
    """Largest absolute difference."""
    relative: float
    """The same over the largest absolute value of the reference."""
    tolerance: float
    """Largest absolute difference allowed; 0 if the comparison is exact."""

    @property
    def passed(self) -> bool:
        """Whether our numbers agree. NaN never does."""
        return self.absolute <= self.tolerance


Check = Callable[[Case], list[Measured]]
"""Runs our code on a case's inputs and compares every output that the case stores."""


def read_case(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Case:
    """Reads one safetensors file to a device; tensors under `w.` are the weights."""
    with safe_open(path, "pt", device=str(device)) as file:
        metadata = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    return Case(
        name=path.stem,
        path=path,
        config=json.loads(metadata.get("config", "{}")),
        tensors={key: value for key, value in tensors.items() if not key.startswith("w.")},
        weights={key[2:]: value for key, value in tensors.items() if key.startswith("w.")},
        dtype=dtype,
    )


def compare(what: str, ours: torch.Tensor, reference: torch.Tensor, tolerance: float) -> Measured:
    """Compares our tensor with the reference's; a different shape is an infinite difference."""
    if ours.shape != reference.shape:
        return Measured(
            f"{what} {tuple(ours.shape)} for {tuple(reference.shape)}", float("inf"), float("inf"), tolerance
        )
    if reference.numel() == 0:
        return Measured(what, 0.0, 0.0, tolerance)
    a, b = ours.detach().double().cpu(), reference.double().cpu()
    absolute = float((a - b).abs().max())
    return Measured(what, absolute, absolute / max(float(b.abs().max()), 1e-12), tolerance)


def compare_stored(
    case: Case, inputs: set[str], ours: Mapping[str, torch.Tensor], tolerance: Callable[[str], float]
) -> list[Measured]:
    """Compares everything the case stores except inputs: floats within `tolerance` of their name, integers and flags exactly.

    An output that the case stores and ours lacks is a failed comparison. In half precision floats are compared by the cosine
    between them, and decisions, which rounding may turn, not at all.
    """
    measured = []
    for name, stored in case.tensors.items():
        if name in inputs:
            continue
        if name not in ours:
            measured.append(Measured(f"{name}: our network has no such output", float("inf"), float("inf"), 0.0))
        elif case.half:
            if stored.is_floating_point():
                measured.append(compare_directions(name, ours[name], stored))
        elif stored.is_floating_point():
            measured.append(compare(name, ours[name], stored, tolerance(name)))
        else:
            measured.append(compare_exactly(name, ours[name], stored))
    return measured


def compare_directions(what: str, ours: torch.Tensor, reference: torch.Tensor) -> Measured:
    """One less the cosine between our tensor and the reference's; where that is zero, which has no direction, `compare`."""
    if ours.shape != reference.shape or not reference.any():
        return compare(what, ours, reference, HALF_TOLERANCE)
    a, b = (part.detach().double().cpu().flatten() for part in (ours, reference))
    off = 1 - float(torch.cosine_similarity(a, b, dim=0))
    return Measured(f"{what}, cosine", off, off, HALF_TOLERANCE)


def compare_exactly(what: str, ours: torch.Tensor, reference: torch.Tensor) -> Measured:
    """`compare` without tolerance, for coordinates, masks and faces."""
    return compare(what, ours, reference, 0.0)
