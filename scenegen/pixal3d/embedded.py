"""`generate: embedded`: the compact generator whose weights are part of the package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Shaped
from scipy import ndimage
from torch import Tensor, nn

from scenegen.camera import project, transform
from scenegen.compute.networks import loaded
from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import COMPACT_THREADS, device_memory, torch_device, torch_threads
from scenegen.config import EmbeddedGeneratorConfig, TextureConfig
from scenegen.geometry.bake import textured
from scenegen.geometry.field import NOT_AHEAD, Field, cube_edge, metric_crop_from_latent, placed, surface, within_cube
from scenegen.geometry.generator import MadeObject, ObjectView, OtherView, Shape
from scenegen.geometry.refine import MEASURED, refine, unseen, visible_front
from scenegen.geometry.simplify import simplify
from scenegen.messages.progress import tell_progress
from scenegen.messages.remarks import note
from scenegen.perception.trunk import Trunk
from scenegen.pixal3d.compact import CompactGenerator, CompactSettings, evidence
from scenegen.pixal3d.sampler import SamplerSettings
from scenegen.weights import GENERATOR
from scenegen.weights.file import read_weights
from scenegen.weights_registry import digest_of

NAME = "embedded generator"
LICENCE = "Apache-2.0 (weights of this package; trunk from EfficientNet-Lite0, Apache-2.0)"
SMOOTHING = 0.25
"""Standard deviation, in cells, by which the generated field is smoothed. Chosen, like the next three, on held-out meshes."""
WIDENING = 0.3
"""Cells by which its surface is moved outwards."""
EVENING = 1.0
"""Standard deviation, in cells, by which the field of an object whose depth is only estimated is evened."""
FULLER = 0.2
"""Cells by which such an object's surface is moved outwards after that."""
COMPLETED = 0.1
"""A warning says so if at least this share of the surface's vertices is outside the visible outline."""
TRUNK_LEVELS = 3
"""Number of feature maps the generator uses, the coarsest at a sixteenth of the picture."""
TRUNK_BLOCKS = 11
"""Number of the trunk's blocks up to there."""


class ImageTrunk(nn.Module):
    """The finer levels of the image trunk, from pictures in [0, 1]."""

    def __init__(self, whole: Trunk) -> None:
        super().__init__()
        whole.blocks = whole.blocks[:TRUNK_BLOCKS]
        self.network = whole

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """Feature maps at a quarter, an eighth and a sixteenth."""
        return self.network((pictures * 255 - 127) / 128)[:TRUNK_LEVELS]


