"""The compact generator: Pixal3D at a size that a laptop runs, conditioned on depth as well.

Back-projection, the flow transformer and the sampler are those of the released model. Five things are smaller or different:

- The latent is the field itself: a truncated signed distance and a colour on a grid over the cube, cut into patches, one per
  token (as Li and He 2025, arXiv 2511.13720, do with pixels), so that no decoder is needed.
- The image network is an ImageNet-trained convolutional trunk.
- Each token also gets what mask, depth and background say about its cells (`visibility`). Tokens that must be empty are left
  out, as the released model's later stages leave out empty voxels.
- Of several views of an object, features and global tokens are averaged, as in the released model for several; the more a view
  sees of a token, the more its features count. What the views say about a cell is fused before (`visibility.fused`).
- The network predicts the clean latent, as a difference from a prior: the body that the thickness prior of `inflate` gives,
  and the mean colour. The velocity follows from it (Salimans and Ho 2022, arXiv 2202.00512).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int32
from torch import Tensor, nn

from scenegen.camera import project, transform
from scenegen.errors import InputError
from scenegen.geometry.field import NOT_AHEAD, Field, cell_centres, metric_crop_from_latent, placed
from scenegen.geometry.generator import ObjectView
from scenegen.pixal3d.flow import LatentFlow
from scenegen.pixal3d.sampler import TIME_SCALE, SamplerSettings, Step, sample, velocity_from_clean
from scenegen.pixal3d.visibility import (
    BEHIND_FRONT,
    CHANNELS,
    IN_LIMIT,
    IN_OUTLINE,
    PRIOR,
    REACH,
    TRUNCATION,
    Seen,
    fused,
    seen_by_all,
)

IMAGE_SIZE = 128
"""Side of the picture the trunk sees."""
SCALARS = 6
"""Number of scalars: up (3), tangent of half the field of view, error of the depth across the object, share of the picture it
covers."""
RELIEF_ERROR, COVERED = 4, 5
"""Indices of the last two."""
POOLED = 4
"""Global tokens along a side of the picture."""
MARGIN = 0.06
"""Share of the cube's edge by which a cell must be in front of what is seen, beside the outline or behind the background to
be left out, since no mask is exact. The error of the depth across the object, as a share of its width, is added."""
OUTSIDE = 0.25
"""Least distance, in truncations, in the cells that are left out."""
FADING = 0.1
"""Share of the cube's edge behind a view's visible surface, or outside its outline, by which its features count less by a factor
of e."""
FARTHEST = 4.0
"""Beyond it, where a cell lies beside a picture makes no difference."""
COLOUR_WEIGHT = 0.3
"""Weight of the colours in the loss."""
PAIRS = 1
"""Pairs of opposite noises that are averaged over if there is one step: its output is the mean of the possible shapes, and what
depends on the noise is an error, which shows as lumps. The mirror image, seen as well, has pairs of its own."""


@dataclass(frozen=True, kw_only=True)
class CompactSettings:
    """Sizes of the network, and how it is sampled."""

    tokens: int = 8
    """Tokens along an edge of the cube."""
    patch: int = 4
    """Cells of the signed distance along an edge of a token."""
    colour_patch: int = 2
    """Cells of the colour along an edge of a token."""
    model_channels: int = 256
    num_blocks: int = 5
    num_heads: int = 4
    cond_channels: int = 128
    lifted_channels: int = 256
    """Channels of what each token is given, after a first linear map that the blocks share."""
    trunk_channels: tuple[int, ...] = (24, 40, 112)
    sampler: SamplerSettings = SamplerSettings(
        steps=10, guidance_strength=1.5, guidance_rescale=0.0, guidance_interval=(0.0, 1.0), rescale_t=2.0
    )

    @property
    def cells(self) -> int:
        """Cells of the signed distance along an edge of the cube."""
        return self.tokens * self.patch

    @property
    def latent_channels(self) -> int:
        """Numbers per token of the latent."""
        return self.patch**3 + 3 * self.colour_patch**3

    @property
    def projected_channels(self) -> int:
        """Numbers each token is given: visibility of its cells, image features at its centre, colours in it."""
        return CHANNELS * self.patch**3 + sum(self.trunk_channels) + 3 * self.colour_patch**3


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known about `b` objects, as input to the network."""

    image: Float[Tensor, "b v 3 s s"]
    """sRGB in [0, 1], on black."""
    visibility: Float[Tensor, "b r r r 7"]
    """Of all views together."""
    centres: Float[Tensor, "b v n 2"]
    """Where the tokens' centres lie on each picture, in [-1, 1] across it; z fastest."""
    parts: Float[Tensor, "b v m 2"]
    """The same for the colour cells."""
    shares: Float[Tensor, "b v n"]
    """How much each picture counts for each token: together 1. All 0 for a picture that an item has less than others."""
    scalars: Float[Tensor, "b 6"]

    @property
    def present(self) -> Float[Tensor, "b v"]:
        """1 for an item's pictures, 0 for those it has less than others."""
        return (self.shares > 0).any(dim=2).float()

    def to(self, device: torch.device | str) -> Evidence:
        """On another device."""
        return Evidence(*(part.to(device) for part in vars(self).values()))


