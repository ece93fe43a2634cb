"""Closed forms of what the perception network is trained to."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scenegen.perception.network import FOCAL_BINS, Answers, Prediction, focal_bins
from scenegen.train.perception_losses import (
    aligned,
    answer_losses,
    correlation,
    focal_label,
    focal_loss,
    intersection_over_union,
    mean_of,
    normals,
    object_relief,
    picture_losses,
    relief_losses,
    slopes,
)
from scenegen.train.pool import Batch
from tests.perception.said import said

SURE = 30.0
SHAPE = (12, 16)
CROP = 24
STEP = 1 / CROP
FLAT_PRIOR = torch.zeros(FOCAL_BINS)


def truth(**changes: Tensor) -> Batch:
    """Two pictures of random depth with two objects each."""
    rng = torch.Generator().manual_seed(0)
    ids = torch.zeros(2, *SHAPE, dtype=torch.long)
    ids[:, 2:8, 2:7] = 1
    ids[:, 4:10, 9:15] = 2
    values: dict[str, Tensor] = {
        "images": torch.rand(2, 3, 48, 64, generator=rng),
        "ids": ids,
        "exhaustive": torch.tensor([True, True]),
        "log_depth": torch.rand(2, *SHAPE, generator=rng),
        "focal": torch.tensor([60.0, 90.0]),
        "down": torch.tensor([[0.0, 1, 0], [0.0, 0.6, 0.8]]),
        "nouns": torch.full((2, 256), -1),
        **changes,
    }
    return Batch(**values)


def nothing_known() -> Batch:
    return truth(
        ids=torch.full((2, *SHAPE), -1),
        log_depth=torch.full((2, *SHAPE), -math.inf),
        focal=torch.full((2,), math.nan),
        down=torch.full((2, 3), math.nan),
    )


def right(batch: Batch) -> Prediction:
    """What a perfect network says, depth up to a factor of each picture."""
    known = torch.where(batch.log_depth.isfinite(), batch.log_depth, 9.0)
    return said(
        known + torch.tensor([0.7, -2.0])[:, None, None],
        object_logit=SURE * (2 * (batch.ids > 0).float() - 1),
        focal_logits=focal_label((batch.focal / 64).log()).clamp(min=1e-9).log(),
        down=batch.down,
    )


def learning(prediction: Prediction) -> tuple[Prediction, dict[str, Tensor]]:
    """The same, asking for gradients."""
    tensors = {
        field.name: getattr(prediction, field.name).clone().requires_grad_()
        for field in fields(prediction)
        if field.name != "features"
    }
    return replace(prediction, **tensors), tensors


def test_every_term_of_a_picture_is_least_at_the_truth() -> None:
    terms = picture_losses(right(truth()), truth(), FLAT_PRIOR)
    assert terms.keys() == {"depth", "gradient", "sky", "object", "focal", "down"}
    for name in ("depth", "gradient", "sky", "object", "down"):
        assert float(terms[name]) == pytest.approx(0, abs=1e-4), name
    label = focal_label((truth().focal / 64).log())
    entropy = -(label * label.clamp(min=1e-12).log()).sum(1).mean()
    assert float(terms["focal"]) == pytest.approx(float(entropy), abs=1e-3)
    torch.manual_seed(1)
    off = said(
        torch.randn(2, *SHAPE), object_logit=torch.randn(2, *SHAPE), down=torch.tensor([[0.0, 0, 1], [1.0, 0, 0]])
    )
    wrong = picture_losses(off, truth(), FLAT_PRIOR)
    for name in ("depth", "gradient", "object", "focal", "down"):
        assert float(wrong[name]) > float(terms[name]) + 0.1, name


def test_where_nothing_is_known_nothing_is_learnt() -> None:
    torch.manual_seed(2)
    prediction, tensors = learning(said(torch.randn(2, *SHAPE), object_logit=torch.randn(2, *SHAPE)))
    terms = picture_losses(prediction, nothing_known(), FLAT_PRIOR)
    crops = replace(
        nothing_known(), ids=torch.ones(2, CROP, CROP).long(), log_depth=torch.full((2, CROP, CROP), -math.inf)
    )
    shown, more = learning(said(torch.randn(2, CROP, CROP), relief=torch.randn(2, CROP, CROP)))
    terms |= relief_losses(shown, crops, torch.ones(2), STEP)
    no_masks = torch.zeros(2, 3, *SHAPE, dtype=torch.bool)
    terms["within"] = object_relief(prediction.log_depth, nothing_known().log_depth, no_masks)
    logits = torch.randn(2, 3, *SHAPE, requires_grad=True)
    answers = Answers(logits, torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3, 4))
    unknown = torch.zeros(2, *SHAPE, dtype=torch.bool)
    absent = torch.zeros(2, 3, dtype=torch.bool)
    terms |= answer_losses(answers, no_masks, unknown, absent, torch.full((2, 3), -1))
    assert {name: term.item() for name, term in terms.items()} == dict.fromkeys(terms, 0.0)
    torch.stack(list(terms.values())).sum().backward()
    for name, value in {**tensors, **{f"crop {key}": value for key, value in more.items()}, "logits": logits}.items():
        assert value.grad is None or not value.grad.any(), name


def test_unknown_places_give_finite_gradients() -> None:
    """Sky, unknown depth, gravity and focal length beside known ones."""
    batch = truth()
    batch.log_depth[0, :3], batch.log_depth[0, 3:5] = math.inf, -math.inf
    batch.log_depth[1] = math.inf
    batch.focal[1], batch.down[1] = math.nan, math.nan
    batch.ids[0, :, :4] = -1
    batch.exhaustive[1] = False
    torch.manual_seed(3)
    prediction, tensors = learning(said(torch.randn(2, *SHAPE)))
    terms = picture_losses(prediction, batch, FLAT_PRIOR)
    assert all(bool(term.isfinite()) for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    for name, value in tensors.items():
        assert value.grad is None or bool(value.grad.isfinite().all()), name
    assert tensors["object_logit"].grad is not None
    assert not tensors["object_logit"].grad[0, :, :4].any()
    assert not tensors["object_logit"].grad[1][batch.ids[1] == 0].any()  # not labelled is not empty


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_depth_is_aligned_by_the_median_of_what_is_known(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    predicted, target = torch.rand(2, 2, 5, 7, generator=rng)
    target[:, 0], target[:, 1, :3] = math.inf, -math.inf
    residual, valid = aligned(predicted, target)
    assert torch.equal(valid, target.isfinite())
    for index in range(2):
        some = (predicted - target)[index][valid[index]]
        assert torch.allclose(residual[index][valid[index]], some - some.median(), atol=1e-6)
    assert not residual[~valid].any()
    moved, _ = aligned(predicted + 3, target)
    assert torch.allclose(moved, residual, atol=1e-5)


def test_slopes_are_differences_over_known_neighbours() -> None:
    columns = torch.arange(16.0)[None, None].expand(1, 12, 16)
    valid = torch.ones(1, 12, 16, dtype=torch.bool)
    # Along rows 0.1 per cell, over 1, 2, 4 and 8 cells; along columns nothing.
    assert float(slopes(0.1 * columns, valid)) == pytest.approx(0.1 * (1 + 2 + 4 + 8) / 8, rel=1e-5)
    broken = torch.where(columns < 8, columns, 1000.0)
    assert float(slopes(0.1 * broken, columns < 8)) == pytest.approx(0.1 * (1 + 2 + 4) / 8, rel=1e-5)


def test_the_best_error_is_the_mean_deviation() -> None:
    """A Laplace distribution's scale is its mean absolute deviation."""
    batch = truth(log_depth=torch.zeros(2, *SHAPE))
    deviation = np.random.default_rng(0).laplace(0, 0.3, (2, *SHAPE)).astype(np.float32)
    predicted = torch.from_numpy(deviation)
    scale = float(aligned(predicted, batch.log_depth)[0].abs().mean())
    at = [
        float(picture_losses(said(predicted, log_error=torch.full_like(predicted, s)), batch, FLAT_PRIOR)["depth"])
        for s in np.log(scale * np.array([0.7, 1, 1.4]))
    ]
    assert at[1] < min(at[0], at[2])


