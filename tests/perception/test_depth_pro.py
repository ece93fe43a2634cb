"""Depth Pro with random weights in the released format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from scenegen.camera import intrinsics_from_fov
from scenegen.compute.networks import release
from scenegen.compute.runtime import Runtime
from scenegen.config import DepthProCameraConfig, DepthProDepthConfig
from scenegen.errors import InputError, WeightsError
from scenegen.perception import depth_pro
from scenegen.perception.depth_pro import estimate_camera_depth_pro, estimate_depth_pro
from tests.perception.tiny_geometry import write_depth_pro

HEIGHT, WIDTH = 45, 70
RUNTIME = Runtime(device="cpu", offline=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_depth_pro(tmp_path_factory.mktemp("depth_pro"))


@pytest.fixture(autouse=True)
def _nothing_loaded() -> None:
    release()
    depth_pro._recent.forget()


def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def test_depth_is_the_librarys_own_for_the_cameras_focal_length(folder: Path) -> None:
    from transformers import DepthProForDepthEstimation

    network = DepthProForDepthEstimation.from_pretrained(folder, local_files_only=True).eval()
    pixels = torch.from_numpy(photo()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        said = network(torch.nn.functional.interpolate(pixels, (112, 112), mode="bilinear"))
    focal = 0.5 * WIDTH / torch.tan(0.5 * torch.deg2rad(torch.tensor(40.0)))
    inverse = said.predicted_depth[:, None] * WIDTH / focal
    inverse = torch.nn.functional.interpolate(inverse, (HEIGHT, WIDTH), mode="bilinear")[0, 0]
    camera = intrinsics_from_fov(WIDTH, HEIGHT, 40.0)
    found = estimate_depth_pro(photo(), camera, DepthProDepthConfig(checkpoint=folder), RUNTIME)
    np.testing.assert_allclose(1 / found.depth, inverse.clamp(1e-4, 1e4).numpy(), rtol=1e-3, atol=1e-3)
    assert found.metric
    assert (found.backend, found.licence) == ("depth-pro", "unknown (local checkpoint)")
    seen = estimate_camera_depth_pro(photo(), DepthProCameraConfig(checkpoint=folder), RUNTIME)
    assert seen.fov_x_deg == pytest.approx(float(said.field_of_view[0]), abs=1e-3)
    assert seen.down is None


def test_what_cannot_work_is_refused_in_words(folder: Path, tmp_path: Path) -> None:
    camera = intrinsics_from_fov(WIDTH, HEIGHT, 40.0)
    with pytest.raises(InputError, match="`camera` is for 40x45"):
        estimate_depth_pro(photo(), intrinsics_from_fov(40, HEIGHT, 40.0), DepthProDepthConfig(), RUNTIME)
    with pytest.raises(WeightsError, match="scenegen models fetch depth-pro"):
        estimate_depth_pro(photo(), camera, DepthProDepthConfig(), Runtime(models=tmp_path, offline=True))
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"use_fov_model": False}))
    with pytest.raises(WeightsError, match="without field of view"):
        estimate_depth_pro(photo(), camera, DepthProDepthConfig(checkpoint=copy), RUNTIME)
    (copy / "config.json").write_text(json.dumps(config))
    tensors = load_file(copy / "model.safetensors")
    tensors.pop("head.layers.0.bias")
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"missing: head\.layers\.0\.bias"):
        estimate_depth_pro(photo(), camera, DepthProDepthConfig(checkpoint=copy), RUNTIME)
