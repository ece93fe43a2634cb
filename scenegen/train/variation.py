"""What photos differ in beside what they show: tone, colour, sharpness, noise; and objects pasted from one into another."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from scenegen.train.pool import Batch

GREY = 0.5
"""What surrounds an object in a crop that shows it alone."""
PASTE = 0.5
"""Share of the pictures that get an object of another."""
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
    return x.clamp(0, 1)


def with_pasted(batch: Batch, serial: int) -> Batch:
    """The batch with an object of another of its pictures pasted into some, moved and resized; depth is unknown there.

    Args:
        batch: pictures with objects.
        serial: number of the paste, so that a second one gets ids of its own.
    """
    count, device = len(batch.ids), batch.ids.device
    donor = torch.arange(count, device=device).roll(int(torch.randint(1, max(2, count), ())))
    ids = batch.ids[donor]
    areas = torch.zeros(count, 256, device=device)
    areas.scatter_add_(1, ids.clamp(min=0).flatten(1), torch.ones_like(ids.flatten(1), dtype=areas.dtype))
    areas[:, 0] = 0
    cells = ids[0].numel()
    fits = (areas > 0.006 * cells) & (areas < 0.5 * cells)
    number = torch.multinomial(fits.float() + 1e-9, 1)[:, 0]
    wanted = fits.any(1) & (torch.rand(count, device=device) < PASTE)
    # Where each pixel of the picture looks in the donor, in units of `grid_sample`.
    scale = torch.exp(torch.empty(count, device=device).uniform_(-0.6, 0.7))
    shift = torch.empty(count, 2, device=device).uniform_(-0.7, 0.7)
    flip = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(scale)
    theta = torch.stack([scale * flip, zero, shift[:, 0], zero, scale, shift[:, 1]], 1).unflatten(1, (2, 3))

    def moved(values: Tensor, mode: str) -> Tensor:
        grid = functional.affine_grid(theta, list(values.shape), align_corners=False)
        return functional.grid_sample(values, grid, mode=mode, padding_mode="zeros", align_corners=False)

    mask = ((ids == number[:, None, None]) & wanted[:, None, None]).float()[:, None]
    small = moved(mask, "nearest")[:, 0] > 0.5
    full = functional.interpolate(mask, scale_factor=4, mode="bilinear", align_corners=False)
    share = moved(full, "bilinear")
    share = ((share - 0.5) * 3 + 0.5).clamp(0, 1)
    images = batch.images.lerp(moved(batch.images[donor], "bilinear"), share)
    new = PASTED_ID + serial
    nouns = batch.nouns.clone()
    nouns[:, new] = batch.nouns[donor].gather(1, number[:, None])[:, 0]
    return replace(
        batch,
        images=images,
        ids=torch.where(small, new, batch.ids),
        log_depth=torch.where(small, -torch.inf, batch.log_depth),
        nouns=nouns,
    )


def greyed(batch: Batch) -> Float[Tensor, "b 3 h w"]:
    """The pictures with all but object 1 grey, along a mask that is a little wrong, as estimated ones are."""
    mask = (batch.ids == 1).float()[:, None]
    mask = functional.interpolate(mask, scale_factor=4, mode="bilinear", align_corners=False)
    soft = functional.avg_pool2d(functional.pad(mask, (2, 2, 2, 2), mode="replicate"), 5, 1)
    count, device = len(mask), mask.device
    line = 0.5 + 0.3 * (2 * torch.rand(count, 1, 1, 1, device=device) - 1)
    wobble = functional.interpolate(
        0.25 * torch.randn(count, 1, 12, 12, device=device), size=mask.shape[2:], mode="bicubic"
    )
    return torch.where(soft + wobble * (torch.rand(count, 1, 1, 1, device=device) < 0.5) > line, batch.images, GREY)
