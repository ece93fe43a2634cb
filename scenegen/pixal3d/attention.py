"""Scaled dot-product attention: the one dispatcher, and its plain twins.

Every call ends in torch's `scaled_dot_product_attention`. On CUDA it takes the first kernel of a stated order that can do the
job (`preferred_kernels`). On some devices every kernel stores the matrix of scores; `score_bytes` bounds that matrix by taking
the queries in chunks, which changes nothing but rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from scenegen.errors import LimitError, UsageError

FEW = 4
"""Up to this many items of different lengths are computed one by one; more are padded to one length, which saves calls."""
KERNELS: Mapping[int, tuple[SDPBackend, ...]] = MappingProxyType(
    {
        9: (
            SDPBackend.CUDNN_ATTENTION,
            SDPBackend.FLASH_ATTENTION,
            SDPBackend.EFFICIENT_ATTENTION,
            SDPBackend.MATH,
        ),
        0: (
            SDPBackend.FLASH_ATTENTION,
            SDPBackend.CUDNN_ATTENTION,
            SDPBackend.EFFICIENT_ATTENTION,
            SDPBackend.MATH,
        ),
    }
)
"""From which major compute capability on which kernels are preferred, first to last. The order is fixed, not timed on the
machine: else two runs could differ in their last bits. `benchmarks/gpu.py` times every kernel. On an H200 the first of its
order was the fastest from 4,096 to 49,000 tokens (docs/gpu.md); the other order **has not been timed yet**."""
SCORE_SIZE = 4
"""Bytes of one score: kernels that store scores store them in float32."""


@contextlib.contextmanager
def preferred_kernels(device: torch.device) -> Iterator[None]:
    """Attention on `device` takes the first of `KERNELS` that can do the job; other devices than CUDA have no choice."""
    if device.type != "cuda":
        yield
        return
    major, _ = torch.cuda.get_device_capability(device)
    order = KERNELS[max(since for since in KERNELS if since <= major)]
    with sdpa_kernel(list(order), set_priority=True):
        yield


def attend(
    q: Float[Tensor, "b lq h d"],
    k: Float[Tensor, "b lk h d"],
    v: Float[Tensor, "b lk h dv"],
    score_bytes: int | None = None,
) -> Float[Tensor, "b lq h dv"]:
    """Softmax(q k^T / sqrt(d)) v, for every item and head (Vaswani et al. 2017, arXiv 1706.03762).

    Args:
        q: queries.
        k: keys.
        v: values; their width may differ from that of the keys.
        score_bytes: largest size of the scores of one chunk of queries; None takes all queries at once.

    Raises:
        LimitError: if `score_bytes` does not hold the scores of one query.
    """
    batch, queries, heads, _ = q.shape
    row = batch * heads * k.shape[1] * SCORE_SIZE
    if score_bytes is not None and score_bytes < row:
        raise LimitError(
            f"`score_bytes` is {score_bytes}; the scores of one query against {k.shape[1]} keys take {row} bytes. "
            f"Give at least that, or None."
        )
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    if score_bytes is None or batch * heads * k.shape[2] * SCORE_SIZE * queries <= score_bytes:
        return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    chunks = q.split(score_bytes // row, dim=2)
    return torch.cat([functional.scaled_dot_product_attention(chunk, k, v) for chunk in chunks], dim=2).transpose(1, 2)


def attend_ragged(
    q: Float[Tensor, "n h d"],
    k: Float[Tensor, "m h d"],
    v: Float[Tensor, "m h dv"],
    q_lengths: Sequence[int] | None,
    k_lengths: Sequence[int] | None,
    score_bytes: int | None = None,
) -> Float[Tensor, "n h dv"]:
    """`attend` within each item of a batch whose items differ in length; the tokens of all items are concatenated.

    Args:
        q: queries of all items.
        k: keys of all items.
        v: values of all items.
        q_lengths: number of queries of each item; None for a single item.
        k_lengths: number of keys of each item; None for a single item.
        score_bytes: as in `attend`.

    Raises:
        UsageError: if the lengths do not add up to the number of tokens, or an item has queries but no keys.
        LimitError: as in `attend`.
    """
    if q_lengths is None or k_lengths is None:
        return attend(q[None], k[None], v[None], score_bytes)[0]
    _check_lengths(q, k, q_lengths, k_lengths)
    if len(set(q_lengths)) == 1 and len(set(k_lengths)) == 1:
        batch = len(q_lengths)
        q, k, v = (x.unflatten(0, (batch, x.shape[0] // batch)) for x in (q, k, v))
        return attend(q, k, v, score_bytes).flatten(0, 1)
    if score_bytes is None and len(q_lengths) > FEW:
        return _attend_padded(q, k, v, q_lengths, k_lengths)
    items = zip(q.split(list(q_lengths)), k.split(list(k_lengths)), v.split(list(k_lengths)), strict=True)
    return torch.cat([attend(qi[None], ki[None], vi[None], score_bytes)[0] for qi, ki, vi in items])


def _attend_padded(
    q: Float[Tensor, "n h d"],
    k: Float[Tensor, "m h d"],
    v: Float[Tensor, "m h dv"],
    q_lengths: Sequence[int],
    k_lengths: Sequence[int],
) -> Float[Tensor, "n h dv"]:
    """`attend_ragged` in one call, the items filled up to the longest."""

    def filled(x: Tensor, lengths: Sequence[int], place: tuple[Tensor, Tensor]) -> Tensor:
        empty = x.new_zeros(len(lengths), -(-max(lengths) // 8) * 8, *x.shape[1:])
        return empty.index_put(place, x).transpose(1, 2)

    q_place, k_place = _places(q_lengths, q.device), _places(k_lengths, k.device)
    keys, values = filled(k, k_lengths, k_place), filled(v, k_lengths, k_place)
    there = torch.arange(keys.shape[2], device=k.device) < torch.tensor(list(k_lengths), device=k.device)[:, None]
    made = functional.scaled_dot_product_attention(
        filled(q, q_lengths, q_place), keys, values, attn_mask=there[:, None, None]
    )
    return made.transpose(1, 2)[q_place]


def _places(lengths: Sequence[int], device: torch.device) -> tuple[Int64[Tensor, "n"], Int64[Tensor, "n"]]:
    """The item of each token, and its place among that item's."""
    total = sum(lengths)
    counts = torch.tensor(list(lengths), device=device)
    item = torch.arange(len(lengths), device=device).repeat_interleave(counts, output_size=total)
    return item, torch.arange(total, device=device) - (counts.cumsum(0) - counts)[item]


