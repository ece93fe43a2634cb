"""The presets with released weights, whole, from the command line to the scene: random weights in the released formats.

Segment-anything imports torchvision: its scene is made in a process of its own, in its tests.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenegen.cli.commands import main
from scenegen.compute.networks import release
from scenegen.export.manifest import Manifest, read_manifest
from scenegen.perception import moge
from scenegen.pixal3d.generation import Generated, Images
from scenegen.pixal3d.pipeline import Pixal3DPipeline
from scenegen.pixal3d.projection import Cameras
from scenegen.store.png import write_png
from tests.completion.tiny_editors import write_qwen, write_sdxl
from tests.perception.tiny_geometry import BACKBONES, write_moge
from tests.perception.tiny_sams import write_sam2, write_sam3
from tests.pixal3d.checkpoints import write_tree
from tests.pixal3d.solids import generated_ball, gradient
from tests.views.photographed import BOXES, looking, photograph, write_photographs

HEIGHT, WIDTH = 480, 640
BALL, RADIUS = (240, 540), 150
"""Row and column of its centre: the picture's border cuts it. In pixels."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """MoGe-2's weights, as settings."""
    weights = write_moge(tmp_path_factory.mktemp("moge") / "model.pt")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    parts = ("depth", "camera.estimator")
    return [setting for part in parts for setting in (f"{part}.checkpoint={weights}", f"{part}.sha256={digest}")]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Pixal3D's weights, as settings."""
    tree = write_tree(tmp_path_factory.mktemp("weights") / "pixal3d")
    shutil.copy(tree / "pipeline.json", tree / "pipeline_mv.json")
    return [f"generate.checkpoint={tree}", "generate.attempts=1", "generate.max_faces=10000"]


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    release()
    monkeypatch.setattr(moge, "BACKBONES", BACKBONES)
    pipeline = "diffusers.pipelines.qwenimage.pipeline_qwenimage_edit.calculate_dimensions"
    monkeypatch.setattr(pipeline, lambda area, ratio: (64, 64, None))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    ball = np.hypot(rows - BALL[0], columns - BALL[1]) < RADIUS
    image = np.full((HEIGHT, WIDTH, 3), 150, np.uint8)
    image[ball] = (180, 60, 50)
    write_png(tmp_path / "ball.png", image)
    write_png(tmp_path / "masks.png", ball.astype(np.uint16))
    return tmp_path / "ball.png"


def scene(photo: Path, preset: str, settings: list[str], *words: str) -> Manifest:
    """A complete scene of one object. The field of view is given: random weights find one that no lens has."""
    out = photo.parent / "out"
    given = [word for setting in (*settings, "texture.size=64", "export.usdz=false") for word in ("--set", setting)]
    run = ["--preset", preset, "--fov", "45", "--device", "cpu", "--offline"]
    assert main([str(photo), "-o", str(out), *run, *words, *given]) == 0
    manifest = read_manifest(out / photo.stem)
    assert manifest.state == "complete"
    assert len(manifest.objects) == 1
    return manifest


def backends(manifest: Manifest) -> dict[str, str | None]:
    """Of the stages that a preset chooses them for."""
    chosen = ("segment", "depth", "complete", "generate")
    return {entry.stage: entry.backend for entry in manifest.stages if entry.stage in chosen}


def completed(photo: Path) -> bool:
    return "completed" in (photo.parent / "out" / photo.stem / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow  # Pixal3D's cascade at its least resolution
def test_the_preset_paper_makes_a_scene(photo: Path, measured: list[str], generated: list[str]) -> None:
    sam3, qwen = write_sam3(photo.parent / "sam3"), write_qwen(photo.parent / "qwen")
    segment = [f"segment.checkpoint={sam3}", "segment.min_score=0", "segment.max_area=1", "segment.max_objects=1"]
    complete = [f"complete.checkpoint={qwen}", "complete.steps=2"]
    manifest = scene(photo, "paper", [*segment, *measured, *complete, *generated], "--find", "red ball")
    assert backends(manifest) == {
        "segment": "sam3",
        "depth": "moge-2-vitl-normal",
        "complete": "qwen-image-edit",
        "generate": "pixal3d from pixal3d",
    }
    assert manifest.objects[0].label == "red ball"
    assert completed(photo)


@pytest.mark.slow  # Pixal3D's cascade at its least resolution
def test_the_preset_low_memory_makes_a_scene(photo: Path, measured: list[str], generated: list[str]) -> None:
    sam2, sdxl = write_sam2(photo.parent / "sam2"), write_sdxl(photo.parent / "sdxl")
    complete = [f"complete.checkpoint={sdxl}", "complete.steps=2", "complete.side=64"]
    settings = [f"segment.checkpoint={sam2}", *measured, *complete, *generated]
    manifest = scene(photo, "low-memory", settings, "--box", "390,90,640,390")
    assert backends(manifest) == {
        "segment": "sam2.1-hiera-large",
        "depth": "moge-2-vitl-normal",
        "complete": "sdxl-inpainting",
        "generate": "pixal3d from pixal3d",
    }
    assert completed(photo)


@pytest.mark.slow  # Pixal3D's cascade at its least resolution
def test_the_preset_pixal3d_makes_a_scene(photo: Path, measured: list[str], generated: list[str]) -> None:
    manifest = scene(photo, "pixal3d", [*measured, *generated], "--masks", str(photo.parent / "masks.png"))
    assert backends(manifest) == {
        "segment": "user masks",
        "depth": "moge-2-vitl-normal",
        "generate": "pixal3d from pixal3d",
    }


@pytest.mark.slow  # Pixal3D's cascade at its least resolution
def test_pixal3d_makes_an_object_that_several_photos_show(
    photo: Path, generated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What random weights make would be refused for not being where the photos show it: a ball stands in for it."""
    cascade = Pixal3DPipeline.__call__

    def ball(self: Pixal3DPipeline, images: Images, cameras: Cameras, **settings: Any) -> Generated:
        cascade(self, images, cameras, **settings)
        return generated_ball(np.zeros(3), 0.09 * float(cameras.mesh_scale[0]), gradient, 96)

    monkeypatch.setattr(Pixal3DPipeline, "__call__", ball)
    folder = photo.parent
    write_photographs(folder, photograph([looking(angle) for angle in (0, 20)], size=(320, 240), boxes=BOXES[:1]))
    settings = ("generate=pixal3d", *generated, "texture.size=64", "export.usdz=false")
    given = [word for setting in settings for word in ("--set", setting)]
    given += ["--masks", str(folder / "masks"), "--depth", str(folder / "depth")]
    given += ["--camera", str(folder / "transforms.json"), "--device", "cpu", "--offline"]
    assert main(["views", str(folder / "shots"), "-o", str(folder / "out"), "--name", "table", *given]) == 0
    manifest = read_manifest(folder / "out" / "table")
    assert len(manifest.objects) == 1
    assert backends(manifest)["generate"] == "pixal3d from pixal3d, 2 views"
