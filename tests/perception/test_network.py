"""The perception network: shapes, what must not depend on what, and the closed forms around it."""

from __future__ import annotations

import math

import pytest
import torch

from scenegen.perception import network
from scenegen.perception.network import (
    ABSENT,
    CORNER_HIGH,
    CORNER_LOW,
    FOCAL_BINS,
    INSIDE,
    OUTSIDE,
    STRIDE,
    Answers,
    PerceptionNetwork,
    PerceptionSettings,
    Prompts,
    focal_bins,
    log_focal,
    places,
)
from scenegen.perception.nouns import NOUNS, SYNONYMS, noun_number
from tests.perception.said import TINY


@pytest.fixture(scope="module")
def untrained() -> PerceptionNetwork:
    torch.manual_seed(0)
    return PerceptionNetwork(TINY).eval().requires_grad_(False)


def asked(*points: tuple[float, float, int]) -> Prompts:
    """One prompt about one picture."""
    values = torch.tensor(points, dtype=torch.float32)[None, None]
    return Prompts(values[..., :2], values[..., 2].long())


def alike(first: Answers, second: Answers) -> bool:
    return all(
        torch.allclose(getattr(first, name), getattr(second, name), atol=1e-4)
        for name in ("logits", "fit", "object_logit", "nouns")
    )


