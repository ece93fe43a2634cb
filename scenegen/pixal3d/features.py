"""Image features on voxels: what the flow networks are conditioned on.

One DINOv3 and one NAF serve all stages. A stage differs by its `ExtractorSettings` alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from scenegen.errors import UsageError
from scenegen.pixal3d.dino import Dinov3, normalised
from scenegen.pixal3d.naf import SCORE_BYTES, NafUpsampler
from scenegen.pixal3d.projection import (
    Cameras,
    dense_coords,
    lattice_points,
    project,
    sample,
    sampling_points,
    world_from_latent,
)


@dataclass(frozen=True)
class ExtractorSettings:
    """One stage's view of the picture."""

    image_size: int
    """Side of the square pictures, in pixels."""
    grid_resolution: int
    """Voxels along the cube's edge."""
    use_naf: bool = False
    """Whether up-sampled features follow the plain ones."""
    naf_target_size: int | None = None
    """Side of the up-sampled map."""

    def __post_init__(self) -> None:
        if self.image_size < 1 or self.grid_resolution < 2:
            raise UsageError(
                f"`image_size` is {self.image_size} and `grid_resolution` {self.grid_resolution}; at least 1 and 2 are allowed."
            )
        if self.use_naf and (self.naf_target_size is None or self.naf_target_size < 1):
            raise UsageError(
                f"`naf_target_size` is {self.naf_target_size}; with `use_naf` it must be the side of the up-sampled map, in "
                "pixels."
            )


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """What the image network makes of `v` pictures of each of `b` objects; any settings of that image size can use it."""

    images: Float32[Tensor, "b v 3 s s"]
    """In [0, 1]: NAF's guide."""
    special_tokens: Float[Tensor, "b v t c"]
    """Class token and registers."""
    lr: Float[Tensor, "b v c h h"]
    """One feature per patch."""

    @property
    def global_tokens(self) -> Float[Tensor, "b t c"]:
        """Class token and registers, averaged over the pictures."""
        return self.special_tokens.mean(dim=1)


class FeatureExtractor(nn.Module):
    """The image networks, frozen. Its state is the two released checkpoints under `dino.` and `naf.`.

    The reference runs them in float32.
    """

    def __init__(self, dino: Dinov3, naf: NafUpsampler | None) -> None:
        """Freezes both networks.

        Args:
            dino: the image network.
            naf: the up-sampler, if any stage uses it.
        """
        super().__init__()
        self.dino = dino
        self.naf = naf
        self.requires_grad_(False).eval()

    def encode(self, images: Float32[Tensor, "b v 3 s s"]) -> ImageFeatures:
        """Runs the image network once for all pictures.

        Args:
            images: on black, in [0, 1], not normalised; `v` pictures of each of `b` objects.

        Raises:
            UsageError: if the size is not a multiple of the network's patch.
        """
        count = images.shape[:2]
        tokens = self.dino(normalised(images.flatten(0, 1)))
        cells = images.shape[-1] // self.dino.patch_size
        special, patches = tokens.split([self.dino.special_tokens, cells * cells], dim=1)
        lr = patches.transpose(1, 2).unflatten(2, (cells, cells))
        return ImageFeatures(images, special.unflatten(0, count), lr.unflatten(0, count))

    def project(
        self,
        features: ImageFeatures,
        cameras: Cameras,
        settings: ExtractorSettings,
        coords: Int[Tensor, "n 4"] | None = None,
        budget: int = SCORE_BYTES,
    ) -> Float[Tensor, "b r3 c2"] | Float[Tensor, "n c2"]:
        """The feature of every voxel: bilinear samples where it lies in the picture, averaged over its pictures.

        Nothing is masked: hidden voxels share the feature of their ray, and those outside the picture take its border.

        Args:
            features: features of all pictures.
            cameras: one per picture.
            settings: grid, and whether up-sampled features [lr | hr] follow the plain ones.
            coords: active voxels (object, x, y, z), in any order; by default all voxels.
            budget: bytes for the up-sampler's scores at a time.

        Returns:
            One row per voxel: [n, c2] in the order of `coords`, or the dense volume [b, r^3, c2] with z running fastest.

        Raises:
            UsageError: if settings, features, cameras and coordinates do not belong together.
        """
        self._check(features, cameras, settings, coords)
        objects = range(len(features.images))
        if coords is None:
            dense = dense_coords(settings.grid_resolution, features.lr.device)
            volumes = [self._average(features, cameras, settings, item, dense, budget) for item in objects]
            return volumes[0][None] if len(volumes) == 1 else torch.stack(volumes)
        voxels = [(coords[:, 0] == item).nonzero()[:, 0] for item in objects]
        rows = [
            self._average(features, cameras, settings, item, coords[mine, 1:], budget)
            for item, mine in zip(objects, voxels, strict=True)
        ]
        return torch.cat(rows)[torch.cat(voxels).argsort()]

    def _average(
        self,
        features: ImageFeatures,
        cameras: Cameras,
        settings: ExtractorSettings,
        item: int,
        coords: Int[Tensor, "n 3"],
        budget: int,
    ) -> Float[Tensor, "n c2"]:
        """Mean over one object's pictures, as a running sum, so that one picture's features are in memory at a time."""
        device = features.lr.device
        points = lattice_points(coords.to(device), settings.grid_resolution)
        world = world_from_latent(points, cameras.mesh_scale[item].to(device))
        views = features.images.shape[1]
        total: Tensor | None = None
        for view in range(views):
            pose, fov = cameras.world_from_camera[item, view].to(device), cameras.fov[item, view].to(device)
            uv, _ = project(world, pose, fov, settings.image_size)
            at = sampling_points(uv, settings.image_size)
            seen = self._sample(features, settings, item, view, at, budget)
            total = seen if total is None else total + seen
        assert total is not None
        return total if views == 1 else total / views

    def _sample(
        self,
        features: ImageFeatures,
        settings: ExtractorSettings,
        item: int,
        view: int,
        at: Float32[Tensor, "n 2"],
        budget: int,
    ) -> Float[Tensor, "n c2"]:
        lr = features.lr[item, view]
        plain = sample(lr, at)
        if not settings.use_naf:
            return plain
        if self.naf is None or settings.naf_target_size is None:
            raise UsageError("`settings.use_naf` is true, but this extractor was built without NAF; build it with one.")
        fine = self.naf.at(features.images[item, view], lr, at, settings.naf_target_size, budget)
        return torch.cat([plain, fine], dim=1)

    def _check(
        self,
        features: ImageFeatures,
        cameras: Cameras,
        settings: ExtractorSettings,
        coords: Int[Tensor, "n 4"] | None,
    ) -> None:
        objects, views, size = (features.images.shape[axis] for axis in (0, 1, -1))
        if size != settings.image_size:
            raise UsageError(
                f"`features` are of {size} pixel pictures; `settings.image_size` is {settings.image_size}. Encode the "
                "pictures at that size."
            )
        if tuple(cameras.fov.shape) != (objects, views):
            raise UsageError(
                f"`cameras` are {tuple(cameras.fov.shape)}; `features` need {(objects, views)} (objects, pictures of each)."
            )
        if (
            coords is not None
            and coords.numel()
            and not 0 <= int(coords[:, 0].min()) <= int(coords[:, 0].max()) < objects
        ):
            raise UsageError(
                f"`coords` name objects {int(coords[:, 0].min())} to {int(coords[:, 0].max())}; `features` are of {objects}."
            )
