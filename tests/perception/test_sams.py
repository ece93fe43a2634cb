"""SAM 2.1 and SAM 3 with random weights in the released format."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from scenegen.compute.networks import release
from scenegen.compute.runtime import Runtime
from scenegen.config import Sam2Config, Sam3Config
from scenegen.errors import WeightsError
from scenegen.perception import Segmentation
from scenegen.perception.nouns import NOUNS
from scenegen.perception.promptable import HALVES, IMAGENET, Promptable, answer_prompts, as_pixels, propose
from scenegen.perception.prompts import Prompt
from scenegen.perception.released import load_released, released_weights
from scenegen.perception.sam2 import segment_sam2
from scenegen.perception.sam3 import segment_sam3
from scenegen.weights_registry import registered
from tests.perception.tiny_sams import write_sam2, write_sam3

HEIGHT, WIDTH = 48, 64
RUNTIME = Runtime(device="cpu", offline=True)
PROMPTS = [Prompt(inside=((30, 25),), outside=((2, 2),)), Prompt(box=(40, 5, 60, 20))]


@pytest.fixture(scope="module")
def sam2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sam2(tmp_path_factory.mktemp("sam2"))


@pytest.fixture(scope="module")
def sam3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sam3(tmp_path_factory.mktemp("sam3"))


@pytest.fixture(autouse=True)
def _nothing_loaded() -> None:
    release()


def photo() -> np.ndarray:
    image = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    image[15:35, 20:45] = (200, 60, 50)
    return image


def of_sam2(folder: Path, prompts: list[Prompt] | None = None, **settings: float) -> Segmentation:
    return segment_sam2(photo(), Sam2Config(checkpoint=folder, **settings), RUNTIME, prompts or ())


def of_sam3(folder: Path, prompts: list[Prompt] | None = None, **settings: object) -> Segmentation:
    return segment_sam3(photo(), Sam3Config(checkpoint=folder, **settings), RUNTIME, prompts or ())


# --- pixels and prompts -----------------------------------------------------------------------------------------------


def test_a_photo_is_squeezed_into_a_square_with_the_colours_of_training() -> None:
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 4:] = 255
    pixels = as_pixels(image, 8, IMAGENET, torch.device("cpu"))
    assert pixels.shape == (1, 3, 8, 8)
    torch.testing.assert_close(pixels[0, :, 0, 0], -torch.tensor(IMAGENET[0]) / torch.tensor(IMAGENET[1]))
    torch.testing.assert_close(pixels[0, :, 7, 7], (1 - torch.tensor(IMAGENET[0])) / torch.tensor(IMAGENET[1]))


def test_answers_are_those_of_the_library_for_points_scaled_to_its_square(sam2: Path) -> None:
    from transformers import Sam2Model

    network = load_released(Sam2Model, sam2, "SAM 2.1")
    with torch.inference_mode():
        found = answer_prompts(Promptable(network, 128, IMAGENET), photo(), [PROMPTS[0]])
        points = torch.tensor([[[[60.0, 25 * 128 / 48], [4.0, 2 * 128 / 48]]]])
        said = network(
            pixel_values=as_pixels(photo(), 128, IMAGENET, torch.device("cpu")),
            input_points=points,
            input_labels=torch.tensor([[[1, 0]]]),
        )
    best = said.iou_scores[0, 0].argmax()
    full = torch.nn.functional.interpolate(said.pred_masks[0, :, best][None], (HEIGHT, WIDTH), mode="bilinear")
    np.testing.assert_array_equal(found.masks[0], full[0, 0].numpy() > 0)
    assert found.scores[0] == pytest.approx(float(said.iou_scores[0, 0, best]))


class Blobs(torch.nn.Module):
    """In place of a network: around each click a disc, a smaller one and a speck that is sure but unstable."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))

    def get_image_embeddings(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels

    def forward(self, image_embeddings: object, input_points: torch.Tensor, input_labels: object) -> object:
        grid = torch.stack(torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="xy"), -1) + 0.5
        away = (grid - input_points[0][:, :, None, None] / 4).norm(dim=-1)[:, 0]
        masks = torch.stack([50 * (5 - away), 50 * (3 - away), 0.1 * (3 - away)], 1)[None]
        scores = torch.tensor([0.9, 0.7, 0.95]).expand(1, len(away), 3)
        return type("Said", (), {"pred_masks": masks, "iou_scores": scores})


