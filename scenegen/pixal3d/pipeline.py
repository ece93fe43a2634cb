"""The Pixal3D pipeline, which is read from the hub, the models cache or a folder, and runs on one object's crop."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from scenegen.camera import GLTF_CAMERA_FROM_CAMERA, crop_from_latent, transform
from scenegen.compute.residency import Residency
from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import device_memory, named_device, torch_device
from scenegen.config import Pixal3DConfig, TextureConfig
from scenegen.errors import InputError, UsageError
from scenegen.geometry.interchange import write_mesh
from scenegen.geometry.mesh import TexturedMesh
from scenegen.messages.remarks import note
from scenegen.pixal3d.features import FeatureExtractor
from scenegen.pixal3d.finish import finished
from scenegen.pixal3d.framing import Framed, framed
from scenegen.pixal3d.generation import (
    Generated,
    Images,
    Observer,
    framed_picture,
    generate,
    one_picture,
    several_pictures,
)
from scenegen.pixal3d.memory import WorkingMemory
from scenegen.pixal3d.pretrained import PipelineFiles, copy_files, find_files
from scenegen.pixal3d.projection import Cameras, distance_from_fov, fov_from_focal, front_cameras
from scenegen.pixal3d.residency import Networks, open_extractor, open_networks
from scenegen.pixal3d.sampler import Step
from scenegen.pixal3d.selfcheck import (
    ATTEMPTS,
    LARGEST_SIZE_ERROR,
    LEAST_IOU,
    Quality,
    Surface,
    generate_checked,
    measure_through,
)
from scenegen.pixal3d.settings import Pictures, PipelineSettings, read_pipeline
from scenegen.pixal3d.usage import StageUsage
from scenegen.pixal3d.views import SOLID_ALPHA, View, cameras_of_views, check_cut_out
from scenegen.pixal3d.weights import Precision
from scenegen.records import Intrinsics
from scenegen.store.store import disk_errors
from scenegen.weights_registry.download import Progress

__all__ = [
    "Generated",
    "GeneratedFromViews",
    "GeneratedObject",
    "Images",
    "Observer",
    "Pixal3DPipeline",
    "Precision",
    "Quality",
    "Residency",
    "StageUsage",
    "Step",
    "View",
    "WorkingMemory",
    "generate",
    "one_picture",
    "several_pictures",
]

logger = logging.getLogger(__name__)

REPOSITORY = "TencentARC/Pixal3D"
"""Where the weights are published."""
SOLID = 0.5
"""Pixels of which the object covers at least this share belong to the silhouette that it is checked against."""
CENTRED = 1e-3
"""How far, in picture widths, a principal point may be off the middle, and how far the two focal lengths may be apart."""


@dataclass(frozen=True, eq=False)
class GeneratedObject:
    """An object that was generated from its crop, checked against the crop's mask."""

    generated: Generated
    """Raw surface and material voxels, in the latent frame."""
    crop_from_latent: Float[np.ndarray, "4 4"]
    """Affine, to the crop camera's frame, one unit per cube edge, in which the object projects onto the crop's pixels."""
    seed: int
    """Seed of the attempt that was taken."""
    fov: float
    """Horizontal field of view it was generated with, in radians."""
    quality: Quality
    """How well it agrees with the mask; `quality.good` says whether it passed the check."""
    usage: tuple[StageUsage, ...]
    """Time and memory of every stage of every attempt, in order."""
    warnings: tuple[str, ...]

    @property
    def vertices(self) -> Float[np.ndarray, "v 3"]:
        """Vertices of the raw surface in the crop camera's frame; its faces are `generated.faces`."""
        return transform(self.crop_from_latent, self.generated.vertices.cpu().double().numpy())

    def textured(
        self, config: Pixal3DConfig = Pixal3DConfig(), texture: TextureConfig = TextureConfig()
    ) -> tuple[TexturedMesh, tuple[str, ...]]:
        """The object as a simplified mesh with its material, in the crop camera's frame, and the warnings and notes from making
        it; see `scenegen.pixal3d.finish.finished`.

        Examples:
            >>> made = Pixal3DPipeline.from_pretrained().generate(image, mask, camera)  # doctest: +SKIP
            >>> mesh, warnings = made.textured(texture=TextureConfig(size=2048))  # doctest: +SKIP
        """
        mesh, warnings = finished(self.generated, config, texture)
        return mesh.transformed(self.crop_from_latent), warnings

    def save(
        self, path: Path | str, config: Pixal3DConfig = Pixal3DConfig(), texture: TextureConfig = TextureConfig()
    ) -> None:
        """Writes the object with its material: x right, y up, z towards the crop's camera, which is at the origin; one unit per
        cube edge.

        Args:
            path: a `.glb`, `.obj`, `.ply` or `.stl` file.
            config: kind of surface, and number of faces.
            texture: size of the textures, and how long unwrapping may take.

        Raises:
            UsageError: for another suffix.
            InputError: if the decoded surface has no faces.
            ResourceError: if unwrapping takes too long, or the file cannot be written.

        Examples:
            >>> pipeline = Pixal3DPipeline.from_pretrained().to("cuda")  # doctest: +SKIP
            >>> pipeline.generate(image, mask, camera, seed=7).save("mug.glb")  # doctest: +SKIP
        """
        mesh, _ = self.textured(config, texture)
        _save(mesh.transformed(GLTF_CAMERA_FROM_CAMERA), path)


