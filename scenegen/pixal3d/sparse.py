"""Sparse voxels in plain torch: look-up, neighbours, submanifold convolution, subdivision.

A sparse tensor is two arrays with rows in one order: coordinates, int32 [n, 4] (item of the batch, x, y, z), and features,
[n, c]. What depends on the coordinates alone is computed once for each set of them and passed along. Voxels are found by
binary search in sorted int64 keys: no grid is ever filled, and 1024^3 voxels times any batch do not overflow.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int, Int32, Int64
from torch import Tensor, nn
from torch.nn import functional

from scenegen.errors import InputError, UsageError

WORKING_BYTES = 32 * 2**20
"""Default bound on a step's memory besides its inputs and result. More is slower on a CPU, because it exceeds the cache."""
TAPS = tuple(itertools.product((-1, 0, 1), repeat=3))
"""Steps (x, y, z) to the cells of the 3x3x3 kernel, z fastest. Tap 26 - v is opposite to tap v."""
CENTRE = len(TAPS) // 2


@dataclass(frozen=True, eq=False)
class CoordinateIndex:
    """Finds the row of a coordinate among n coordinates of d columns."""

    low: Int64[Tensor, "d"]
    extent: Int64[Tensor, "d"]
    strides: Int64[Tensor, "d"]
    keys: Int64[Tensor, "n"]
    """Linear index of each coordinate within the box that holds all, sorted."""
    rows: Int64[Tensor, "n"]
    """Row of each key."""

    @classmethod
    def of(cls, coords: Int32[Tensor, "n d"]) -> CoordinateIndex:
        """Indexes `coords`, in any order.

        Raises:
            InputError: if a coordinate occurs twice, or the box around all is too large to number its cells.
        """
        if len(coords) == 0:
            nothing = torch.zeros(coords.shape[1], dtype=torch.int64, device=coords.device)
            return cls(nothing, nothing, nothing, nothing[:0], nothing[:0])
        low, high = (bound.long() for bound in coords.aminmax(dim=0))
        extent = high - low + 1
        sizes = extent.tolist()
        if math.prod(sizes) >= 2**63:
            raise InputError(f"`coords` spans {sizes} cells; give coordinates whose box has fewer than 2^63.")
        strides = torch.tensor([math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))], device=coords.device)
        keys, rows = ((coords.long() - low) * strides).sum(dim=1).sort()
        if bool((keys[1:] == keys[:-1]).any()):
            twice = coords[rows[1:][keys[1:] == keys[:-1]][0]].tolist()
            raise InputError(f"`coords` has {twice} more than once; give each voxel once.")
        return cls(low, extent, strides, keys, rows)

    def find(self, coords: Int[Tensor, "*batch d"]) -> Int64[Tensor, "*batch"]:
        """The row of each of `coords`, -1 where there is none."""
        if len(self.keys) == 0:
            return torch.full(coords.shape[:-1], -1, device=coords.device)
        offset = coords.long() - self.low
        inside = ((offset >= 0) & (offset < self.extent)).all(dim=-1)
        key = (offset * self.strides).sum(dim=-1)
        place = torch.searchsorted(self.keys, key).clamp_(max=len(self.keys) - 1)
        return torch.where(inside & (self.keys[place] == key), self.rows[place], -1)