def attend_plainly(
    q: Float[Tensor, "b lq h d"], k: Float[Tensor, "b lk h d"], v: Float[Tensor, "b lk h dv"]
) -> Float[Tensor, "b lq h dv"]:
    """The plain twin of `attend`: the formula as it stands."""
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(dim=-1), v)


def attend_ragged_plainly(
    q: Float[Tensor, "n h d"],
    k: Float[Tensor, "m h d"],
    v: Float[Tensor, "m h dv"],
    q_lengths: Sequence[int],
    k_lengths: Sequence[int],
) -> Float[Tensor, "n h dv"]:
    """The plain twin of `attend_ragged`: all queries against all keys, with those of other items masked."""
    q_item, k_item = _owners(q_lengths, q.shape[0]), _owners(k_lengths, k.shape[0])
    scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
    scores = scores.masked_fill((q_item[:, None] != k_item[None, :]).to(scores.device), -torch.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(dim=-1), v)


def _owners(lengths: Sequence[int], tokens: int) -> Tensor:
    """The item of each token: how many items have ended before it or at it."""
    return torch.searchsorted(torch.tensor(list(accumulate(lengths))), torch.arange(tokens), right=True)


def _check_lengths(q: Tensor, k: Tensor, q_lengths: Sequence[int], k_lengths: Sequence[int]) -> None:
    for name, lengths, tokens in (("q_lengths", q_lengths, q.shape[0]), ("k_lengths", k_lengths, k.shape[0])):
        if sum(lengths) != tokens:
            raise UsageError(f"`{name}` adds up to {sum(lengths)}, but there are {tokens} tokens; they must agree.")
    if len(q_lengths) != len(k_lengths):
        raise UsageError(
            f"`q_lengths` names {len(q_lengths)} items and `k_lengths` {len(k_lengths)}; give one length per item in each."
        )
    for item, (queries, keys) in enumerate(zip(q_lengths, k_lengths, strict=True)):
        if queries > 0 and keys == 0:
            raise UsageError(f"`k_lengths`[{item}] is 0 for an item with {queries} queries; give it at least one key.")
