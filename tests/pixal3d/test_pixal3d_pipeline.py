"""The complete cascade on a small random checkpoint tree in the released format, from a cut-out picture to a coloured mesh."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pixal3d.checkpoints import DINO, NAF, write_tree

from scenegen.errors import InputError, WeightsError
from scenegen.pixal3d.features import ExtractorSettings
from scenegen.pixal3d.pipeline import Generated, Pixal3DPipeline, generate, one_picture, several_pictures
from scenegen.pixal3d.projection import Cameras, distance_from_fov, front_cameras, relative_cameras
from scenegen.pixal3d.settings import SHAPE_NORMALISATION, read_pipeline

FOV = 0.7


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("pixal3d"))


def cut_out() -> np.ndarray:
    y, x = np.mgrid[0:120, 0:140]
    rgba = np.zeros((120, 140, 4), np.uint8)
    rgba[..., 0], rgba[..., 1], rgba[..., 2] = x, y, 90
    rgba[..., 3] = 255 * ((x - 70) ** 2 + (y - 60) ** 2 < 40**2)
    return rgba


def cameras() -> Cameras:
    return front_cameras(torch.tensor([FOV]), torch.tensor([distance_from_fov(FOV)]), torch.ones(1))


def pipeline(tree: Path, residency: str = "staged") -> Pixal3DPipeline:
    made = Pixal3DPipeline.from_pretrained(
        tree,
        tree / "dino.safetensors",
        tree / "naf.safetensors",
        residency=residency,  # type: ignore[arg-type]
        precision="float32",
        dino_config=DINO,
        naf_config=NAF,
    )
    small = replace(
        made.settings,
        structure_view=ExtractorSettings(160, 16),
        coarse_view=ExtractorSettings(160, 32, use_naf=True, naf_target_size=160),
        fine_view=ExtractorSettings(160, 64, use_naf=True, naf_target_size=160),
        texture_view=ExtractorSettings(160, 64, use_naf=True, naf_target_size=160),
    )
    return replace(made, settings=small)


def run(made: Pixal3DPipeline, seed: int = 1) -> Generated:
    return made(one_picture(cut_out()), cameras(), seed=seed)


def test_the_cascade_runs_and_its_parts_fit_together(tree: Path) -> None:
    made = run(pipeline(tree))
    assert made.resolution == 1024
    assert len(made.vertices) == len(made.coords) == len(made.attributes) > 0
    assert made.vertices.abs().max() <= 0.5 + 0.5 / 1024 + 1e-6
    assert int(made.coords.max()) < 1024
    assert torch.isfinite(made.attributes).all()
    assert made.faces.numel() == 0 or int(made.faces.max()) < len(made.vertices)


def test_a_seed_repeats_and_another_differs_and_residency_changes_nothing(tree: Path) -> None:
    first, again = run(pipeline(tree)), run(pipeline(tree, "resident"))
    torch.testing.assert_close(first.vertices, again.vertices, rtol=0, atol=0)
    torch.testing.assert_close(first.attributes, again.attributes, rtol=0, atol=0)
    other = run(pipeline(tree), seed=2)
    assert other.coords.shape != first.coords.shape or not torch.equal(other.coords, first.coords)


def test_several_views_run_too(tree: Path) -> None:
    turned = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    poses = []
    for angle in (0.0, np.pi / 2):
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        pose = turned.copy()
        pose[1, 3] = -distance_from_fov(FOV)
        poses.append(turn @ pose)
    views = relative_cameras(
        torch.tensor(np.array(poses), dtype=torch.float32)[None],
        torch.full((1, 2), FOV),
        torch.tensor([distance_from_fov(FOV)]),
        torch.ones(1),
    )
    both = pipeline(tree)(several_pictures([cut_out(), cut_out()[:, ::-1].copy()]), views, seed=1)
    assert len(both.vertices) == len(both.attributes) > 0


def test_steps_are_told_and_can_cancel(tree: Path) -> None:
    made = pipeline(tree)
    told: list[tuple[str, int]] = []

    class CancelError(Exception):
        pass

    def on_step(name: str, step: object) -> None:
        told.append((name, step.done))  # type: ignore[attr-defined]
        if name == "shape_slat_flow_model_512":
            raise CancelError

    with pytest.raises(CancelError):
        generate(
            made.networks,
            made.extractor,
            one_picture(cut_out()),
            cameras(),
            made.settings,
            on_step=on_step,
        )
    assert told == [
        ("sparse_structure_flow_model", 1),
        ("sparse_structure_flow_model", 2),
        ("shape_slat_flow_model_512", 1),
    ]


def test_settings_come_from_the_file(tree: Path) -> None:
    settings, stems = read_pipeline(tree)
    assert settings.structure_sampler.steps == 2
    assert settings.texture_sampler.guidance_interval == (0.6, 0.9)
    assert stems["shape_slat_decoder"] == (tree / "ckpts" / "shape_dec").resolve()


def test_normalisation_goes_both_ways() -> None:
    latent = torch.randn(5, 32)
    torch.testing.assert_close(SHAPE_NORMALISATION.apply(SHAPE_NORMALISATION.undo(latent)), latent)


def test_broken_folders_are_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no readable pipeline"):
        read_pipeline(tmp_path)
    content = json.loads((tree / "pipeline.json").read_text())
    content["args"]["models"]["tex_slat_decoder"] = "../../elsewhere"
    (tmp_path / "pipeline.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="outside its folder"):
        read_pipeline(tmp_path)
    del content["args"]["models"]["tex_slat_decoder"]
    (tmp_path / "pipeline.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="names no tex_slat_decoder"):
        read_pipeline(tmp_path)
    with pytest.raises(WeightsError, match="is missing"):
        Pixal3DPipeline.from_pretrained(
            _without_files(tree, tmp_path), tree / "dino.safetensors", tree / "naf.safetensors"
        )


def _without_files(tree: Path, folder: Path) -> Path:
    (folder / "pipeline.json").write_text((tree / "pipeline.json").read_text())
    return folder


def test_nothing_generated_is_said(tree: Path) -> None:
    made = pipeline(tree)

    class Empty(torch.nn.Module):
        def forward(self, latent: torch.Tensor) -> torch.Tensor:
            return -torch.ones(1, 1, 64, 64, 64)

    import contextlib

    def networks(name: str) -> object:
        return contextlib.nullcontext(Empty()) if name == "sparse_structure_decoder" else made.networks(name)

    with pytest.raises(InputError, match="nothing was generated"):
        generate(networks, made.extractor, one_picture(cut_out()), cameras(), made.settings)  # type: ignore[arg-type]