@dataclass(frozen=True, eq=False)
class GeneratedFromViews:
    """An object that was generated from several pictures, checked against the object's silhouette in each."""

    generated: Generated
    """Raw surface and material voxels, in the latent frame: that of the first view's camera."""
    world_from_latent: Float[np.ndarray, "4 4"]
    """Affine, to the world that the cameras were given in."""
    qualities: tuple[Quality, ...]
    """How well it agrees with each picture."""
    warnings: tuple[str, ...]

    def textured(
        self, config: Pixal3DConfig = Pixal3DConfig(), texture: TextureConfig = TextureConfig()
    ) -> tuple[TexturedMesh, tuple[str, ...]]:
        """The object as a simplified mesh with its material, in the world that the cameras were given in, and the warnings and
        notes from making it; see `scenegen.pixal3d.finish.finished`.

        Examples:
            >>> made = Pixal3DPipeline.from_pretrained(pictures="several").generate_views(views)  # doctest: +SKIP
            >>> mesh, warnings = made.textured(texture=TextureConfig(size=2048))  # doctest: +SKIP
        """
        mesh, warnings = finished(self.generated, config, texture)
        return mesh.transformed(self.world_from_latent), warnings

    def save(
        self, path: Path | str, config: Pixal3DConfig = Pixal3DConfig(), texture: TextureConfig = TextureConfig()
    ) -> None:
        """Writes the object with its material, in the world that the cameras were given in. The rest is as in
        `GeneratedObject.save`.

        Examples:
            >>> pipeline = Pixal3DPipeline.from_pretrained(pictures="several")  # doctest: +SKIP
            >>> views, scale = read_views(Path("transforms.json"))  # doctest: +SKIP
            >>> pipeline.generate_views(views, mesh_scale=scale).save("mug.glb")  # doctest: +SKIP
        """
        mesh, _ = self.textured(config, texture)
        _save(mesh, path)


def _save(mesh: TexturedMesh, path: Path | str) -> None:
    with disk_errors(Path(path)):
        write_mesh(mesh, Path(path))