def test_the_sky_must_be_as_far_as_the_farthest_that_is_known() -> None:
    batch = truth()
    batch.log_depth[:, :2] = math.inf
    farthest = batch.log_depth[:, 2:].flatten(1).amax(1)[:, None, None]
    for short in (0.0, 0.5):
        prediction = said(torch.where(batch.log_depth.isfinite(), batch.log_depth, farthest - short) + 4.0)
        assert float(picture_losses(prediction, batch, FLAT_PRIOR)["sky"]) == pytest.approx(short, abs=1e-5)
    beyond = said(torch.where(batch.log_depth.isfinite(), batch.log_depth, farthest + 7))
    assert float(picture_losses(beyond, batch, FLAT_PRIOR)["sky"]) == 0


def tilted(normal: np.ndarray, focal_share: float, side: int = CROP) -> Tensor:
    """Log depth of the plane n . X = 1 in a square picture."""
    place = (torch.arange(side) + 0.5 - side / 2) / side / focal_share
    x, y = place[None, :].expand(side, side), place[:, None].expand(side, side)
    return -torch.log(normal[0] * x + normal[1] * y + normal[2]).float()


@pytest.mark.parametrize("focal_share", [1.0, 3.0])
@pytest.mark.parametrize("normal", [(0.0, 0.0, 1.0), (0.3, -0.2, 1.0), (-0.4, 0.1, 0.9)])
def test_the_normals_of_a_plane(normal: tuple[float, float, float], focal_share: float) -> None:
    n = np.array(normal)
    log_depth = tilted(n, focal_share)[None]
    made, known = normals(log_depth, torch.tensor([focal_share]), STEP)
    assert not known[0, 0].any()
    assert not known[0, :, -1].any()
    assert known[0, 1:-1, 1:-1].all()
    expected = torch.from_numpy(-n / np.linalg.norm(n)).float()
    assert torch.allclose(made[0, :, 1:-1, 1:-1], expected[:, None, None].expand(3, CROP - 2, CROP - 2), atol=2e-3)
    broken = log_depth.clone()
    broken[0, 10, 10], broken[0, :, 18:] = math.nan, broken[0, :, 18:] + 5
    made, known = normals(broken, torch.tensor([focal_share]), STEP)
    assert bool(made.isfinite().all())
    assert not known[0, 10, 9]
    assert not known[0, 9, 10]
    assert not known[0, :, 17:19].any() or focal_share < 2  # no jump
    assert known[0, 5, 5]


