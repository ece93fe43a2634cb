"""The losses of the perception network. Every term is a mean over what is known, and 0 if nothing is."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from scenegen.perception.network import RELIEF_UNITS, Answers, Prediction, focal_bins
from scenegen.train.pool import Batch

GRADIENT_STEPS = (1, 2, 4, 8)
BIN_SPREAD = 0.08
"""Standard deviation of the soft label of the focal length, in its logarithm."""
FOCAL_POWER = 2.0
SMOOTHED = 0.1
"""Share of each name's label spread over all nouns, since some names are wrong."""


def picture_losses(
    prediction: Prediction,
    batch: Batch,
    focal_prior: Float[Tensor, "bins"],
) -> dict[str, Tensor]:
    """Losses of a whole picture, before prompts.

    Args:
        prediction: output of the network.
        batch: the pictures and their truth.
        focal_prior: logarithm of how frequent each bin of the focal length is among the pictures trained on.
    """
    known = (batch.ids > 0) | ((batch.ids == 0) & batch.exhaustive[:, None, None])
    objects = functional.binary_cross_entropy_with_logits(
        prediction.object_logit, (batch.ids > 0).float(), reduction="none"
    )
    residual, valid = aligned(prediction.log_depth, batch.log_depth)
    beyond = batch.log_depth == torch.inf
    # The truth decides: with the prediction's own farthest depth, sky and horizon would push each other ever farther.
    farthest = torch.where(valid, prediction.log_depth - residual, -torch.inf)
    shortfall = functional.relu(farthest.flatten(1).amax(1).detach()[:, None, None] - prediction.log_depth)
    shortfall = torch.where(shortfall.isfinite(), shortfall, 0)
    focal_known = batch.focal.isfinite()
    longer = 4 * max(batch.ids.shape[1:])
    log_focal = torch.where(focal_known, batch.focal, longer).log() - torch.tensor(float(longer)).log()
    down_known = batch.down.isfinite().all(1)
    down = torch.where(down_known[:, None], batch.down, 0)
    return {
        "depth": mean_of(residual.abs() * torch.exp(-prediction.log_error) + prediction.log_error, valid),
        "gradient": slopes(residual, valid),
        "sky": mean_of(shortfall, beyond),
        "object": mean_of(objects, known),
        "focal": mean_of(focal_loss(prediction.focal_logits + focal_prior, log_focal), focal_known),
        "down": mean_of(1 - (prediction.down * down).sum(1), down_known),
    }


def relief_losses(
    prediction: Prediction, batch: Batch, focal_share: Float[Tensor, "b"], step: float
) -> dict[str, Tensor]:
    """Losses of a crop that shows one object before grey: relief, and normals.

    Args:
        prediction: output of the network.
        batch: the crops; id 1 is the object.
        focal_share: focal length over the crop's side.
        step: width of a cell over the crop's side.
    """
    mask = (batch.ids == 1) & batch.log_depth.isfinite()
    target = torch.where(mask, batch.log_depth, torch.nan) * focal_share[:, None, None]
    residual, valid = aligned(prediction.relief, target)
    normal, flat_enough = normals(torch.where(mask, batch.log_depth, torch.nan), focal_share, step)
    enough = valid.flatten(1).sum(1) >= 24
    valid = valid & enough[:, None, None]
    cosine = (prediction.normal * normal).sum(1)
    return {
        "relief": mean_of(
            RELIEF_UNITS * residual.abs() * torch.exp(-prediction.relief_log_error) + prediction.relief_log_error, valid
        ),
        "relief_gradient": slopes(residual, valid),
        "relief_shape": mean_of(1 - correlation(prediction.relief, torch.where(valid, target, 0), valid), enough),
        "normal": mean_of(1 - cosine, flat_enough & valid),
    }


def object_relief(
    log_depth: Float[Tensor, "b h w"], truth: Float[Tensor, "b h w"], masks: Bool[Tensor, "b n h w"]
) -> Tensor:
    """Mean error of the depth across each object, about its own mean there."""
    valid = masks & truth.isfinite()[:, None]
    weight = valid.float()
    count = weight.sum((2, 3), keepdim=True).clamp(min=1)
    error = (log_depth - torch.where(truth.isfinite(), truth, 0))[:, None] * weight
    error = (error - error.sum((2, 3), keepdim=True) / count * weight).abs()
    return mean_of(error.sum((2, 3)) / count[..., 0, 0], valid.any(3).any(2))


def answer_losses(
    answers: Answers,
    targets: Bool[Tensor, "b n h w"],
    known: Bool[Tensor, "b h w"],
    present: Bool[Tensor, "b n"],
    nouns: Int[Tensor, "b n"],
) -> dict[str, Tensor]:
    """Losses of the answers to prompts about objects: masks, how well they fit, and names.

    Args:
        answers: output of the network.
        targets: the objects' masks.
        known: where masks count.
        present: which prompts are about an object.
        nouns: number of the objects' nouns, -1 where unknown.
    """
    truth = targets.float()
    counted = known[:, None].float()
    share = answers.logits.sigmoid() * counted
    both, either = (share * truth).sum((2, 3)), (share + truth * counted).sum((2, 3))
    dice = 1 - (2 * both + 1) / (either + 1)
    crossed = functional.binary_cross_entropy_with_logits(answers.logits, truth, reduction="none")
    wrong = 1 - torch.exp(-crossed.detach())
    focal = (wrong**FOCAL_POWER * crossed * counted).sum((2, 3)) / counted.sum((2, 3)).clamp(min=1)
    # Divided by the object's size, so that small ones count as much.
    focal = focal * (counted.sum((2, 3)) / (truth * counted).sum((2, 3)).clamp(min=16)).sqrt()
    fit = functional.mse_loss(
        answers.fit.sigmoid(), intersection_over_union(answers.logits, targets, known), reduction="none"
    )
    named = functional.cross_entropy(
        answers.nouns.flatten(0, 1), nouns.flatten().clamp(min=0), reduction="none", label_smoothing=SMOOTHED
    ).unflatten(0, nouns.shape)
    return {
        "dice": mean_of(dice, present),
        "mask": mean_of(focal, present),
        "fit": mean_of(fit, present),
        "noun": mean_of(named, present & (nouns >= 0)),
    }


