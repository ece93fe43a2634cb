"""Simulated clicks and boxes on training pictures, and the right answers to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from scenegen.perception.network import ABSENT, CORNER_HIGH, CORNER_LOW, INSIDE, OUTSIDE, Prompts, places
from scenegen.train.pool import Batch

MIN_CELLS = 10
"""Objects of fewer cells are not asked for."""
BOXES = 0.3
"""Share of the objects asked for by a box; the others by a click."""
CENTRAL = 0.5
"""Share of the clicks well inside what is clicked on; the others fall anywhere on it."""
BOX_JITTER = 0.06
"""Random shift of a box's edges, as a share of its sides."""


@dataclass(frozen=True, eq=False)
class Questions:
    """Prompts about objects, then clicks on background; and the truth of each."""

    prompts: Prompts
    targets: Bool[Tensor, "b n h w"]
    known: Bool[Tensor, "b h w"]
    """Where masks count."""
    present: Bool[Tensor, "b n"]
    """Which prompts are about an object."""
    background: Bool[Tensor, "b n"]
    """Which prompts are on certain background."""
    nouns: Int[Tensor, "b n"]


def first_questions(batch: Batch, objects: int, background: int) -> Questions:
    """A click or a box for up to `objects` random objects of each picture, and `background` clicks beside them."""
    count, height, width = batch.ids.shape
    device = batch.ids.device
    cells = batch.ids.clamp(min=0).flatten(1)
    areas = torch.zeros(count, 256, device=device).scatter_add_(1, cells, torch.ones(cells.shape, device=device))
    areas[:, 0] = 0
    chance = torch.where(areas >= MIN_CELLS, 0.25 * areas.clamp(min=1).log(), -torch.inf)
    top = (chance + _gumbel(chance)).topk(objects, dim=1)
    present, numbers = top.values.isfinite(), top.indices
    targets = (batch.ids[:, None] == numbers[:, :, None, None]) & present[:, :, None, None]
    empty = (batch.ids == 0) & batch.exhaustive[:, None, None]
    clicks = random_points(torch.cat([targets, empty[:, None].expand(-1, background, -1, -1)], dim=1))
    points = torch.stack([clicks, clicks], dim=2)
    kinds = torch.full(points.shape[:3], ABSENT, device=device)
    kinds[..., 0] = INSIDE
    low, high = boxes(targets)
    jitter = BOX_JITTER * (high - low)[:, :, None] * torch.randn(count, objects, 2, 2, device=device).clamp(-2, 2)
    boxed = torch.rand(count, objects, device=device) < BOXES
    corners = torch.stack([low, high], dim=2) + jitter
    points[:, :objects] = torch.where(boxed[..., None, None], corners, points[:, :objects])
    kinds[:, :objects] = torch.where(
        boxed[..., None], torch.tensor([CORNER_LOW, CORNER_HIGH], device=device), kinds[:, :objects]
    )
    nothing = torch.zeros(count, background, dtype=torch.bool, device=device)
    return Questions(
        prompts=Prompts(points, kinds),
        targets=torch.cat([targets, nothing[..., None, None].expand(-1, -1, height, width)], dim=1),
        known=batch.ids >= 0,
        present=torch.cat([present, nothing], dim=1),
        background=torch.cat([torch.zeros_like(present), empty.any(2).any(1)[:, None].expand(-1, background)], dim=1),
        nouns=torch.cat([batch.nouns.gather(1, numbers), nothing.long() - 1], dim=1),
    )


def corrected(questions: Questions, logits: Float[Tensor, "b n h w"], objects: int) -> Questions:
    """The questions about objects again, each with one more click where the answer is wrong."""
    targets = questions.targets[:, :objects]
    wrong = ((logits[:, :objects] > 0) ^ targets) & questions.known[:, None]
    click = random_points(wrong)
    row, column = _cells(click, targets.shape[2:])
    inside = targets.flatten(2).gather(2, (row * targets.shape[3] + column)[..., None])[..., 0]
    kind = torch.where(inside, INSIDE, OUTSIDE)
    kind = torch.where(wrong.any(3).any(2), kind, ABSENT)
    prompts = questions.prompts
    return Questions(
        prompts=Prompts(
            torch.cat([prompts.points[:, :objects], click[:, :, None]], dim=2),
            torch.cat([prompts.kinds[:, :objects], kind[..., None]], dim=2),
        ),
        targets=targets,
        known=questions.known,
        present=questions.present[:, :objects],
        background=questions.background[:, :objects],
        nouns=questions.nouns[:, :objects],
    )


def random_points(masks: Bool[Tensor, "b n h w"]) -> Float[Tensor, "b n 2"]:
    """A random place on each mask, in the units of prompts; any place if a mask is empty."""
    height, width = masks.shape[2:]
    weight = masks.float()
    share = functional.avg_pool2d(weight, 7, 1, 3)
    central = torch.rand(*masks.shape[:2], 1, 1, device=masks.device) < CENTRAL
    chance = torch.where(masks, torch.where(central, 12 * share, torch.zeros_like(share)), -torch.inf)
    cell = (chance.flatten(2) + _gumbel(chance.flatten(2))).argmax(2)
    grid = places(height, width, masks.device).flatten(0, 1)
    return grid[cell] + (torch.rand(*cell.shape, 2, device=masks.device) - 0.5) / max(height, width)


def boxes(masks: Bool[Tensor, "b n h w"]) -> tuple[Float[Tensor, "b n 2"], Float[Tensor, "b n 2"]]:
    """The corners of each mask's box, in the units of prompts."""
    height, width = masks.shape[2:]
    lows, highs = [], []
    for axis, length in ((2, width), (3, height)):
        line = masks.any(axis).float()
        lows.append(line.argmax(2) - length / 2)
        highs.append(length / 2 - line.flip(2).argmax(2))
    longer = max(height, width)
    return torch.stack(lows, 2) / longer, torch.stack(highs, 2) / longer


def _cells(points: Float[Tensor, "b n 2"], shape: tuple[int, int]) -> tuple[Int[Tensor, "b n"], Int[Tensor, "b n"]]:
    """Row and column of the cells places lie in."""
    height, width = shape
    x, y = (points * max(shape)).unbind(-1)
    return (
        (y + height / 2).floor().long().clamp(0, height - 1),
        (x + width / 2).floor().long().clamp(0, width - 1),
    )


def _gumbel(like: Tensor) -> Tensor:
    return -torch.empty_like(like).exponential_().log()
