"""The cascade: from a picture of one object to its surface and material, in the picture's own camera.

structure (which voxels) -> coarse shape -> fine voxels -> fine shape -> texture -> decode (Pixal3D, arXiv 2605.10922; shapes
and order as released).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor

from scenegen.compute.torch_env import exact_sums
from scenegen.errors import InputError
from scenegen.pixal3d.cascade import FineVoxels, fine_voxels
from scenegen.pixal3d.features import ExtractorSettings, FeatureExtractor, ImageFeatures
from scenegen.pixal3d.memory import WorkingMemory
from scenegen.pixal3d.preprocess import image_tensor, object_picture, on_black, view_tensor
from scenegen.pixal3d.projection import Cameras
from scenegen.pixal3d.residency import Networks
from scenegen.pixal3d.sampler import SamplerSettings, Step, sample
from scenegen.pixal3d.settings import PipelineSettings
from scenegen.pixal3d.structure_decoder import occupied_voxels
from scenegen.pixal3d.surface import dual_grid_to_mesh
from scenegen.pixal3d.usage import StageUsage, UsageMeter
from scenegen.pixal3d.voxels import material

UPSAMPLINGS = 4
"""Number of subdivisions of a coarse latent voxel that give the fine ones."""


@dataclass(frozen=True, eq=False)
class Generated:
    """A decoded object in the latent frame: cube [-0.5, 0.5]^3, x right, y up, z towards the camera."""

    vertices: Float[Tensor, "v 3"]
    """One per voxel, used by a face or not."""
    faces: Int32[Tensor, "f 3"]
    coords: Int32[Tensor, "v 3"]
    """Voxels (x, y, z) on a grid of `resolution`."""
    attributes: Float[Tensor, "v 6"]
    """Base colour (sRGB), metallic, roughness, alpha of each voxel, about 0..1."""
    resolution: int
    warnings: tuple[str, ...] = ()
    usage: tuple[StageUsage, ...] = ()
    """Time and memory of each stage, in order; reading its networks is part of a stage."""


Images = Callable[[int], Float[Tensor, "1 v 3 s s"]]
"""The pictures of one object at a given size: on black, in [0, 1]."""

Observer = Callable[[str, Mapping[str, Tensor]], None]
"""Called with each stage's name and results as they are ready. An exception that it raises cancels the generation."""


@dataclass(frozen=True, eq=False)
class Condition:
    """What the photo says, for one grid."""

    tokens: Float[Tensor, "1 g c"]
    voxels: Float[Tensor, "*n p"]


def one_picture(rgba: UInt8[np.ndarray, "h w 4"]) -> Images:
    """The object that the alpha of `rgba` cuts out, cropped and centred.

    Raises:
        InputError: if nothing is cut out, or nothing is left.
    """
    picture = object_picture(rgba)
    return lambda size: image_tensor(picture, size)[None, None]


def framed_picture(image: UInt8[np.ndarray, "s s 3"], mask: Float[np.ndarray, "s s"]) -> Images:
    """The object that `mask` (0..1) cuts out, framed as it is, so that its camera stays that of the picture.

    It is composed on black in 8 bits before it is resized, as single pictures are.
    """
    alpha = np.rint(np.clip(mask, 0, 1) * 255).astype(np.uint8)
    picture = on_black(np.dstack([image, alpha]))
    return lambda size: image_tensor(picture, size)[None, None]


def several_pictures(rgbas: Sequence[UInt8[np.ndarray, "_h _w 4"]]) -> Images:
    """Several pictures of one object as they are framed; the first is the front."""
    return lambda size: torch.stack([view_tensor(rgba, size) for rgba in rgbas])[None]


