"""Sampling between voxels against closed forms and a loop."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.errors import InputError
from scenegen.pixal3d.voxels import as_bytes, material, sample_voxels


def block(resolution: int) -> torch.Tensor:
    return torch.nonzero(torch.ones(resolution, resolution, resolution)).int()


def slow_sample(
    coords: torch.Tensor, attributes: torch.Tensor, points: torch.Tensor, resolution: int
) -> tuple[torch.Tensor, list[bool]]:
    rows = {tuple(c): i for i, c in enumerate(coords.tolist())}
    values, known = torch.zeros(len(points), attributes.shape[1], dtype=torch.float64), []
    for index, point in enumerate((points.double() + 0.5) * resolution - 0.5):
        base = point.floor()
        total = 0.0
        for corner in itertools.product((0, 1), repeat=3):
            row = rows.get(tuple(int(b) + c for b, c in zip(base, corner, strict=True)))
            if row is None:
                continue
            weight = 1.0
            for b, c, p in zip(base, corner, point, strict=True):
                weight *= float(p - b) if c else float(1 - (p - b))
            values[index] += weight * attributes[row].double()
            total += weight
        values[index] /= max(total, 1e-12)
        known.append(total > 0)
    return values, known


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from([1, 2**12, 2**25]))
def test_sampling_is_what_the_loop_gives(seed: int, budget: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    coords = block(4)[torch.rand(64, generator=generator) < 0.3]
    attributes = torch.rand(len(coords), 5, generator=generator)
    points = torch.rand(40, 3, generator=generator) * 1.2 - 0.6
    values, known = sample_voxels(coords, attributes, points, 4, budget)
    expected, there = slow_sample(coords, attributes, points, 4)
    assert known.tolist() == there
    torch.testing.assert_close(values.double(), expected, atol=1e-4, rtol=0)


def test_a_linear_field_comes_back() -> None:
    coords = block(6)
    centres = (coords + 0.5) / 6 - 0.5
    slope = torch.tensor([[1.0, 0], [-2, 1], [0.5, 3]])
    points = torch.rand(50, 3) * 0.8 - 0.4
    values, _ = sample_voxels(coords, centres @ slope, points, 6)
    torch.testing.assert_close(values, points @ slope, atol=1e-5, rtol=0)


def test_absent_voxels_do_not_darken() -> None:
    """On the outer face of a block half the voxels around a point are absent; its colour is that of the others."""
    values, known = sample_voxels(block(4), torch.full((64, 3), 0.7), torch.tensor([[-0.5, 0.1, 0.5]]), 4)
    torch.testing.assert_close(values, torch.full((1, 3), 0.7))
    assert known.tolist() == [True]


def test_where_nothing_is_there_is_zero_and_it_says_so() -> None:
    values, known = sample_voxels(block(2), torch.ones(8, 3), torch.tensor([[2.0, 0, 0], [0, 0, 0]]), 2)
    assert values.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert known.tolist() == [False, True]
    values, known = sample_voxels(block(2)[:0], torch.ones(0, 3), torch.zeros(2, 3), 2)
    assert not known.any()
    assert not values.any()


def test_bytes_are_clamped_and_rounded_down() -> None:
    assert as_bytes(torch.tensor([[-0.2, 0.5, 0.999, 1.3]])).tolist() == [[0, 127, 254, 255]]


def test_material_is_the_output_from_minus_one_to_one() -> None:
    assert material(torch.tensor([[-1.0, 0, 1, 3, 0, 0]])).tolist() == [[0, 0.5, 1, 2, 0.5, 0.5]]


def test_attributes_of_other_voxels_are_refused() -> None:
    with pytest.raises(InputError, match="7 rows for 8 voxels"):
        sample_voxels(block(2), torch.ones(7, 3), torch.zeros(1, 3), 2)
