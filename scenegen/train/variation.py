"""Augmentation: tone, colour, sharpness and noise of pictures, and objects pasted from one into another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from scenegen.perception.network import STRIDE
from scenegen.train.pool import Batch, Cutouts

GREY = 0.5
"""What surrounds an object in a crop that shows it alone."""
PASTES = ((0, 0.5), (0, 0.25), (1, 0.4))
"""For each paste, which cut-out of a picture is used and in what share of the pictures. The first may be pasted twice, so that
the network learns to tell like things apart."""
PASTED_SIZE = (0.08, 0.8)
"""Sides of the squares that are pasted, over the picture's longer side."""
LARGEST_ZOOM = 1.5
"""Largest zoom of a pasted object, which would be blurred beyond that."""
PASTED_TURN = 0.25
"""Largest rotation of a pasted object, in radians."""
LEAST_LEFT = 0.25
"""Share of an object that must remain visible under what is pasted over it; what is left of the others becomes unknown."""
COMPRESSED = 0.3
"""Share of the pictures that are degraded as by JPEG."""
COARSEST_STEP = 0.03
"""Coarsest quantisation step of brightness: about that of JPEG at quality 15."""
PASTED_ID = 200
"""First id of the pasted objects; pictures have fewer of their own."""
LUMA = (0.299, 0.587, 0.114)


