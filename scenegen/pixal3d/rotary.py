"""Rotary position embedding in three dimensions (Su et al. 2021, arXiv 2104.09864)."""

from __future__ import annotations

import torch
from jaxtyping import Complex64, Float, Int
from torch import Tensor

BASE = 10000.0


def rotary_phases(coords: Int[Tensor, "n 3"], head_dim: int) -> Complex64[Tensor, "n pairs"]:
    """The complex factors by which the pairs of channels of a head are multiplied, at each voxel.

    A third of the pairs (rounded down) belongs to each of x, y, z; pair k of an axis turns by coordinate * 10000^(-k/K).
    Pairs left over do not turn.

    Args:
        coords: voxel indices (x, y, z).
        head_dim: channels of a head, two per pair.
    """
    pairs = head_dim // 2
    per_axis = pairs // 3
    exponents = torch.arange(per_axis, dtype=torch.float32, device=coords.device) / per_axis
    angles = coords.float()[:, :, None] * (1.0 / BASE**exponents)
    still = angles.new_zeros((len(coords), pairs - 3 * per_axis))
    angles = torch.cat([angles.flatten(1), still], dim=1)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x: Float[Tensor, "n h d"], phases: Complex64[Tensor, "n pairs"]) -> Float[Tensor, "n h d"]:
    """Turns the channels (2 i, 2 i + 1) of every head as one complex number by `phases`[:, i], in float32."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * phases[:, None, :]).flatten(-2).to(x.dtype)