@dataclass(frozen=True, eq=False)
class NeighbourMap:
    """Which voxels are neighbours. It is computed once for a set of voxels, and serves every convolution over it."""

    coords: Int32[Tensor, "n 4"]
    pairs: tuple[tuple[Int32[Tensor, "_"], Int32[Tensor, "_"]], ...]
    """For each of `TAPS` before the centre: rows of voxels, each once, and the rows of their neighbours at that tap, each once.
    By the opposite tap the former are the neighbours of the latter."""

    @classmethod
    def of(cls, coords: Int32[Tensor, "n 4"]) -> NeighbourMap:
        """Finds the neighbours of each voxel among those of its item.

        Raises:
            InputError: as in `CoordinateIndex.of`.
        """
        index = CoordinateIndex.of(coords)
        pairs = []
        for step in TAPS[:CENTRE]:
            found = index.find(coords.long() + torch.tensor((0, *step), device=coords.device))
            here = torch.nonzero(found >= 0).squeeze(1)
            pairs.append((here.int(), found[here].int()))
        return cls(coords, tuple(pairs))

    @cached_property
    def table(self) -> Int32[Tensor, "n 27"]:
        """Rows of the neighbours at each of `TAPS`, the voxel itself among them; n where there is none."""
        count = len(self.coords)
        table = torch.full((count, len(TAPS)), count, dtype=torch.int32, device=self.coords.device)
        table[:, CENTRE] = torch.arange(count, device=self.coords.device)
        for tap, rows, neighbours in self.taps():
            table[rows, tap] = neighbours
        return table

    def taps(self) -> Iterator[tuple[int, Int32[Tensor, "_"], Int32[Tensor, "_"]]]:
        """Every tap but the centre: its place in `TAPS`, rows of voxels, and rows of their neighbours there."""
        for tap, (rows, neighbours) in enumerate(self.pairs):
            yield tap, rows, neighbours
            yield len(TAPS) - 1 - tap, neighbours, rows


def row_slices(count: int, row_bytes: int, budget: int) -> Iterator[slice]:
    """Slices of 0..`count`, each of as many rows of `row_bytes` as `budget` bytes hold, but at least one."""
    step = max(1, budget // row_bytes)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def map_rows(
    function: Callable[[Float[Tensor, "m c"]], Float[Tensor, "m d"]],
    feats: Float[Tensor, "n c"],
    row_bytes: int,
    budget: int,
) -> Float[Tensor, "n d"]:
    """Applies `function`, which treats each row alone, to no more rows at a time than fit into `budget` bytes."""
    slices = list(row_slices(len(feats), row_bytes, budget))
    return torch.cat([function(feats[rows]) for rows in slices]) if len(slices) > 1 else function(feats)


def submanifold_conv(
    feats: Float[Tensor, "n ci"],
    neighbours: NeighbourMap,
    weight: Float[Tensor, "co 3 3 3 ci"],
    bias: Float[Tensor, "co"],
    budget: int = WORKING_BYTES,
) -> Float[Tensor, "n co"]:
    """3x3x3 cross-correlation at the voxels only (Graham et al. 2018, arXiv 1711.10275).

    out[p] = bias + sum over steps o of weight[:, o] x[p + o], absent voxels counting as zeros. Half-precision products are
    summed in float32.

    A CPU takes tap by tap the neighbours that there are. A graphics card takes all taps of some voxels at once, absent ones too:
    with 18 of the 27 there, that was three times as fast on an H200 (docs/gpu.md).

    Args:
        feats: features of the voxels of `neighbours`, in the dtype of `weight`.
        neighbours: the neighbours of the same voxels.
        weight: (out, x, y, z, in).
        bias: one number per output channel.
        budget: bytes to work in, in addition to the weights and the result.
    """
    if feats.device.type == "cuda":
        return all_taps(feats, neighbours, weight, bias, budget)
    precise = torch.promote_types(feats.dtype, torch.float32)
    if precise == feats.dtype:
        return tap_by_tap(feats, neighbours, weight, bias, budget)
    columns = row_slices(len(weight), max(len(feats), 1) * precise.itemsize, budget)
    return torch.cat(
        [tap_by_tap(feats, neighbours, weight[c], bias[c], budget).to(feats.dtype) for c in columns], dim=1
    )