def test_automatic_masks_are_good_stable_and_different() -> None:
    found = propose(Promptable(Blobs(), 64, HALVES), np.zeros((32, 64, 3), np.uint8), 2, 0.8, 0.95)
    assert found.masks.shape == (4, 32, 64)
    np.testing.assert_allclose(found.scores, 0.9)
    u, v = np.meshgrid(np.arange(64) + 0.5, np.arange(32) + 0.5)
    disc = ((u - 16) / 4) ** 2 + ((v - 8) / 2) ** 2 < 25
    assert max((mask & disc).sum() / (mask | disc).sum() for mask in found.masks) > 0.9
    every = propose(Promptable(Blobs(), 64, HALVES), np.zeros((32, 64, 3), np.uint8), 2, 0.0, 0.0)
    assert len(every.masks) == 8  # the specks show what the smaller discs show


class Counted(Blobs):
    """The same, asked for one object at a time. It counts the photos that it has encoded."""

    encoded = 0

    def get_image_embeddings(self, pixels: torch.Tensor) -> torch.Tensor:
        self.encoded += 1
        return super().get_image_embeddings(pixels)

    def forward(self, input_boxes: object, **asked: object) -> object:
        return super().forward(**asked)


def test_a_photo_is_encoded_once_however_often_it_is_clicked() -> None:
    network = Counted()
    asked, image = Promptable(network, 64, HALVES), np.zeros((32, 64, 3), np.uint8)
    first = answer_prompts(asked, image, [Prompt(inside=((16, 8),))])
    second = answer_prompts(asked, image.copy(), [Prompt(inside=((16, 8),)), Prompt(inside=((40, 20),))])
    assert network.encoded == 1
    np.testing.assert_array_equal(first.masks[0], second.masks[0])
    answer_prompts(asked, image + 1, [Prompt(inside=((16, 8),))])
    assert network.encoded == 2


# --- the released format ----------------------------------------------------------------------------------------------


def test_sam2_answers_prompts_and_proposes_objects(sam2: Path) -> None:
    automatic = of_sam2(sam2, points_per_side=4, min_iou=0, min_stability=0)
    assert len(automatic.scores) >= 1
    assert set(automatic.labels) == {"object"}
    asked = of_sam2(sam2, PROMPTS)
    assert len(asked.scores) <= 2
    assert (asked.backend, asked.licence) == ("sam2.1-hiera-large", "unknown (local checkpoint)")
    again = of_sam2(sam2, PROMPTS)
    assert again.ids.tobytes() == asked.ids.tobytes()


def test_sam3_finds_what_is_named(sam3: Path) -> None:
    found = of_sam3(sam3, find="mug, wooden chair", min_score=0.1)
    assert set(found.labels) <= {"mug", "wooden chair"}
    assert found.label_confidences == found.scores
    assert {noun for guesses in found.guesses for noun, _ in guesses} <= {"cup", "chair"}
    assert of_sam3(sam3, find=["mug"], min_score=1).warnings == (
        "segment: found no mug; try another word, or point at it with --point or --box.",
    )


