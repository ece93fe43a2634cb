"""SAM 2.1, and the tracker of SAM 3, which answers in the same way: masks for boxes and clicks, or for a grid of clicks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from scenegen.compute.recent import Recent, digest_of_image
from scenegen.perception import UNNAMED, Segmentation
from scenegen.perception.overlaps import SAME_IOU, Proposals
from scenegen.perception.prompts import Prompt, answered

CLICKS_AT_ONCE = 64
KEPT = 2
"""Photos that stay encoded."""
OFFSET = 1.0
"""A mask is stable if it hardly changes when its threshold is moved by this much to either side."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
"""Mean and standard deviation of the colours that a network was trained with."""


@dataclass(frozen=True, eq=False)
class Promptable:
    """A network that answers prompts, and how it sees a photo."""

    network: Any
    side: int
    """Pixels of the square that the photo is squeezed into."""
    colours: tuple[Sequence[float], Sequence[float]]
    """`IMAGENET` or `HALVES`."""
    encoded: Recent[Any] = field(default_factory=lambda: Recent(KEPT))
    """The last photos as the network sees them, by digest: to answer one more prompt takes a fraction of the time."""


def as_pixels(
    image: UInt8[np.ndarray, "h w 3"], side: int, colours: tuple[Sequence[float], Sequence[float]], device: torch.device
) -> Float[Tensor, "1 3 s s"]:
    """A photo as a SAM sees it: squeezed into a square, with the colours of its training.

    Examples:
        >>> as_pixels(np.full((4, 8, 3), 255, np.uint8), 2, HALVES, torch.device("cpu")).flatten().tolist()[:2]
        [1.0, 1.0]
    """
    mean, deviation = (torch.tensor(values, device=device)[:, None, None] for values in colours)
    photo = torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float()
    small = functional.interpolate(photo, (side, side), mode="bilinear", antialias=True).round().clamp(0, 255)
    return (small / 255 - mean) / deviation


def answer_prompts(asked: Promptable, image: UInt8[np.ndarray, "h w 3"], prompts: Sequence[Prompt]) -> Proposals:
    """The best mask for each prompt, by the network's own estimate. Prompts are in pixels of `image`."""
    device = next(asked.network.parameters()).device
    embeddings = asked.encoded.of(
        digest_of_image(image),
        lambda: asked.network.get_image_embeddings(as_pixels(image, asked.side, asked.colours, device)),
    )
    height, width = image.shape[:2]
    masks, scores = [], []
    for prompt in prompts:
        scaled = prompt.scaled(asked.side / width, asked.side / height)
        clicks = [*scaled.inside, *scaled.outside]
        labels = [1] * len(scaled.inside) + [0] * len(scaled.outside)
        said = asked.network(
            image_embeddings=embeddings,
            input_points=torch.tensor([[clicks]], device=device) if clicks else None,
            input_labels=torch.tensor([[labels]], device=device) if clicks else None,
            input_boxes=None if scaled.box is None else torch.tensor([[scaled.box]], device=device),
        )
        best = int(said.iou_scores[0, 0].argmax())
        masks.append(_enlarged(said.pred_masks[0, 0, best], height, width))
        scores.append(float(said.iou_scores[0, 0, best]))
    return Proposals(np.stack(masks), np.array(scores))


def segment_prompts(
    asked: Promptable, image: UInt8[np.ndarray, "h w 3"], prompts: Sequence[Prompt], backend: str, licence: str
) -> Segmentation:
    """The object of each prompt, unnamed. Prompts are in pixels of `image`."""
    found = answer_prompts(asked, image, prompts)
    scores, count = np.clip(found.scores, 0, 1).tolist(), len(prompts)
    return answered(found.masks, scores, (UNNAMED,) * count, (None,) * count, backend, licence)


def propose(
    asked: Promptable, image: UInt8[np.ndarray, "h w 3"], points_per_side: int, min_iou: float, min_stability: float
) -> Proposals:
    """Masks for a grid of clicks that the network itself finds good and stable; of those that are alike, the best one."""
    device = next(asked.network.parameters()).device
    embeddings = asked.network.get_image_embeddings(as_pixels(image, asked.side, asked.colours, device))
    steps = (torch.arange(points_per_side, device=device) + 0.5) * asked.side / points_per_side
    grid = torch.cartesian_prod(steps, steps).flip(1)
    found, estimates = [], []
    for clicks in grid.split(CLICKS_AT_ONCE):
        labels = torch.ones((1, len(clicks), 1), dtype=torch.int64, device=device)
        said = asked.network(image_embeddings=embeddings, input_points=clicks[None, :, None], input_labels=labels)
        logits, estimate = said.pred_masks[0].flatten(0, 1), said.iou_scores[0].flatten()
        good = (estimate >= min_iou) & (_stability(logits) >= min_stability) & (logits > 0).flatten(1).any(1)
        found.append(logits[good])
        estimates.append(estimate[good])
    logits, estimate = torch.cat(found), torch.cat(estimates)
    kept = _different(logits > 0, estimate)
    height, width = image.shape[:2]
    masks = np.zeros((len(kept), height, width), bool)
    for mask, index in zip(masks, kept, strict=True):
        mask[:] = _enlarged(logits[index], height, width)
    return Proposals(masks, estimate[kept].double().cpu().numpy())


def _stability(logits: Float[Tensor, "n h w"]) -> Float[Tensor, "n"]:
    """IoU of each mask drawn with a higher and with a lower threshold."""
    strict, loose = ((logits > offset).flatten(1).sum(1) for offset in (OFFSET, -OFFSET))
    return strict / loose.clamp(min=1)


def _different(masks: Bool[Tensor, "n h w"], scores: Float[Tensor, "n"]) -> list[int]:
    """The best of the masks that are alike, the best first."""
    flat = masks.flatten(1).float()
    areas = flat.sum(1)
    kept: list[int] = []
    for index in scores.argsort(descending=True, stable=True).tolist():
        both = flat[kept] @ flat[index]
        if not bool((both > SAME_IOU * (areas[kept] + areas[index] - both)).any()):
            kept.append(index)
    return kept


def _enlarged(logits: Float[Tensor, "h w"], height: int, width: int) -> Bool[np.ndarray, "h2 w2"]:
    full = functional.interpolate(logits[None, None].float(), (height, width), mode="bilinear")[0, 0]
    return (full > 0).cpu().numpy()