def with_other_tone(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """The pictures with other light, contrast, colours, sharpness and noise."""
    count, device = len(images), images.device

    def normal(spread: float, channels: int = 1) -> Tensor:
        return spread * torch.randn(count, channels, 1, 1, device=device)

    def some(share: float) -> Bool[Tensor, "b 1 1 1"]:
        return torch.rand(count, 1, 1, 1, device=device) < share

    x = images
    blurred = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    twice = functional.avg_pool2d(functional.pad(blurred, (2, 2, 2, 2), mode="replicate"), 5, 1)
    amount = torch.rand(count, 1, 1, 1, device=device)
    x = torch.where(some(0.25), x.lerp(torch.where(some(0.5), blurred, twice), amount), x)
    x = torch.where(some(0.2), x + amount * (x - blurred), x)
    x = x.clamp(0, 1) ** normal(0.25).exp()
    x = x * (normal(0.18) + normal(0.08, 3)).exp()
    luma = torch.tensor(LUMA, device=device)[:, None, None]
    grey = (x * luma).sum(1, keepdim=True)
    saturation = torch.where(some(0.06), torch.zeros_like(amount), normal(0.35).exp())
    x = grey + saturation * (x - grey)
    mean = grey.mean((2, 3), keepdim=True)
    x = (x - mean) * normal(0.18).exp() + mean + normal(0.04)
    swapped = x[:, torch.randperm(3, device=device)]
    x = torch.where(some(0.1), swapped, x)
    light = functional.interpolate(0.22 * torch.randn(count, 1, 3, 3, device=device), size=x.shape[2:], mode="bicubic")
    x = torch.where(some(0.25), x * light.exp(), x)
    noise = torch.randn_like(x)
    soft = 2 * functional.avg_pool2d(functional.pad(noise, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = x + torch.where(some(0.5), noise, soft) * some(0.5) * 0.05 * torch.rand(count, 1, 1, 1, device=device)
    step = COARSEST_STEP * torch.rand(count, device=device) * (torch.rand(count, device=device) < COMPRESSED)
    return compressed(x.clamp(0, 1), step)


def compressed(images: Float[Tensor, "b 3 h w"], step: Float[Tensor, "b"]) -> Float[Tensor, "b 3 h w"]:
    """The pictures as JPEG leaves them: cosines of 8x8 blocks in whole steps, coarser for finer waves and for colour.

    Args:
        images: pictures whose sides are multiples of 8.
        step: quantisation step of a block's mean brightness; at 0 nothing is lost.
    """
    count, _, height, width = images.shape
    k = torch.arange(8, device=images.device)
    waves = torch.cos(torch.pi / 8 * k[:, None] * (k + 0.5)) / 2
    waves[0] /= math.sqrt(2)
    luma = torch.tensor(LUMA, device=images.device)
    grey = torch.einsum("c,bchw->bhw", luma, images)[:, None]
    planes = torch.cat([grey, images[:, ::2] - grey], dim=1)
    blocks = planes.unflatten(3, (width // 8, 8)).unflatten(2, (height // 8, 8))
    coarseness = 8 * (1 + 0.5 * (k[:, None] + k)) * torch.tensor([1.0, 2, 2], device=images.device)[:, None, None]
    steps = (step.clamp(min=1e-8)[:, None, None, None] * coarseness)[:, :, None, :, None]
    cosines = torch.einsum("ui,bcyixj,vj->bcyuxv", waves, blocks, waves)
    planes = torch.einsum("ui,bcyuxv,vj->bcyixj", waves, (cosines / steps).round() * steps, waves)
    grey, red, blue = planes.reshape(count, 3, height, width).split(1, dim=1)
    green = -(luma[0] * red + luma[2] * blue) / luma[1]
    return (grey + torch.cat([red, green, blue], dim=1)).clamp(0, 1)


def with_objects(batch: Batch, donors: Sequence[Cutouts]) -> Batch:
    """The batch with objects of other pictures pasted over it, some of them twice (Ghiasi et al. 2021, arXiv:2012.07177)."""
    varied = batch
    for serial, (donor, share) in enumerate(PASTES):
        varied = with_pasted(varied, donors[donor], serial, share)
    left, before = (_areas(each.ids) for each in (varied, batch))
    hidden = (left < LEAST_LEFT * before).gather(1, varied.ids.clamp(min=0).flatten(1)).view_as(varied.ids)
    return replace(varied, ids=torch.where(hidden, -1, varied.ids))


def with_pasted(batch: Batch, cutouts: Cutouts, serial: int, share: float) -> Batch:
    """The batch with an object pasted into some pictures, moved, turned and resized; depth is unknown there.

    Args:
        batch: the pictures.
        cutouts: one for each picture.
        serial: number of the paste, so that a second one gets ids of its own.
        share: share of the pictures that get one.
    """
    count, _, height, width = batch.images.shape
    device = batch.images.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(count, *shape, device=device).uniform_(low, high)

    side = cutouts.images.shape[3]
    size = (uniform(math.log(PASTED_SIZE[0]), math.log(PASTED_SIZE[1])).exp() * max(height, width)).minimum(
        LARGEST_ZOOM * cutouts.extents
    )
    # Where each pixel of the picture looks in the square, in units of `affine_grid`: -1 to 1 between the borders of both.
    angle = uniform(-PASTED_TURN, PASTED_TURN)
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    turn = torch.stack([flip * angle.cos(), -angle.sin(), flip * angle.sin(), angle.cos()], 1).unflatten(1, (2, 2))
    reach = torch.tensor([width, height], device=device) / size[:, None]
    turn = turn * reach[:, None]
    theta = torch.cat([turn, -turn @ uniform(-1, 1, 2, 1)], dim=2)
    grid = functional.affine_grid(theta, [count, 3, height, width], align_corners=False)
    # A square that becomes much smaller would be sampled sparsely, so it is averaged first.
    square = torch.cat([cutouts.images, cutouts.shares], dim=1)
    coarse = functional.interpolate(functional.avg_pool2d(square, 4), size=(side, side), mode="bilinear")
    square = torch.where((size < side / 2)[:, None, None, None], coarse, square)
    placed = functional.grid_sample(square, grid, align_corners=False)
    wanted = (uniform(0, 1) < share)[:, None, None, None]
    cover = torch.where(wanted, placed[:, 3:], 0)
    here = functional.avg_pool2d(cover, STRIDE)[:, 0] > 0.5
    new = PASTED_ID + serial
    nouns = batch.nouns.clone()
    nouns[:, new] = cutouts.nouns
    return replace(
        batch,
        # The square is dark beyond its borders, where nothing is covered.
        images=batch.images.lerp(placed[:, :3], cover),
        ids=torch.where(here, new, batch.ids),
        log_depth=torch.where(here, -torch.inf, batch.log_depth),
        nouns=nouns,
    )


def greyed(batch: Batch) -> Float[Tensor, "b 3 h w"]:
    """The pictures with all but object 1 grey, by a mask that is a little wrong, as estimated ones are."""
    mask = (batch.ids == 1).float()[:, None]
    mask = functional.interpolate(mask, scale_factor=4, mode="bilinear", align_corners=False)
    soft = functional.avg_pool2d(functional.pad(mask, (2, 2, 2, 2), mode="replicate"), 5, 1)
    count, device = len(mask), mask.device
    line = 0.5 + 0.3 * (2 * torch.rand(count, 1, 1, 1, device=device) - 1)
    wobble = functional.interpolate(
        0.25 * torch.randn(count, 1, 12, 12, device=device), size=mask.shape[2:], mode="bicubic"
    )
    return torch.where(soft + wobble * (torch.rand(count, 1, 1, 1, device=device) < 0.5) > line, batch.images, GREY)


def _areas(ids: Int[Tensor, "b h w"]) -> Float[Tensor, "b 256"]:
    cells = ids.clamp(min=0).flatten(1)
    areas = torch.zeros(len(ids), 256, device=ids.device).scatter_add_(1, cells, torch.ones_like(cells).float())
    areas[:, 0] = 0
    return areas
