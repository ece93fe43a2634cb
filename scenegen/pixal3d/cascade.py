"""From the coarse shape's voxels to those of the fine one, as fine as the token budget allows (Pixal3D, arXiv 2605.10922)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int32
from torch import Tensor

from scenegen.errors import InputError, UsageError

LATTICE = 512
"""Resolution of the lattice on which the shape decoder's `upsample` gives the coarse shape: 32 latent voxels, 16 times finer."""
LATENT_VOXEL = 16
"""Voxels of the decoded surface along an edge of one latent voxel."""
COARSEST, STEP = 1024, 128
"""Resolutions are tried in these steps down to the coarsest, which is taken at any size."""


@dataclass(frozen=True, eq=False)
class FineVoxels:
    """The voxels of the fine shape latent."""

    coords: Int32[Tensor, "n 4"]
    """(item, x, y, z) on a grid of `grid` voxels along an edge, in lexicographic order."""
    resolution: int
    """Resolution of the surface to be decoded."""
    warnings: tuple[str, ...] = ()

    @property
    def grid(self) -> int:
        """Latent voxels along an edge; the image features are projected onto this grid."""
        return self.resolution // LATENT_VOXEL


def fine_voxels(coords: Int32[Tensor, "n 4"], resolution: int, max_tokens: int) -> FineVoxels:
    """The finest grid, from `resolution` downwards, on which the shape has fewer than `max_tokens` voxels.

    Args:
        coords: (item, x, y, z) of the coarse shape on the lattice of `LATTICE`.
        resolution: wanted, 1024 or a multiple of 128 above it.
        max_tokens: the count must be below this. At 1024 any count is accepted.

    Raises:
        UsageError: if the resolution is none of these.
        InputError: if there are no voxels.
    """
    if len(coords) == 0:
        raise InputError("`coords` is empty: the coarse shape has no voxel. Try another seed, or check the mask.")
    if resolution < COARSEST or resolution % STEP:
        raise UsageError(f"`resolution` is {resolution}; give {COARSEST} or a multiple of {STEP} above it.")
    for tried in range(resolution, COARSEST - 1, -STEP):
        voxels = unique_coords(quantise(coords, tried // LATENT_VOXEL))
        if len(voxels) < max_tokens:
            break
    warnings = []
    if tried < resolution:
        warnings.append(f"the shape was decoded at {tried} instead of {resolution} to stay below {max_tokens} tokens.")
    if len(voxels) >= max_tokens:
        warnings.append(f"the shape takes {len(voxels)} tokens even at {tried}, although `max_tokens` is {max_tokens}.")
    return FineVoxels(voxels, tried, tuple(warnings))


def quantise(coords: Int32[Tensor, "n 4"], grid: int) -> Int32[Tensor, "n 4"]:
    """Lattice voxels to the nearest of `grid` voxels per edge, whose ends fall on the ends of the lattice.

    c becomes round((c + 1/2) / 512 (grid - 1)) in float32, which matches where the projection puts its grid points.
    """
    item, place = coords.split([1, 3], dim=1)
    return torch.cat([item, ((place.float() + 0.5) / LATTICE * (grid - 1)).round().int()], dim=1)


def unique_coords(coords: Int32[Tensor, "n 4"]) -> Int32[Tensor, "m 4"]:
    """The distinct coordinates, none negative, in lexicographic order."""
    sizes = torch.Size((coords.amax(dim=0) + 1).tolist())
    # Sorting one number per row is ten times faster than sorting rows.
    strides = torch.tensor([sizes[axis + 1 :].numel() for axis in range(len(sizes))], device=coords.device)
    keys = (coords.long() * strides).sum(dim=1).unique()
    return torch.stack(torch.unravel_index(keys, sizes), dim=1).int()
