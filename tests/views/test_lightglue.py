"""LightGlue with random weights in the released format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from scenegen.compute.networks import release
from scenegen.compute.runtime import Runtime
from scenegen.config import LightGlueConfig, ViewsConfig
from scenegen.errors import WeightsError
from scenegen.registry import MATCHERS
from scenegen.views.lightglue import match_lightglue, matched_pixels
from scenegen.weights_registry import registered

RUNTIME = Runtime(device="cpu", offline=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import LightGlueConfig as Released
    from transformers import LightGlueForKeypointMatching, SuperPointConfig

    torch.manual_seed(0)
    points = SuperPointConfig(
        encoder_hidden_sizes=[8, 8, 16, 16],
        decoder_hidden_size=16,
        keypoint_decoder_dim=65,
        descriptor_decoder_dim=16,
        keypoint_threshold=0.005,
        max_keypoints=200,
    )
    config = Released(
        keypoint_detector_config=points,
        descriptor_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        filter_threshold=0.0,
    )
    network = LightGlueForKeypointMatching(config)
    found = tmp_path_factory.mktemp("lightglue")
    _by_likeness(network).save_pretrained(found)
    return found


@torch.no_grad()
def _by_likeness(network: torch.nn.Module) -> torch.nn.Module:
    """The network with random features, whose matches are those that are most alike: its layers change nothing."""
    for name, value in network.named_parameters():
        if name.startswith("keypoint_detector") and value.dim() > 1:
            torch.nn.init.kaiming_normal_(value)
        elif ".mlp.fc2." in name or name.startswith("token_confidence"):
            value.zero_()
    for layer in network.match_assignment_layers:
        layer.final_projection.weight.copy_(8 * torch.eye(16))
        layer.final_projection.bias.zero_()
        layer.matchability.weight.zero_()
        layer.matchability.bias.fill_(10)
    return network


@pytest.fixture(autouse=True)
def _nothing_loaded() -> Iterator[None]:
    yield
    release()


def photo(seed: int, height: int = 64, width: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)


def load(folder: Path) -> torch.nn.Module:
    from transformers import LightGlueForKeypointMatching

    return LightGlueForKeypointMatching.from_pretrained(folder, local_files_only=True).eval()


def test_points_are_the_librarys_own(folder: Path) -> None:
    from transformers import LightGlueImageProcessor

    images = photo(1), photo(2)
    network = load(folder)
    grey = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]).astype(np.float32) / 255
    with torch.inference_mode():
        said = network(torch.from_numpy(grey)[None, :, None].expand(1, 2, 3, 64, 96))
        first, second = matched_pixels(network, images, 1024)
    expected = LightGlueImageProcessor().post_process_keypoint_matching(said, [[(64, 96), (64, 96)]])[0]
    assert len(first) > 10
    # The library cuts coordinates down to whole pixels of the picture's corner.
    np.testing.assert_allclose(first, expected["keypoints0"].numpy() + 0.5, atol=1.01)
    np.testing.assert_allclose(second, expected["keypoints1"].numpy() + 0.5, atol=1.01)


def test_photos_of_other_sizes_are_matched_in_their_own_pixels(folder: Path) -> None:
    large = np.kron(photo(1), np.ones((2, 2, 1), np.uint8))
    network = load(folder)
    with torch.inference_mode():
        small_of_large = matched_pixels(network, (large, photo(2, 40, 50)), 96)
    assert (small_of_large[0] <= [192, 128]).all()
    assert small_of_large[0].max() > 100
    assert (small_of_large[1] <= [50, 40]).all()


def test_a_shifted_picture_is_matched_by_its_shift(folder: Path) -> None:
    whole = np.repeat(np.repeat(photo(3, 40, 60), 4, axis=0), 4, axis=1)
    images = [whole[:, :200], whole[:, 16:216], whole[:, 8:208]]
    pairs = match_lightglue(images, LightGlueConfig(checkpoint=folder), RUNTIME)
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1), (0, 2), (1, 2)]
    for pair, shift in zip(pairs, (16, 8, -8), strict=True):
        right = np.abs(pair.pixels[0] - pair.pixels[1] - [shift, 0]).max(axis=1) < 1e-6
        assert len(right) > 20
        assert right.mean() > 0.8


def test_the_registry_says_what_it_needs_and_under_which_licence(tmp_path: Path) -> None:
    config = ViewsConfig.model_validate({"match": "lightglue"}).match
    chosen = MATCHERS.chosen(config)
    assert chosen.needs() == ["lightglue-superpoint"]
    assert chosen.backend.finds_cameras
    model = registered("lightglue-superpoint")
    assert model.repo == "ETH-CVG/lightglue_superpoint"
    assert "non-commercial" in model.note
    with pytest.raises(WeightsError, match="scenegen models fetch lightglue-superpoint"):
        match_lightglue([photo(1), photo(2)], config, Runtime(models=tmp_path, offline=True))


def test_other_networks_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    settings = LightGlueConfig(checkpoint=copy)
    config = json.loads((copy / "config.json").read_text())
    disk = config | {"keypoint_detector_config": {"model_type": "disk", "trust_remote_code": True}}
    (copy / "config.json").write_text(json.dumps(disk))
    with pytest.raises(WeightsError, match="for 'disk'; it must be for 'superpoint'"):
        match_lightglue([photo(1), photo(2)], settings, RUNTIME)
    (copy / "config.json").write_text(json.dumps(config))
    tensors = load_file(copy / "model.safetensors")
    gone = next(name for name in tensors if name.startswith("transformer_layers.0"))
    tensors.pop(gone)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=f"missing: {gone}"):
        match_lightglue([photo(1), photo(2)], settings, RUNTIME)
