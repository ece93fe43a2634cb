"""`generate: pixal3d`: one object as one crop camera or several see it, generated, checked, cleaned, unwrapped and baked."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from scenegen.camera import GLTF_CAMERA_FROM_CAMERA, fov_x_deg
from scenegen.compute.networks import forget, loaded, make_room
from scenegen.compute.residency import RESIDENCIES, Demand, Residency
from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import (
    RELEASED_THREADS,
    card_gigabytes,
    torch_device,
    torch_threads,
)
from scenegen.config import Pixal3DConfig, TextureConfig
from scenegen.errors import LimitError, ResourceError, WeightsError
from scenegen.geometry.generator import MadeObject, ObjectView, OtherView, Unfinished
from scenegen.geometry.refine import unseen, visible_front
from scenegen.messages.progress import tell_progress
from scenegen.pixal3d.finish import finished
from scenegen.pixal3d.generation import Generated
from scenegen.pixal3d.pipeline import Pixal3DPipeline
from scenegen.pixal3d.pretrained import DINOV3_FOLDER, IMAGE_WEIGHTS, NAF_FOLDER
from scenegen.pixal3d.projection import fov_from_focal
from scenegen.pixal3d.sampler import Step
from scenegen.pixal3d.settings import PIPELINE, Pictures, read_pipeline
from scenegen.pixal3d.views import View
from scenegen.pixal3d.weights import Precision, config_file, tensor_file
from scenegen.records import SelfCheck, digest_json
from scenegen.system.memory import total_memory
from scenegen.weights_registry import digest_of, locate_pixal3d
from scenegen.weights_registry.models import registered
from scenegen.weights_registry.pixal3d import DINOV3, NAF, PARTS, pixal3d_demand

logger = logging.getLogger(__name__)

GIB = 2**30
STAGED_GIB = 14
"""Least memory of a machine without a card where one network at a time is loaded whole; it never keeps them all."""


@dataclass(frozen=True)
class Opening:
    """Which pipeline to open, and how it is kept in memory."""

    folder: Path
    pictures: Pictures
    dino: Path | None
    naf: Path | None
    device: str
    residency: Residency
    precision: Precision
    compiled: bool = False


@dataclass(frozen=True)
class Plan:
    """How one object is generated."""

    opening: Opening
    max_tokens: int
    warnings: tuple[str, ...]
    """How memory was saved."""


COMPILERS = ("g++", "clang++")
GENERATED = ("vertices", "faces", "coords", "attributes")
"""Tensors of a `Generated` that make a mesh."""

_in_use = threading.Lock()


@torch_threads(RELEASED_THREADS)
def generate_pixal3d(
    view: ObjectView, seed: int, config: Pixal3DConfig, texture: TextureConfig, runtime: Runtime
) -> Unfinished:
    """The object's surface and material as voxels, checked, for `finish_pixal3d`.

    One object is on the device at a time.

    Args:
        view: picture, mask and crop camera are used. Depth only shows where the object may be hidden: its distance is
            found when the scene is composed.
        seed: seed of the first attempt.
        config: which weights, resolution and surface.
        texture: not used yet.
        runtime: device, models folder, and how much memory to save. The network is never used.

    Raises:
        InputError: if the picture gives no surface.
        UsageError: if the device name is not valid.
        WeightsError: if weights are missing, damaged or of another network.
        ResourceError: if the device is absent or its memory full.
    """
    planned = plan(config, runtime)
    with opened(planned.opening, pixal3d_demand(planned.max_tokens)) as pipeline:
        made = pipeline.generate(
            view.image,
            view.mask,
            view.crop.intrinsics,
            seed=seed,
            resolution=config.resolution,
            max_tokens=planned.max_tokens,
            attempts=config.attempts,
            hidden=unseen(view, visible_front(view)) if (view.mask * view.depth).any() else None,
            on_step=_tell_step,
        )
    return _unfinished(
        made.generated,
        made.crop_from_latent,
        backend=_maker(config),
        licence=licences(config),
        seed=made.seed,
        warnings=(*planned.warnings, *made.warnings),
        check=SelfCheck(
            silhouette_iou=made.quality.silhouette_iou,
            size_ratio=made.quality.size_ratio,
            passed=made.quality.good,
            fov_deg=round(float(np.degrees(made.fov)), 4),
        ),
        economy=runtime.economy,
    )


@torch_threads(RELEASED_THREADS)
def generate_pixal3d_views(
    view: ObjectView, seed: int, config: Pixal3DConfig, texture: TextureConfig, runtime: Runtime
) -> Unfinished:
    """The object that several views show, likewise; in metres.

    Args:
        view: picture, mask and crop camera of it and of its others are used, and where the object may be hidden.
        seed: seed of the noise.
        config: which weights, resolution and surface; `attempts` is not used, since the cameras are given.
        texture: not used yet.
        runtime: device, models folder, and how much memory to save. The network is never used.

    Raises:
        InputError: if the views do not belong together, or give no surface.
        UsageError: if the device name is not valid.
        WeightsError: if weights are missing, damaged or of another network.
        ResourceError: if the device is absent or its memory full.
    """
    planned = plan(config, runtime, "several")
    with opened(planned.opening, pixal3d_demand(planned.max_tokens)) as pipeline:
        made = pipeline.generate_views(
            [_as_view(each) for each in view.all],
            seed=seed,
            resolution=config.resolution,
            max_tokens=planned.max_tokens,
            on_step=_tell_step,
        )
    worst = min(made.qualities, key=lambda quality: quality.rank)
    return _unfinished(
        made.generated,
        made.world_from_latent,
        backend=f"{_maker(config)}, {len(view.all)} views",
        licence=licences(config, "several"),
        seed=seed,
        warnings=(*planned.warnings, *made.warnings),
        check=SelfCheck(
            silhouette_iou=worst.silhouette_iou,
            size_ratio=worst.size_ratio,
            passed=worst.good,
            fov_deg=round(fov_x_deg(view.crop.intrinsics), 4),
        ),
        economy=runtime.economy,
    )


def _unfinished(
    generated: Generated,
    frame_from_latent: Float[np.ndarray, "4 4"],
    *,
    backend: str,
    licence: str,
    seed: int,
    warnings: tuple[str, ...],
    check: SelfCheck,
    economy: int,
) -> Unfinished:
    tensors = {name: getattr(generated, name).cpu().numpy() for name in GENERATED}
    facts = {
        "resolution": generated.resolution,
        "backend": backend,
        "licence": licence,
        "seed": seed,
        "warnings": list(warnings),
        "check": check.model_dump(mode="json"),
        "economy": economy,
    }
    return Unfinished({**tensors, "frame_from_latent": frame_from_latent}, facts)


@torch_threads(RELEASED_THREADS)
def finish_pixal3d(begun: Unfinished, config: Pixal3DConfig, texture: TextureConfig) -> MadeObject:
    """The object as a mesh with its material, in the crop camera's frame. From one view, a unit is the cube's edge.

    Args:
        begun: from `generate_pixal3d` or `generate_pixal3d_views`.
        config: which surface, and how many faces.
        texture: size of the textures, and how long unwrapping may take.

    Raises:
        InputError: if the decoded surface has no faces.
        ResourceError: if unwrapping takes too long, or its process is lost.
    """
    tensors = {name: torch.from_numpy(begun.arrays[name]) for name in GENERATED}
    facts = begun.facts
    mesh, warnings = finished(Generated(**tensors, resolution=facts["resolution"]), config, texture)
    return MadeObject(
        mesh=mesh.transformed(begun.arrays["frame_from_latent"]),
        backend=facts["backend"],
        licence=facts["licence"],
        seed=facts["seed"],
        warnings=(*facts["warnings"], *warnings),
        check=SelfCheck.model_validate(facts["check"]),
        economy=facts["economy"],
    )


def _as_view(seen: OtherView) -> View:
    """A view in the world of the main view's crop camera."""
    view, alpha = seen.view, np.rint(np.clip(seen.view.mask, 0, 1) * 255).astype(np.uint8)
    return View(
        picture=np.dstack([view.image, alpha]),
        world_from_camera=np.linalg.inv(seen.crop_from_main) @ GLTF_CAMERA_FROM_CAMERA,
        fov=fov_from_focal(view.crop.intrinsics.fx / view.crop.intrinsics.width),
        hidden=unseen(view, visible_front(view)) if (view.mask * view.depth).any() else None,
    )