def evidence(view: ObjectView, edge: float, settings: CompactSettings) -> Evidence:
    """What `view` and its others say about the cube of `edge` metres."""
    seen = seen_by_all(view, edge, settings.cells)
    half_fov = view.image.shape[0] / 2 / view.crop.intrinsics.fx
    error = max(each.view.relief_error for each in view.all)
    covered = np.mean([each.view.mask.mean() for each in view.all])
    scalars = np.array([*view.up, half_fov, error, covered], dtype=np.float32)
    return Evidence(
        image=torch.cat([_small_picture(each.view) for each in view.all])[None],
        visibility=torch.from_numpy(fused(seen).reshape(*3 * (settings.cells,), CHANNELS))[None],
        centres=_places(view, edge, settings.tokens),
        parts=_places(view, edge, settings.tokens * settings.colour_patch),
        shares=_shares(seen, settings)[None],
        scalars=torch.from_numpy(scalars)[None],
    )


def _small_picture(view: ObjectView) -> Float[Tensor, "1 3 s s"]:
    """What the trunk sees of one view."""
    masked = view.image.astype(np.float32) / 255 * view.mask[..., None]
    return torch.nn.functional.interpolate(
        torch.from_numpy(masked).permute(2, 0, 1)[None],
        (IMAGE_SIZE, IMAGE_SIZE),
        mode="area" if view.image.shape[0] > IMAGE_SIZE else "bilinear",
    )


def _places(view: ObjectView, edge: float, resolution: int) -> Float32[Tensor, "1 v n 2"]:
    """Where the cells of a grid lie on each picture, in [-1, 1] across it."""
    points = placed(cell_centres(resolution).reshape(-1, 3), metric_crop_from_latent(view, edge))
    found = []
    for each in view.all:
        mine = transform(each.crop_from_main, points)
        ahead = np.where(mine[:, 2:] > NOT_AHEAD, mine, [0.0, 0.0, 1.0]).astype(points.dtype)
        across = project(each.view.crop.intrinsics, ahead) / each.view.image.shape[0] * 2 - 1
        found.append(np.clip(across, -FARTHEST, FARTHEST).astype(np.float32))
    return torch.from_numpy(np.stack(found))[None]


def _shares(seen: Sequence[Seen], settings: CompactSettings) -> Float[Tensor, "v n"]:
    """How much each view counts for each token: less, the farther behind its visible surface or outside its outline it is."""
    depth = torch.stack(
        [torch.from_numpy(np.maximum(each.behind, 0) + np.maximum(-each.in_outline, 0)) for each in seen]
    ).reshape(-1, 1, *3 * (settings.cells,))
    return torch.softmax(-tokens_of(depth, settings.patch).mean(dim=1).flatten(1) / FADING, dim=0).float()


@dataclass(frozen=True, eq=False)
class Condition:
    """What the flow is given about `n` tokens of `b` objects."""

    coords: Int32[Tensor, "n 4"]
    """(item, x, y, z) of the tokens that are kept, z fastest."""
    tokens: Float[Tensor, "b g c"]
    """Global tokens."""
    lifted: Float[Tensor, "n l"]
    """What each token is given."""
    prior: Float[Tensor, "n d"]
    """The latent that the network's output is added to."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each item."""
        return torch.bincount(self.coords[:, 0], minlength=len(self.tokens)).tolist()

    def kept(self, kept: Float[Tensor, "b"]) -> Condition:
        """The condition, emptied for the items whose `kept` is 0; the selection of tokens stays."""
        mine = kept[self.coords[:, 0].long()][:, None]
        return Condition(self.coords, self.tokens * kept[:, None, None], self.lifted * mine, self.prior * mine)


