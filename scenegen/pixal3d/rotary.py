"""Rotary position embedding in three dimensions (Su et al. 2021, arXiv 2104.09864)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex64, Float, Float32, Int
from torch import Tensor

BASE = 10000.0


@dataclass(frozen=True, eq=False)
class Rotation:
    """By which angle the pairs of channels of a head are turned, at each voxel: channels (2 i, 2 i + 1) are pair i."""

    cos: Float32[Tensor, "n 1 d"]
    """Cosine of each channel's pair."""
    sin: Float32[Tensor, "n 1 d"]
    """Sine, negative for the first channel of a pair."""

    @property
    def phases(self) -> Complex64[Tensor, "n pairs"]:
        """The same as complex factors, as released files store them."""
        return torch.complex(self.cos[:, 0, ::2], self.sin[:, 0, 1::2])

    @classmethod
    def by(cls, phases: Complex64[Tensor, "n pairs"]) -> Rotation:
        """The rotation of complex factors."""
        cos, sin = phases.real, phases.imag
        return cls(*(torch.stack(pair, dim=-1).flatten(1)[:, None] for pair in ((cos, cos), (-sin, sin))))

    @classmethod
    def at(cls, coords: Int[Tensor, "n 3"], head_dim: int) -> Rotation:
        """The rotation at voxels.

        A third of the pairs (rounded down) belongs to each of x, y, z; pair k of an axis turns by coordinate *
        10000^(-k/K). Pairs left over do not turn.

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
        return cls.by(torch.polar(torch.ones_like(angles), angles))


def rotate(x: Float[Tensor, "n h d"], rotation: Rotation) -> Float[Tensor, "n h d"]:
    """Turns every pair of channels of every head by the angle of their voxel, in float32."""
    straight = x.float()
    across = straight.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return (straight * rotation.cos + across * rotation.sin).to(x.dtype)
