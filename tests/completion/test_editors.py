"""Qwen-Image-Edit and Stable Diffusion XL inpainting with random weights in the released format."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from scenegen.completion import PartView, WholeView
from scenegen.completion.editing import drawn_on_white, editor_weights, on_white
from scenegen.completion.qwen import complete_qwen, encode, load_editor, load_reader
from scenegen.completion.sdxl import complete_sdxl
from scenegen.compute.networks import release
from scenegen.compute.runtime import Runtime
from scenegen.config import QwenEditConfig, SdxlInpaintingConfig
from scenegen.errors import WeightsError
from scenegen.weights_registry import registered
from tests.completion.tiny_editors import write_qwen, write_sdxl

RUNTIME = Runtime(device="cpu", offline=True)
SIDE = 48


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline draws 64 x 64 pixels rather than a megapixel."""
    release()
    pipeline = "diffusers.pipelines.qwenimage.pipeline_qwenimage_edit.calculate_dimensions"
    monkeypatch.setattr(pipeline, lambda area, ratio: (64, 64, None))


def part() -> PartView:
    seen = np.zeros((SIDE, SIDE), bool)
    seen[10:30, 10:25] = True
    may_hide = np.zeros_like(seen)
    may_hide[10:30, 25:40] = True
    return PartView(np.full((SIDE, SIDE, 3), 120, np.uint8), seen, may_hide, "coffee mug")


def of_sdxl(folder: Path, seed: int = 0) -> WholeView:
    return complete_sdxl(part(), seed, SdxlInpaintingConfig(checkpoint=folder, steps=2, side=64), RUNTIME)


def of_qwen(folder: Path, seed: int = 0) -> WholeView:
    return complete_qwen(part(), seed, QwenEditConfig(checkpoint=folder, steps=2), RUNTIME)


def test_an_editor_sees_the_object_on_white() -> None:
    shown = on_white(part())
    assert (shown[part().seen] == 120).all()
    assert (shown[~part().seen] == 255).all()


def test_what_is_drawn_away_from_the_object_is_none_of_it_and_holes_are_filled() -> None:
    image = np.full((SIDE, SIDE, 3), 250, np.uint8)
    image[8:32, 8:42] = 90
    image[15:20, 30:34] = 255  # a highlight
    image[40:44, 2:6] = 0  # something else
    mask = drawn_on_white(image, part().seen)
    expected = np.zeros_like(mask)
    expected[8:32, 8:42] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("complete", [of_sdxl, of_qwen])
def test_an_editor_draws_the_same_for_the_same_seed(complete: Callable[..., WholeView], sdxl: Path, qwen: Path) -> None:
    folder = sdxl if complete is of_sdxl else qwen
    whole = complete(folder)
    assert whole.image.shape == (SIDE, SIDE, 3)
    assert whole.image.std() > 1
    assert (whole.mask | ~part().seen).all()
    assert whole.licence == "unknown (local checkpoint)"
    assert complete(folder).image.tobytes() == whole.image.tobytes()
    assert complete(folder, seed=5).image.tobytes() != whole.image.tobytes()


def test_the_reader_is_told_which_tokens_are_pictures(qwen: Path) -> None:
    reader, editor = load_reader(qwen), load_editor(qwen, torch.device("cpu"), "resident")
    picture = np.full((56, 56, 3), 90, np.uint8)
    given = {}
    run = reader.network.forward
    reader.network.forward = lambda **words: given.update(words) or run(**words)
    with torch.inference_mode():
        said = encode(reader, editor, "Complete it", picture)
    template = editor.prompt_template_encode.format("Complete it")
    names = ("im_start", "im_end", "vision_start", "vision_end", "image_pad")
    length = (
        len(template) - sum(template.count(f"<|{name}|>") * (len(name) + 3) for name in names) - template.count("\n")
    )
    # 4 x 4 patches, of which each 2 x 2 are one token; the special tokens are 9, the newlines none here.
    assert given["mm_token_type_ids"].sum() == 4
    assert given["input_ids"].shape[1] >= length
    assert said.shape == (1, given["input_ids"].shape[1] - editor.prompt_template_encode_start_idx, 16)


def damaged(folder: Path, target: Path, file: str, change: Callable[[dict], None]) -> Path:
    shutil.copytree(folder, target)
    tensors = load_file(target / file)
    change(tensors)
    save_file(tensors, target / file, metadata={"format": "pt"})
    return target


def test_tensors_that_are_missing_or_too_many_are_named(sdxl: Path, qwen: Path, tmp_path: Path) -> None:
    unet = "unet/diffusion_pytorch_model.fp16.safetensors"
    with pytest.raises(WeightsError, match=r"missing: conv_in\.bias"):
        of_sdxl(damaged(sdxl, tmp_path / "a", unet, lambda tensors: tensors.pop("conv_in.bias")))
    more = {"surprise.weight": torch.zeros(1)}
    transformer = "transformer/diffusion_pytorch_model.safetensors"
    with pytest.raises(WeightsError, match=r"unexpected: surprise\.weight"):
        of_qwen(damaged(qwen, tmp_path / "b", transformer, lambda tensors: tensors.update(more)))
    language = "text_encoder/model.safetensors"
    with pytest.raises(WeightsError, match=r"missing: model\.language_model\.norm\.weight"):
        of_qwen(damaged(qwen, tmp_path / "c", language, lambda tensors: tensors.pop("model.norm.weight")))


def test_a_folder_of_another_pipeline_builds_nothing(sdxl: Path, qwen: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="'StableDiffusionXLInpaintPipeline'; it must be a 'QwenImageEditPipeline'"):
        of_qwen(sdxl)
    with pytest.raises(WeightsError, match=r"model_index\.json cannot be read"):
        of_sdxl(tmp_path)
    shutil.copytree(qwen, tmp_path / "copy")
    (tmp_path / "copy" / "processor" / "tokenizer.json").write_text(json.dumps({"model": None}))
    with pytest.raises(WeightsError, match="processor cannot be read"):
        of_qwen(tmp_path / "copy")


def test_absent_weights_name_the_command_that_fetches_them(tmp_path: Path) -> None:
    runtime = replace(RUNTIME, models=tmp_path)
    with pytest.raises(WeightsError, match="scenegen models fetch qwen-image-edit"):
        complete_qwen(part(), 0, QwenEditConfig(), runtime)
    with pytest.raises(WeightsError, match="scenegen models fetch sdxl-inpainting"):
        complete_sdxl(part(), 0, SdxlInpaintingConfig(), runtime)


def test_a_missing_package_names_the_extra(sdxl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(WeightsError, match=r"pip install 'scenegen-3d\[full\]'"):
        of_sdxl(sdxl)


def test_the_stage_key_holds_the_revision_or_all_digests(sdxl: Path) -> None:
    assert editor_weights("qwen-image-edit", None) == {"qwen-image-edit": registered("qwen-image-edit").revision}
    digests = editor_weights("sdxl-inpainting", sdxl)
    assert {"model_index.json", "unet/diffusion_pytorch_model.fp16.safetensors", "tokenizer/vocab.json"} < set(digests)