def pixal3d_weights(config: Pixal3DConfig, pictures: Pictures = "one") -> Mapping[str, str]:
    """What the result depends on: registered revisions and digests, or the digest of a local folder's files.

    Files are read once, unless they change.

    Raises:
        WeightsError: if a file of the local folder cannot be read.
    """
    if config.checkpoint is None:
        return {name: _revision(name) for name in PARTS[pictures]}
    folder = config.checkpoint
    _, stems = read_pipeline(folder, pictures)
    paths = [
        folder / PIPELINE[pictures],
        *(file(stem) for stem in stems.values() for file in (config_file, tensor_file)),
    ]
    weights = {}
    for name, part in ((DINOV3, folder / DINOV3_FOLDER), (NAF, folder / NAF_FOLDER)):
        if (part / IMAGE_WEIGHTS).is_file():
            paths += [path for path in (part / "config.json", part / IMAGE_WEIGHTS) if path.is_file()]
        else:
            weights[name] = _revision(name)
    root = folder.resolve()
    digests = {path.resolve().relative_to(root).as_posix(): digest_of(path) for path in paths}
    return {PARTS[pictures][0]: digest_json(digests), **weights}


def licences(config: Pixal3DConfig, pictures: Pictures = "one") -> str:
    """Licences of the weights."""
    if config.checkpoint is not None:
        return "unknown (local checkpoint)"
    return "; ".join(f"{name}: {registered(name).licence}" for name in PARTS[pictures])


