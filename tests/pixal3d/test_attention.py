from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import _cur_sdpa_kernel_backends

from scenegen.errors import ResourceError, UsageError
from scenegen.pixal3d.attention import (
    attend,
    attend_plainly,
    attend_ragged,
    attend_ragged_plainly,
    preferred_kernels,
)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


sizes = st.integers(1, 9)
few = settings(max_examples=30, deadline=None)


@few
@given(b=st.integers(1, 3), lq=sizes, lk=sizes, h=st.integers(1, 3), d=sizes, dv=sizes, chunk=st.integers(1, 4))
def test_attend_is_its_formula_at_any_chunk(b: int, lq: int, lk: int, h: int, d: int, dv: int, chunk: int) -> None:
    q, k, v = drawn(0, b, lq, h, d), drawn(1, b, lk, h, d), drawn(2, b, lk, h, dv)
    expected = attend_plainly(q, k, v)
    torch.testing.assert_close(attend(q, k, v), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(attend(q, k, v, chunk * b * h * lk * 4), expected, atol=1e-5, rtol=1e-5)


@few
@given(items=st.lists(st.tuples(st.integers(0, 6), sizes), min_size=1, max_size=8), h=st.integers(1, 3), d=sizes)
def test_attend_ragged_is_attention_under_a_mask(items: list[tuple[int, int]], h: int, d: int) -> None:
    q_lengths, k_lengths = (list(lengths) for lengths in zip(*items, strict=True))
    q, k, v = drawn(0, sum(q_lengths), h, d), drawn(1, sum(k_lengths), h, d), drawn(2, sum(k_lengths), h, d)
    ours = attend_ragged(q, k, v, q_lengths, k_lengths)
    torch.testing.assert_close(ours, attend_ragged_plainly(q, k, v, q_lengths, k_lengths), atol=1e-5, rtol=1e-5)


def test_items_of_equal_length_take_one_call_and_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def counted(*args: torch.Tensor) -> torch.Tensor:
        calls.append(args)
        return kernel(*args)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    q, k, v = drawn(0, 12, 2, 4), drawn(1, 6, 2, 4), drawn(2, 6, 2, 4)
    ours = attend_ragged(q, k, v, (4, 4, 4), (2, 2, 2))
    assert len(calls) == 1
    torch.testing.assert_close(ours, attend_ragged_plainly(q, k, v, (4, 4, 4), (2, 2, 2)))
    attend_ragged(q, k, v, (5, 4, 3), (2, 2, 2))
    assert len(calls) == 4


def test_the_budget_bounds_the_scores_of_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes_seen = []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def measured(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        sizes_seen.append(q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] * 4)
        return kernel(q, k, v)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", measured)
    q, k = drawn(0, 2, 50, 3, 4), drawn(1, 2, 40, 3, 4)
    attend(q, k, k, score_bytes=10_000)
    assert max(sizes_seen) <= 10_000
    assert sum(sizes_seen) == 2 * 3 * 50 * 40 * 4


def test_equal_scores_give_the_mean_of_the_values() -> None:
    v = drawn(2, 1, 7, 2, 3)
    out = attend(torch.zeros(1, 4, 2, 5), drawn(1, 1, 7, 2, 5), v)
    torch.testing.assert_close(out, v.mean(dim=1, keepdim=True).expand(1, 4, 2, 3))


def test_one_key_gives_its_value() -> None:
    v = drawn(2, 2, 1, 2, 3)
    torch.testing.assert_close(attend(drawn(0, 2, 4, 2, 5), drawn(1, 2, 1, 2, 5), v), v.expand(2, 4, 2, 3))


def test_scores_are_divided_by_the_root_of_the_width() -> None:
    q = torch.full((1, 1, 1, 16), 1.0)
    k = torch.stack([torch.full((16,), 1.0), torch.zeros(16)])[None, :, None, :]
    v = torch.tensor([1.0, 0.0])[None, :, None, None]
    assert attend(q, k, v).item() == pytest.approx(torch.sigmoid(torch.tensor(4.0)).item(), abs=1e-6)


def test_half_precision_stays() -> None:
    q = drawn(0, 1, 5, 2, 8).bfloat16()
    assert attend(q, q, q, 200).dtype == torch.bfloat16


def test_a_budget_below_one_query_is_refused() -> None:
    q = drawn(0, 2, 4, 3, 8)
    attend(q, q, q, score_bytes=96)
    with pytest.raises(ResourceError, match=r"`score_bytes` is 95.* take 96"):
        attend(q, q, q, score_bytes=95)


@pytest.mark.parametrize(
    ("q_lengths", "k_lengths", "message"),
    [
        ((3, 2), (3, 3), r"`q_lengths` adds up to 5, but there are 6 tokens"),
        ((3, 3), (3, 2), r"`k_lengths` adds up to 5, but there are 6 tokens"),
        ((3, 3), (6,), r"`q_lengths` names 2 items and `k_lengths` 1"),
        ((3, 3), (6, 0), r"`k_lengths`\[1\] is 0 for an item with 3 queries"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(
    q_lengths: tuple[int, ...], k_lengths: tuple[int, ...], message: str
) -> None:
    q = drawn(0, 6, 2, 4)
    with pytest.raises(UsageError, match=message):
        attend_ragged(q, q, q, q_lengths, k_lengths)


@pytest.mark.parametrize(
    ("capability", "first"), [((8, 6), "FLASH_ATTENTION"), ((9, 0), "CUDNN_ATTENTION"), ((12, 0), "CUDNN_ATTENTION")]
)
def test_the_order_of_kernels_follows_the_card(
    capability: tuple[int, int], first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    q, k, v = (drawn(seed, 1, 5, 2, 8) for seed in range(3))
    with preferred_kernels(torch.device("cuda")):
        order = [backend.name for backend in _cur_sdpa_kernel_backends(with_priority=True)]
        torch.testing.assert_close(attend(q, k, v), attend_plainly(q, k, v))
    assert order[0] == first
    assert set(order) == {"FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION", "MATH"}
