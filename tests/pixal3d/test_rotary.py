from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.pixal3d.rotary import Rotation, rotate

places = st.tuples(*[st.integers(0, 95)] * 3)


def at(*coords: int) -> torch.Tensor:
    return torch.tensor([coords], dtype=torch.int32)


@pytest.mark.parametrize(("head_dim", "still"), [(128, 1), (48, 0), (32, 1), (16, 2)])
def test_pairs_left_over_do_not_turn(head_dim: int, still: int) -> None:
    phases = Rotation.at(at(5, 7, 11), head_dim).phases
    assert phases.shape == (1, head_dim // 2)
    assert int((phases == 1).sum()) == still


def test_each_axis_turns_its_own_third_of_the_pairs() -> None:
    head_dim, per_axis = 32, 5
    for axis in range(3):
        coords = [0, 0, 0]
        coords[axis] = 3
        angles = Rotation.at(at(*coords), head_dim).phases[0].angle()
        expected = torch.zeros(16)
        for k in range(per_axis):
            angle = 3 * 10000 ** (-k / per_axis)
            expected[axis * per_axis + k] = math.atan2(math.sin(angle), math.cos(angle))
        torch.testing.assert_close(angles, expected, atol=1e-6, rtol=1e-6)


def test_pairs_are_neighbouring_channels() -> None:
    rotation = Rotation.by(torch.polar(torch.ones(1, 2), torch.tensor([[0.3, 1.1]])))
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    expected = [
        math.cos(0.3) - 2 * math.sin(0.3),
        math.sin(0.3) + 2 * math.cos(0.3),
        3 * math.cos(1.1) - 4 * math.sin(1.1),
        3 * math.sin(1.1) + 4 * math.cos(1.1),
    ]
    torch.testing.assert_close(rotate(x, rotation)[0, 0], torch.tensor(expected))


@settings(max_examples=30, deadline=None)
@given(a=places, b=places, shift=places)
def test_products_depend_on_the_difference_of_places(
    a: tuple[int, int, int], b: tuple[int, int, int], shift: tuple[int, int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(1, 2, 16, generator=generator), torch.randn(1, 2, 16, generator=generator)

    def product(at_q: torch.Tensor, at_k: torch.Tensor) -> torch.Tensor:
        return (rotate(q, Rotation.at(at_q, 16)) * rotate(k, Rotation.at(at_k, 16))).sum(-1)

    moved = product(at(*a) + at(*shift), at(*b) + at(*shift))
    torch.testing.assert_close(moved, product(at(*a), at(*b)), atol=3e-4, rtol=1e-4)


def test_lengths_and_dtype_stay() -> None:
    x = torch.randn(4, 2, 32, generator=torch.Generator().manual_seed(0))
    rotation = Rotation.at(torch.arange(12).reshape(4, 3), 32)
    torch.testing.assert_close(rotate(x, rotation).norm(dim=-1), x.norm(dim=-1))
    assert rotate(x.bfloat16(), rotation).dtype == torch.bfloat16


@settings(max_examples=20, deadline=None)
@given(coords=st.lists(places, min_size=1, max_size=5), head_dim=st.sampled_from([16, 32, 48, 128]))
def test_turning_is_a_product_of_complex_numbers(coords: list[tuple[int, int, int]], head_dim: int) -> None:
    x = torch.randn(len(coords), 3, head_dim, generator=torch.Generator().manual_seed(0))
    rotation = Rotation.at(torch.tensor(coords), head_dim)
    complex_product = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * rotation.phases[:, None]
    torch.testing.assert_close(rotate(x, rotation), torch.view_as_real(complex_product).flatten(-2))
