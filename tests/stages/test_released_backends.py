"""Scenes from the command line with every back-end of the presets `paper` and `low-memory`: random weights, released formats."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenegen.cli.commands import main
from scenegen.compute.networks import release
from scenegen.export.manifest import Manifest, read_manifest
from scenegen.perception import moge
from scenegen.perception.nouns import NOUNS
from scenegen.store.png import write_png
from tests.completion.tiny_editors import write_qwen, write_sdxl
from tests.perception.tiny_geometry import BACKBONES, write_depth_anything, write_depth_pro, write_moge
from tests.perception.tiny_sams import write_sam2, write_sam3

HEIGHT, WIDTH = 96, 128
FAR, NEAR = np.s_[20:70, 20:75], np.s_[30:80, 60:100]
"""Two boxes, the second before the first."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    release()
    monkeypatch.setattr(moge, "BACKBONES", BACKBONES)
    pipeline = "diffusers.pipelines.qwenimage.pipeline_qwenimage_edit.calculate_dimensions"
    monkeypatch.setattr(pipeline, lambda area, ratio: (64, 64, None))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image, ids = np.full((HEIGHT, WIDTH, 3), 150, np.uint8), np.zeros((HEIGHT, WIDTH), np.uint16)
    z = np.full((HEIGHT, WIDTH), 3.0, np.float32)
    for number, (box, colour, distance) in enumerate([(FAR, (180, 60, 50), 2.0), (NEAR, (50, 90, 160), 1.5)], start=1):
        image[box], ids[box], z[box] = colour, number, distance
    Image.fromarray(image).resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.NEAREST).save(tmp_path / "boxes.png")
    large = [np.repeat(np.repeat(plane, 2, axis=0), 2, axis=1) for plane in (ids, z)]
    write_png(tmp_path / "masks.png", large[0])
    np.save(tmp_path / "depth.npy", large[1])
    return tmp_path / "boxes.png"


def scene(photo: Path, *settings: str, words: tuple[str, ...] = ()) -> Manifest:
    small = ("texture.size=64", "export.usdz=false", "generate.max_faces=300")
    given = [word for setting in (*settings, *small) for word in ("--set", setting)]
    out = photo.parent / "out"
    assert main([str(photo), "-o", str(out), "--device", "cpu", "--offline", *words, *given]) == 0
    return read_manifest(out / photo.stem)


def moge_settings(photo: Path) -> list[str]:
    weights = write_moge(photo.parent / "model.pt")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    parts = ("depth", "camera.estimator")
    return [
        setting
        for part in parts
        for setting in (f"{part}=moge", f"{part}.checkpoint={weights}", f"{part}.sha256={digest}")
    ]


def backends(manifest: Manifest) -> dict[str, str | None]:
    return {entry.stage: entry.backend for entry in manifest.stages}


def test_sam3_looks_for_usual_things_and_moge_measures_them(photo: Path) -> None:
    """Without `--find` the vocabulary is all nouns; the preset `paper` as a whole is tested with it."""
    sam3 = write_sam3(photo.parent / "sam3")
    segment = ("segment=sam3", f"segment.checkpoint={sam3}", "segment.min_score=0", "segment.max_objects=2")
    manifest = scene(photo, *segment, *moge_settings(photo), words=("--preset", "training-free"))
    assert manifest.objects
    assert {item.label for item in manifest.objects} <= set(NOUNS)
    used = backends(manifest)
    assert used["segment"].startswith("sam3")
    assert used["depth"].startswith("moge")
    assert manifest.state == "complete"


def test_sam2_answers_a_box_and_depth_pro_measures(photo: Path) -> None:
    sam2, depth_pro = write_sam2(photo.parent / "sam2"), write_depth_pro(photo.parent / "depth-pro")
    chosen = ("segment=sam2", f"segment.checkpoint={sam2}", "depth=depth-pro", f"depth.checkpoint={depth_pro}")
    camera = ("camera.estimator=depth-pro", f"camera.estimator.checkpoint={depth_pro}")
    words = ("--preset", "training-free", "--box", "40,40,150,140")
    manifest = scene(photo, *chosen, *camera, words=words)
    used = backends(manifest)
    assert used["segment"].startswith("sam2")
    assert used["depth"].startswith("depth-pro")
    assert len(manifest.objects) == 1


def test_depth_anything_measures_what_given_masks_show(photo: Path) -> None:
    weights = write_depth_anything(photo.parent / "depth-anything", "metric", 20)
    depth = ("depth=depth-anything", "depth.variant=metric-indoor", f"depth.checkpoint={weights}")
    words = ("--preset", "training-free", "--masks", str(photo.parent / "masks.png"))
    manifest = scene(photo, *depth, words=words)
    assert backends(manifest)["depth"].startswith("depth-anything")
    assert manifest.state == "complete"


@pytest.mark.parametrize("method", ["qwen-image-edit", "sdxl-inpainting"])
def test_an_editor_completes_what_is_partly_hidden(photo: Path, method: str) -> None:
    editor = (write_qwen if method == "qwen-image-edit" else write_sdxl)(photo.parent / "editor")
    given = ("--masks", str(photo.parent / "masks.png"), "--depth", str(photo.parent / "depth.npy"), "--fov", "50")
    complete = [f"complete={method}", f"complete.checkpoint={editor}", "complete.steps=2"]
    if method == "sdxl-inpainting":
        complete.append("complete.side=64")
    manifest = scene(photo, *complete, words=("--preset", "training-free", *given))
    assert backends(manifest)["complete"].startswith(method)
    assert manifest.state == "complete"
    report = (photo.parent / "out" / "boxes" / "report.html").read_text(encoding="utf-8")
    assert "completed" in report