@pytest.mark.parametrize(("height", "width"), [(64, 96), (96, 64)])
def test_every_output_has_its_shape(untrained: PerceptionNetwork, height: int, width: int) -> None:
    prediction = untrained(torch.rand(2, 3, height, width))
    cells = (height // STRIDE, width // STRIDE)
    for plane in ("log_depth", "log_error", "relief", "relief_log_error", "object_logit"):
        assert getattr(prediction, plane).shape == (2, *cells)
    assert prediction.normal.shape == (2, 3, *cells)
    assert prediction.focal_logits.shape == (2, FOCAL_BINS)
    assert torch.allclose(prediction.down.norm(dim=1), torch.ones(2))
    assert torch.allclose(prediction.normal.norm(dim=1), torch.ones(2, *cells), atol=1e-5)
    answers = untrained.decoder(prediction.features, Prompts(torch.rand(2, 5, 3, 2) - 0.5, torch.zeros(2, 5, 3).long()))
    assert answers.logits.shape == (2, 5, *cells)
    assert answers.fit.shape == answers.object_logit.shape == (2, 5)
    assert answers.nouns.shape == (2, 5, len(TINY.nouns))


def test_pictures_of_a_batch_do_not_touch(untrained: PerceptionNetwork) -> None:
    pictures = torch.rand(2, 3, 64, 64)
    both, one = untrained(pictures), untrained(pictures[1:])
    assert torch.allclose(both.log_depth[1], one.log_depth[0], atol=1e-4)
    assert torch.allclose(both.down[1], one.down[0], atol=1e-4)


def test_prompts_do_not_touch_each_other(untrained: PerceptionNetwork) -> None:
    features = untrained(torch.rand(1, 3, 64, 96)).features
    first, second = asked((0.1, 0.2, INSIDE)), asked((-0.3, 0.0, INSIDE))
    both = untrained.decoder(
        features, Prompts(torch.cat([first.points, second.points], 1), torch.cat([first.kinds, second.kinds], 1))
    )
    alone = untrained.decoder(features, second)
    assert torch.allclose(both.logits[:, 1:], alone.logits, atol=1e-4)
    assert not torch.allclose(both.logits[:, :1], alone.logits, atol=1e-2)


def test_absent_points_say_nothing(untrained: PerceptionNetwork) -> None:
    features = untrained(torch.rand(1, 3, 64, 96)).features
    click = untrained.decoder(features, asked((0.1, 0.2, INSIDE)))
    for place in ((0.4, 0.1), (-0.2, -0.3)):
        assert alike(untrained.decoder(features, asked((0.1, 0.2, INSIDE), (*place, ABSENT))), click)
    assert not alike(untrained.decoder(features, asked((0.1, 0.2, INSIDE), (0.4, 0.1, OUTSIDE))), click)


def test_the_order_of_the_points_does_not_matter(untrained: PerceptionNetwork) -> None:
    features = untrained(torch.rand(1, 3, 64, 96)).features
    points = ((-0.1, -0.2, CORNER_LOW), (0.1, 0.2, CORNER_HIGH), (0.0, 0.3, OUTSIDE))
    assert alike(untrained.decoder(features, asked(*points)), untrained.decoder(features, asked(*points[::-1])))


@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_the_quadratic_of_the_place_is_centred_on_the_prompt(
    untrained: PerceptionNetwork, shape: tuple[int, int]
) -> None:
    """Around a click or the middle of a box; clicks outside the object and absent ones do not move it."""
    terms = torch.randn(1, 2, network.PLACE_TERMS, dtype=torch.float64).float()
    points = torch.tensor([[[0.1, -0.2], [0.4, 0.4], [0.3, 0.3]], [[-0.3, 0.0], [0.1, 0.2], [0.4, -0.4]]])[None]
    kinds = torch.tensor([[[INSIDE, OUTSIDE, ABSENT], [CORNER_LOW, CORNER_HIGH, OUTSIDE]]])
    made = untrained.decoder.by_place(terms, Prompts(points, kinds), shape)
    for index, (x0, y0) in enumerate(((0.1, -0.2), (-0.1, 0.1))):
        x, y = (places(*shape, torch.device("cpu")) - torch.tensor([x0, y0])).unbind(-1)
        c, bx, by, xx, xy, yy = 4 * terms[0, index]
        assert torch.allclose(made[0, index], c + bx * x + by * y + xx * x**2 + xy * x * y + yy * y**2, atol=1e-4)


@pytest.mark.parametrize("shape", [(8, 16), (16, 8)])
def test_a_click_looks_at_the_cell_it_lies_in(untrained: PerceptionNetwork, shape: tuple[int, int]) -> None:
    values = torch.arange(128.0).reshape(1, 1, *shape)
    cells = places(*shape, torch.device("cpu")).flatten(0, 1)[None, :, None]
    reach = 2 * max(shape) / torch.tensor([shape[1], shape[0]])
    assert torch.allclose(network._sampled(values, cells * reach)[0, :, 0, 0], values.flatten(), atol=1e-3)


def test_bfloat16_stays_close(untrained: PerceptionNetwork) -> None:
    picture = torch.rand(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        half = untrained(picture)
    full = untrained(picture)
    assert half.log_depth.dtype == half.object_logit.dtype == half.focal_logits.dtype == torch.float32
    assert (half.log_depth - full.log_depth).abs().max() < 0.1 * (1 + full.log_depth.abs().max())


def test_it_fits_in_a_package() -> None:
    with torch.device("meta"):
        whole = PerceptionNetwork(PerceptionSettings(nouns=NOUNS))
    assert sum(value.numel() for value in whole.parameters()) < 12e6


def test_cells_are_where_their_pixels_are() -> None:
    x, y = (places(3, 5, torch.device("cpu")) * 5 * STRIDE).unbind(-1)
    assert x[0].tolist() == pytest.approx([-8, -4, 0, 4, 8])
    assert y[:, 0].tolist() == pytest.approx([-4, 0, 4])
    assert (x == x[:1]).all()
    assert (y == y[:, :1]).all()


def test_what_the_picture_says_of_the_focal_length_is_weighed_with_what_is_usual() -> None:
    logits = torch.full((3, FOCAL_BINS), -50.0 * network.FOCAL_TEMPERATURE)
    logits[0, 7] = 0
    logits[1, [3, 5]] = 0
    logits[2] = 0  # it says nothing
    mean, error = log_focal(logits)
    bins = focal_bins()
    weights = torch.exp(-0.5 * ((bins - math.log(network.PHOTO_FOCAL)) / network.PHOTO_FOCAL_SPREAD) ** 2)
    both = (weights[3] * bins[3] + weights[5] * bins[5]) / (weights[3] + weights[5])
    assert torch.allclose(mean, torch.stack([bins[7], both, torch.tensor(math.log(network.PHOTO_FOCAL))]), atol=0.01)
    assert float(error[0]) == pytest.approx(0, abs=1e-3)
    assert float(error[2]) == pytest.approx(network.PHOTO_FOCAL_SPREAD, rel=0.02)


def test_names_of_data_sets_mean_everyday_nouns() -> None:
    assert list(NOUNS) == sorted(set(NOUNS))
    assert set(SYNONYMS.values()) <= set(NOUNS)
    assert not set(SYNONYMS) & set(NOUNS)
    assert NOUNS[noun_number("sofa")] == "couch"
    assert noun_number("couch") == noun_number("sofa")
    assert noun_number("smartwatch strap") == -1
