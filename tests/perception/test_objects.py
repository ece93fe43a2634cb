"""Objects from the answers to a grid of clicks, where the answers are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scenegen.perception.network import Answers, Prompts
from scenegen.perception.objects import HALF_SURE, FoundObject, Look, find_objects
from tests.perception.said import SURE, Scripted, said

CELLS = (24, 32)
ROWS, COLUMNS = torch.meshgrid(torch.arange(CELLS[0]), torch.arange(CELLS[1]), indexing="ij")
Reply = tuple[Tensor, float, int]
"""A mask, how sure it is, and the noun."""


def disc(row: float, column: float, radius: float) -> Tensor:
    return (ROWS - row) ** 2 + (COLUMNS - column) ** 2 < radius**2


def box(top: int, bottom: int, left: int, right: int) -> Tensor:
    return (top <= ROWS) & (bottom > ROWS) & (left <= COLUMNS) & (right > COLUMNS)


def found(
    shown: Tensor, reply: Callable[[int, int], Reply | None], least_score: float = 0.1
) -> tuple[list[FoundObject], int]:
    """What is found where objects are `shown` and the decoder answers a click at a row and column with `reply`; and how many
    clicks that took."""

    def answer(prompts: Prompts) -> Answers:
        count = prompts.points.shape[1]
        logits = torch.full((1, count, *CELLS), -SURE)
        certain = torch.full((1, count), -SURE)
        nouns = torch.zeros(1, count, 2)
        for index, (x, y) in enumerate((prompts.points[0, :, 0] * max(CELLS)).tolist()):
            given = reply(int(y + CELLS[0] / 2), int(x + CELLS[1] / 2))
            if given is not None:
                mask, score, noun = given
                logits[0, index] = SURE * (2 * mask.float() - 1)
                certain[0, index] = torch.tensor(score).logit()
                nouns[0, index, noun] = SURE
        return Answers(logits, certain, torch.full_like(certain, 20.0), nouns)

    network = Scripted(answer=answer)
    prediction = said(torch.zeros(1, *CELLS), object_logit=SURE * (2 * shown.float()[None] - 1))
    objects = find_objects(network, [Look(prediction)], least_score)
    return objects, sum(prompts.points.shape[1] for prompts in network.decoder.asked)


def enough(clicks: int) -> float:
    """What so many agreeing clicks leave of a score."""
    return clicks / (clicks + HALF_SURE)


def about(*objects: Reply) -> Callable[[int, int], Reply | None]:
    """Answers every click with the object it lies on."""
    return lambda row, column: next((each for each in objects if each[0][row, column]), None)


def test_clicks_that_agree_are_one_object_and_the_surest_comes_first() -> None:
    """Alike in size, each is clicked at in as many places of the coarse grid as it has."""
    left, right = box(4, 12, 4, 12), box(12, 20, 16, 24)
    objects, clicks = found(left | right, about((right, 0.8, 1), (left, 0.9, 0)))
    assert clicks == 8
    assert np.array_equal(objects[0].probability > 0.5, left.numpy())
    assert np.array_equal(objects[1].probability > 0.5, right.numpy())
    assert [each.score for each in objects] == pytest.approx([0.9 * enough(4), 0.8 * enough(4)], abs=1e-4)
    assert [int(each.nouns.argmax()) for each in objects] == [0, 1]
    assert all(each.nouns.max() > 0.99 for each in objects)


def test_what_more_clicks_agree_on_is_surer() -> None:
    small, large = box(4, 8, 4, 8), box(8, 20, 16, 28)
    objects, _ = found(small | large, about((small, 0.8, 0), (large, 0.8, 0)))
    assert [each.score for each in objects] == pytest.approx([0.8 * enough(9), 0.8 * enough(1)], abs=1e-4)


def test_small_objects_are_found_between_the_coarse_clicks() -> None:
    small = box(8, 10, 12, 14)
    objects, _ = found(small, about((small, 0.9, 0)))
    assert len(objects) == 1
    assert np.array_equal(objects[0].probability > 0.5, small.numpy())


def test_what_a_coarse_click_found_is_not_clicked_at_again() -> None:
    whole = box(4, 20, 4, 28)
    _, clicks = found(whole, about((whole, 0.9, 0)))
    assert clicks == 4 * 6


def test_nothing_is_found_where_nothing_is_shown_or_nothing_answers() -> None:
    nothing = torch.zeros(CELLS, dtype=torch.bool)
    assert found(nothing, about()) == ([], 0)
    assert found(disc(12, 16, 8), about())[0] == []
    assert found(disc(12, 16, 8), about((nothing, 0.9, 0)))[0] == []


def test_answers_that_are_not_sure_enough_are_left_out() -> None:
    left, right = box(8, 16, 4, 12), box(8, 16, 20, 28)
    reply = about((left, 0.45, 0), (right, 0.9, 0))
    assert len(found(left | right, reply, least_score=0.3 * enough(4))[0]) == 2
    assert len(found(left | right, reply, least_score=0.5 * enough(4))[0]) == 1
    assert len(found(left | right, about((left, 0.2, 0), (right, 0.9, 0)), least_score=0.0)[0]) == 1


def test_an_object_on_whose_clicks_few_agree_is_less_sure_and_its_parts_are_no_objects() -> None:
    """Left of the middle clicks answer the whole, right of it the right half, less surely."""
    whole, half = box(8, 16, 8, 24), box(8, 16, 16, 24)
    objects, _ = found(whole, lambda row, column: (whole, 0.9, 0) if column < 16 else (half, 0.6, 0))
    assert len(objects) == 1
    assert np.array_equal(objects[0].probability > 0.5, whole.numpy())
    assert objects[0].score == pytest.approx(0.9 * (0.5 + 0.5 * 0.5) * enough(4), abs=1e-4)


def looked(mask: Tensor, window: tuple[float, float, float, float] | None = None) -> tuple[Scripted, Look]:
    """A network, and its look in which every click on `mask` is answered by it."""
    network = Scripted(
        answer=lambda prompts: Answers(
            (SURE * (2 * mask.float() - 1)).expand(1, prompts.points.shape[1], *CELLS),
            torch.full((1, prompts.points.shape[1]), 3.0),
            torch.full((1, prompts.points.shape[1]), 20.0),
            torch.zeros(1, prompts.points.shape[1], 2),
        )
    )
    prediction = said(torch.zeros(1, *CELLS), object_logit=SURE * (2 * mask.float()[None] - 1))
    return network, Look(prediction) if window is None else Look(prediction, window)


def test_what_is_seen_in_a_part_of_the_photo_lies_in_its_window() -> None:
    """The middle eighth of a window that is the photo's lower right quarter, on cells twice as fine."""
    network, part = looked(box(9, 15, 12, 20), (0.5, 0.5, 1.0, 1.0))
    _, whole = looked(torch.zeros(CELLS, dtype=torch.bool))
    (only,) = find_objects(network, [whole, part], 0.1)
    expected = np.zeros((48, 64), bool)
    expected[24 + 9 : 24 + 15, 32 + 12 : 32 + 20] = True
    assert np.array_equal(only.probability > 0.5, expected)


@pytest.mark.parametrize(
    ("window", "objects"),
    [((0.0, 0.0, 0.6, 0.6), 1), ((0.4, 0.0, 1.0, 0.6), 0), ((0.0, 0.0, 1.0, 1.0), 1)],
    ids=["at the photo's border", "cut by the window", "whole"],
)
def test_what_a_window_cuts_is_no_object_of_it(window: tuple[float, float, float, float], objects: int) -> None:
    network, part = looked(box(8, 16, 0, 12), window)
    _, whole = looked(torch.zeros(CELLS, dtype=torch.bool))
    assert len(find_objects(network, [whole, part], 0.1)) == objects


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_separate_objects_are_counted_right(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    masks = []
    for number in range(count):
        row, column = divmod(number, 3)
        top, left = 12 * row + int(rng.integers(1, 4)), 10 * column + int(rng.integers(1, 4))
        masks.append(box(top, top + int(rng.integers(4, 8)), left, left + int(rng.integers(4, 6))))
    objects, _ = found(torch.stack(masks).any(0), about(*((mask, 0.8, 0) for mask in masks)), 0.0)
    assert len(objects) == count
    for mask in masks:
        assert any(np.array_equal(each.probability > 0.5, mask.numpy()) for each in objects)
