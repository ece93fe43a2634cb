"""The sparse decoders: from latents at few voxels to a surface, or to its material, at voxels 16 times finer.

Each level refines the features (ConvNeXt blocks) and then splits every voxel into those of its eight children that exist. The
shape decoder predicts which do; the texture decoder is given them. (TRELLIS.2's structured latents, as Pixal3D, arXiv 2605.10922,
uses them.) Parameter names and arguments are those of the released checkpoints and configs. Linear layers and convolutions
inside the blocks compute in the dtype of their weights (`to_dtype`); norms, the first and the last layer in float32.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int32, Shaped
from torch import Tensor, nn
from torch.nn import functional

from scenegen.errors import UsageError
from scenegen.pixal3d.block import Float32LayerNorm
from scenegen.pixal3d.sparse import (
    WORKING_BYTES,
    NeighbourMap,
    SubmanifoldConv3d,
    channel_to_space,
    child_coords,
    map_rows,
)
from scenegen.pixal3d.surface import DualGrid

NORM_EPS = 1e-6
EXPANSION = 4
"""Hidden width of a ConvNeXt block over its width."""
CHILDREN = 8
BLOCK, UP_BLOCK = "SparseConvNeXtBlock3d", "SparseResBlockC2S3d"


class SparseConvNeXtBlock3d(nn.Module):
    """A convolution and a feed-forward of each voxel, added to the identity (Liu et al. 2022, arXiv 2201.03545)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = SubmanifoldConv3d(channels, channels)
        self.norm = Float32LayerNorm(channels, eps=NORM_EPS)
        self.mlp = nn.Sequential(
            nn.Linear(channels, EXPANSION * channels), nn.SiLU(), nn.Linear(EXPANSION * channels, channels)
        )

    def forward(self, feats: Float[Tensor, "n c"], neighbours: NeighbourMap, budget: int) -> Float[Tensor, "n c"]:
        """Refines the features in `budget` bytes plus a few arrays of their size."""
        row_bytes = (2 * EXPANSION + 3) * feats.shape[1] * torch.float32.itemsize
        mixed = self.conv(feats, neighbours, budget)
        return feats + map_rows(lambda rows: self.mlp(self.norm(rows)), mixed, row_bytes, budget)