@pytest.mark.parametrize("focal_share", [1.0, 3.0])
def test_every_term_of_a_crop_is_0_at_the_truth(focal_share: float) -> None:
    normal = np.array([0.3, -0.2, 1.0])
    log_depth = tilted(normal, focal_share)[None].repeat(2, 1, 1)
    ids = torch.zeros(2, CROP, CROP).long()
    ids[:, 3:20, 4:21] = 1
    batch = truth(ids=ids, log_depth=torch.where(ids == 1, log_depth, -math.inf))
    shares = torch.full((2,), focal_share)
    unit = torch.from_numpy(-normal / np.linalg.norm(normal)).float()[:, None, None].expand(2, 3, CROP, CROP)
    perfect = said(torch.zeros(2, CROP, CROP), relief=focal_share * log_depth + 0.4, normal=unit)
    terms = relief_losses(perfect, batch, shares, STEP)
    assert terms.keys() == {"relief", "relief_gradient", "relief_shape", "normal"}
    for name, term in terms.items():
        assert float(term) == pytest.approx(0, abs=2e-3), name
    flat = relief_losses(said(torch.zeros(2, CROP, CROP)), batch, shares, STEP)
    assert all(float(flat[name]) > 0.02 for name in terms)
    assert float(flat["relief_shape"]) == pytest.approx(1, abs=1e-3)


def test_objects_of_few_cells_have_no_relief() -> None:
    ids = torch.zeros(2, CROP, CROP).long()
    ids[:, 3:7, 3:8] = 1
    batch = truth(ids=ids, log_depth=torch.rand(2, CROP, CROP))
    terms = relief_losses(said(torch.rand(2, CROP, CROP)), batch, torch.ones(2), STEP)
    assert all(float(term) == 0 for term in terms.values())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_the_correlation_is_pearsons(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 2, 6, 7)).astype(np.float32)
    valid = rng.random((2, 6, 7)) < 0.7
    made = correlation(torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(valid))
    for index in range(2):
        expected = np.corrcoef(a[index][valid[index]], b[index][valid[index]])[0, 1]
        assert float(made[index]) == pytest.approx(expected, abs=1e-3)


