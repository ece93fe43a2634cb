"""Finds the files of a pipeline in a folder or in the models cache, and copies them to a folder that holds them all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenegen.compute.runtime import Runtime
from scenegen.errors import UsageError, WeightsError
from scenegen.pixal3d.dino import VITL16
from scenegen.pixal3d.settings import PIPELINE, Pictures, PipelineSettings, pipeline_text, read_pipeline
from scenegen.pixal3d.weights import NAF_RELEASED, config_file, image_config, tensor_file
from scenegen.store.store import flush
from scenegen.weights_registry.download import Progress
from scenegen.weights_registry.models import registered
from scenegen.weights_registry.pixal3d import (
    DINOV3,
    NAF,
    PIXAL3D,
    PIXAL3D_MV,
    dinov3_weights,
    naf_weights,
    obtain,
    pixal3d_name,
)
from scenegen.weights_registry.place import writing

DINOV3_FOLDER, NAF_FOLDER = "dinov3", "naf"
"""Subfolders of a complete folder with the image networks, each as `config.json` and `model.safetensors`."""
IMAGE_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class PipelineFiles:
    """Where a pipeline's files are."""

    folder: Path
    """Folder with the pipeline's file and what it names."""
    pictures: Pictures
    """Which of the pipeline's files is used, and thus which flows."""
    dino: Path
    """DINOv3's weights as safetensors, with their `config.json` beside them, or of the released sizes."""
    naf: Path
    """NAF's weights, likewise."""


def find_files(
    source: Path | str,
    pictures: Pictures,
    revision: str | None,
    dino: Path | None,
    naf: Path | None,
    runtime: Runtime,
    progress: Progress | None,
) -> PipelineFiles:
    """The files of the pipeline at `source`; see `Pixal3DPipeline.from_pretrained`.

    Raises:
        UsageError: for a revision of a local folder, or an invalid revision.
        WeightsError: if a file is missing and cannot be fetched.
        ResourceError: if the models folder cannot be written.
    """
    repository = registered(PIXAL3D).repo
    wanted: dict[str, str] = {}
    if isinstance(source, Path) or Path(source).is_dir():
        folder = Path(source)
        if not (folder / PIPELINE[pictures]).is_file():
            raise WeightsError(
                f"{folder} holds no {PIPELINE[pictures]}; give the folder of a pipeline for {pictures} picture"
                f"{'s' * (pictures == 'several')} of an object, or {repository!r}."
            )
        if revision is not None:
            raise UsageError(
                f"`revision` is {revision!r}, but {folder} is a local folder, which has none; leave it out."
            )
        dino = dino or _held(folder / DINOV3_FOLDER)
        naf = naf or _held(folder / NAF_FOLDER)
    elif source == repository:
        wanted["folder"] = pixal3d_name(PIXAL3D if pictures == "one" else PIXAL3D_MV, revision)
    else:
        raise WeightsError(
            f"`source` is {source!r}, which is neither a folder nor a known repository; give a folder, or {repository!r}."
        )
    wanted |= {part: name for part, name, path in (("dino", DINOV3, dino), ("naf", NAF, naf)) if path is None}
    obtained = dict(zip(wanted, obtain(tuple(wanted.values()), runtime, progress), strict=True))
    files = PipelineFiles(
        obtained.get("folder") or folder,
        pictures,
        dino or dinov3_weights(obtained["dino"]),
        naf or naf_weights(obtained["naf"]),
    )
    _, stems = read_pipeline(files.folder, files.pictures)
    networks = [path for stem in stems.values() for path in (config_file(stem), tensor_file(stem))]
    for path in (*networks, files.dino, files.naf):
        if not path.is_file():
            raise WeightsError(f"{path} is missing; fetch it, or give a folder that has it.")
    return files


def copy_files(files: PipelineFiles, settings: PipelineSettings, folder: Path) -> None:
    """Writes a complete pipeline to `folder`: every file as it is, with `settings` in that of the pipeline.

    It is filled under another name beside it, flushed, and renamed, so that it appears whole or not at all.

    Raises:
        UsageError: if `folder` exists and is not empty.
        WeightsError: if a file cannot be read.
        ResourceError: if the folder cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"`folder` is {folder}, which exists and is not empty; give a new one.")
    _, stems = read_pipeline(files.folder, files.pictures)
    root = files.folder.resolve()
    part = folder.with_name(f".{folder.name}.part")
    copies = {
        path.relative_to(root): path for stem in stems.values() for path in (config_file(stem), tensor_file(stem))
    }
    copies |= {Path(DINOV3_FOLDER, IMAGE_WEIGHTS): files.dino, Path(NAF_FOLDER, IMAGE_WEIGHTS): files.naf}
    texts = {
        Path(DINOV3_FOLDER, "config.json"): _text(image_config(files.dino, VITL16)),
        Path(NAF_FOLDER, "config.json"): _text(image_config(files.naf, NAF_RELEASED)),
        Path(PIPELINE[files.pictures]): pipeline_text(files.folder / PIPELINE[files.pictures], settings),
    }
    try:
        with writing(part):
            shutil.rmtree(part, ignore_errors=True)
            for name in (*copies, *texts):
                (part / name).parent.mkdir(parents=True, exist_ok=True)
            for name, path in copies.items():
                shutil.copyfile(path, part / name)
            for name, text in texts.items():
                (part / name).write_text(text, encoding="utf-8")
            for name in (*copies, *texts):
                flush(part / name)
            part.replace(folder)
            flush(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _held(folder: Path) -> Path | None:
    """The weights of an image network that a pipeline's folder holds."""
    path = folder / IMAGE_WEIGHTS
    return path if path.is_file() else None


def _text(config: Mapping[str, Any]) -> str:
    return json.dumps(dict(config), indent=1)