def all_taps(
    feats: Float[Tensor, "n ci"],
    neighbours: NeighbourMap,
    weight: Float[Tensor, "co 3 3 3 ci"],
    bias: Float[Tensor, "co"],
    budget: int,
) -> Float[Tensor, "n co"]:
    """`submanifold_conv` as one product of the gathered neighbours of some voxels after another."""
    padded, by_row = torch.cat([feats, feats.new_zeros(1, feats.shape[1])]), weight.flatten(1).T
    row_bytes = len(by_row) * feats.element_size()
    out = feats.new_empty(len(feats), len(weight))
    for part in row_slices(len(feats), row_bytes, budget):
        rows = neighbours.table[part]
        out[part] = torch.addmm(bias, padded.index_select(0, rows.flatten()).view(len(rows), -1), by_row)
    return out


def tap_by_tap(
    feats: Float[Tensor, "n ci"],
    neighbours: NeighbourMap,
    weight: Float[Tensor, "co 3 3 3 ci"],
    bias: Float[Tensor, "co"],
    budget: int,
) -> Float[Tensor, "n co"]:
    """`submanifold_conv` in float32 or better. A tap adds to each voxel at most once, so that the order of the sum is fixed."""
    by_tap = weight.flatten(1, 3).permute(1, 2, 0).contiguous()
    total = torch.addmm(bias, feats, by_tap[CENTRE]).to(torch.promote_types(feats.dtype, torch.float32))
    row_bytes = sum(weight.shape[::4]) * total.element_size()
    for tap, rows, sources in neighbours.taps():
        for part in row_slices(len(rows), row_bytes, budget):
            product = feats.index_select(0, sources[part]) @ by_tap[tap]
            total = total.index_add_(0, rows[part], product.to(total.dtype))
    return total


def submanifold_conv_dense(
    feats: Float[Tensor, "n ci"],
    coords: Int32[Tensor, "n 4"],
    weight: Float[Tensor, "co 3 3 3 ci"],
    bias: Float[Tensor, "co"],
) -> Float[Tensor, "n co"]:
    """The plain twin of `submanifold_conv`: fills the whole grid, convolves it, and reads the voxels. For small grids."""
    place = (coords - coords.amin(dim=0)).long().unbind(1)
    shape = [int(axis.max()) + 1 for axis in place]
    grid = feats.new_zeros(*shape, feats.shape[1]).index_put(place, feats)
    dense = functional.conv3d(grid.movedim(-1, 1), weight.movedim(-1, 1), bias, padding=1)
    return dense.movedim(1, -1)[place]


class SubmanifoldConv3d(nn.Module):
    """`submanifold_conv` with weights of its own, initialised as torch's convolutions are."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        bound = (len(TAPS) * in_channels) ** -0.5
        self.weight = nn.Parameter(torch.empty(out_channels, 3, 3, 3, in_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound))

    def forward(self, feats: Float[Tensor, "n ci"], neighbours: NeighbourMap, budget: int) -> Float[Tensor, "n co"]:
        """Convolves in the dtype of the weights."""
        return submanifold_conv(feats, neighbours, self.weight, self.bias, budget)


def channel_to_space(feats: Float[Tensor, "n c8"], mask: Bool[Tensor, "n 8"]) -> Float[Tensor, "m c"]:
    """Hands the k-th eighth of a voxel's channels to its k-th child, in the order of `child_coords`.

    Raises:
        UsageError: if the channels do not split into eighths.
    """
    if feats.shape[1] % 8:
        raise UsageError(f"`feats` has {feats.shape[1]} channels; give a multiple of 8, an equal share for each child.")
    return feats.unflatten(1, (8, -1))[mask]


def child_coords(coords: Int32[Tensor, "n 4"], mask: Bool[Tensor, "n 8"]) -> Int32[Tensor, "m 4"]:
    """Children of the voxels on the grid of twice the resolution: parent by parent, ascending k.

    Args:
        coords: coordinates of the parents.
        mask: which children exist; child k lies at 2 parent + (bit 0, bit 1, bit 2 of k) in (x, y, z).
    """
    parent, k = mask.nonzero(as_tuple=True)
    corner = torch.stack([k & 1, k >> 1 & 1, k >> 2 & 1], dim=1).int()
    item, place = coords[parent].split([1, 3], dim=1)
    return torch.cat([item, 2 * place + corner], dim=1)