@torch_threads(COMPACT_THREADS)
def generate_embedded(
    view: ObjectView, seed: int, config: EmbeddedGeneratorConfig, texture: TextureConfig, runtime: Runtime
) -> MadeObject:
    """The object: its field generated, brought to agree with the photo, made a mesh and baked.

    Args:
        view: what the photo shows of it, with any number of others.
        seed: seed of the noise. Another seed gives another hidden side.
        config: sampler, resolution, face budget.
        texture: settings of the atlas.
        runtime: the device.

    Raises:
        InputError: if the view shows too little of the object.
        WeightsError: if the package's weights are missing or damaged.
        ResourceError: if the device is absent or its memory full.
    """
    device = torch_device(runtime)
    generator = _generator(str(device))
    if view.relief_error > MEASURED and not view.others:  # several views fix how deep the object is
        view = within_cube(view)
    edge = cube_edge(view)
    sampler = replace(generator.settings.sampler, steps=config.steps, guidance_strength=config.guidance)
    with device_memory(device):
        field, colours = generated(generator, view, edge, seed, sampler)
    shape = shape_of(field, view, edge, config)
    latent_from_crop = np.linalg.inv(metric_crop_from_latent(view, edge))

    def hidden(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        at = (transform(latent_from_crop, points).T + 0.5) * len(colours) - 0.5
        channels = [ndimage.map_coordinates(colours[..., c], at, order=1, mode="nearest") for c in range(3)]
        return 255 * np.stack(channels, axis=1)

    mesh, warnings = textured(shape, view, texture, hidden)
    return MadeObject(mesh, NAME, LICENCE, seed, warnings)


def generated(
    generator: CompactGenerator, view: ObjectView, edge: float, seed: int, sampler: SamplerSettings
) -> tuple[Field, Float32[np.ndarray, "k k k 3"]]:
    """Field and colours, as from `CompactGenerator.generate`.

    After one step they are means of what the network makes of the view and of its mirror image, since its errors in the two
    differ. After more steps the two would be different objects.
    """

    def of(seen: ObjectView) -> tuple[Field, Float32[np.ndarray, "k k k 3"]]:
        known = evidence(seen, edge, generator.settings).to(next(generator.parameters()).device)
        return generator.generate(known, seed, sampler, lambda step: tell_progress(f"step {step.done} of {step.steps}"))

    field, colours = of(view)
    if sampler.steps > 1:
        return field, colours
    reflected, reflected_colours = of(mirrored(view))
    return Field((field.values + reflected.values[::-1]) / 2), (colours + reflected_colours[::-1]) / 2


def mirrored(view: ObjectView) -> ObjectView:
    """What a mirror in the plane x = 0 of the crop camera's frame shows. `crop_from_camera` stays, and means nothing there."""
    camera, mirror = view.crop.intrinsics, np.diag([-1.0, 1.0, 1.0, 1.0])

    def flipped(picture: Shaped[np.ndarray, "s s *c"]) -> Shaped[np.ndarray, "s s *c"]:
        return np.ascontiguousarray(picture[:, ::-1])

    return replace(
        view,
        image=flipped(view.image),
        mask=flipped(view.mask),
        depth=flipped(view.depth),
        limit=flipped(view.limit),
        up=view.up * np.array([-1, 1, 1], np.float32),
        crop=view.crop.model_copy(update={"intrinsics": camera.model_copy(update={"cx": camera.width - camera.cx})}),
        others=tuple(OtherView(mirrored(other.view), mirror @ other.crop_from_main @ mirror) for other in view.others),
    )


def shape_of(field: Field, view: ObjectView, edge: float, config: EmbeddedGeneratorConfig) -> Shape:
    """The surface of a generated field in agreement with the photo, in metres in the crop camera's frame.

    Args:
        field: in the latent frame.
        view: what the photo shows of the object.
        edge: edge of the cube, metres.
        config: resolution and face budget.

    Raises:
        InputError: if nothing is left of the object.
    """
    vertices, faces = surface(refine(smoothed(field, view.relief_error > MEASURED), view, edge, config.resolution))
    points, faces, warnings = simplify(placed(vertices, metric_crop_from_latent(view, edge)), faces, config.max_faces)
    hidden = np.minimum.reduce([_hidden(points.astype(np.float64), each) for each in view.all])
    share = float(hidden.mean())
    if share > COMPLETED:
        shown = "the photos show" if view.others else "the photo shows"
        warnings = (*warnings, note(f"about {share:.0%} of the object lies outside what {shown} and is invented."))
    return Shape(points, faces, warnings)


def _hidden(points: Float[np.ndarray, "n 3"], seen: OtherView) -> Float32[np.ndarray, "n"]:
    """1 where the object may be without a view showing it, at points of the main crop's frame; 0 elsewhere."""
    view, mine = seen.view, transform(seen.crop_from_main, points)
    ahead = mine[:, 2] > NOT_AHEAD
    columns, rows = project(view.crop.intrinsics, np.where(ahead[:, None], mine, [0.0, 0.0, 1.0])).T - 0.5
    hidden = unseen(view, visible_front(view)).astype(np.float32)
    return np.where(ahead, ndimage.map_coordinates(hidden, [rows, columns], order=0, mode="nearest"), np.float32(1))


def smoothed(field: Field, estimated: bool) -> Field:
    """The field without what neighbouring tokens do not agree on, and a little wider.

    What is seen gets its detail from the photo. The rest is a mean over the possible shapes, and thinner than any of them.
    Tokens agree less on an object whose depth is only estimated: its lumps and spikes are evened out, and it keeps its volume.
    """
    cells = np.float32(len(field.values))

    def blurred(values: Float32[np.ndarray, "r r r"], sigma: float) -> Float32[np.ndarray, "r r r"]:
        return ndimage.gaussian_filter(values, sigma, mode="nearest")

    widened = blurred(field.values, SMOOTHING) - np.float32(WIDENING) / cells
    inside = np.count_nonzero(widened < 0)
    if not estimated or not 0 < inside < widened.size:
        return Field(widened)
    once = blurred(field.values, EVENING)
    # Unlike one blur alone, this does not draw in curved surfaces (Taubin 1995).
    even = 2 * once - blurred(once, EVENING)
    return Field(even - np.partition(even, inside, axis=None)[inside] - np.float32(FULLER) / cells)


def load_generator(path: Path) -> CompactGenerator:
    """The network that a weight file describes, in float32; without settings in the file, they are `CompactSettings()`.

    Raises:
        WeightsError: if the file is absent, damaged or of another network.
    """
    return read_weights(path, lambda settings: CompactGenerator(ImageTrunk(Trunk()), settings), CompactSettings())


def _generator(device: str) -> CompactGenerator:
    return loaded(("generator", digest_of(GENERATOR), device), lambda: load_generator(GENERATOR).to(device))