def test_sam3_is_asked_for_everyday_nouns_or_answers_prompts(sam3: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scenegen.perception.sam3.NOUNS", NOUNS[:9])
    found = of_sam3(sam3, min_score=0.3)
    assert set(found.labels) <= set(NOUNS[:9])
    assert all(0.3 <= score <= 1 for score in found.scores)
    asked = of_sam3(sam3, PROMPTS)
    assert len(asked.scores) <= 2
    assert set(asked.labels) == {"object"}


def test_scores_are_presence_times_that_of_the_query(sam3: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import Sam3Model

    network = load_released(Sam3Model, sam3, "SAM 3")
    ids = Tokenizer.from_file(str(sam3 / "tokenizer.json")).encode("mug").ids
    assert (ids[0], ids[-1], len(ids)) == (0, 1, 5)
    padded = torch.tensor([ids + [1] * (32 - len(ids))])
    attended = torch.tensor([[1] * len(ids) + [0] * (32 - len(ids))])
    with torch.inference_mode():
        said = network(as_pixels(photo(), 112, HALVES, torch.device("cpu")), input_ids=padded, attention_mask=attended)
    scores = said.pred_logits[0].sigmoid() * said.presence_logits[0].sigmoid()
    found = of_sam3(sam3, find="mug", min_score=0)
    assert max(found.scores) == pytest.approx(float(scores.max()), abs=1e-5)


def damaged(folder: Path, target: Path, change: Callable[[dict], None]) -> Path:
    shutil.copytree(folder, target, dirs_exist_ok=True)
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_tensors_that_are_missing_or_too_many_are_named(sam2: Path, sam3: Path, tmp_path: Path) -> None:
    lacking = damaged(sam2, tmp_path / "a", lambda tensors: tensors.pop("mask_decoder.iou_token.weight"))
    with pytest.raises(WeightsError, match=r"missing: mask_decoder\.iou_token\.weight"):
        of_sam2(lacking)
    more = damaged(sam2, tmp_path / "b", lambda tensors: tensors.update({"surprise.weight": torch.zeros(1)}))
    with pytest.raises(WeightsError, match=r"unexpected: surprise\.weight"):
        of_sam2(more)
    name = "tracker_model.mask_decoder.iou_token.weight"
    headless = damaged(sam3, tmp_path / "c", lambda tensors: tensors.pop(name))
    of_sam3(headless, find="mug")
    with pytest.raises(WeightsError, match=r"missing: mask_decoder\.iou_token\.weight"):
        of_sam3(headless, PROMPTS)
    blind = damaged(sam3, tmp_path / "d", lambda tensors: tensors.pop("detector_model.text_projection.bias"))
    with pytest.raises(WeightsError, match=r"missing: text_projection\.bias"):
        of_sam3(blind)


def test_a_folder_of_another_network_builds_nothing(sam2: Path, sam3: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="'sam3_video'"):
        of_sam2(sam3)
    with pytest.raises(WeightsError, match=r"no file tokenizer\.json"):
        of_sam3(sam2)
    shutil.copytree(sam3, tmp_path, dirs_exist_ok=True)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer)[:-9])
    with pytest.raises(WeightsError, match="cannot be read as the tokenizer of SAM 3"):
        of_sam3(tmp_path)


def test_absent_weights_name_the_command_that_fetches_them(tmp_path: Path) -> None:
    runtime = Runtime(models=tmp_path, offline=True)
    with pytest.raises(WeightsError, match=r"scenegen models fetch sam3"):
        segment_sam3(photo(), Sam3Config(), runtime)
    with pytest.raises(WeightsError, match=r"scenegen models fetch sam2\.1-hiera-large"):
        segment_sam2(photo(), Sam2Config(), runtime)


def test_a_missing_package_names_the_extra(sam2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(WeightsError, match=r"pip install 'scenegen-3d\[full\]'"):
        of_sam2(sam2)


def test_the_stage_key_holds_the_revision_or_the_digests(sam3: Path) -> None:
    assert released_weights("sam3", ("config.json",), None) == {"sam3": registered("sam3").revision}
    assert len(released_weights("sam3", ("config.json",), sam3)["config.json"]) == 64
