"""Closed forms of what the perception network is trained to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.perception.network import FOCAL_BINS, Prediction, focal_bins
from scenegen.train.perception_losses import (
    depth_losses,
    focal_label,
    focal_loss,
    grouping_losses,
    losses,
    lovasz_hinge,
    nearness,
)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_lovasz_hinge_of_sure_answers_is_twice_what_the_iou_lacks(seed: int) -> None:
    """Of answers -1 and 1 the errors are 0 and 2, and the extension is linear."""
    rng = np.random.default_rng(seed)
    mask, guess = torch.from_numpy(rng.random((2, 1, 40)) < 0.4)
    mask[0, 0] = True
    union = (mask | guess).sum()
    iou = (mask & guess).sum() / union
    loss = lovasz_hinge(2 * guess.float() - 1, mask)
    assert float(loss) == pytest.approx(2 * (1 - float(iou)), abs=1e-5)


def test_depth_is_learnt_up_to_a_factor() -> None:
    target = torch.rand(2, 12, 16)
    error = torch.full_like(target, -1.0)
    right = depth_losses(target + torch.tensor([0.7, -2.0])[:, None, None], error, target)
    assert float(right[0]) == pytest.approx(-1.0, abs=1e-5)
    assert float(right[1]) == pytest.approx(0, abs=1e-5)
    wrong = depth_losses(target + torch.rand(2, 12, 16), error, target)
    assert wrong[0] > right[0] + 0.1
    assert wrong[1] > 0.1


def test_the_best_error_is_the_mean_deviation() -> None:
    """A Laplace distribution's scale is its mean absolute deviation."""
    target = torch.zeros(1, 20, 20)
    predicted = torch.from_numpy(np.random.default_rng(0).laplace(0, 0.3, (1, 20, 20)).astype(np.float32))
    scale = float((predicted - predicted.median()).abs().mean())
    at = [
        float(depth_losses(predicted, torch.full_like(target, s), target)[0])
        for s in np.log(scale * np.array([0.7, 1, 1.4]))
    ]
    assert at[1] < min(at[0], at[2])


def test_unknown_depth_says_nothing_and_the_sky_must_be_far() -> None:
    target = torch.rand(1, 8, 8)
    target[:, :2] = -torch.inf
    predicted = torch.where(target.isfinite(), target, 100.0)
    assert float(depth_losses(predicted, torch.zeros_like(target), target)[0]) == pytest.approx(0, abs=1e-6)
    target[:, :2] = torch.inf
    assert float(depth_losses(predicted, torch.zeros_like(target), target)[2]) == 0
    near = torch.where(target.isfinite(), target, -1.0)
    assert float(depth_losses(near, torch.zeros_like(target), target)[2]) > 0.2


def test_pictures_without_any_depth_are_no_error() -> None:
    predicted = torch.rand(1, 4, 4, requires_grad=True)
    terms = depth_losses(predicted, torch.zeros(1, 4, 4), torch.full((1, 4, 4), torch.inf))
    assert [float(term) for term in terms] == [0, 0, 0]


def prediction(ids: torch.Tensor, separate: bool) -> Prediction:
    shape = ids.shape
    embedding = torch.zeros(shape[0], 8, *shape[1:])
    if separate:
        for number in range(3):
            embedding[:, number] = 3.0 * (ids == number)
    flat = torch.zeros(shape)
    return Prediction(
        log_depth=flat,
        log_error=flat,
        object_logit=20.0 * ((ids > 0).float() - 0.5),
        seed_logit=20.0 * ((ids > 0).float() - 0.5),
        embedding=embedding,
        log_precision=torch.full(shape, 1.0),
        focal_logits=torch.zeros(shape[0], FOCAL_BINS),
        down=torch.tensor([[0.0, 1.0, 0.0]]).repeat(shape[0], 1),
    )


def two_objects() -> torch.Tensor:
    ids = torch.zeros(1, 12, 16, dtype=torch.int32)
    ids[:, 2:8, 2:7] = 1
    ids[:, 4:10, 9:15] = 2
    return ids


def test_groups_apart_cost_nothing_and_groups_at_one_place_much() -> None:
    ids = two_objects()
    apart, together = (grouping_losses(prediction(ids, separate), ids) for separate in (True, False))
    assert float(apart[0]) == pytest.approx(0, abs=1e-4)
    assert float(together[0]) > 0.5
    assert float(apart[1]) < 1e-3
    assert float(apart[2]) == pytest.approx(0)


def test_a_group_is_near_to_its_own_mean() -> None:
    ids = two_objects()
    said = prediction(ids, separate=True)
    near, _ = nearness(said.embedding[0], said.log_precision[0], ids[0] == torch.tensor([1, 2])[:, None, None])
    assert torch.allclose(near[0][ids[0] == 1], torch.ones(30))
    assert near[0][ids[0] == 2].max() < 1e-6


def test_objects_too_small_to_group_do_not_count() -> None:
    ids = torch.zeros(1, 12, 16, dtype=torch.int32)
    ids[0, 3, 3] = 1
    group, seed, spread = grouping_losses(prediction(ids, separate=False), ids)
    assert float(group) == float(spread) == 0
    assert float(seed) < 1e-3


def test_the_focal_length_prior_is_taken_out_of_what_is_learnt() -> None:
    """Where the pictures say nothing, the loss is least for logits of 0, however uneven the focal lengths are."""
    rng = torch.Generator().manual_seed(0)
    focals = 0.2 + 0.1 * torch.randn(4000, generator=rng)
    prior = focal_label(focals).mean(dim=0).clamp_min(1e-6).log()
    said = torch.zeros(FOCAL_BINS, requires_grad=True)
    focal_loss((said + prior).expand(4000, -1), focals).backward()
    assert said.grad is not None
    assert said.grad.abs().max() < 1e-3
    assert torch.allclose(focal_label(focal_bins()[[4]]).sum(), torch.ones(()))
    assert int(focal_label(focal_bins()[[4]]).argmax()) == 4


def test_every_term_is_there() -> None:
    ids = two_objects()
    terms = losses(
        prediction(ids, separate=True),
        ids,
        torch.zeros(1, 12, 16),
        torch.zeros(1),
        torch.tensor([[0.0, 0.0, 1.0]]),
        torch.zeros(FOCAL_BINS),
    )
    assert float(terms["down"]) == pytest.approx(1)
    assert float(terms["object"]) < 1e-3
    assert all(bool(term.isfinite()) for term in terms.values())
