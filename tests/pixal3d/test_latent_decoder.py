"""The sparse decoders: layout, subdivision, guidance, budget."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scenegen.errors import UsageError
from scenegen.pixal3d.latent_decoder import Decoded, FlexiDualGridVaeDecoder, SparseUnetVaeDecoder
from scenegen.pixal3d.sparse import NeighbourMap, child_coords

CONFIG: dict[str, Any] = {
    "model_channels": [32, 16, 8],
    "latent_channels": 6,
    "num_blocks": [2, 1, 0],
    "block_type": ["SparseConvNeXtBlock3d"] * 3,
    "up_block_type": ["SparseResBlockC2S3d"] * 2,
    "block_args": [{}, {"use_checkpoint": False}, {}],
}


def shape_decoder(**changes: object) -> FlexiDualGridVaeDecoder:
    torch.manual_seed(0)
    return FlexiDualGridVaeDecoder(resolution=64, **(CONFIG | changes)).eval()


def texture_decoder(**changes: object) -> SparseUnetVaeDecoder:
    torch.manual_seed(1)
    return SparseUnetVaeDecoder(out_channels=6, pred_subdiv=False, **(CONFIG | changes)).eval()


@pytest.fixture
def latent() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    coords = torch.nonzero(torch.rand(2, 3, 3, 3, generator=generator) < 0.4).int()
    return torch.randn(len(coords), 6, generator=generator), coords


def test_names_are_the_released_ones() -> None:
    keys = shape_decoder().state_dict().keys()
    assert {"from_latent.weight", "blocks.0.1.mlp.2.bias", "blocks.0.2.to_subdiv.weight", "output_layer.bias"} <= keys
    assert {"blocks.1.1.norm1.weight", "blocks.1.1.conv2.weight", "blocks.0.0.norm.bias"} <= keys
    assert not any("norm2" in key for key in keys)
    assert keys - texture_decoder().state_dict().keys() == {
        f"blocks.{level}.to_subdiv.{part}" for level in ("0.2", "1.1") for part in ("weight", "bias")
    }


@torch.inference_mode()
def test_voxels_follow_from_the_subdivisions(latent: tuple[torch.Tensor, torch.Tensor]) -> None:
    decoder = shape_decoder()
    feats, coords = latent
    decoded = decoder(feats, coords)
    once = child_coords(coords, decoded.subdivisions[0] > 0)
    twice = child_coords(once, decoded.subdivisions[1] > 0)
    assert 0 < len(twice) < 64 * len(coords)
    torch.testing.assert_close(decoded.coords, twice)
    torch.testing.assert_close(decoder.upsample(feats, coords, 1), once)
    torch.testing.assert_close(decoder.upsample(feats, coords, 2), twice)


@torch.inference_mode()
def test_the_budget_changes_nothing(latent: tuple[torch.Tensor, torch.Tensor]) -> None:
    decoder = shape_decoder()
    roomy, tight = decoder(*latent), decoder(*latent, budget=1)
    torch.testing.assert_close(tight.feats, roomy.feats)
    torch.testing.assert_close(tight.coords, roomy.coords)


@torch.inference_mode()
def test_items_of_a_batch_do_not_see_each_other(latent: tuple[torch.Tensor, torch.Tensor]) -> None:
    decoder = shape_decoder()
    feats, coords = latent
    both = decoder(feats, coords)
    mine = coords[:, 0] == 1
    alone = decoder(feats[mine], coords[mine])
    torch.testing.assert_close(alone.feats, both.feats[both.coords[:, 0] == 1])


@torch.inference_mode()
def test_guides_are_logits_or_masks(latent: tuple[torch.Tensor, torch.Tensor]) -> None:
    shape = shape_decoder()(*latent)
    decoder = texture_decoder()
    by_logits = decoder(*latent, shape.subdivisions)
    by_masks = decoder(*latent, [logits > 0 for logits in shape.subdivisions])
    torch.testing.assert_close(by_logits.coords, shape.coords)
    torch.testing.assert_close(by_logits.feats, by_masks.feats)


def test_a_guided_shape_decoder_returns_its_own_logits_for_training(latent: tuple[torch.Tensor, torch.Tensor]) -> None:
    decoder = shape_decoder()
    feats, coords = latent
    everything = [torch.ones(len(coords), 8, dtype=torch.bool), torch.ones(8 * len(coords), 8, dtype=torch.bool)]
    decoded = decoder(feats, coords, everything)
    assert len(decoded.coords) == 64 * len(coords)
    assert all(logits.dtype == torch.float32 for logits in decoded.subdivisions)
    (decoded.feats.square().mean() + sum(logits.square().mean() for logits in decoded.subdivisions)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder.parameters())


@torch.inference_mode()
def test_a_voxel_without_children_vanishes(latent: tuple[torch.Tensor, torch.Tensor]) -> None:
    feats, coords = latent
    nothing = [torch.zeros(len(coords), 8), torch.zeros(0, 8)]
    assert texture_decoder()(feats, coords, nothing).feats.shape == (0, 6)


@torch.inference_mode()
def test_half_precision_is_inside_only(latent: tuple[torch.Tensor, torch.Tensor]) -> None:
    decoder = texture_decoder(use_fp16=True)
    dtypes = {name: value.dtype for name, value in decoder.state_dict().items()}
    inside = ("conv.weight", "conv1.weight", "conv2.weight", "mlp.0.weight", "mlp.2.weight")
    assert all(
        (dtype == torch.float16) == name.endswith(inside) for name, dtype in dtypes.items() if "bias" not in name
    )
    guides = [torch.ones(len(latent[1]), 8), torch.ones(8 * len(latent[1]), 8)]
    decoder.to_dtype(torch.bfloat16)
    half, full = decoder(*latent, guides), texture_decoder()(*latent, guides)
    assert half.feats.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(half.feats.flatten(), full.feats.flatten(), dim=0) > 0.995


def test_the_head_has_the_stated_ranges() -> None:
    raw = torch.tensor([[-50.0, 0, 50, -1, 0, 1, 0]])
    grid = shape_decoder(voxel_margin=0.25).dual_grid(Decoded(raw, (NeighbourMap.of(torch.zeros(1, 4).int()),), ()))
    torch.testing.assert_close(grid.dual_vertices, torch.tensor([[-0.25, 0.5, 1.25]]))
    assert grid.intersected.tolist() == [[False, False, True]]
    torch.testing.assert_close(grid.split_weight, torch.tensor([[2.0]]).log())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_type": ["Other"] * 3}, "block_type"),
        ({"up_block_type": ["SparseResBlockC2S3d"]}, "2 times"),
        ({"num_blocks": [1]}, "3 numbers"),
        ({"block_args": [{"mlp_ratio": 2}]}, "mlp_ratio"),
        ({"model_channels": [20, 16, 8]}, "from 20 to 16"),
    ],
)
def test_configs_of_other_networks_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shape_decoder(**changes)


def test_what_does_not_fit_is_refused(latent: tuple[torch.Tensor, torch.Tensor]) -> None:
    feats, coords = latent
    with pytest.raises(UsageError, match=rf"give \[{len(coords)}, 6\]"):
        shape_decoder()(feats[:, :5], coords)
    with pytest.raises(UsageError, match="`guide_subs` is None"):
        texture_decoder()(feats, coords)
    with pytest.raises(UsageError, match="has 1 levels"):
        texture_decoder()(feats, coords, [torch.ones(len(coords), 8)])
    with pytest.raises(UsageError, match=r"`guide_subs\[0\]`"):
        texture_decoder()(feats, coords, [torch.ones(1, 8)] * 2)
    with pytest.raises(UsageError, match="shape decoder"):
        texture_decoder().upsample(feats, coords, 1)
    with pytest.raises(UsageError, match="1 to 2"):
        shape_decoder().upsample(feats, coords, 3)
