from __future__ import annotations

import hashlib
import json
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scenegen.camera import intrinsics_from_fov
from scenegen.compute.networks import release
from scenegen.compute.runtime import Runtime
from scenegen.config import DepthAnythingConfig
from scenegen.errors import InputError, WeightsError
from scenegen.perception import depth_anything
from scenegen.perception.depth_anything import depth_anything_weights, depth_from_disparity, estimate_depth_anything
from scenegen.weights_registry import registered
from tests.perception.tiny_geometry import PREPROCESSOR, write_depth_anything

HEIGHT, WIDTH = 54, 80
CAMERA = intrinsics_from_fov(WIDTH, HEIGHT, 55.0)


@pytest.fixture(scope="module")
def relative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_depth_anything(tmp_path_factory.mktemp("relative"), "relative", 1)


@pytest.fixture(scope="module")
def metric(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_depth_anything(tmp_path_factory.mktemp("metric"), "metric", 20)


@pytest.fixture(autouse=True)
def _nothing_loaded() -> None:
    release()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def photo() -> np.ndarray:
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([3 * u, 4 * v, (u * v) % 256], -1).astype(np.uint8)


def expected_raw(folder: Path) -> np.ndarray:
    """The network's own answer at the photo's size, through transformers' plain classes."""
    import torch
    from transformers import DepthAnythingForDepthEstimation, DPTImageProcessorPil

    network = DepthAnythingForDepthEstimation.from_pretrained(folder, local_files_only=True).eval()
    pixels = DPTImageProcessorPil.from_pretrained(folder, local_files_only=True)(images=photo(), return_tensors="pt")
    assert pixels["pixel_values"].shape == (1, 3, 56, 84)
    with torch.inference_mode():
        raw = network(**pixels).predicted_depth[:, None]
    return torch.nn.functional.interpolate(raw, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)[0, 0].numpy()


@pytest.mark.usefixtures("no_network")
def test_a_metric_model_gives_its_metres(metric: Path) -> None:
    config = DepthAnythingConfig(variant="metric-indoor", checkpoint=metric)
    found = estimate_depth_anything(photo(), CAMERA, config, Runtime(device="cpu"))
    np.testing.assert_allclose(found.depth, expected_raw(metric), atol=2e-3)
    assert found.depth.std() > 0.1
    assert found.metric
    assert found.warnings == ()
    assert found.licence == "unknown (local checkpoint)"


@pytest.mark.usefixtures("no_network")
def test_a_relative_model_gives_assumed_metres_and_says_so(relative: Path) -> None:
    config = DepthAnythingConfig(variant="relative", checkpoint=relative, near_m=0.7, far_m=4.0)
    found = estimate_depth_anything(photo(), CAMERA, config, Runtime(device="cpu"))
    raw = expected_raw(relative)
    assert found.depth.min() == pytest.approx(0.7)
    assert found.depth.max() == pytest.approx(4.0)
    assert abs(np.corrcoef((1 / found.depth).ravel(), raw.ravel())[0, 1]) > 0.999
    assert not found.metric
    assert "the nearest point is taken to be 0.7 m away" in found.assumption


def test_the_same_photo_gives_the_same_bytes_and_the_weights_are_loaded_once(
    metric: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loads = depth_anything._load, []
    monkeypatch.setattr(depth_anything, "_load", lambda *given: loads.append(given) or load(*given))
    config = DepthAnythingConfig(variant="metric-indoor", checkpoint=metric)
    first, second = (estimate_depth_anything(photo(), CAMERA, config, Runtime(device="cpu")) for _ in range(2))
    assert first.depth.tobytes() == second.depth.tobytes()
    assert len(loads) == 1


@pytest.mark.parametrize(("fov", "warns"), [(50.0, False), (60.0, False), (35.0, True), (90.0, True)])
def test_another_field_of_view_than_the_tuned_one_is_warned_about(metric: Path, fov: float, warns: bool) -> None:
    config = DepthAnythingConfig(variant="metric-indoor", checkpoint=metric)
    camera = intrinsics_from_fov(WIDTH, HEIGHT, fov)
    found = estimate_depth_anything(photo(), camera, config, Runtime(device="cpu"))
    assert bool(found.assumption) == warns


def test_without_relief_everything_is_far_and_the_photo_says_so(relative: Path, tmp_path: Path) -> None:
    def flatten(tensors: dict) -> None:
        tensors["head.conv3.weight"].zero_()

    folder = damaged(relative, tmp_path, flatten)
    config = DepthAnythingConfig(variant="relative", checkpoint=folder, far_m=3.0)
    found = estimate_depth_anything(photo(), CAMERA, config, Runtime(device="cpu"))
    np.testing.assert_allclose(found.depth, 3.0)
    assert any("no relief" in warning for warning in found.warnings)


disparities = arrays(np.float32, (4, 5), elements=st.floats(0, 100, width=32))


@given(disparities, st.floats(0.1, 2), st.floats(2.5, 50))
def test_inverse_depth_is_affine_in_disparity(disparity: np.ndarray, near: float, far: float) -> None:
    depth = depth_from_disparity(disparity, near, far)
    low, high = float(disparity.min()), float(disparity.max())
    if high - low > 1e-3:
        assert depth.min() == pytest.approx(near, rel=1e-5)
        assert depth.max() == pytest.approx(far, rel=1e-5)
        share = (1 / depth - 1 / far) / (1 / near - 1 / far)
        np.testing.assert_allclose(share, (disparity - low) / (high - low), atol=1e-4)
    elif high == low:
        np.testing.assert_allclose(depth, far, rtol=1e-6)


def test_a_plane_stays_a_plane() -> None:
    # On a plane 1/z is affine in the pixel, and so is the disparity of any affine-invariant network.
    v, u = np.mgrid[:6, :8].astype(np.float32)
    inverse = 1 / depth_from_disparity(0.3 * u + 0.5 * v + 2, 0.5, 5.0)
    assert np.abs(np.diff(inverse, n=2, axis=0)).max() < 1e-5
    assert np.abs(np.diff(inverse, n=2, axis=1)).max() < 1e-5


# --- weights ----------------------------------------------------------------------------------------------------------


def damaged(folder: Path, target: Path, change: Callable[[dict], None]) -> Path:
    """A copy of `folder` whose tensors went through `change`."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, target, dirs_exist_ok=True)
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def refuse(folder: Path, words: str, variant: str = "metric-indoor") -> None:
    config = DepthAnythingConfig(variant=variant, checkpoint=folder)
    with pytest.raises(WeightsError, match=words):
        estimate_depth_anything(photo(), CAMERA, config, Runtime(device="cpu", offline=True))


QUERY = "backbone.encoder.layer.2.attention.attention.query.weight"


def test_a_missing_tensor_is_named(metric: Path, tmp_path: Path) -> None:
    refuse(damaged(metric, tmp_path, lambda tensors: tensors.pop("head.conv2.bias")), r"missing: head\.conv2\.bias")


def test_a_missing_tensor_with_a_released_name_is_named(metric: Path, tmp_path: Path) -> None:
    refuse(damaged(metric, tmp_path, lambda tensors: tensors.pop(QUERY)), r"missing: backbone\.encoder\.layer\.2")


def test_an_extra_tensor_is_named(metric: Path, tmp_path: Path) -> None:
    def add(tensors: dict) -> None:
        tensors["head.conv9.bias"] = tensors["head.conv2.bias"].clone()

    refuse(damaged(metric, tmp_path, add), r"unexpected: head\.conv9\.bias")


def test_a_tensor_of_another_shape_is_named(metric: Path, tmp_path: Path) -> None:
    def stretch(tensors: dict) -> None:
        tensors["head.conv2.bias"] = tensors["head.conv2.bias"].repeat(2)

    refuse(damaged(metric, tmp_path, stretch), r"another shape: head\.conv2\.bias")


def test_values_that_are_not_finite_are_refused(metric: Path, tmp_path: Path) -> None:
    refuse(damaged(metric, tmp_path, lambda tensors: tensors["head.conv2.bias"].fill_(np.nan)), "not finite")


@pytest.mark.parametrize("keep", [0, 5, 4000])
def test_a_truncated_file_is_refused(metric: Path, tmp_path: Path, keep: int) -> None:
    shutil.copytree(metric, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    refuse(tmp_path, "cannot be read as Depth Anything V2")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_missing_file_is_named(metric: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(metric, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).unlink()
    refuse(tmp_path, f"no file {name}")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "marigold"}, "'marigold'"),
        ({"backbone_config": {"model_type": "timm_backbone"}}, "'timm_backbone'"),
        ({"backbone_config": None, "backbone": "somebody/repository"}, "cannot be read"),
    ],
)
def test_a_config_of_another_network_builds_nothing(metric: Path, tmp_path: Path, changes: dict, words: str) -> None:
    shutil.copytree(metric, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    refuse(tmp_path, words)


def test_a_relative_folder_is_no_metric_model(relative: Path, metric: Path) -> None:
    refuse(relative, "holds a relative model")
    refuse(metric, "holds a metric model", "relative")


@pytest.mark.usefixtures("no_network")
def test_absent_weights_are_refused_at_once_with_the_command_that_fetches_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="scenegen models fetch depth-anything-v2-metric-indoor-small") as caught:
        estimate_depth_anything(photo(), CAMERA, DepthAnythingConfig(), Runtime(models=tmp_path, offline=True))
    assert caught.value.exit_code == 4


def test_a_missing_package_names_the_extra(metric: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    refuse(metric, r"pip install 'scenegen-3d\[full\]'")


def test_the_stage_key_holds_the_revision_or_the_digests(metric: Path) -> None:
    config = DepthAnythingConfig(variant="metric-outdoor", size="large")
    name = "depth-anything-v2-metric-outdoor-large"
    assert depth_anything_weights(config) == {name: registered(name).revision}
    digests = depth_anything_weights(DepthAnythingConfig(checkpoint=metric))
    assert digests["config.json"] == hashlib.sha256((metric / "config.json").read_bytes()).hexdigest()
    assert set(digests) == {"config.json", "preprocessor_config.json", "model.safetensors"}
    with pytest.raises(WeightsError, match="cannot be read"):
        depth_anything_weights(DepthAnythingConfig(checkpoint=metric / "nowhere"))


def test_wrong_inputs_are_refused(metric: Path) -> None:
    config = DepthAnythingConfig(checkpoint=metric)
    with pytest.raises(InputError, match="`camera` is for 40x54"):
        estimate_depth_anything(photo(), intrinsics_from_fov(40, HEIGHT, 55.0), config, Runtime())
    with pytest.raises(ValueError, match="near_m must be the smaller"):
        DepthAnythingConfig(variant="relative", near_m=5.0, far_m=1.0)


def test_the_test_preprocessor_is_the_released_one() -> None:
    released = hashlib.sha256((json.dumps(PREPROCESSOR, indent=2) + "\n").encode()).hexdigest()
    files = registered("depth-anything-v2-metric-indoor-small").files
    assert released == next(file.sha256 for file in files if file.name == "preprocessor_config.json")