@dataclass(frozen=True)
class Pixal3DPipeline:
    """Pixal3D (arXiv 2605.10922) with weights from files. It has no mutable state, so several threads may share one."""

    networks: Networks
    extractor: FeatureExtractor
    settings: PipelineSettings
    files: PipelineFiles
    """The files it was read from."""
    memory: WorkingMemory
    """Memory that the networks may work in."""
    residency: Residency
    """What stays in memory between uses."""
    precision: Precision
    """Precision of the networks' blocks."""
    compiled: bool
    """Whether torch compiles the blocks of the flows."""

    @classmethod
    def from_pretrained(
        cls,
        source: Path | str = REPOSITORY,
        *,
        pictures: Pictures = "one",
        revision: str | None = None,
        dino: Path | None = None,
        naf: Path | None = None,
        device: torch.device | str = "auto",
        residency: Residency = "staged",
        precision: Precision = "released",
        compiled: bool = False,
        memory: WorkingMemory | None = None,
        offline: bool = False,
        models: Path | None = None,
        progress: Progress | None = None,
    ) -> Pixal3DPipeline:
        """Reads the pipeline's file and the networks it names, and checks every file against its network.

        Args:
            source: a folder in the released layout, with `pipeline.json` and `ckpts/`, or one that `save_pretrained` made; or
                the published repository, which is taken from the models cache, and fetched if it is not there.
            pictures: `one` for the weights of `generate`, `several` for those of `generate_views` (`pipeline_mv.json`).
            revision: commit, tag or branch of the repository; the registered commit by default. Files of any other revision are
                not checked against registered digests, and the log says so.
            dino: DINOv3's `model.safetensors`; by default the one in `source`, or else that of the models cache. Its sizes are
                those in the `config.json` beside it, or else the released ones.
            naf: NAF's weights as safetensors, likewise.
            device: where to compute: `auto`, `cpu`, `cuda`, `cuda:N`, `mps`.
            residency: what stays in memory between uses; see `Residency`.
            precision: precision of the blocks; a CPU is faster with `float32`.
            compiled: whether torch compiles the blocks of the flows, which needs a C++ compiler. Numbers differ by rounding.
            memory: memory to work in, in addition to weights and results; by default what suits the device.
            offline: never use the network.
            models: folder of fetched models; scenegen's own by default.
            progress: called as each fetched file advances.

        Raises:
            UsageError: for an invalid device or revision.
            ResourceError: for a device that is not there, too little memory, or a models folder that cannot be written.
            WeightsError: if a file is missing and cannot be fetched, is damaged, or belongs to another network.

        Examples:
            >>> pipeline = Pixal3DPipeline.from_pretrained()  # doctest: +SKIP
            >>> pipeline.generate(image, mask, camera, seed=7).save("mug.glb")  # doctest: +SKIP
        """
        reach = Runtime(device=str(device), offline=offline)
        runtime = reach if models is None else replace(reach, models=models)
        where = torch_device(runtime)
        files = find_files(source, pictures, revision, dino, naf, runtime, progress)
        settings, networks, extractor = _opened(files, where, residency, precision, compiled)
        memory = memory or WorkingMemory.of(where)
        return cls(networks, extractor, settings, files, memory, residency, precision, compiled)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.extractor.parameters()).device

    def to(self, device: torch.device | str) -> Pixal3DPipeline:
        """The pipeline on another device: itself if it is already there, otherwise a new one, read from the same files.

        Residency, precision and compilation stay the same; the memory to work in is what suits the device.

        Args:
            device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

        Raises:
            UsageError: for an invalid device.
            ResourceError: for a device that is not there, or has too little memory.
            WeightsError: if a file is gone or has changed.

        Examples:
            >>> pipeline = Pixal3DPipeline.from_pretrained(device="cpu")  # doctest: +SKIP
            >>> pipeline.to("cuda").device  # doctest: +SKIP
            device(type='cuda', index=0)
        """
        where = named_device(str(device))
        if where == self.device:
            return self
        _, networks, extractor = _opened(self.files, where, self.residency, self.precision, self.compiled)
        return replace(self, networks=networks, extractor=extractor, memory=WorkingMemory.of(where))

    def save_pretrained(self, folder: Path) -> None:
        """Writes everything the pipeline needs to `folder`; `from_pretrained` reads it back with the same numbers.

        The networks' files are copied as they are stored, whatever the precision here. DINOv3 and NAF come with their configs,
        and the pipeline's file has these settings. The folder appears whole or not at all.

        Raises:
            UsageError: if `folder` exists and is not empty.
            WeightsError: if a file that the pipeline was read from is gone.
            ResourceError: if the folder cannot be written.

        Examples:
            >>> Pixal3DPipeline.from_pretrained().save_pretrained(Path("pixal3d"))  # doctest: +SKIP
        """
        copy_files(self.files, self.settings, folder)

    def __call__(
        self,
        images: Images,
        cameras: Cameras,
        *,
        seed: int = 42,
        resolution: int = 1024,
        max_tokens: int | None = None,
        observe: Observer | None = None,
        on_step: Callable[[str, Step], None] | None = None,
    ) -> Generated:
        """Generates one object in the latent frame, once and unchecked, from one picture or several.

        Args:
            images: `one_picture`, or `several_pictures` with weights for several.
            cameras: one per picture: `front_cameras` or `relative_cameras` of `scenegen.pixal3d.projection`.
            seed: seed of the noise.
            resolution: resolution of the surface, 1024 or a multiple of 128 above it; lowered to stay below `max_tokens`.
            max_tokens: replaces the settings' `max_tokens`.
            observe: called with the results of each stage. An exception from it ends the generation and frees the networks.
            on_step: called with the stage's name and each step of its flow; likewise.

        Raises:
            InputError: if the picture yields no object.
            UsageError: for sizes that do not belong together, or a number of pictures that the weights are not for.
            WeightsError: if a file is gone or has changed, or its numbers overflow.
            ResourceError: if the device has too little memory.
        """
        count = cameras.fov.shape[1]
        if (count == 1) != (self.files.pictures == "one"):
            raise UsageError(
                f"`cameras` has {count} pictures, but the weights are for {self.files.pictures}; open the pipeline with "
                f"pictures={('several' if count > 1 else 'one')!r}."
            )
        settings = self.settings if max_tokens is None else replace(self.settings, max_tokens=max_tokens)
        with device_memory(self.device):
            return generate(
                self.networks,
                self.extractor,
                images,
                cameras,
                settings,
                seed=seed,
                resolution=resolution,
                memory=self.memory,
                observe=observe,
                on_step=on_step,
            )

    def generate(
        self,
        image: UInt8[np.ndarray, "s s 3"],
        mask: Float[np.ndarray, "s s"],
        camera: Intrinsics,
        *,
        seed: int = 42,
        resolution: int = 1024,
        max_tokens: int | None = None,
        attempts: int = ATTEMPTS,
        hidden: Bool[np.ndarray, "s s"] | None = None,
        observe: Observer | None = None,
        on_step: Callable[[str, Step], None] | None = None,
    ) -> GeneratedObject:
        """Generates the object that `mask` shows, so that it lies on the crop's pixels, and checks that it does.

        The crop keeps its framing and its own field of view, on black. The silhouette of the result is compared with the mask;
        if it does not fit, other seeds and then other fields of view are tried (`scenegen.pixal3d.selfcheck`).

        Args:
            image: sRGB, as the crop camera sees it.
            mask: share of each pixel that the object covers, 0..1.
            camera: camera of the crop: square pixels, the principal point in the middle.
            seed: seed of the first attempt.
            resolution: resolution of the surface, 1024 or a multiple of 128 above it; lowered to stay below `max_tokens`.
            max_tokens: replaces the settings' `max_tokens`.
            attempts: largest number of attempts; 1 tries nothing again.
            hidden: pixels where the object may be without being seen, behind something or beyond the photo's border; the
                check leaves them out.
            observe: called with the results of each stage of each attempt. An exception from it ends everything and frees the
                networks.
            on_step: called with the stage's name and each step of its flow; likewise.

        Raises:
            InputError: if the mask shows nothing, or no attempt yields an object.
            UsageError: if picture, mask and camera do not belong together, or for a number that is not allowed.
            WeightsError: if a file is gone or has changed, or its numbers overflow.
            ResourceError: if the device has too little memory.

        Examples:
            >>> made = Pixal3DPipeline.from_pretrained().generate(image, mask, camera, seed=7)  # doctest: +SKIP
            >>> made.quality.good  # doctest: +SKIP
            True
        """
        _check_crop(image, mask, camera)
        solid = mask >= SOLID
        if not solid.any():
            raise InputError(
                f"`mask` has no pixel of which the object covers {SOLID:.0%}; give the mask of an object in this crop."
            )
        fov = fov_from_focal(camera.fx / camera.width)
        images = framed_picture(image, mask)
        usage: list[StageUsage] = []

        def make(seed: int, fov: float) -> Generated:
            generated = self(
                images,
                front_cameras(torch.tensor([fov]), torch.tensor([distance_from_fov(fov)]), torch.ones(1)),
                seed=seed,
                resolution=resolution,
                max_tokens=max_tokens,
                observe=observe,
                on_step=on_step,
            )
            usage.extend(generated.usage)
            return generated

        best, warnings = generate_checked(make, _surface, solid, fov, seed, attempts, hidden)
        if best.fov != fov:
            stretched = note(
                f"generated with a field of view of {math.degrees(best.fov):.1f} degrees instead of the crop's "
                f"{math.degrees(fov):.1f}; x and y were rescaled to keep the object on its pixels, so its depth is out of "
                "proportion by that much."
            )
            warnings = (*warnings, stretched)
        return GeneratedObject(
            generated=best.made,
            crop_from_latent=crop_from_latent(camera, best.fov),
            seed=best.seed,
            fov=best.fov,
            quality=best.quality,
            usage=tuple(usage),
            warnings=(*best.made.warnings, *warnings),
        )

    def generate_views(
        self,
        views: Sequence[View],
        *,
        mesh_scale: float | None = None,
        seed: int = 42,
        resolution: int = 1024,
        max_tokens: int | None = None,
        observe: Observer | None = None,
        on_step: Callable[[str, Step], None] | None = None,
    ) -> GeneratedFromViews:
        """Generates an object from several pictures of known cameras, and measures how well it agrees with each.

        Features are sampled in every picture and averaged. The weights must be those for several pictures
        (`from_pretrained(..., pictures="several")`). Nothing is tried again: the cameras are given, not guessed. The object's
        place and size are found, and the pictures framed about it (`scenegen.pixal3d.framing`), unless `mesh_scale` is given.

        Args:
            views: at least two; the first is the front. `scenegen.pixal3d.views.read_views` reads them from a `transforms.json`.
            mesh_scale: for pictures that are already framed about an object at the origin of the cameras' world: one over the
                edge of the cube that holds it, in that world's units.
            seed: seed of the noise.
            resolution: resolution of the surface, 1024 or a multiple of 128 above it; lowered to stay below `max_tokens`.
            max_tokens: replaces the settings' `max_tokens`.
            observe: called with the results of each stage. An exception from it ends the generation and frees the networks.
            on_step: called with the stage's name and each step of its flow; likewise.

        Raises:
            InputError: if the views cannot be used, or yield no object.
            UsageError: for weights of single pictures, or a number that is not allowed.
            WeightsError: if a file is gone or has changed, or its numbers overflow.
            ResourceError: if the device has too little memory.

        Examples:
            >>> pipeline = Pixal3DPipeline.from_pretrained(pictures="several")  # doctest: +SKIP
            >>> views, scale = read_views(Path("transforms.json"))  # doctest: +SKIP
            >>> pipeline.generate_views(views, mesh_scale=scale).save("mug.glb")  # doctest: +SKIP
        """
        check_cut_out(views)
        shown = framed(views) if mesh_scale is None else Framed(tuple(views), mesh_scale, np.eye(4))
        cameras = cameras_of_views(shown.views, shown.mesh_scale)
        made = self(
            several_pictures([view.picture for view in shown.views]),
            cameras,
            seed=seed,
            resolution=resolution,
            max_tokens=max_tokens,
            observe=observe,
            on_step=on_step,
        )
        # From the reference's world, seen from its front camera, to the world that the cameras were given in.
        reference_from_latent = np.eye(4)
        reference_from_latent[:3, :3] = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]) / shown.mesh_scale
        poses = cameras.world_from_camera[0].double().numpy()
        qualities = tuple(
            measure_through(
                _surface(made),
                view.picture[..., 3] >= SOLID_ALPHA,
                view.fov,
                GLTF_CAMERA_FROM_CAMERA @ np.linalg.inv(pose) @ reference_from_latent,
                view.hidden,
            )
            for view, pose in zip(shown.views, poses, strict=True)
        )
        warnings = tuple(
            f"view {number}: silhouette IoU {quality.silhouette_iou:.3f} (at least {LEAST_IOU}), size ratio "
            f"{quality.size_ratio:.3f} (within {LARGEST_SIZE_ERROR:.0%})."
            for number, quality in enumerate(qualities)
            if not quality.good
        )
        for warning in warnings:
            logger.warning("%s", warning)
        world_from_reference = shown.world_from_framed @ shown.views[0].world_from_camera @ np.linalg.inv(poses[0])
        return GeneratedFromViews(
            made, world_from_reference @ reference_from_latent, qualities, (*made.warnings, *warnings)
        )


