"""What the perception network is trained to: one term per output, each a mean per picture."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from scenegen.perception.network import Prediction, focal_bins

MIN_CELLS = 4
"""Objects of fewer cells are too small to be grouped."""
GRADIENT_STEPS = (1, 2, 4, 8)
BIN_SPREAD = 0.08
"""Standard deviation of the soft label of the focal length, in its logarithm."""


def losses(
    prediction: Prediction,
    ids: Int[Tensor, "b h w"],
    log_depth: Float[Tensor, "b h w"],
    log_focal: Float[Tensor, "b"],
    down: Float[Tensor, "b 3"],
    focal_prior: Float[Tensor, "bins"],
) -> dict[str, Tensor]:
    """Every term.

    Args:
        prediction: of the network.
        ids: object of each cell, 0 for background, -1 where unknown.
        log_depth: -inf where unknown, +inf where there is no surface.
        log_focal: of the focal length over the longer side.
        down: gravity in the camera's frame.
        focal_prior: logarithm of how frequent each bin of the focal length is among the pictures trained on.
    """
    known = ids >= 0
    objects = functional.binary_cross_entropy_with_logits(prediction.object_logit[known], (ids[known] > 0).float())
    depth, gradient, sky = depth_losses(prediction.log_depth, prediction.log_error, log_depth)
    group, seed, spread = grouping_losses(prediction, ids)
    return {
        "depth": depth,
        "gradient": gradient,
        "sky": sky,
        "object": objects,
        "group": group,
        "seed": seed,
        "spread": spread,
        "focal": focal_loss(prediction.focal_logits + focal_prior, log_focal),
        "down": (1 - (prediction.down * down).sum(1)).mean(),
    }


def depth_losses(
    predicted: Float[Tensor, "b h w"], log_error: Float[Tensor, "b h w"], target: Float[Tensor, "b h w"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Laplace likelihood after the best shift of each picture; differences between neighbours; and the sky's distance.

    The shift is the median residual, so depth is learnt up to scale (Ranftl et al. 2020, arXiv:1907.01341, whose gradient
    term this also is). Where there is no surface, the depth must be no less than the picture's largest.
    """
    terms = []
    for ours, error, theirs in zip(predicted, log_error, target, strict=True):
        valid = theirs.isfinite()
        if not valid.any():
            continue
        residual = torch.where(valid, ours - torch.where(valid, theirs, 0), 0)
        residual = residual - residual[valid].median().detach()
        likelihood = (residual.abs() * torch.exp(-error) + error)[valid].mean()
        slopes = []
        for step in GRADIENT_STEPS:
            for axis in (0, 1):
                count = residual.shape[axis] - step
                both = valid.narrow(axis, step, count) & valid.narrow(axis, 0, count)
                slopes.append((residual.narrow(axis, step, count) - residual.narrow(axis, 0, count))[both].abs().sum())
        beyond = theirs == torch.inf
        shortfall = functional.relu(ours[valid].max().detach() - ours[beyond]).sum() / ours.numel()
        terms.append(torch.stack([likelihood, sum(slopes) / (len(slopes) * valid.sum()), shortfall]))
    total = torch.stack(terms).mean(0) if terms else predicted.sum() * torch.zeros(3)
    return total[0], total[1], total[2]


def grouping_losses(prediction: Prediction, ids: Int[Tensor, "b h w"]) -> tuple[Tensor, Tensor, Tensor]:
    """How well the embedding separates objects, where seeds are, and how much the precision varies inside an object.

    Every object's mask is the nearness of the cells' embeddings to its mean embedding (Neven et al. 2019, section 3);
    the Lovasz hinge makes that nearness the object's intersection over union. A seed is as sure as its cell is near.
    """
    groups, seeds, spreads = [], [], []
    for embedding, log_precision, seed_logit, own in zip(
        prediction.embedding, prediction.log_precision, prediction.seed_logit, ids, strict=True
    ):
        numbers, counts = own[own > 0].unique(return_counts=True)
        masks = own == numbers[counts >= MIN_CELLS][:, None, None]
        target = torch.zeros_like(seed_logit)
        if len(masks):
            near, spread = nearness(embedding, log_precision, masks)
            known = own >= 0
            groups.append(lovasz_hinge(2 * near[:, known] - 1, masks[:, known]).mean())
            spreads.append(spread)
            target = (near.detach() * masks).sum(0)
        grouped = (own == 0) | masks.any(0)
        seeds.append(functional.binary_cross_entropy_with_logits(seed_logit[grouped], target[grouped]))
    nothing = prediction.embedding.sum() * 0
    return (
        torch.stack(groups).mean() if groups else nothing,
        torch.stack(seeds).mean(),
        torch.stack(spreads).mean() if spreads else nothing,
    )


def nearness(
    embedding: Float[Tensor, "e h w"], log_precision: Float[Tensor, "h w"], masks: Bool[Tensor, "n h w"]
) -> tuple[Float[Tensor, "n h w"], Tensor]:
    """How near each cell is to each object's mean embedding, 0..1, and the variance of the precision inside objects."""
    share = masks.float() / masks.sum((1, 2), keepdim=True)
    centres = torch.einsum("nhw,ehw->ne", share, embedding)
    log_precisions = (share * log_precision).sum((1, 2))
    squared = (embedding[None] - centres[:, :, None, None]).square().sum(1)
    spread = (share * (log_precision - log_precisions.detach()[:, None, None]).square()).sum((1, 2)).mean()
    return torch.exp(-squared * log_precisions.exp()[:, None, None]), spread


def lovasz_hinge(logits: Float[Tensor, "n p"], masks: Bool[Tensor, "n p"]) -> Float[Tensor, "n"]:
    """The Lovasz extension of 1 - IoU of each mask (Berman et al. 2018, arXiv:1705.08790, algorithm 1)."""
    signs = 2 * masks.float() - 1
    errors, order = (1 - logits * signs).sort(dim=1, descending=True)
    inside = masks.gather(1, order).float()
    total = inside.sum(1, keepdim=True)
    jaccard = 1 - (total - inside.cumsum(1)) / (total + (1 - inside).cumsum(1))
    steps = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], dim=1)
    return (functional.relu(errors) * steps).sum(1)


def focal_label(log_focal: Float[Tensor, "b"]) -> Float[Tensor, "b bins"]:
    """Shares of the bins, spread over the neighbours of the right one."""
    distance = (focal_bins().to(log_focal) - log_focal[:, None]) / BIN_SPREAD
    return torch.softmax(-0.5 * distance.square(), dim=1)


def focal_loss(logits: Float[Tensor, "b bins"], log_focal: Float[Tensor, "b"]) -> Tensor:
    """Cross-entropy with a soft label.

    With the logarithm of the bins' frequency added to the logits, these learn what a picture says and not what is frequent
    (Menon et al. 2021, arXiv:2007.07314, section 5).
    """
    return -(focal_label(log_focal) * logits.log_softmax(dim=1)).sum(1).mean()
