"""The dense decoder: layout, shuffling, occupancy."""

from __future__ import annotations

import pytest
import torch

from scenegen.errors import UsageError
from scenegen.pixal3d.structure_decoder import (
    ChannelLayerNorm,
    SparseStructureDecoder,
    occupied_voxels,
    pixel_shuffle_3d,
)


def small(**changes: object) -> SparseStructureDecoder:
    torch.manual_seed(0)
    arguments = {"out_channels": 1, "latent_channels": 4, "num_res_blocks": 1, "channels": [16, 8, 4]} | changes
    return SparseStructureDecoder(**arguments).eval()


def test_names_are_the_released_ones() -> None:
    """Two blocks at each of three widths, a step between them: blocks 0 1 | 2 | 3 4 | 5 | 6 7."""
    keys = small(num_res_blocks=2).state_dict().keys()
    assert len(keys) == 74
    assert {"input_layer.weight", "middle_block.1.norm2.bias", "blocks.2.conv.weight", "blocks.7.conv2.weight"} <= keys
    assert {"out_layer.0.weight", "out_layer.2.bias"} <= keys


def test_each_further_width_doubles_the_grid() -> None:
    assert small()(torch.zeros(2, 4, 3, 3, 3)).shape == (2, 1, 12, 12, 12)


def test_shuffling_puts_the_last_axis_fastest() -> None:
    x = torch.arange(16.0).reshape(1, 16, 1, 1, 1)
    out = pixel_shuffle_3d(x)
    assert out.shape == (1, 2, 2, 2, 2)
    for c, dx, dy, dz in ((0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 0), (1, 1, 1, 1)):
        assert out[0, c, dx, dy, dz] == 8 * c + 4 * dx + 2 * dy + dz
    wide = torch.randn(2, 8, 3, 4, 5)
    assert pixel_shuffle_3d(wide)[1, 0, 5, 2, 8] == wide[1, 4, 2, 1, 4]


def test_the_norm_is_over_channels() -> None:
    x = torch.randn(2, 6, 2, 3, 4)
    norm = ChannelLayerNorm(6)
    torch.testing.assert_close(norm(x)[1, :, 0, 2, 3], torch.nn.functional.layer_norm(x[1, :, 0, 2, 3], (6,)))


def test_half_precision_is_inside_only() -> None:
    decoder, full = small(use_fp16=True), small()
    dtypes = {name: value.dtype for name, value in decoder.state_dict().items()}
    assert {dtypes[f"{n}.weight"] for n in ("blocks.0.conv1", "blocks.1.conv", "middle_block.0.conv2")} == {
        torch.float16
    }
    assert {dtypes[f"{n}.weight"] for n in ("input_layer", "out_layer.2", "blocks.0.norm1")} == {torch.float32}
    latent = torch.randn(1, 4, 4, 4, 4)
    with torch.inference_mode():
        decoder.to_dtype(torch.bfloat16)
        ours = decoder(latent)
        assert ours.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(ours.flatten(), full(latent).flatten(), dim=0) > 0.995


def test_occupied_voxels_are_those_with_any_positive_logit() -> None:
    logits = torch.full((2, 1, 4, 4, 4), -1.0)
    logits[0, 0, 3, 0, 1] = 0.5
    logits[1, 0, 0, 2, 2] = logits[1, 0, 1, 3, 3] = 0.5
    logits[1, 0, 3, 3, 3] = 0
    assert occupied_voxels(logits, 4).tolist() == [[0, 3, 0, 1], [1, 0, 2, 2], [1, 1, 3, 3]]
    assert occupied_voxels(logits, 2).tolist() == [[0, 1, 0, 0], [1, 0, 1, 1]]
    assert occupied_voxels(-logits.abs(), 4).shape == (0, 4)


@pytest.mark.parametrize("resolution", [0, 3, 8])
def test_a_resolution_that_does_not_divide_is_refused(resolution: int) -> None:
    with pytest.raises(UsageError, match="divisor of 4"):
        occupied_voxels(torch.zeros(1, 1, 4, 4, 4), resolution)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="norm_type"):
        small(norm_type="group")
    with pytest.raises(UsageError, match="this decoder needs 4"):
        small()(torch.zeros(1, 5, 2, 2, 2))
