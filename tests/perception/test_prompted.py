"""Objects by clicks and boxes: the places that are asked about are those of the photo."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from scenegen.compute.recent import Recent
from scenegen.compute.runtime import Runtime
from scenegen.config import EmbeddedSegmentConfig
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
from scenegen.perception.prompted import PromptedObject, answer, name_objects, segment_prompted
from scenegen.perception.prompts import Prompt
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
def scripted(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Gives grey photos of a size, about which the network answers by place; the network is `scripted.network`."""
    monkeypatch.setattr(embedded, "_recent", Recent(embedded.KEPT))

    def photo(size: tuple[int, int]) -> np.ndarray:
        shapes: list[tuple[int, int]] = []

        def noted(pictures: Tensor) -> Prediction:
            prediction = seen(pictures)
            shapes.append(tuple(prediction.log_depth.shape[1:]))  # type: ignore[arg-type]
            return prediction

        photo.network = Scripted(seen=noted, answer=lambda prompts: by_place(shapes[-1], prompts))  # type: ignore[attr-defined]
        embedded._recent.forget()
        monkeypatch.setattr(embedded, "network_of", lambda runtime: photo.network)  # type: ignore[attr-defined]
        monkeypatch.setattr(prompted, "network_of", lambda runtime: photo.network)  # type: ignore[attr-defined]
        return np.full((*size, 3), 128, np.uint8)

    return photo


@pytest.fixture
def asked(scripted):  # type: ignore[no-untyped-def]
    """Asks about a grey photo of a size; notes the prompts."""

    def ask(size: tuple[int, int], prompt: Prompt) -> tuple[PromptedObject, Prompts]:
        made = answer(scripted(size), prompt, Runtime(device="cpu"))
        return made, scripted.network.decoder.asked[-1]

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
    sure = 1 / (1 + np.exp(-3))
    assert made.guesses == (("cup", pytest.approx(sure, abs=1e-4)), ("box", pytest.approx(1 - sure, abs=1e-4)))


@pytest.mark.parametrize("size", SIZES)
def test_a_box_is_where_the_photo_shows_it(asked, size: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    height, width = size
    box = (0.2 * width, 0.3 * height, 0.75 * width, 0.8 * height)
    made, prompts = asked(size, Prompt(box=box))
    rows, columns = np.nonzero(made.mask)
    drawn = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert drawn == pytest.approx(box, abs=1.2 * STRIDE * max(1, max(size) / embedded.WORKING_SIDE))
    assert prompts.kinds.tolist() == [[[CORNER_LOW, CORNER_HIGH]]]


def test_every_point_keeps_its_kind_in_both_looks(asked, scripted) -> None:  # type: ignore[no-untyped-def]
    """All lie in the part that is looked at again: a square of 128 pixels around them, as far as the photo reaches."""
    prompt = Prompt(inside=((60, 40), (65, 45)), outside=((10, 10),), box=(40, 30, 90, 60))
    asked((96, 128), prompt)
    first, second = scripted.network.decoder.asked
    points = np.array([(60, 40), (65, 45), (40, 30), (90, 60), (10, 10)])
    # Of the network's copy of the part, 114x96 pixels, the height is five sixths of the width.
    for prompts, expected in ((first, (points - (64, 48)) / 128), (second, (points / (114, 96) - 0.5) * (1, 5 / 6))):
        assert prompts.kinds.tolist() == [[[INSIDE, INSIDE, CORNER_LOW, CORNER_HIGH, OUTSIDE]]]
        np.testing.assert_allclose(prompts.points[0, 0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("height", [600, 1200])
def test_the_second_look_is_at_the_box_alone(asked, height: int) -> None:  # type: ignore[no-untyped-def]
    """So a small box is large in it, but no larger than if it were a little less small."""
    made, prompts = asked((height, 800), Prompt(box=(400, 300, 460, 320)))
    low, high = prompts.points[0, 0]
    assert float(high[0] - low[0]) == pytest.approx(60 / (1.6 * 0.15 * max(height, 800)), abs=0.01)
    rows, columns = np.nonzero(made.mask)
    drawn = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert drawn == pytest.approx((400, 300, 460, 320), abs=STRIDE * height / embedded.WORKING_SIDE)


def test_the_second_look_is_at_the_first_answer_to_a_click(asked) -> None:  # type: ignore[no-untyped-def]
    """A disc of a tenth of the photo's longer side around the click, once; of the window's, the second time."""
    made, prompts = asked((96, 128), Prompt(inside=((50, 40),)))
    np.testing.assert_allclose(prompts.points[0, 0].numpy(), [[0, 0]], atol=0.03)
    assert 0.1 * 1.6 * 0.2 * 128 - 2 < np.sqrt(made.mask.sum() / np.pi) < 0.1 * 128 + 2


def test_a_click_outside_takes_away(asked) -> None:  # type: ignore[no-untyped-def]
    more, _ = asked((96, 128), Prompt(inside=((60, 40),)))
    less, _ = asked((96, 128), Prompt(inside=((60, 40),), outside=((66, 40),)))
    assert 0 < less.mask.sum() < more.mask.sum()
    assert not less.mask[40, 70]


def test_prompts_make_their_objects_and_no_others(scripted) -> None:  # type: ignore[no-untyped-def]
    image = scripted((96, 128))
    prompts = (Prompt(box=(10, 10, 60, 50)), Prompt(inside=((100, 70),)), Prompt(inside=((100, 70),)))
    found = segment_prompted(image, prompts, EmbeddedSegmentConfig(), Runtime(device="cpu"))
    assert np.unique(found.ids).tolist() == [0, 1, 2]
    assert found.ids[30, 30] == 1
    assert found.ids[70, 100] == 2
    assert "prompt 2 of 3" in found.warnings[0] or "prompt 3 of 3" in found.warnings[0]
    assert found.labels == ("cup", "cup")
    assert found.label_confidences == pytest.approx([1 / (1 + np.exp(-3))] * 2, abs=1e-4)
    strict = EmbeddedSegmentConfig(min_label_confidence=0.99)
    unsure = segment_prompted(image, prompts[:1], strict, Runtime(device="cpu"))
    assert (unsure.labels, unsure.label_confidences) == (("object",), (None,))


def test_given_masks_are_named_by_answers_about_the_same_object(scripted) -> None:  # type: ignore[no-untyped-def]
    """The answer to a box fills it: the disc does so too, the frame does not."""
    image = scripted((96, 128))
    rows, columns = np.mgrid[:96, :128]
    ids = np.zeros((96, 128), np.uint16)
    ids[(rows - 30) ** 2 + (columns - 30) ** 2 < 20**2] = 4
    ids[50:90, 60:120] = 9
    ids[55:85, 65:115] = 0
    config, runtime = EmbeddedSegmentConfig(), Runtime(device="cpu")
    names = name_objects(image, ids, [4, 9], config, runtime)
    sure = pytest.approx(1 / (1 + np.exp(-3)), abs=1e-4)
    assert names.labels == {4: ("cup", sure), 9: ("object", None)}
    assert names.guesses[4][0] == ("cup", sure)
    assert names.guesses[9] == ()
    assert name_objects(image, ids, [9], config, runtime).labels.keys() == {9}