def test_the_relief_of_objects_knows_no_distance() -> None:
    batch = truth()
    masks = torch.stack([batch.ids == 1, batch.ids == 2, batch.ids == 7], 1)
    moved = batch.log_depth + 3.0 * (batch.ids == 1) - 1.0 * (batch.ids == 2)
    assert float(object_relief(moved, batch.log_depth, masks)) == pytest.approx(0, abs=1e-5)
    # One half of each object 0.2 too far, the other 0.2 too near.
    side = torch.zeros(SHAPE)
    side[:, 2:7] = torch.tensor([1.0, 1, 0, -1, -1])
    error = object_relief(batch.log_depth + 0.2 * side, batch.log_depth, masks[:, :1])
    assert float(error) == pytest.approx(0.2 * 4 / 5, abs=1e-5)
    unknown = torch.full_like(batch.log_depth, -math.inf)
    assert float(object_relief(moved, unknown, masks)) == 0


def answers_for(masks: Tensor, logit: float) -> Answers:
    count = masks.shape[:2]
    fit = torch.full(count, SURE)
    return Answers(
        logit * (2 * masks.float() - 1),
        fit,
        fit,
        SURE * torch.nn.functional.one_hot(torch.ones(count).long(), 4).float(),
    )


def test_right_answers_cost_nothing() -> None:
    batch = truth()
    masks = torch.stack([batch.ids == 1, batch.ids == 2], 1)
    known, present = batch.ids >= 0, torch.ones(2, 2, dtype=torch.bool)
    nouns = torch.ones(2, 2).long()
    terms = answer_losses(answers_for(masks, SURE), masks, known, present, nouns)
    for name in ("dice", "mask", "fit"):
        assert float(terms[name]) == pytest.approx(0, abs=1e-4), name
    inverted = answer_losses(answers_for(~masks, SURE), masks, known, present, nouns)
    for name in ("dice", "mask", "fit"):
        assert float(inverted[name]) > 0.5, name
    other = answer_losses(answers_for(masks, SURE), masks, known, present, 2 * nouns)
    assert float(other["noun"]) > float(terms["noun"]) + 10
    # What is unknown does not count, nor do prompts about nothing, nor objects without a name.
    changed = answers_for(masks, SURE)
    changed.logits[:, :, :, :8] *= -1
    unknown = known.clone()
    unknown[:, :, :8] = False
    assert float(answer_losses(changed, masks, unknown, present, nouns)["mask"]) == pytest.approx(0, abs=1e-4)
    second = torch.tensor([[False, True], [False, True]])
    half = answers_for(masks, SURE)
    half.logits[:, 0] *= -1
    assert float(answer_losses(half, masks, known, second, nouns)["dice"]) == pytest.approx(0, abs=1e-4)
    assert float(answer_losses(half, masks, known, present, nouns - 2)["noun"]) == 0


def test_the_intersection_over_union_is_of_masks_where_these_are_known() -> None:
    target = torch.zeros(1, 1, *SHAPE, dtype=torch.bool)
    target[..., 2:6, 2:6] = True
    logits = torch.full((1, 1, *SHAPE), -1.0)
    logits[..., 4:8, 2:6] = 1.0
    known = torch.ones(1, *SHAPE, dtype=torch.bool)
    assert float(intersection_over_union(logits, target, known)) == pytest.approx(8 / 24)
    known[:, 6:] = False
    assert float(intersection_over_union(logits, target, known)) == pytest.approx(8 / 16)


def test_the_focal_length_prior_is_taken_out_of_what_is_learnt() -> None:
    """Where the pictures say nothing, the loss is least for logits of 0, however uneven the focal lengths are."""
    rng = torch.Generator().manual_seed(0)
    focals = 0.2 + 0.1 * torch.randn(4000, generator=rng)
    prior = focal_label(focals).mean(dim=0).clamp_min(1e-6).log()
    logits = torch.zeros(FOCAL_BINS, requires_grad=True)
    focal_loss((logits + prior).expand(4000, -1), focals).mean().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-3
    assert torch.allclose(focal_label(focal_bins()[[4]]).sum(), torch.ones(()))
    assert int(focal_label(focal_bins()[[4]]).argmax()) == 4


def test_a_mean_over_nothing_is_0() -> None:
    values = torch.tensor([1.0, math.nan, 3.0])
    assert float(mean_of(values, torch.tensor([True, False, True]))) == 2
    assert float(mean_of(values, torch.zeros(3, dtype=torch.bool))) == 0