class SparseResBlockC2S3d(nn.Module):
    """Splits voxels into children: a convolution to eight children's channels, and another one among the children.

    A skip connection hands the parent's channels to the children, each repeated to the new width.
    """

    to_subdiv: nn.Linear
    """Predicts the children; present only if subdivisions are predicted."""

    def __init__(self, channels: int, out_channels: int, pred_subdiv: bool) -> None:
        super().__init__()
        if channels % CHILDREN or CHILDREN * out_channels % channels:
            raise UsageError(
                f"`model_channels` goes from {channels} to {out_channels}; the wider must be a multiple of {CHILDREN} and "
                f"divide {CHILDREN} times the next."
            )
        self.repeats = CHILDREN * out_channels // channels
        self.norm1 = Float32LayerNorm(channels, eps=NORM_EPS)
        self.norm2 = Float32LayerNorm(out_channels, eps=NORM_EPS, elementwise_affine=False)
        self.conv1 = SubmanifoldConv3d(channels, CHILDREN * out_channels)
        self.conv2 = SubmanifoldConv3d(out_channels, out_channels)
        if pred_subdiv:
            self.to_subdiv = nn.Linear(channels, CHILDREN)

    def forward(
        self,
        feats: Float[Tensor, "n c"],
        neighbours: NeighbourMap,
        mask: Bool[Tensor, "n 8"],
        children: NeighbourMap,
        budget: int,
    ) -> Float[Tensor, "m d"]:
        """Features of the `children`, those in `mask`."""

        def active(norm: nn.Module, feats: Float[Tensor, "k c"]) -> Float[Tensor, "k c"]:
            row_bytes = 3 * feats.shape[1] * torch.float32.itemsize
            return map_rows(lambda rows: functional.silu(norm(rows)), feats, row_bytes, budget)

        # Without a name of its own, what conv1 made is freed before conv2, where a card's memory is fullest.
        split = active(self.norm2, channel_to_space(self.conv1(active(self.norm1, feats), neighbours, budget), mask))
        return self.conv2(split, children, budget) + channel_to_space(feats, mask).repeat_interleave(
            self.repeats, dim=1
        )


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a sparse decoder makes of a latent."""

    feats: Float[Tensor, "m c"]
    """Raw output of the last layer."""
    levels: tuple[NeighbourMap, ...]
    """The voxels of each level, coarse to fine, and which are neighbours."""
    subdivisions: tuple[Shaped[Tensor, "_ 8"], ...]
    """For each level, which children its voxels have: logits (positive is yes), or what the decoder was given."""

    @property
    def coords(self) -> Int32[Tensor, "m 4"]:
        """Voxels of the finest level, those of `feats`."""
        return self.levels[-1].coords


class SparseUnetVaeDecoder(nn.Module):
    """The sparse decoder. With six outputs and guided, it decodes the material.

    Args:
        out_channels: channels of the output.
        model_channels: width at each level, coarse to fine.
        latent_channels: channels of the latent.
        num_blocks: ConvNeXt blocks at each level.
        block_type: "SparseConvNeXtBlock3d" for each level.
        up_block_type: "SparseResBlockC2S3d" for each step between levels.
        block_args: for each level {}, or {"use_checkpoint": ...}, which is about training and has no effect here.
        use_fp16: whether the layers inside the blocks are float16.
        pred_subdiv: whether the decoder predicts the subdivisions; otherwise `guide_subs` gives them.

    Raises:
        UsageError: for a value this network does not have.
    """

    def __init__(
        self,
        *,
        out_channels: int,
        model_channels: Sequence[int],
        latent_channels: int,
        num_blocks: Sequence[int],
        block_type: Sequence[str],
        up_block_type: Sequence[str],
        block_args: Sequence[Mapping[str, object]] = (),
        use_fp16: bool = False,
        pred_subdiv: bool = True,
    ) -> None:
        super().__init__()
        levels = len(model_channels)
        _require_each("block_type", block_type, BLOCK, levels)
        _require_each("up_block_type", up_block_type, UP_BLOCK, levels - 1)
        if len(num_blocks) != levels:
            raise UsageError(f"`num_blocks` is {list(num_blocks)}; give {levels} numbers, one per level.")
        unknown = {name for args in block_args for name in args} - {"use_checkpoint"}
        if unknown:
            raise UsageError(f"`block_args` names {sorted(unknown)}; allowed: 'use_checkpoint'.")
        self.latent_channels = latent_channels
        self.pred_subdiv = pred_subdiv
        self.from_latent = nn.Linear(latent_channels, model_channels[0])
        self.blocks = nn.ModuleList(
            nn.ModuleList(SparseConvNeXtBlock3d(width) for _ in range(count))
            for width, count in zip(model_channels, num_blocks, strict=True)
        )
        for level, (width, finer) in enumerate(itertools.pairwise(model_channels)):
            self.blocks[level].append(SparseResBlockC2S3d(width, finer, pred_subdiv))
        self.output_layer = nn.Linear(model_channels[-1], out_channels)
        if use_fp16:
            self.to_dtype(torch.float16)

    def to_dtype(self, dtype: torch.dtype) -> None:
        """Casts weights and biases of linear layers and convolutions inside the blocks, in place."""
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear | SubmanifoldConv3d):
                module.to(dtype)

    def forward(
        self,
        feats: Float[Tensor, "n c"],
        coords: Int32[Tensor, "n 4"],
        guide_subs: Sequence[Shaped[Tensor, "_ 8"]] | None = None,
        *,
        levels: Sequence[NeighbourMap] = (),
        budget: int = WORKING_BYTES,
    ) -> Decoded:
        """Decodes to the finest level.

        Args:
            feats: latents, in the units the decoder was trained on.
            coords: (item, x, y, z) of each.
            guide_subs: for each level which children its voxels have, logits or masks, with rows in the order of the voxels
                of the decoder that predicted them. A decoder that predicts uses them too, and returns its own logits.
            levels: the voxels of every level as that decoder returned them, which saves looking their neighbours up again.
            budget: bytes to work in, in addition to features and neighbours of a level.

        Raises:
            UsageError: if sizes are not those of the config, or `guide_subs` are missing or fit other voxels.
        """
        growing, finest = self._growing(), self.blocks[-1]
        if guide_subs is None and not self.pred_subdiv:
            raise UsageError(
                "`guide_subs` is None; give the subdivisions of the shape, which this decoder does not predict."
            )
        if guide_subs is not None and len(guide_subs) != len(growing):
            raise UsageError(f"`guide_subs` has {len(guide_subs)} levels; this decoder has {len(growing)}.")
        if levels and (guide_subs is None or len(levels) != len(self.blocks)):
            raise UsageError(
                f"`levels` has {len(levels)} levels; give the {len(self.blocks)} that came with `guide_subs`, or none."
            )
        h = self._enter(feats, coords)
        maps = list(levels) or [NeighbourMap.of(coords)]
        subdivisions: list[Tensor] = []
        for level, (plain, grow) in enumerate(growing):
            for block in plain:
                h = block(h, maps[level], budget)
            own, mask = self._subdivision(level, h, guide_subs)
            subdivisions.append(own)
            if not levels:
                maps.append(NeighbourMap.of(child_coords(maps[level].coords, mask)))
            h = grow(h, maps[level], mask, maps[level + 1], budget)
        for block in finest:
            h = block(h, maps[-1], budget)

        def head(rows: Float[Tensor, "k c"]) -> Float[Tensor, "k d"]:
            return self.output_layer(functional.layer_norm(rows.float(), rows.shape[-1:]))

        row_bytes = 3 * h.shape[1] * torch.float32.itemsize
        return Decoded(map_rows(head, h, row_bytes, budget), tuple(maps), tuple(subdivisions))

    def upsample(
        self,
        feats: Float[Tensor, "n c"],
        coords: Int32[Tensor, "n 4"],
        upsample_times: int,
        *,
        budget: int = WORKING_BYTES,
    ) -> Int32[Tensor, "m 4"]:
        """Coordinates of the voxels after `upsample_times` subdivisions, each of which doubles the resolution.

        Raises:
            UsageError: if this decoder does not predict subdivisions, or has fewer of them.
        """
        growing = self._growing()
        if not self.pred_subdiv:
            raise UsageError("this decoder does not predict subdivisions; call `upsample` of the shape decoder.")
        if not 1 <= upsample_times <= len(growing):
            raise UsageError(f"`upsample_times` is {upsample_times}; allowed: 1 to {len(growing)}.")
        h, neighbours = self._enter(feats, coords), NeighbourMap.of(coords)
        for level, (plain, grow) in enumerate(growing[:upsample_times], start=1):
            for block in plain:
                h = block(h, neighbours, budget)
            mask = grow.to_subdiv(h) > 0
            places = child_coords(neighbours.coords, mask)
            if level < upsample_times:
                children = NeighbourMap.of(places)
                h, neighbours = grow(h, neighbours, mask, children, budget), children
        return places

    def _subdivision(
        self, level: int, h: Float[Tensor, "n c"], guide_subs: Sequence[Shaped[Tensor, "_ 8"]] | None
    ) -> tuple[Shaped[Tensor, "n 8"], Bool[Tensor, "n 8"]]:
        """What to record of a level's subdivision, and which children there are."""
        grow = self.blocks[level][-1]
        if guide_subs is None:
            logits = grow.to_subdiv(h)
            return logits, logits > 0
        given_subs = guide_subs[level]
        if given_subs.shape != (len(h), CHILDREN):
            raise UsageError(
                f"`guide_subs[{level}]` is {tuple(given_subs.shape)}, but the level has {len(h)} voxels; give the "
                "subdivisions that were decoded from the same voxels in the same order."
            )
        return grow.to_subdiv(h) if self.pred_subdiv else given_subs, given_subs > 0

    def _growing(self) -> list[tuple[list[SparseConvNeXtBlock3d], SparseResBlockC2S3d]]:
        """The levels that end in a subdivision: their ConvNeXt blocks, and the block that subdivides."""
        return [(list(blocks[:-1]), blocks[-1]) for blocks in self.blocks[:-1]]

    def _enter(self, feats: Float[Tensor, "n c"], coords: Int32[Tensor, "n 4"]) -> Float[Tensor, "n d"]:
        if feats.shape[1] != self.latent_channels or len(feats) != len(coords):
            raise UsageError(
                f"`feats` is {tuple(feats.shape)} for {len(coords)} voxels; give [{len(coords)}, {self.latent_channels}]."
            )
        inside = next(
            (m.weight.dtype for m in self.blocks.modules() if isinstance(m, SubmanifoldConv3d)), torch.float32
        )
        return self.from_latent(feats.float()).to(inside)


