"""Decodes the dense structure latent to the occupied voxels (Pixal3D, arXiv 2605.10922; TRELLIS, arXiv 2412.01506)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int32
from torch import Tensor, nn
from torch.nn import functional

from scenegen.errors import UsageError
from scenegen.pixal3d.block import Float32LayerNorm


class ChannelLayerNorm(Float32LayerNorm):
    """Layer norm over the channels of each cell of a dense grid."""

    def forward(self, x: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b c x y z"]:
        """Normalises each cell."""
        last = x.movedim(1, -1)
        return super().forward(last.flatten(0, -2)).unflatten(0, last.shape[:-1]).movedim(-1, 1)


class ResBlock3d(nn.Module):
    """Two normalised convolutions, added to the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = ChannelLayerNorm(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm2 = ChannelLayerNorm(channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b c x y z"]:
        """Adds the convolved branch."""
        h = self.conv1(functional.silu(self.norm1(x)))
        return x + self.conv2(functional.silu(self.norm2(h)))


class UpsampleBlock3d(nn.Module):
    """Twice the resolution: a convolution to 8 times the channels, which become 2x2x2 cells."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, 8 * out_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b d x2 y2 z2"]:
        """Convolves and spreads."""
        return pixel_shuffle_3d(self.conv(x))


class SparseStructureDecoder(nn.Module):
    """Occupancy logits from the structure latent. Parameter names are those of the released checkpoint.

    Convolutions inside compute in the dtype of their weights; norms, the first and the last layer in float32.

    Args:
        out_channels: 1, the logit.
        latent_channels: channels of the latent.
        num_res_blocks: residual blocks at each resolution.
        channels: width at each resolution, coarse to fine; each next one is twice as fine.
        num_res_blocks_middle: residual blocks before those.
        norm_type: "layer", the only kind.
        use_fp16: whether the convolutions inside are float16.

    Raises:
        UsageError: for another `norm_type`.
    """

    def __init__(
        self,
        *,
        out_channels: int,
        latent_channels: int,
        num_res_blocks: int,
        channels: Sequence[int],
        num_res_blocks_middle: int = 2,
        norm_type: str = "layer",
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        if norm_type != "layer":
            raise UsageError(f"`norm_type` is {norm_type!r}; allowed: 'layer'.")
        self.latent_channels = latent_channels
        self.input_layer = nn.Conv3d(latent_channels, channels[0], 3, padding=1)
        self.middle_block = nn.Sequential(*(ResBlock3d(channels[0]) for _ in range(num_res_blocks_middle)))
        blocks: list[nn.Module] = []
        for level, width in enumerate(channels):
            blocks += (ResBlock3d(width) for _ in range(num_res_blocks))
            blocks += (UpsampleBlock3d(width, finer) for finer in channels[level + 1 : level + 2])
        self.blocks = nn.Sequential(*blocks)
        self.out_layer = nn.Sequential(
            ChannelLayerNorm(channels[-1]), nn.SiLU(), nn.Conv3d(channels[-1], out_channels, 3, padding=1)
        )
        if use_fp16:
            self.to_dtype(torch.float16)

    def to_dtype(self, dtype: torch.dtype) -> None:
        """Casts the convolutions between the first and the last layer, in place."""
        for module in (*self.middle_block.modules(), *self.blocks.modules()):
            if isinstance(module, nn.Conv3d):
                module.to(dtype)

    def forward(self, latent: Float[Tensor, "b c r r r"]) -> Float[Tensor, "b co R R R"]:
        """Logits on a grid twice as fine for each width after the first; positive is occupied.

        Args:
            latent: not normalised; axes x, y, z of the latent frame.

        Raises:
            UsageError: if the channels are not those of the config.
        """
        if latent.shape[1] != self.latent_channels:
            raise UsageError(
                f"`latent` has {latent.shape[1]} channels; this decoder needs {self.latent_channels}. "
                "Give the latent of the structure flow of the same release."
            )
        inside = next((m.weight.dtype for m in self.blocks.modules() if isinstance(m, nn.Conv3d)), torch.float32)
        h = self.input_layer(latent.float()).to(inside)
        h = self.blocks(self.middle_block(h))
        return self.out_layer(h.float())


def pixel_shuffle_3d(x: Float[Tensor, "b c8 x y z"]) -> Float[Tensor, "b c x2 y2 z2"]:
    """Spreads every 8 channels over 2x2x2 cells: channel 8 c + 4 dx + 2 dy + dz goes to cell (dx, dy, dz) of channel c."""
    apart = x.unflatten(1, (-1, 2, 2, 2))  # b c dx dy dz x y z
    return apart.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def occupied_voxels(logits: Float[Tensor, "b 1 r r r"], resolution: int) -> Int32[Tensor, "n 4"]:
    """Coordinates (item, x, y, z) of the occupied voxels on a grid of `resolution`, in lexicographic order.

    A coarse voxel is occupied if any of the fine ones in it has a positive logit.

    Raises:
        UsageError: if `resolution` does not divide that of the logits.
    """
    finest = logits.shape[-1]
    if resolution < 1 or finest % resolution:
        raise UsageError(f"`resolution` is {resolution}; give a divisor of {finest}, the resolution of the logits.")
    coarse = functional.max_pool3d(logits.float(), finest // resolution) > 0
    return coarse.squeeze(1).nonzero().int()
