"""The trunk: padding, shapes, and where blocks keep the identity."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from scenegen.perception.trunk import VARIANTS, InvertedResidual, SamePadConv, Trunk


@pytest.mark.parametrize("kernel", [3, 5])
def test_strided_convolutions_are_padded_as_tensorflow_pads(kernel: int) -> None:
    """Of the padding that makes the output half as large, the larger half comes last."""
    conv = SamePadConv(2, 2, kernel, 2, groups=2)
    x = torch.rand(1, 2, 8, 8)
    total = kernel - 2
    padded = functional.pad(x, (total // 2, total - total // 2) * 2)
    expected = functional.conv2d(padded, conv.weight, conv.bias, 2, groups=2)
    assert expected.shape[2:] == (4, 4)
    assert torch.allclose(conv(x), expected, atol=1e-6)


def test_blocks_keep_the_identity_only_where_shapes_allow() -> None:
    same, wider = InvertedResidual(8, 8, 6, 3, 1), InvertedResidual(8, 16, 6, 3, 1)
    for block in (same, wider):
        for value in block.parameters():
            torch.nn.init.zeros_(value)
    x = torch.rand(1, 8, 4, 4)
    assert torch.equal(same(x), x)
    assert not wider(x).any()


@pytest.mark.parametrize("name", VARIANTS)
def test_the_taps_have_the_channels_and_strides_they_are_said_to(name: str) -> None:
    taps = Trunk(VARIANTS[name])(torch.rand(1, 3, 64, 32))
    assert tuple(tap.shape[1] for tap in taps) == VARIANTS[name].tap_channels
    assert [tuple(tap.shape[2:]) for tap in taps] == [(64 // step, 32 // step) for step in (4, 8, 16, 32)]
