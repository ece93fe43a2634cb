"""Objects by clicks and boxes: the places that are asked about are those of the photo."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor

from scenegen.errors import InputError
from scenegen.perception import embedded, prompted
from scenegen.perception.network import (
    CORNER_HIGH,
    CORNER_LOW,
    INSIDE,
    OUTSIDE,
    STRIDE,
    Answers,
    Prediction,
    Prompts,
    places,
)
from scenegen.perception.prompted import Prompt, PromptedObject, answer
from scenegen.runtime import Runtime
from tests.perception.said import Scripted, said

SIZES = [(90, 130), (130, 90), (300, 800)]
"""Heights and widths of photos whose copies have a slightly other shape."""


def seen(pictures: Tensor) -> Prediction:
    return said(torch.zeros(1, pictures.shape[2] // STRIDE, pictures.shape[3] // STRIDE))


def by_place(shape: tuple[int, int], prompts: Prompts) -> Answers:
    """A box's inside; for clicks, what is nearer to those inside than to those outside, and within a tenth of the picture."""
    cells = places(*shape, torch.device("cpu"))
    points = {kind: prompts.points[0, 0][prompts.kinds[0, 0] == kind] for kind in range(5)}
    if len(points[CORNER_LOW]):
        low, high = points[CORNER_LOW][0], points[CORNER_HIGH][0]
        mask = ((cells > low) & (cells < high)).all(-1)
    else:
        near = (cells[:, :, None] - points[INSIDE]).norm(dim=-1).amin(-1)
        far = (cells[:, :, None] - points[OUTSIDE]).norm(dim=-1)
        mask = (near < 0.1) & (far > near[..., None]).all(-1)
    logits = (2 * mask.float() - 1)[None, None]
    return Answers(logits, torch.full((1, 1), 1.5), torch.zeros(1, 1), torch.tensor([[[0.0, 3.0]]]))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Asks about a grey photo of a size; notes the prompts."""
    monkeypatch.setattr(embedded, "_kept", OrderedDict())

    def ask(size: tuple[int, int], prompt: Prompt) -> tuple[PromptedObject, Prompts]:
        image = np.full((*size, 3), 128, np.uint8)
        shapes: list[tuple[int, int]] = []

        def noted(pictures: Tensor) -> Prediction:
            prediction = seen(pictures)
            shapes.append(tuple(prediction.log_depth.shape[1:]))  # type: ignore[arg-type]
            return prediction

        network = Scripted(seen=noted, answer=lambda prompts: by_place(shapes[-1], prompts))
        embedded._kept.clear()
        monkeypatch.setattr(embedded, "network_of", lambda runtime: network)
        monkeypatch.setattr(prompted, "network_of", lambda runtime: network)
        made = answer(image, prompt, Runtime(device="cpu"))
        return made, network.decoder.asked[-1]

    return ask


def middle(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()) + 0.5, float(rows.mean()) + 0.5


@pytest.mark.parametrize("size", SIZES)
def test_a_click_is_where_the_photo_shows_it(asked, size: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    height, width = size
    for u, v in ((0.5 * width, 0.5 * height), (0.3 * width, 0.6 * height), (0.7 * width, 0.35 * height)):
        made, _ = asked(size, Prompt(inside=((u, v),)))
        assert made.mask.shape == size
        assert middle(made.mask) == pytest.approx((u, v), abs=0.02 * max(size))
    assert made.score == pytest.approx(1 / (1 + np.exp(-1.5)), abs=1e-5)
    assert made.noun == "cup"
    assert made.noun_confidence == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_a_box_is_where_the_photo_shows_it(asked, size: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    height, width = size
    box = (0.2 * width, 0.3 * height, 0.75 * width, 0.8 * height)
    made, prompts = asked(size, Prompt(box=box))
    rows, columns = np.nonzero(made.mask)
    drawn = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert drawn == pytest.approx(box, abs=1.2 * STRIDE * max(1, max(size) / embedded.WORKING_SIDE))
    assert prompts.kinds.tolist() == [[[CORNER_LOW, CORNER_HIGH]]]


def test_every_point_keeps_its_kind(asked) -> None:  # type: ignore[no-untyped-def]
    prompt = Prompt(inside=((60, 40), (65, 45)), outside=((10, 10),), box=(40, 30, 90, 60))
    _, prompts = asked((96, 128), prompt)
    assert prompts.kinds.tolist() == [[[INSIDE, INSIDE, CORNER_LOW, CORNER_HIGH, OUTSIDE]]]
    expected = (np.array([(60, 40), (65, 45), (40, 30), (90, 60), (10, 10)]) - (64, 48)) / 128
    np.testing.assert_allclose(prompts.points[0, 0].numpy(), expected, atol=1e-6)


def test_a_click_outside_takes_away(asked) -> None:  # type: ignore[no-untyped-def]
    more, _ = asked((96, 128), Prompt(inside=((60, 40),)))
    less, _ = asked((96, 128), Prompt(inside=((60, 40),), outside=((66, 40),)))
    assert 0 < less.mask.sum() < more.mask.sum()
    assert not less.mask[40, 70]


@pytest.mark.parametrize(
    ("prompt", "said_of_it"),
    [
        (Prompt(), "neither a click inside the object nor a box"),
        (Prompt(outside=((5, 5),)), "neither a click inside the object nor a box"),
        (Prompt(inside=((130.5, 5),)), "outside the photo, which is 130x90"),
        (Prompt(inside=((5, 5),), outside=((5, -1),)), "outside the photo"),
        (Prompt(inside=((float("nan"), 5),)), "outside the photo"),
        (Prompt(box=(10, 10, 131, 20)), "outside the photo"),
        (Prompt(box=(30, 10, 20, 40)), "box"),
        (Prompt(box=(30, 10, 40, 10)), "box"),
    ],
)
def test_prompts_that_mean_nothing_are_refused(asked, prompt: Prompt, said_of_it: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=said_of_it):
        asked((90, 130), prompt)