class FlexiDualGridVaeDecoder(SparseUnetVaeDecoder):
    """The shape decoder: its seven outputs say where the surface runs through each voxel.

    Args:
        resolution: resolution at which training began. It has no effect: `dual_grid_to_mesh` takes that of the decoded grid.
        voxel_margin: how far, in voxels, a surface vertex may leave its voxel.
        model_channels, latent_channels, num_blocks, block_type, up_block_type, block_args, use_fp16: as in
            `SparseUnetVaeDecoder`.
    """

    def __init__(
        self,
        *,
        resolution: int,
        model_channels: Sequence[int],
        latent_channels: int,
        num_blocks: Sequence[int],
        block_type: Sequence[str],
        up_block_type: Sequence[str],
        block_args: Sequence[Mapping[str, object]] = (),
        use_fp16: bool = False,
        voxel_margin: float = 0.5,
    ) -> None:
        super().__init__(
            out_channels=7,
            model_channels=model_channels,
            latent_channels=latent_channels,
            num_blocks=num_blocks,
            block_type=block_type,
            up_block_type=up_block_type,
            block_args=block_args,
            use_fp16=use_fp16,
        )
        self.voxel_margin = voxel_margin

    def dual_grid(self, decoded: Decoded) -> DualGrid:
        """The surface that the raw outputs stand for."""
        vertex, crossing, split = decoded.feats.split([3, 3, 1], dim=1)
        return DualGrid(
            coords=decoded.coords,
            dual_vertices=(1 + 2 * self.voxel_margin) * vertex.sigmoid() - self.voxel_margin,
            intersected=crossing > 0,
            split_weight=functional.softplus(split),
        )


def _require_each(name: str, received: Sequence[str], allowed: str, count: int) -> None:
    if list(received) != [allowed] * count:
        raise UsageError(f"`{name}` is {list(received)}; allowed: {count} times {allowed!r}.")