def plan(config: Pixal3DConfig, runtime: Runtime, pictures: Pictures = "one") -> Plan:
    """What `config` and `runtime.economy` amount to on this machine.

    Raises:
        UsageError: if the device name is not valid.
        WeightsError: if registered weights are absent or damaged, or the local folder does not exist.
        ResourceError: if the device does not exist.
    """
    folder, dino, naf = (
        locate_pixal3d(runtime, pictures) if config.checkpoint is None else (config.checkpoint, None, None)
    )
    if not folder.is_dir():
        raise WeightsError(f"`generate.checkpoint` is {folder}, which is not a folder; give one with a pipeline.json.")
    device = torch_device(runtime)
    residency = residency_for(device, config, runtime.economy)
    max_tokens, warnings = config.max_tokens, list[str]()
    if runtime.economy:
        max_tokens //= 2
        warnings.append(
            f"memory was short: the weights were {residency} and the flows limited to {max_tokens} tokens instead of "
            f"{config.max_tokens}. The object may be coarser than configured, and the next run makes it "
            "again. To keep it, set generate.max_tokens and generate.residency to what fits."
        )
    precision: Precision = "released"
    if config.precision == "float32" or (config.precision == "auto" and device.type == "cpu"):
        precision = "float32"
    if config.compiled:
        _require_compiler()
    opening = Opening(folder, pictures, dino, naf, str(device), residency, precision, config.compiled)
    return Plan(opening, max_tokens, tuple(warnings))


def _require_compiler() -> None:
    """Raises ResourceError if torch would find no compiler."""
    names = (os.environ["CXX"],) if "CXX" in os.environ else COMPILERS
    if not any(shutil.which(name) for name in names):
        raise ResourceError(
            f"`generate.compiled` needs a C++ compiler, and this machine has none of {', '.join(names)}; install one, or leave "
            "it off."
        )


def residency_for(device: torch.device, config: Pixal3DConfig, economy: int = 0) -> Residency:
    """What `config` asks for, or what fits into the memory of a CUDA device, or else of the machine; less if memory was short."""
    if device.type == "cuda":
        return pixal3d_demand(config.max_tokens).chosen(config.residency, card_gigabytes(device), economy)
    room = total_memory()
    fits: Residency = "staged" if room is not None and room >= STAGED_GIB * GIB else "streamed"
    asked = fits if config.residency == "auto" else config.residency
    return max(asked, RESIDENCIES[economy], key=RESIDENCIES.index)


@contextlib.contextmanager
def opened(opening: Opening, demand: Demand) -> Iterator[Pixal3DPipeline]:
    """The pipeline, for one caller at a time. It stays for the next one, until another is asked for or memory runs out.

    Networks of other stages leave the card if there is no room beside them for what is in `demand`. They have done their part: a
    photo is segmented, and its objects completed, before any is generated.
    """

    def load() -> Pixal3DPipeline:
        return Pixal3DPipeline.from_pretrained(
            opening.folder,
            pictures=opening.pictures,
            dino=opening.dino,
            naf=opening.naf,
            device=opening.device,
            residency=opening.residency,
            precision=opening.precision,
            compiled=opening.compiled,
            offline=True,
        )

    with _in_use:
        forget(lambda key: isinstance(key, Opening) and key != opening)
        make_room(opening.device, demand, opening.residency, opening)
        pipeline = loaded(opening, load)
        try:
            yield pipeline
        except LimitError as error:
            del pipeline
            forget(lambda key: key == opening)
            if opening.residency == "streamed":
                raise
            raise LimitError(
                f"{error} Streamed weights take the least memory: --set generate.residency=streamed."
            ) from error


def _tell_step(stage: str, step: Step) -> None:
    tell_progress(f"{stage}, step {step.done} of {step.steps}")


def _maker(config: Pixal3DConfig) -> str:
    return "pixal3d" if config.checkpoint is None else f"pixal3d from {config.checkpoint.name}"


def _revision(name: str) -> str:
    model = registered(name)
    return str(model.revision or model.files[0].sha256)