class CompactGenerator(nn.Module):
    """Trunk, condition and flow.

    Args:
        trunk: makes feature maps, fine to coarse, of `trunk_channels`, from pictures [b, 3, s, s] in [0, 1]. It is not trained.
        settings: sizes.
    """

    def __init__(self, trunk: nn.Module, settings: CompactSettings) -> None:
        super().__init__()
        self.settings = settings
        self.trunk = trunk.requires_grad_(False).eval()
        self.pooled = nn.Linear(settings.trunk_channels[-1], settings.cond_channels)
        self.scalars = nn.Linear(SCALARS, settings.cond_channels)
        self.lift = two_layers(settings.projected_channels, settings.lifted_channels)
        # An untrained network gives the prior.
        self.flow = flow_from_zero(settings, settings.latent_channels, settings.latent_channels)

    def condition(self, known: Evidence) -> Condition:
        """The condition of the flow, from what is known.

        Raises:
            InputError: if no token is kept.
        """
        there = known.present
        maps = self._maps(known.image, there > 0)
        pooled = nn.functional.adaptive_avg_pool2d(maps[-1].flatten(0, 1), POOLED).unflatten(0, there.shape)
        whole = mean_of_views(self.pooled(pooled.flatten(3).transpose(2, 3)), there)
        tokens = torch.cat([whole, self.scalars(known.scalars)[:, None]], dim=1)
        left_in = open_tokens(known.visibility, known.scalars[:, RELIEF_ERROR], self.settings.patch)
        if not left_in.flatten(1).any(dim=1).all():
            raise InputError(
                "mask, depth and background leave no room for the object; give a depth map that fits the mask."
            )
        rows = left_in.flatten(1)

        def kept_tokens(grid: Float[Tensor, "b c r r r"], patch: int) -> Float[Tensor, "n cp"]:
            return tokens_of(grid, patch).flatten(2).transpose(1, 2)[rows]

        side = self.settings.tokens * self.settings.colour_patch
        projected = torch.cat(
            [
                kept_tokens(known.visibility.movedim(-1, 1), self.settings.patch),
                looked_up(maps, known.image, known, self.settings)[rows],
            ],
            dim=1,
        )
        mean = mean_of_views(known.image.mean(dim=(3, 4)), there) / known.scalars[:, COVERED, None].clamp(min=1e-3)
        colour = mean[:, :, None, None, None].expand(-1, -1, side, side, side)
        prior = packed(known.visibility[..., PRIOR][:, None] * TRUNCATION, colour.clamp(0, 1), self.settings)
        return Condition(
            coords=torch.nonzero(left_in).int(),
            tokens=tokens,
            lifted=self.lift(projected),
            prior=prior.flatten(2).transpose(1, 2)[rows],
        )

    @torch.no_grad()
    def _maps(
        self, image: Float[Tensor, "b v 3 s s"], there: Bool[Tensor, "b v"]
    ) -> list[Float[Tensor, "b v _c _h _w"]]:
        """The trunk's features of the pictures that are there; 0 for the others."""
        maps = []
        for level in self.trunk(image[there]):
            whole = level.new_zeros(there.numel(), *level.shape[1:])
            whole[there.flatten()] = level
            maps.append(whole.unflatten(0, there.shape))
        return maps

    def clean(self, x: Float[Tensor, "n c"], t: Float[Tensor, "b"], given: Condition) -> Float[Tensor, "n c"]:
        """The network's estimate of the clean latent behind the noisy tokens `x` at the times `t` (0..1)."""
        change = self.flow(x, given.coords, TIME_SCALE * t, given.tokens, given.lifted)
        return given.prior + change.float()

    def loss(
        self, known: Evidence, latent: Float[Tensor, "b c g g g"], t: Float[Tensor, "b"], noise: Tensor, kept: Tensor
    ) -> Float[Tensor, "b"]:
        """Mean squared error of each item's clean latent (rectified flow: Liu et al. 2022, arXiv 2209.03003).

        Args:
            known: the condition.
            latent: the clean latent.
            t: times in [0, 1].
            noise: standard normal, of the latent's shape.
            kept: 1 if an item keeps its condition, 0 if it learns to do without, for guidance.
        """
        given = self.condition(known)
        item, place = given.coords[:, 0].long(), given.coords[:, 1:].long().unbind(1)
        truth, drawn = (grid.movedim(1, -1)[item, *place] for grid in (latent, noise))
        at = t[item][:, None]
        error = (self.clean((1 - at) * truth + at * drawn, t, given.kept(kept)) - truth).square()
        cells = self.settings.patch**3
        each = error[:, :cells].mean(dim=1) + COLOUR_WEIGHT * error[:, cells:].mean(dim=1)
        return each.new_zeros(len(t)).index_add(0, item, each) / torch.bincount(item, minlength=len(t))

    @torch.inference_mode()
    def generate(
        self,
        known: Evidence,
        seed: int,
        sampler: SamplerSettings,
        on_step: Callable[[Step], None] | None = None,
    ) -> tuple[Field, Float32[np.ndarray, "k k k 3"]]:
        """Generates one object: its field, and its colours (sRGB in [0, 1]) on a coarser grid of the same cube.

        Args:
            known: what is known about one object.
            seed: seed of the noise, which is drawn on the CPU, so that it is the same for every device.
            sampler: settings of the sampler.
            on_step: as in `sampler.sample`.

        Raises:
            InputError: if no token is kept.
            WeightsError: if the network's output is not finite.
        """
        given = self.condition(known)
        settings = self.settings
        device, kept = known.image.device, given.coords[:, 1:].long().unbind(1)
        without = given.kept(torch.zeros(1, device=device))
        drawn = torch.Generator().manual_seed(seed)

        def noise() -> Float[Tensor, "n c"]:
            # Drawn for the whole grid, so that the noise at a place does not depend on which tokens are kept.
            return torch.randn((*3 * (settings.tokens,), settings.latent_channels), generator=drawn).to(device)[kept]

        sigma = sampler.sigma_min

        def velocity(x: Tensor, time: Tensor, conditional: bool) -> Tensor:
            clean = self.clean(x, time / TIME_SCALE, given if conditional else without)
            return velocity_from_clean(x, clean, float(time[0]) / TIME_SCALE, sigma)

        def latent_from(noise: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
            return sample(velocity, noise, sampler, lengths=given.lengths, on_step=on_step)

        if sampler.steps == 1:
            pairs = [noise() for _ in range(PAIRS)]
            latent = torch.stack([latent_from(sign * each) for each in pairs for sign in (1, -1)]).mean(dim=0)
        else:
            latent = latent_from(noise())
        prior = known.visibility[..., PRIOR][:, None].clamp(min=OUTSIDE) * TRUNCATION
        side = settings.tokens * settings.colour_patch
        whole = packed(prior, torch.full((1, 3, side, side, side), 0.5, device=device), settings)[0]
        x, y, z = kept
        whole[:, x, y, z] = latent.T
        return unpacked(whole[None], settings)


def two_layers(in_channels: int, width: int) -> nn.Sequential:
    """A small network that maps any features to `width` channels."""
    return nn.Sequential(nn.Linear(in_channels, width), nn.GELU(approximate="tanh"), nn.Linear(width, width))


def flow_from_zero(settings: CompactSettings, in_channels: int, out_channels: int) -> LatentFlow:
    """The flow at the sizes of `settings`; untrained, it gives 0."""
    flow = LatentFlow(
        resolution=settings.tokens,
        in_channels=in_channels,
        out_channels=out_channels,
        model_channels=settings.model_channels,
        cond_channels=settings.cond_channels,
        proj_in_channels=settings.lifted_channels,
        num_blocks=settings.num_blocks,
        num_heads=settings.num_heads,
    )
    nn.init.zeros_(flow.out_layer.weight)
    nn.init.zeros_(flow.out_layer.bias)
    return flow


def open_tokens(
    seen: Float[Tensor, "b r r r 7"], relief_error: Float[Tensor, "b"], patch: int
) -> Bool[Tensor, "b g g g"]:
    """Which tokens have a cell that the object may occupy, by mask, depth and background."""
    beside = -MARGIN / REACH
    along = beside - relief_error[:, None, None, None] / REACH
    cells = (seen[..., BEHIND_FRONT] > along) & (seen[..., IN_OUTLINE] > beside) & (seen[..., IN_LIMIT] > along)
    return tokens_of(cells[:, None].float(), patch).amax(dim=1) > 0


def packed(
    distance: Float[Tensor, "b 1 r r r"], colour: Float[Tensor, "b 3 k k k"], settings: CompactSettings
) -> Float[Tensor, "b c g g g"]:
    """The latent of a signed distance (in cube edges) and colours (0..1); about -1 to 1."""
    scaled = (distance / TRUNCATION).clamp(-1, 1)
    return torch.cat([tokens_of(scaled, settings.patch), tokens_of(colour * 2 - 1, settings.colour_patch)], dim=1)


def unpacked(
    latent: Float[Tensor, "1 c g g g"], settings: CompactSettings
) -> tuple[Field, Float32[np.ndarray, "k k k 3"]]:
    """The inverse of `packed`, of one object."""
    scaled, colour = latent.float().cpu().split([settings.patch**3, 3 * settings.colour_patch**3], dim=1)
    distance = cells_of(scaled, settings.patch)[0, 0].clamp(-1, 1) * TRUNCATION
    colours = (cells_of(colour, settings.colour_patch)[0].movedim(0, -1) + 1) / 2
    return Field(distance.numpy()), colours.clamp(0, 1).numpy()


def looked_up(
    maps: Sequence[Float[Tensor, "b v _c _h _w"]],
    image: Float[Tensor, "b v 3 s s"],
    known: Evidence,
    settings: CompactSettings,
) -> Float[Tensor, "b n c"]:
    """Back-projection: the feature maps at every token's own pixel, then the image at those of its colour cells; z fastest.

    Args:
        maps: features of each picture, of any sizes.
        image: colours of each picture.
        known: where the tokens and their cells lie on the pictures, and how much each picture counts.
        settings: sizes.
    """

    def bilinear(level: Float[Tensor, "b v c h w"], at: Float[Tensor, "b v m 2"]) -> Float[Tensor, "b v m c"]:
        found = nn.functional.grid_sample(
            level.flatten(0, 1).float(), at.flatten(0, 1)[:, :, None], padding_mode="border", align_corners=False
        )
        return found[..., 0].transpose(1, 2).unflatten(0, at.shape[:2])

    features = torch.cat([bilinear(level, known.centres) for level in maps], dim=3)
    colours = bilinear(image, known.parts)
    side = settings.tokens * settings.colour_patch
    cells = colours.transpose(2, 3).unflatten(3, (side, side, side)).flatten(0, 1)
    of_tokens = tokens_of(cells, settings.colour_patch).flatten(2).transpose(1, 2).unflatten(0, colours.shape[:2])
    return (torch.cat([features, of_tokens], dim=3) * known.shares[..., None]).sum(dim=1)


def mean_of_views(values: Float[Tensor, "b v *c"], there: Float[Tensor, "b v"]) -> Float[Tensor, "b *c"]:
    """The mean over the pictures that each item has."""
    share = there / there.sum(dim=1, keepdim=True)
    return (values * share.reshape(*share.shape, *(1 for _ in values.shape[2:]))).sum(dim=1)


def tokens_of(grid: Float[Tensor, "b c x y z"], patch: int) -> Float[Tensor, "b cp x2 y2 z2"]:
    """Cuts a grid into patches, whose cells become channels."""
    b, c = grid.shape[:2]
    side = grid.shape[2] // patch
    apart = grid.reshape(b, c, side, patch, side, patch, side, patch)
    return apart.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * patch**3, side, side, side)


def cells_of(tokens: Float[Tensor, "b cp x y z"], patch: int) -> Float[Tensor, "b c x2 y2 z2"]:
    """The inverse of `tokens_of`."""
    b, side = tokens.shape[0], tokens.shape[2]
    apart = tokens.reshape(b, -1, patch, patch, patch, side, side, side)
    return apart.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, apart.shape[1], *3 * (side * patch,))
