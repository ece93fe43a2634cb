"""The perception network: shapes, padding, and the closed forms around it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from scenegen.perception import network
from scenegen.perception.network import (
    FOCAL_BINS,
    STRIDE,
    InvertedResidual,
    PerceptionNetwork,
    PerceptionSettings,
    SamePadConv,
    cell_positions,
    focal_bins,
    log_focal,
)


@pytest.fixture(scope="module")
def untrained() -> PerceptionNetwork:
    torch.manual_seed(0)
    return PerceptionNetwork().eval().requires_grad_(False)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (96, 64)])
def test_every_output_has_its_shape(untrained: PerceptionNetwork, height: int, width: int) -> None:
    prediction = untrained(torch.rand(2, 3, height, width))
    cells = (2, height // STRIDE, width // STRIDE)
    for plane in ("log_depth", "log_error", "object_logit", "seed_logit", "log_precision"):
        assert getattr(prediction, plane).shape == cells
    assert prediction.embedding.shape == (2, 2 + PerceptionSettings().extra, *cells[1:])
    assert prediction.focal_logits.shape == (2, FOCAL_BINS)
    assert torch.allclose(prediction.down.norm(dim=1), torch.ones(2))


def test_pictures_of_a_batch_do_not_touch(untrained: PerceptionNetwork) -> None:
    pictures = torch.rand(2, 3, 64, 64)
    both, one = untrained(pictures), untrained(pictures[1:])
    assert torch.allclose(both.log_depth[1], one.log_depth[0], atol=1e-4)
    assert torch.allclose(both.down[1], one.down[0], atol=1e-4)


def test_it_fits_in_a_package(untrained: PerceptionNetwork) -> None:
    assert sum(value.numel() for value in untrained.parameters()) < 5e6


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


def test_bfloat16_stays_close(untrained: PerceptionNetwork) -> None:
    picture = torch.rand(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        half = untrained(picture)
    full = untrained(picture)
    assert half.log_depth.dtype == half.embedding.dtype == half.focal_logits.dtype == torch.float32
    assert (half.log_depth - full.log_depth).abs().max() < 0.1 * (1 + full.log_depth.abs().max())


def test_cells_are_where_their_pixels_are() -> None:
    x, y = cell_positions(3, 5, torch.device("cpu")).numpy() * network.EMBEDDING_UNIT
    assert x[0].tolist() == [2, 6, 10, 14, 18]
    assert y[:, 0].tolist() == [2, 6, 10]
    assert (np.ptp(x, axis=0) == 0).all()


def test_what_the_picture_says_of_the_focal_length_is_weighed_with_what_is_usual() -> None:
    logits = torch.full((3, FOCAL_BINS), -50.0)
    logits[0, 7] = 0
    logits[1, [3, 5]] = 0
    logits[2] = 0  # it says nothing
    mean, error = log_focal(logits)
    bins = focal_bins()
    weights = torch.exp(-0.5 * ((bins - math.log(network.PHOTO_FOCAL)) / network.PHOTO_FOCAL_SPREAD) ** 2)
    both = (weights[3] * bins[3] + weights[5] * bins[5]) / (weights[3] + weights[5])
    assert torch.allclose(mean, torch.stack([bins[7], both, torch.tensor(math.log(network.PHOTO_FOCAL))]), atol=0.01)
    assert float(error[0]) == pytest.approx(0, abs=1e-3)
    assert float(error[2]) == pytest.approx(network.PHOTO_FOCAL_SPREAD, rel=0.02)
