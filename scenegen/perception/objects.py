"""From the perception network's answers to separate objects: each cell of a grid is a click; clicks that agree are one.

The network looks at the whole photo and at parts of it, in which small things are larger; what it says of all is put together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional

from scenegen.compute.torch_env import side_by_side
from scenegen.perception.network import INSIDE, PerceptionNetwork, Prediction, Prompts, places

GRIDS = (4, 2)
"""Cells between clicks, along each axis: first coarse, then finer where objects are and none was found."""
SHOWS_OBJECT = (0.2, 0.5)
"""Probability of showing an object above which a place is clicked at, for each grid."""
LEAST_SCORE = 0.3
"""Answers below this score are not objects."""
ALIKE = 0.6
"""IoU above which two answers are about one object."""
HALF_SURE = 5
"""Number of agreeing clicks at which an object is half as sure as with any number: on held-out photographs it tells whole things
from others better than the answers' own scores do."""
FRESH = 0.5
"""Share of an object's mask that must not belong to surer ones."""
CHUNK = 256
"""Clicks answered at once."""
PARTS = (
    (0.0, 0.0, 0.6, 0.6),
    (0.4, 0.0, 1.0, 0.6),
    (0.0, 0.4, 0.6, 1.0),
    (0.4, 0.4, 1.0, 1.0),
    (0.2, 0.2, 0.8, 0.8),
)
"""Windows of the parts looked at: left, top, right and bottom, in shares of the photo."""
WHOLE = (0.0, 0.0, 1.0, 1.0)
FINER = 2
"""Cells of the objects' masks for one of the first look's, along each axis, if there are several looks."""
UNSEEN = -20.0
"""Logit of a mask outside the part it was seen in."""


@dataclass(frozen=True, eq=False)
class Look:
    """What the network says of a photo or of a part of it."""

    prediction: Prediction
    """Of one picture."""
    window: tuple[float, float, float, float] = WHOLE
    """Where that picture's left, top, right and bottom borders lie, in shares of the photo."""


@dataclass(frozen=True, eq=False)
class FoundObject:
    """One object, on cells that divide the photo evenly."""

    probability: Float32[np.ndarray, "h w"]
    """Probability of showing the object."""
    score: float
    """How sure it is that this is one whole object, 0..1."""
    nouns: Float32[np.ndarray, "c"]
    """How likely it is called by each of the network's nouns."""


def find_objects(network: PerceptionNetwork, looks: Sequence[Look], least_score: float) -> list[FoundObject]:
    """The objects of one photo, the surest first.

    Args:
        network: whose decoder answers.
        looks: of the network, first at the whole photo.
        least_score: objects that are less sure are left out.
    """
    height, width = looks[0].prediction.object_logit.shape[1:]
    finer = FINER if len(looks) > 1 else 1
    cells = finer * height, finer * width

    @torch.inference_mode()
    def answers(look: Look) -> _Answers:
        return _placed(_clicked(network, look.prediction), look.window, cells)

    found = side_by_side(answers, looks, looks[0].prediction.object_logit.device)
    return _separate([each for each in _merged(_joined(found)) if each.score >= least_score])


@dataclass(frozen=True, eq=False)
class _Answers:
    logits: Float[Tensor, "n h w"]
    score: Float[Tensor, "n"]
    nouns: Float[Tensor, "n c"]
    clicks: Float[Tensor, "n 2"]
    """x and y in shares of the width and the height."""


def _joined(parts: Sequence[_Answers]) -> _Answers:
    return _Answers(*(torch.cat([getattr(part, name) for part in parts]) for name in _Answers.__annotations__))


def _clicked(network: PerceptionNetwork, prediction: Prediction) -> _Answers:
    """The answers to clicks all over a picture."""
    shown = prediction.object_logit.sigmoid()
    covered = torch.zeros_like(shown[0], dtype=torch.bool)
    answers = []
    for step, least in zip(GRIDS, SHOWS_OBJECT, strict=True):
        pooled = functional.avg_pool2d(shown[:, None], step)[0, 0]
        taken = functional.avg_pool2d(covered[None, None].float(), step)[0, 0] > 0.5
        clicked = (pooled > least) & ~taken
        answers.append(_answered(network, prediction, places(pooled.shape[0], pooled.shape[1], pooled.device)[clicked]))
        covered |= (answers[-1].logits > 0).any(0)
    return _joined(answers)


def _placed(answers: _Answers, window: tuple[float, float, float, float], cells: tuple[int, int]) -> _Answers:
    """The answers to clicks in a part of a photo, on the photo's `cells`; what the part's borders cut is left out."""
    left, top, right, bottom = window
    masks = answers.logits > 0
    borders = (
        (left > 0, masks[:, :, 0]),
        (right < 1, masks[:, :, -1]),
        (top > 0, masks[:, 0]),
        (bottom < 1, masks[:, -1]),
    )
    cut = torch.stack([inner * border.sum(1) for inner, border in borders]).sum(0) > 1
    height, width = cells
    rows, columns = slice(round(top * height), round(bottom * height)), slice(round(left * width), round(right * width))
    logits = torch.full((int((~cut).sum()), *cells), UNSEEN, device=cut.device)
    if len(logits):
        size = (rows.stop - rows.start, columns.stop - columns.start)
        seen = functional.interpolate(answers.logits[~cut][:, None], size=size, mode="bilinear")
        logits[:, rows, columns] = seen[:, 0]
    corner = torch.tensor([left, top], device=cut.device)
    extent = torch.tensor([right - left, bottom - top], device=cut.device)
    return _Answers(logits, answers.score[~cut], answers.nouns[~cut], corner + extent * answers.clicks[~cut])


def _answered(network: PerceptionNetwork, prediction: Prediction, clicks: Float[Tensor, "n 2"]) -> _Answers:
    """The answers to clicks that are likely to be about an object."""
    parts = []
    height, width = prediction.object_logit.shape[1:]
    share = max(height, width) / torch.tensor([width, height], device=clicks.device)
    for some in clicks.split(CHUNK):
        kinds = torch.full((1, len(some), 1), INSIDE, device=some.device)
        answers = network.decoder(prediction.features, Prompts(some[None, :, None], kinds))
        score = (answers.fit.sigmoid() * answers.object_logit.sigmoid())[0]
        kept = (score >= LEAST_SCORE) & (answers.logits[0] > 0).flatten(1).any(1)
        nouns = answers.nouns[0, kept].softmax(-1)
        parts.append(_Answers(answers.logits[0, kept], score[kept], nouns, 0.5 + share * some[kept]))
    return _joined(parts)


@torch.inference_mode()
def _merged(answers: _Answers) -> list[FoundObject]:
    """Around the surest answer left, those like it are one object; what many clicks agree on, and most inside it, is surer."""
    if not len(answers.score):
        return []
    height, width = answers.logits.shape[1:]
    masks = (answers.logits > 0).flatten(1).float()
    area = masks.sum(1)
    both = masks @ masks.T
    alike = both / (area[:, None] + area[None] - both) > ALIKE
    column = (answers.clicks[:, 0] * width).long().clamp(0, width - 1)
    row = (answers.clicks[:, 1] * height).long().clamp(0, height - 1)
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
        clicks = int(members.sum())
        found.append(
            FoundObject(
                probability=probability.cpu().numpy(),
                score=float(answers.score[index]) * (0.5 + 0.5 * agreeing) * clicks / (clicks + HALF_SURE),
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
