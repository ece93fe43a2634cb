"""From the perception network's answers to separate objects: each cell of a grid is a click; clicks that agree are one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional

from scenegen.perception.network import INSIDE, PerceptionNetwork, Prediction, Prompts, places

GRIDS = (4, 2)
"""Cells between clicks, along each axis: first coarse, then finer where objects are and none was found."""
SHOWS_OBJECT = (0.2, 0.5)
"""Probability of showing an object above which a place is clicked at, for each grid."""
LEAST_SCORE = 0.3
"""Answers below this score are not objects."""
ALIKE = 0.6
"""IoU above which two answers are about one object."""
FRESH = 0.5
"""Share of an object's mask that must not belong to surer ones."""
CHUNK = 256
"""Clicks answered at once."""


@dataclass(frozen=True, eq=False)
class FoundObject:
    """One object, on the cells of the network's copy of the photo."""

    probability: Float32[np.ndarray, "h w"]
    """Probability of showing the object."""
    score: float
    """How sure it is that this is one whole object, 0..1."""
    nouns: Float32[np.ndarray, "c"]
    """How likely it is called by each of the network's nouns."""


@torch.inference_mode()
def find_objects(network: PerceptionNetwork, prediction: Prediction, least_score: float) -> list[FoundObject]:
    """The objects of one picture, the surest first.

    Args:
        network: whose decoder answers.
        prediction: of the network, for one picture.
        least_score: objects that are less sure are left out.
    """
    shown = prediction.object_logit.sigmoid()
    covered = torch.zeros_like(shown[0], dtype=torch.bool)
    answers: list[_Answers] = []
    for step, least in zip(GRIDS, SHOWS_OBJECT, strict=True):
        pooled = functional.avg_pool2d(shown[:, None], step)[0, 0]
        taken = functional.avg_pool2d(covered[None, None].float(), step)[0, 0] > 0.5
        clicked = (pooled > least) & ~taken
        clicks = places(pooled.shape[0], pooled.shape[1], pooled.device)[clicked]
        if len(clicks):
            answers.append(_answered(network, prediction, clicks))
            covered |= (answers[-1].logits > 0).any(0)
    if not answers:
        return []
    found = _merged(
        _Answers(*(torch.cat([getattr(each, name) for each in answers]) for name in _Answers.__annotations__))
    )
    return _separate([each for each in found if each.score >= least_score])


@dataclass(frozen=True, eq=False)
class _Answers:
    logits: Float[Tensor, "n h w"]
    score: Float[Tensor, "n"]
    nouns: Float[Tensor, "n c"]
    clicks: Float[Tensor, "n 2"]


def _answered(network: PerceptionNetwork, prediction: Prediction, clicks: Float[Tensor, "n 2"]) -> _Answers:
    """The answers to clicks that are likely to be about an object."""
    parts = []
    for some in clicks.split(CHUNK):
        kinds = torch.full((1, len(some), 1), INSIDE, device=some.device)
        answers = network.decoder(prediction.features, Prompts(some[None, :, None], kinds))
        score = (answers.fit.sigmoid() * answers.object_logit.sigmoid())[0]
        kept = (score >= LEAST_SCORE) & (answers.logits[0] > 0).flatten(1).any(1)
        parts.append(_Answers(answers.logits[0, kept], score[kept], answers.nouns[0, kept].softmax(-1), some[kept]))
    return _Answers(*(torch.cat([getattr(part, name) for part in parts]) for name in _Answers.__annotations__))


def _merged(answers: _Answers) -> list[FoundObject]:
    """Around the surest answer left, those that are like it are one object; what most clicks inside it agree on is surer."""
    if not len(answers.score):
        return []
    masks = (answers.logits > 0).flatten(1).float()
    area = masks.sum(1)
    both = masks @ masks.T
    alike = both / (area[:, None] + area[None] - both) > ALIKE
    height, width = answers.logits.shape[1:]
    column = ((answers.clicks[:, 0] * max(height, width)) + width / 2).long().clamp(0, width - 1)
    row = ((answers.clicks[:, 1] * max(height, width)) + height / 2).long().clamp(0, height - 1)
    inside = masks[:, row * width + column] > 0
    left = torch.ones_like(area, dtype=torch.bool)
    found = []
    for index in answers.score.argsort(descending=True, stable=True).tolist():
        if not left[index]:
            continue
        members = alike[index] & left
        left &= ~members
        weight = answers.score[members] / answers.score[members].sum()
        probability = torch.einsum("n,nhw->hw", weight, answers.logits[members].sigmoid())
        agreeing = float((members & inside[index]).sum() / inside[index].sum().clamp(min=1))
        found.append(
            FoundObject(
                probability=probability.cpu().numpy(),
                score=float(answers.score[index]) * (0.5 + 0.5 * agreeing),
                nouns=(weight @ answers.nouns[members]).cpu().numpy(),
            )
        )
    return sorted(found, key=lambda each: -each.score)


def _separate(found: list[FoundObject]) -> list[FoundObject]:
    """Those of which the greater part belongs to no surer one."""
    kept = []
    taken = None
    for each in found:
        mask = each.probability > 0.5
        taken = np.zeros_like(mask) if taken is None else taken
        if mask.any() and np.count_nonzero(mask & ~taken) >= FRESH * np.count_nonzero(mask):
            kept.append(each)
            taken = taken | mask
    return kept
