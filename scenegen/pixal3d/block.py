"""The block of the flow transformers: self-attention, projected attention, feed-forward (Pixal3D, arXiv 2605.10922).

The tokens of all items of a batch are concatenated, [n, c], so that dense grids and sparse voxels are one case.
Parameter names are those of the released checkpoints. Linear layers compute in the dtype of their weights; norms, modulation
and rotary embedding in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from scenegen.pixal3d.attention import attend_ragged
from scenegen.pixal3d.rotary import Rotation, rotate

NORM_EPS = 1e-6
ROWS = 8
"""Rows with which a matrix product is not that of a vector."""


@dataclass(frozen=True, eq=False)
class Items:
    """Which tokens of a batch belong to which of its items.

    A single item has neither lengths nor owners: what is compiled for it holds for any number of tokens.
    """

    lengths: tuple[int, ...] | None = None
    """Tokens of each item; None for a single one."""
    owner: Int64[Tensor, "n"] | None = None
    """Item of each token; None for a single one."""

    def per_token(self, values: Float[Tensor, "b c"]) -> Float[Tensor, "_ c"]:
        """One row per token from one row per item; a single item's row broadcasts as it is."""
        return values if self.owner is None else values[self.owner]

    def each(self, count: int) -> tuple[int, ...] | None:
        """Lengths of items that have `count` of something each; None for a single one."""
        return None if self.lengths is None else (count,) * len(self.lengths)


@dataclass(frozen=True, eq=False)
class Shown:
    """What the photo shows. Without it, a velocity is unconditional."""

    tokens: Float[Tensor, "b g cg"]
    """Global tokens of each item."""
    voxels: Float[Tensor, "n p"]
    """Back-projected feature of each token."""


@dataclass(frozen=True, eq=False)
class Products:
    """What a block makes of `Shown`, the same at every step of a sampler."""

    keys: Float[Tensor, "m h d"] | None
    """Of the global tokens; None without them."""
    values: Float[Tensor, "m h d"] | None
    added: Float[Tensor, "n c"] | Float[Tensor, "c"]
    """What is added to the attention's answer, or, without global tokens, to every token."""


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
        rotation: Rotation,
        items: Items,
        score_bytes: int | None,
    ) -> Float[Tensor, "n c"]:
        """Attends within each item."""
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(1)
        q, k = rotate(self.q_rms_norm(q), rotation), rotate(self.k_rms_norm(k), rotation)
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

    def keys_and_values(
        self, context: Float[Tensor, "b g cg"]
    ) -> tuple[Float[Tensor, "m h d"], Float[Tensor, "m h d"]]:
        """Of the global tokens of all items."""
        k, v = self.to_kv(context).flatten(0, 1).unflatten(-1, (2, self.heads, -1)).unbind(1)
        return self.k_rms_norm(k), v

    def blind(self) -> Float[Tensor, "c"]:
        """What every voxel gets if the global tokens are zeros: they are alike, so no attention is needed."""
        values = self.to_kv.bias.chunk(2)[1]
        # On a CPU the product of a single row depends on where the weights lie in memory.
        return self.to_out(values.expand(ROWS, -1))[0]

    def forward(
        self,
        x: Float[Tensor, "n c"],
        keys: Float[Tensor, "m h d"],
        values: Float[Tensor, "m h d"],
        items: Items,
        score_bytes: int | None,
    ) -> Float[Tensor, "n c"]:
        """Attends from each item's voxels to its global tokens."""
        q = self.q_rms_norm(self.to_q(x).unflatten(-1, (self.heads, -1)))
        tokens = None if items.lengths is None else items.each(len(keys) // len(items.lengths))
        return self.to_out(attend_ragged(q, keys, values, items.lengths, tokens, score_bytes).flatten(1))


class ProjectAttention(nn.Module):
    """What ties voxels to pixels: each voxel gets its own back-projected feature in addition to the cross-attention.

    Without a photo both leave their biases: what they give for zeros.
    """

    def __init__(self, channels: int, context_channels: int, projected_channels: int, heads: int) -> None:
        super().__init__()
        self.cross_attn_block = CrossAttention(channels, context_channels, heads)
        self.proj_linear = nn.Linear(projected_channels, channels)

    def products(self, shown: Shown | None) -> Products:
        """What does not change while the photo does not."""
        if shown is None:
            return Products(None, None, self.cross_attn_block.blind() + self.proj_linear.bias)
        return Products(*self.cross_attn_block.keys_and_values(shown.tokens), self.proj_linear(shown.voxels))

    def forward(
        self, x: Float[Tensor, "n c"], products: Products, items: Items, score_bytes: int | None
    ) -> Float[Tensor, "n c"]:
        """Sum of the cross-attention and the mapped feature of each voxel."""
        if products.keys is None or products.values is None:
            return products.added.expand_as(x)
        return self.cross_attn_block(x, products.keys, products.values, items, score_bytes) + products.added


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
        condition: Shown | Products | None,
        rotation: Rotation,
        items: Items,
        score_bytes: int | None,
    ) -> tuple[Float[Tensor, "n c"], Products]:
        """One step of the residual stream.

        Args:
            h: tokens.
            mod: shared modulation of each item; shift, scale and gate of the attention, then of the feed-forward.
            condition: what the photo shows, or what this block has made of it at an earlier step; None for the unconditional
                velocity.
            rotation: of each token.
            items: which token belongs to which item.
            score_bytes: as in `attend`.

        Returns:
            - the tokens.
            - **products**: for later steps.
        """
        products = condition if isinstance(condition, Products) else self.cross_attn.products(condition)
        own = (self.modulation + mod).to(mod.dtype)
        shift1, scale1, gate1, shift3, scale3, gate3 = (items.per_token(part) for part in own.chunk(6, dim=1))
        h = h + self.self_attn(self.norm1(h) * (1 + scale1) + shift1, rotation, items, score_bytes) * gate1
        h = h + self.cross_attn(self.norm2(h), products, items, score_bytes)
        return h + self.mlp(self.norm3(h) * (1 + scale3) + shift3) * gate3, products