def _opened(
    files: PipelineFiles, device: torch.device, residency: Residency, precision: Precision, compiled: bool
) -> tuple[PipelineSettings, Networks, FeatureExtractor]:
    """The settings in the pipeline's file, and its networks, on `device`."""
    settings, stems = read_pipeline(files.folder, files.pictures)
    with device_memory(device):
        networks = open_networks(stems, device, residency, precision, compiled)
        extractor = open_extractor(files.dino, files.naf, device, residency)
    return settings, networks, extractor


def _surface(generated: Generated) -> Surface:
    return Surface(generated.vertices, generated.faces)


def _check_crop(image: np.ndarray, mask: np.ndarray, camera: Intrinsics) -> None:
    """Raises `UsageError` unless all three are of one square crop with its axis in the middle."""
    size = camera.width
    if camera.height != size or image.shape[:2] != (size, size) or mask.shape != (size, size):
        raise UsageError(
            f"`image` is {image.shape[1]}x{image.shape[0]}, `mask` {mask.shape[1]}x{mask.shape[0]} and `camera` "
            f"{camera.width}x{camera.height}; all must be of one square crop."
        )
    off = max(abs(camera.cx - size / 2), abs(camera.cy - size / 2), abs(camera.fx - camera.fy))
    if off > CENTRED * size:
        raise UsageError(
            f"`camera` has the principal point ({camera.cx:.1f}, {camera.cy:.1f}) and focal lengths {camera.fx:.1f} and "
            f"{camera.fy:.1f}; allowed is ({size / 2:.1f}, {size / 2:.1f}) and two equal ones. Use `scenegen.camera.crop_camera`."
        )