@torch.inference_mode()
def generate(
    networks: Networks,
    extractor: FeatureExtractor,
    images: Images,
    cameras: Cameras,
    settings: PipelineSettings,
    *,
    seed: int = 42,
    resolution: int = 1024,
    memory: WorkingMemory | None = None,
    observe: Observer | None = None,
    on_step: Callable[[str, Step], None] | None = None,
) -> Generated:
    """Generates one object.

    Noise is drawn on the CPU, so that a seed means the same on every device.

    Args:
        networks: where the networks come from.
        extractor: the image networks; their device is where everything is computed.
        images: `one_picture`, or `several_pictures` with weights that were trained on several.
        cameras: one per picture, of one object.
        settings: settings of every stage.
        seed: seed of the noise.
        resolution: resolution of the surface, 1024 or a multiple of 128 above it; lowered to stay below `settings.max_tokens`.
        memory: memory to work in; by default what suits the device.
        observe: called with the results of each stage.
        on_step: called with the stage's name and each step of its flow. An exception from it cancels the generation, too.

    Raises:
        InputError: if the picture yields no object.
        UsageError: for sizes that do not belong together.
        WeightsError: from `networks`.
    """
    fine_voxels(
        torch.zeros((1, 4), dtype=torch.int32), resolution, settings.max_tokens
    )  # refuses a size before the work
    device = next(extractor.parameters()).device
    working = memory or WorkingMemory.of(device)
    noise = torch.Generator().manual_seed(seed)
    encoded: dict[int, ImageFeatures] = {}
    meter = UsageMeter(device)

    def condition(view: ExtractorSettings, coords: Int32[Tensor, "n 4"] | None) -> Condition:
        if view.image_size not in encoded:
            encoded[view.image_size] = extractor.encode(images(view.image_size).to(device))
        features = encoded[view.image_size]
        return Condition(features.global_tokens, extractor.project(features, cameras, view, coords, working.rows))

    def latents(
        stage: str,
        name: str,
        coords: Int32[Tensor, "n 4"],
        known: Condition,
        sampler: SamplerSettings,
        extra: Tensor | None = None,
    ) -> Float[Tensor, "n c"]:
        with networks(name) as flow:
            channels = flow.in_channels - (0 if extra is None else extra.shape[1])
            drawn = torch.randn((len(coords), channels), generator=noise, device="cpu").to(device)
            velocity = flow.at(
                coords,
                known.tokens,
                known.voxels,
                extra,
                score_bytes=working.scores,
                product_bytes=working.products,
            )
            return sample(velocity, drawn, sampler, lengths=[len(coords)], on_step=_in(stage, on_step))

    def tell(stage: str, **results: Tensor) -> None:
        if observe is not None:
            observe(stage, results)

    with meter.stage("structure"):  # which voxels of the coarse grid the object occupies
        known = condition(settings.structure_view, None)
        with networks("sparse_structure_flow_model") as flow:
            grid = settings.structure_view.grid_resolution
            size = (1, flow.in_channels, grid, grid, grid)
            drawn = torch.randn(size, generator=noise, device="cpu").to(device)
            velocity = flow.at(known.tokens, known.voxels, score_bytes=working.scores, product_bytes=working.products)
            latent = sample(velocity, drawn, settings.structure_sampler, on_step=_in("structure", on_step))
        with networks("sparse_structure_decoder") as decoder, exact_sums():
            coords = occupied_voxels(decoder(latent), settings.coarse_view.grid_resolution)
    tell("structure", latent=latent, coords=coords, tokens=known.tokens, features=known.voxels)
    if len(coords) == 0:
        raise InputError("nothing was generated: no voxel is occupied. Try another `seed`, or check picture and mask.")

    with meter.stage("coarse shape"):  # and from it the voxels of the fine one
        known = condition(settings.coarse_view, coords)
        coarse = settings.shape_normalisation.undo(
            latents("coarse shape", "shape_slat_flow_model_512", coords, known, settings.shape_sampler)
        )
        with networks("shape_slat_decoder") as decoder, exact_sums():
            lattice = decoder.upsample(coarse, coords, UPSAMPLINGS, budget=working.rows)
        fine: FineVoxels = fine_voxels(lattice, resolution, settings.max_tokens)
    tell("coarse shape", latent=coarse, features=known.voxels, lattice=lattice, coords=fine.coords)

    with meter.stage("fine shape"):
        known = condition(replace(settings.fine_view, grid_resolution=fine.grid), fine.coords)
        normalised = latents("fine shape", "shape_slat_flow_model_1024", fine.coords, known, settings.shape_sampler)
        shape = settings.shape_normalisation.undo(normalised)
    tell("fine shape", latent=shape, features=known.voxels)

    with meter.stage("texture"):  # given the shape
        known = condition(replace(settings.texture_view, grid_resolution=fine.grid), fine.coords)
        again = settings.shape_normalisation.apply(shape)
        texture = settings.texture_normalisation.undo(
            latents("texture", "tex_slat_flow_model_1024", fine.coords, known, settings.texture_sampler, extra=again)
        )
    tell("texture", latent=texture, shape=again, features=known.voxels, tokens=known.tokens)

    with meter.stage("decode"):  # surface and material from the latents
        with networks("shape_slat_decoder") as decoder, exact_sums():
            decoded = decoder(shape, fine.coords, budget=working.rows)
            vertices, faces = dual_grid_to_mesh(decoder.dual_grid(decoded), fine.resolution)
        with networks("tex_slat_decoder") as decoder, exact_sums():
            painted = decoder(texture, fine.coords, decoded.subdivisions, levels=decoded.levels, budget=working.rows)
        attributes = material(painted.feats)
    masks = {f"subdivision {level}": logits > 0 for level, logits in enumerate(decoded.subdivisions)}
    tell(
        "decode",
        raw=decoded.feats,
        coords=decoded.coords,
        attributes=attributes,
        vertices=vertices,
        faces=faces,
        **masks,
    )
    return Generated(vertices, faces, painted.coords[:, 1:], attributes, fine.resolution, fine.warnings, meter.stages)


def _in(stage: str, on_step: Callable[[str, Step], None] | None) -> Callable[[Step], None] | None:
    return None if on_step is None else lambda step: on_step(stage, step)
