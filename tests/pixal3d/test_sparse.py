"""Sparse look-up, neighbours, convolution and subdivision against plain twins."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.errors import InputError, UsageError
from scenegen.pixal3d.sparse import (
    CENTRE,
    TAPS,
    CoordinateIndex,
    NeighbourMap,
    SubmanifoldConv3d,
    all_taps,
    channel_to_space,
    child_coords,
    map_rows,
    row_slices,
    submanifold_conv,
    submanifold_conv_dense,
    tap_by_tap,
)

SEEDS = st.integers(0, 2**31 - 1)


def some_voxels(generator: torch.Generator, size: int = 5, share: float = 0.4) -> torch.Tensor:
    """Voxels of two items in no order, some at negative places."""
    cells = torch.nonzero(torch.rand(2, size, size, size, generator=generator) < share)
    shift = torch.tensor([0, -2, 1, 0])
    return (cells + shift)[torch.randperm(len(cells), generator=generator)].int()


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_the_index_finds_what_a_dictionary_finds(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    coords = some_voxels(generator)
    rows = {tuple(c): i for i, c in enumerate(coords.tolist())}
    asked = torch.randint(-4, 8, (6, 7, 4), generator=generator)
    found = CoordinateIndex.of(coords).find(asked)
    assert found.tolist() == [[rows.get(tuple(c), -1) for c in line] for line in asked.tolist()]


def test_large_grids_and_batches_do_not_overflow() -> None:
    far = 2**19 - 1
    coords = torch.tensor([[0, 0, 0, 0], [7, far, far, far], [7, far, far, far - 1], [3, far, 0, far]]).int()
    index = CoordinateIndex.of(coords)
    assert index.find(coords).tolist() == [0, 1, 2, 3]
    assert index.find(coords + 1).tolist() == [-1] * 4
    beside = [(tap, rows.tolist(), found.tolist()) for tap, rows, found in NeighbourMap.of(coords).taps() if len(rows)]
    assert beside == [(12, [1], [2]), (14, [2], [1])]


def test_a_box_beyond_64_bits_is_refused() -> None:
    coords = torch.tensor([[0, 0, 0, 0], [1, 2**30, 2**30, 2**30]]).int()
    with pytest.raises(InputError, match=r"2\^63"):
        CoordinateIndex.of(coords)


def test_a_voxel_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"\[0, 1, 2, 3\] more than once"):
        CoordinateIndex.of(torch.tensor([[0, 1, 2, 3], [0, 0, 0, 0], [0, 1, 2, 3]]).int())


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_neighbours_are_those_of_the_same_item(seed: int) -> None:
    coords = some_voxels(torch.Generator().manual_seed(seed), 4)
    rows = {tuple(c): i for i, c in enumerate(coords.tolist())}
    neighbours = NeighbourMap.of(coords)
    for tap, here, found in neighbours.taps():
        i, j, k = TAPS[tap]
        wanted = {
            (row, rows[b, x + i, y + j, z + k])
            for row, (b, x, y, z) in enumerate(coords.tolist())
            if (b, x + i, y + j, z + k) in rows
        }
        pairs = list(zip(here.tolist(), found.tolist(), strict=True))
        assert len(pairs) == len(wanted)
        assert set(pairs) == wanted
    assert sorted(tap for tap, *_ in neighbours.taps()) == [tap for tap in range(len(TAPS)) if tap != CENTRE]


@settings(max_examples=20, deadline=None)
@given(
    SEEDS,
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from([1, 3000, 2**20]),
    st.sampled_from([tap_by_tap, all_taps]),
)
def test_convolution_and_its_gradients_are_those_of_the_dense_one(
    seed: int, ins: int, outs: int, budget: int, way: Callable[..., torch.Tensor]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    coords = some_voxels(generator)
    feats, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((len(coords), ins), (outs, 3, 3, 3, ins), (outs,))
    )
    ours = way(feats, NeighbourMap.of(coords), weight, bias, budget)
    plain = submanifold_conv_dense(feats, coords, weight, bias)
    torch.testing.assert_close(ours, plain)
    pull = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(ours, (feats, weight, bias), pull),
        torch.autograd.grad(plain, (feats, weight, bias), pull),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_convolution_is_a_cross_correlation() -> None:
    """The tap (1, 0, 0) brings the feature of the voxel at x + 1."""
    coords = torch.tensor([[0, 4, 4, 4], [0, 5, 4, 4]]).int()
    weight = torch.zeros(1, 3, 3, 3, 1)
    weight[0, 2, 1, 1, 0] = 1
    out = submanifold_conv(torch.tensor([[3.0], [7.0]]), NeighbourMap.of(coords), weight, torch.zeros(1))
    assert out.tolist() == [[7.0], [0.0]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_the_full_one(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    coords = some_voxels(generator)
    torch.manual_seed(1)
    conv = SubmanifoldConv3d(16, 8)
    feats = torch.randn(len(coords), 16, generator=generator)
    full = conv(feats, NeighbourMap.of(coords), 2**20)
    half = conv.to(dtype)(feats.to(dtype), NeighbourMap.of(coords), 2**20)
    narrow = conv(feats.to(dtype), NeighbourMap.of(coords), 100)
    assert half.dtype == dtype
    torch.testing.assert_close(half, narrow)  # parts of other sizes may be rounded otherwise
    assert torch.nn.functional.cosine_similarity(half.float().flatten(), full.flatten(), dim=0) > 0.999


def test_no_voxels_are_no_trouble() -> None:
    nothing = torch.zeros(0, 4).int()
    neighbours = NeighbourMap.of(nothing)
    assert SubmanifoldConv3d(4, 6)(torch.zeros(0, 4), neighbours, 100).shape == (0, 6)
    assert CoordinateIndex.of(nothing).find(torch.zeros(3, 4).long()).tolist() == [-1] * 3


def test_slices_keep_the_budget_and_cover_all_rows() -> None:
    slices = list(row_slices(10, 100, 350))
    assert [(s.start, s.stop) for s in slices] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert len(list(row_slices(4, 100, 1))) == 4
    sizes = []

    def noted(rows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(rows))
        return rows * 2

    x = torch.arange(10.0)[:, None]
    torch.testing.assert_close(map_rows(noted, x, 100, 350), x * 2)
    assert max(sizes) == 3
    assert map_rows(noted, x[:0], 100, 350).shape == (0, 1)


def test_children_lie_where_their_bits_say() -> None:
    parents = torch.tensor([[1, 3, 0, 5], [0, 1, 1, 1]]).int()
    mask = torch.zeros(2, 8, dtype=torch.bool)
    mask[0, [6, 1]] = True
    mask[1] = True
    children = child_coords(parents, mask)
    assert children[:2].tolist() == [[1, 7, 0, 10], [1, 6, 1, 11]]
    assert children[2:].tolist() == [[0, 2 + (k & 1), 2 + (k >> 1 & 1), 2 + (k >> 2)] for k in range(8)]
    feats = torch.arange(2 * 16.0).reshape(2, 16)
    spread = channel_to_space(feats, mask)
    assert spread[:3].tolist() == [[2.0, 3.0], [12.0, 13.0], [16.0, 17.0]]


def test_channels_that_make_no_eighths_are_refused() -> None:
    with pytest.raises(UsageError, match="12 channels"):
        channel_to_space(torch.zeros(1, 12), torch.ones(1, 8, dtype=torch.bool))
