"""Material on the surface: attributes of sparse voxels, interpolated between them."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Bool, Float, Int32, UInt8
from torch import Tensor
from torch.nn import functional

from scenegen.errors import InputError
from scenegen.pixal3d.sparse import WORKING_BYTES, CoordinateIndex, row_slices

BASE_COLOR, SURFACE = slice(0, 3), slice(3, 6)
"""Channels of the material: sRGB; metallic, roughness and alpha."""
CORNERS = tuple(itertools.product((0, 1), repeat=3))
SUM_FLOOR = 1e-12


def material(decoded: Float[Tensor, "n 6"]) -> Float[Tensor, "n 6"]:
    """Material in 0..1 (not clamped) from the raw output of the texture decoder; base colours are sRGB."""
    return decoded * 0.5 + 0.5


def as_bytes(attributes: Float[Tensor, "n c"]) -> UInt8[Tensor, "n c"]:
    """0..1 to 0..255, clamped and rounded down, as the reference stores its textures."""
    return (attributes * 255).clamp(0, 255).to(torch.uint8)


def sample_voxels(
    coords: Int32[Tensor, "n 3"],
    attributes: Float[Tensor, "k c"],
    points: Float[Tensor, "m 3"],
    resolution: int,
    budget: int = WORKING_BYTES,
) -> tuple[Float[Tensor, "m c"], Bool[Tensor, "m"]]:
    """Trilinear interpolation between voxel centres; absent voxels are left out, and the other weights are made to sum to 1.

    Counting absent voxels as zeros instead would darken a surface, which always has some beside it.

    Args:
        coords: (x, y, z) of the voxels on a grid of `resolution`.
        attributes: attributes of each voxel, at its centre.
        points: points in the latent cube [-0.5, 0.5]^3.
        resolution: voxels along an edge of the cube.
        budget: bytes to work in, in addition to the result.

    Returns:
        - **values**: at each point; 0 where `known` is not.
        - **known**: whether any of the eight voxels around the point is there.

    Raises:
        InputError: if `coords` and `attributes` differ in length, or a voxel occurs twice.
    """
    if len(coords) != len(attributes):
        raise InputError(f"`attributes` has {len(attributes)} rows for {len(coords)} voxels; give one per voxel.")
    values = attributes.new_zeros(len(points), attributes.shape[1])
    known = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    if len(coords) == 0:
        return values, known
    index = CoordinateIndex.of(coords)
    steps = torch.tensor(CORNERS, device=points.device)
    row_bytes = len(CORNERS) * 16 * torch.int64.itemsize
    for rows in row_slices(len(points), row_bytes, budget):
        place = (points[rows] + 0.5) * resolution - 0.5  # voxel centres at whole numbers
        base = place.floor()
        found = index.find(base.long()[:, None] + steps)
        there = found >= 0
        along = torch.stack([1 - (place - base), place - base], dim=2)  # [rows, axis, near or far]
        x, y, z = (along[:, axis, steps[:, axis]] for axis in range(3))
        weight = (x * y * z * there).to(attributes.dtype)
        values[rows] = functional.embedding_bag(found.clamp(min=0), attributes, mode="sum", per_sample_weights=weight)
        values[rows] /= weight.sum(dim=1, keepdim=True).clamp(min=SUM_FLOOR)
        known[rows] = there.any(dim=1)
    return values, known
