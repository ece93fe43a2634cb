"""The block of the flow transformers: self-attention, projected attention, feed-forward (Pixal3D, arXiv 2605.10922).

The tokens of all items of a batch are concatenated, [n, c], so that dense grids and sparse voxels are one case.
Parameter names are those of the released checkpoints. Linear layers compute in the dtype of their weights; norms, modulation
and rotary embedding in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from math import sqrt

import torch
from jaxtyping import Complex64, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from scenegen.pixal3d.attention import attend_ragged
from scenegen.pixal3d.rotary import rotate

NORM_EPS = 1e-6


@dataclass(frozen=True, eq=False)
class Items:
    """Which tokens of a batch belong to which of its items."""

    lengths: tuple[int, ...]
    """Tokens of each item."""
    owner: Int64[Tensor, "n"]
    """Item of each token."""

    def per_token(self, values: Float[Tensor, "b c"]) -> Float[Tensor, "_ c"]:
        """One row per token from one row per item; a single item's row broadcasts as it is."""
        return values if len(self.lengths) == 1 else values[self.owner]


class Float32LayerNorm(nn.LayerNorm):
    """Layer norm in float32; the result has the dtype of the input."""

    def forward(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """Normalises each token."""
        return super().forward(x.float()).to(x.dtype)


class HeadRMSNorm(nn.Module):
    """Root-mean-square norm of each head, in float32 (Zhang and Sennrich 2019, arXiv 1910.07467)."""

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, head_dim))

    def forward(self, x: Float[Tensor, "n h d"]) -> Float[Tensor, "n h d"]:
        """Scales each head to length sqrt(d), then by `gamma`."""
        return (functional.normalize(x.float(), dim=-1) * self.gamma * sqrt(x.shape[-1])).to(x.dtype)


class SelfAttention(nn.Module):
    """Attention among the voxels of one item, with normalised and rotated queries and keys."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.q_rms_norm = HeadRMSNorm(heads, channels // heads)
        self.k_rms_norm = HeadRMSNorm(heads, channels // heads)
        self.to_out = nn.Linear(channels, channels)

    def forward(
        self,
        x: Float[Tensor, "n c"],
        phases: Complex64[Tensor, "n pairs"],
        items: Items,
        score_bytes: int | None,
    ) -> Float[Tensor, "n c"]:
        """Attends within each item."""
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(1)
        q, k = rotate(self.q_rms_norm(q), phases), rotate(self.k_rms_norm(k), phases)
        return self.to_out(attend_ragged(q, k, v, items.lengths, items.lengths, score_bytes).flatten(1))


class CrossAttention(nn.Module):
    """Attention from the voxels to the few global tokens of their item."""

    def __init__(self, channels: int, context_channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels)
        self.to_kv = nn.Linear(context_channels, 2 * channels)
        self.q_rms_norm = HeadRMSNorm(heads, channels // heads)
        self.k_rms_norm = HeadRMSNorm(heads, channels // heads)
        self.to_out = nn.Linear(channels, channels)

    def forward(
        self, x: Float[Tensor, "n c"], context: Float[Tensor, "b g cg"], items: Items, score_bytes: int | None
    ) -> Float[Tensor, "n c"]:
        """Attends from each item's voxels to its global tokens."""
        q = self.q_rms_norm(self.to_q(x).unflatten(-1, (self.heads, -1)))
        k, v = self.to_kv(context).flatten(0, 1).unflatten(-1, (2, self.heads, -1)).unbind(1)
        tokens = tuple(repeat(context.shape[1], context.shape[0]))
        return self.to_out(attend_ragged(q, self.k_rms_norm(k), v, items.lengths, tokens, score_bytes).flatten(1))


class ProjectAttention(nn.Module):
    """What ties voxels to pixels: each voxel gets its own back-projected feature in addition to the cross-attention.

    The linear map keeps its bias when the features are zero, in the unconditional branch of guidance.
    """

    def __init__(self, channels: int, context_channels: int, projected_channels: int, heads: int) -> None:
        super().__init__()
        self.cross_attn_block = CrossAttention(channels, context_channels, heads)
        self.proj_linear = nn.Linear(projected_channels, channels)

    def forward(
        self,
        x: Float[Tensor, "n c"],
        context: Float[Tensor, "b g cg"],
        projected: Float[Tensor, "n p"],
        items: Items,
        score_bytes: int | None,
    ) -> Float[Tensor, "n c"]:
        """Sum of the cross-attention and the mapped feature of each voxel."""
        return self.cross_attn_block(x, context, items, score_bytes) + self.proj_linear(projected)


class FeedForward(nn.Module):
    """Two linear layers around a GELU (its tanh form)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, channels))

    def forward(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """Acts on each token alone."""
        return self.mlp(x)


class Block(nn.Module):
    """One block; a timestep modulates it through six vectors shared by all blocks plus six of its own (adaLN)."""

    def __init__(
        self, channels: int, context_channels: int, projected_channels: int, heads: int, mlp_channels: int
    ) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.randn(6 * channels) / sqrt(channels))
        self.norm1 = Float32LayerNorm(channels, eps=NORM_EPS, elementwise_affine=False)
        self.self_attn = SelfAttention(channels, heads)
        self.norm2 = Float32LayerNorm(channels, eps=NORM_EPS)
        self.cross_attn = ProjectAttention(channels, context_channels, projected_channels, heads)
        self.norm3 = Float32LayerNorm(channels, eps=NORM_EPS, elementwise_affine=False)
        self.mlp = FeedForward(channels, mlp_channels)

    def forward(
        self,
        h: Float[Tensor, "n c"],
        mod: Float[Tensor, "b c6"],
        context: Float[Tensor, "b g cg"],
        projected: Float[Tensor, "n p"],
        phases: Complex64[Tensor, "n pairs"],
        items: Items,
        score_bytes: int | None,
    ) -> Float[Tensor, "n c"]:
        """One step of the residual stream.

        Args:
            h: tokens.
            mod: shared modulation of each item; shift, scale and gate of the attention, then of the feed-forward.
            context: global tokens of each item.
            projected: back-projected features of each token.
            phases: `rotary_phases` of each token.
            items: which token belongs to which item.
            score_bytes: as in `attend`.
        """
        own = (self.modulation + mod).to(mod.dtype)
        shift1, scale1, gate1, shift3, scale3, gate3 = (items.per_token(part) for part in own.chunk(6, dim=1))
        h = h + self.self_attn(self.norm1(h) * (1 + scale1) + shift1, phases, items, score_bytes) * gate1
        h = h + self.cross_attn(self.norm2(h), context, projected, items, score_bytes)
        return h + self.mlp(self.norm3(h) * (1 + scale3) + shift3) * gate3