def intersection_over_union(
    logits: Float[Tensor, "b n h w"], targets: Bool[Tensor, "b n h w"], known: Bool[Tensor, "b h w"]
) -> Float[Tensor, "b n"]:
    """IoU of each mask, drawn where its logit is positive, with its target."""
    drawn = (logits.detach() > 0) & known[:, None]
    truth = targets & known[:, None]
    return (drawn & truth).sum((2, 3)) / (drawn | truth).sum((2, 3)).clamp(min=1)


def aligned(
    predicted: Float[Tensor, "b h w"], target: Float[Tensor, "b h w"]
) -> tuple[Float[Tensor, "b h w"], Bool[Tensor, "b h w"]]:
    """The residual after the best shift of each picture (its median), and where it is known.

    Depth is thus learned up to scale (Ranftl et al. 2020, arXiv:1907.01341; `slopes` is their gradient term).
    """
    valid = target.isfinite()
    residual = predicted - torch.where(valid, target, 0)
    shift = torch.where(valid, residual, torch.nan).detach().flatten(1).nanmedian(1).values
    return torch.where(valid, residual - shift.nan_to_num()[:, None, None], 0), valid


def slopes(residual: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]) -> Tensor:
    """Mean difference of the residual between neighbours at several distances."""
    terms = []
    for step in GRADIENT_STEPS:
        for axis in (1, 2):
            count = residual.shape[axis] - step
            both = valid.narrow(axis, step, count) & valid.narrow(axis, 0, count)
            terms.append(mean_of((residual.narrow(axis, step, count) - residual.narrow(axis, 0, count)).abs(), both))
    return torch.stack(terms).mean()


def correlation(
    predicted: Float[Tensor, "b h w"], target: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> Float[Tensor, "b"]:
    """Pearson's correlation over the valid cells of each picture."""
    weight = valid.float()
    count = weight.sum((1, 2)).clamp(min=1)

    def centred(values: Tensor) -> Tensor:
        return (values - ((values * weight).sum((1, 2)) / count)[:, None, None]) * weight

    a, b = centred(predicted), centred(target)
    spread = (a.square().sum((1, 2)) / count + 1e-6) * (b.square().sum((1, 2)) / count + 1e-6)
    return (a * b).sum((1, 2)) / count / spread.sqrt()


def normals(
    log_depth: Float[Tensor, "b h w"], focal_share: Float[Tensor, "b"], step: float
) -> tuple[Float[Tensor, "b 3 h w"], Bool[Tensor, "b h w"]]:
    """Unit normals (towards the camera) of a square depth map, and where they are known: not at jumps, nor where depth is NaN.

    With the rays (x, y, 1) z, the normal is parallel to (-dl/dx, -dl/dy, 1 + x dl/dx + y dl/dy) for l = log z.
    """
    side = log_depth.shape[1]
    unit = step / focal_share[:, None, None]
    dx = torch.zeros_like(log_depth)
    dy = torch.zeros_like(log_depth)
    dx[:, :, 1:-1] = (log_depth[:, :, 2:] - log_depth[:, :, :-2]) / (2 * unit)
    dy[:, 1:-1] = (log_depth[:, 2:] - log_depth[:, :-2]) / (2 * unit)
    known = dx.isfinite() & dy.isfinite() & (dx.abs() < 6) & (dy.abs() < 6)
    known[:, [0, -1]] = False
    known[:, :, [0, -1]] = False
    dx, dy = torch.where(known, dx, 0), torch.where(known, dy, 0)
    place = (torch.arange(side, device=log_depth.device) + 0.5 - side / 2) * unit[..., 0]
    x, y = place[:, None, :], place[:, :, None]
    return functional.normalize(torch.stack([dx, dy, -1 - x * dx - y * dy], dim=1), dim=1), known


def focal_label(log_focal: Float[Tensor, "b"]) -> Float[Tensor, "b bins"]:
    """Shares of the bins, spread over the neighbours of the right one."""
    distance = (focal_bins().to(log_focal) - log_focal[:, None]) / BIN_SPREAD
    return torch.softmax(-0.5 * distance.square(), dim=1)


def focal_loss(logits: Float[Tensor, "b bins"], log_focal: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """Cross-entropy with a soft label.

    With the logarithm of the bins' frequency added to the logits, these learn what a picture says and not what is frequent
    (Menon et al. 2021, arXiv:2007.07314, section 5).
    """
    return -(focal_label(log_focal) * logits.log_softmax(dim=1)).sum(1)


def mean_of(values: Float[Tensor, "*s"], where: Bool[Tensor, "*s"]) -> Tensor:
    """Mean over the places given; 0 for none."""
    return torch.where(where, values, 0).sum() / where.sum().clamp(min=1)
