"""Simulated prompts lie where they are said to."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scenegen.perception.network import ABSENT, CORNER_HIGH, CORNER_LOW, INSIDE, OUTSIDE
from scenegen.train import prompting
from scenegen.train.pool import Batch
from scenegen.train.prompting import boxes, corrected, first_questions, random_points

ROWS, COLUMNS = 12, 20
OBJECTS, BACKGROUND = 4, 3


def scene() -> Batch:
    """Two objects and one too small to ask for, in one picture labelled exhaustively and one that is not; unknown at its left."""
    ids = torch.zeros(2, ROWS, COLUMNS, dtype=torch.long)
    ids[:, 2:8, 4:10] = 3
    ids[:, 5:11, 12:19] = 9
    ids[:, 0, 0] = 5
    ids[1, :, :2] = -1
    nouns = torch.full((2, 256), -1)
    nouns[:, 3] = 11
    return Batch(
        images=torch.rand(2, 3, 4 * ROWS, 4 * COLUMNS),
        ids=ids,
        exhaustive=torch.tensor([True, False]),
        log_depth=torch.zeros(2, ROWS, COLUMNS),
        focal=torch.full((2,), math.nan),
        down=torch.full((2, 3), math.nan),
        nouns=nouns,
    )


def cell(point: Tensor) -> tuple[int, int]:
    x, y = (point * COLUMNS).tolist()
    return math.floor(y + ROWS / 2), math.floor(x + COLUMNS / 2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000))
def test_clicks_lie_on_what_they_are_about(seed: int) -> None:
    torch.manual_seed(seed)
    batch = scene()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompting, "BOXES", 0.0)
        questions = first_questions(batch, OBJECTS, BACKGROUND)
    assert questions.targets.shape == (2, OBJECTS + BACKGROUND, ROWS, COLUMNS)
    assert questions.present.sum(1).tolist() == [2, 2]
    assert not questions.present[:, OBJECTS:].any()
    assert questions.background.tolist() == [[False] * OBJECTS + [True] * BACKGROUND, [False] * (OBJECTS + BACKGROUND)]
    assert torch.equal(questions.known, batch.ids >= 0)
    for picture in range(2):
        asked = set()
        for number in range(OBJECTS + BACKGROUND):
            kinds = questions.prompts.kinds[picture, number].tolist()
            assert kinds == [INSIDE, ABSENT]
            target = questions.targets[picture, number]
            row, column = cell(questions.prompts.points[picture, number, 0])
            if questions.present[picture, number]:
                assert target[row, column]
                object_id = int(batch.ids[picture, row, column])
                assert torch.equal(target, batch.ids[picture] == object_id)
                assert int(questions.nouns[picture, number]) == (11 if object_id == 3 else -1)
                asked.add(object_id)
            else:
                assert not target.any()
            if questions.background[picture, number]:
                assert batch.ids[picture, row, column] == 0
                assert questions.nouns[picture, number] == -1
        assert asked == {3, 9}


def test_boxes_are_tight() -> None:
    batch = scene()
    low, high = boxes(torch.stack([batch.ids[0] == 3, batch.ids[0] == 9])[None])
    expected_low = torch.tensor([[4.0 - 10, 2 - 6], [12 - 10, 5 - 6]]) / COLUMNS
    expected_high = torch.tensor([[10.0 - 10, 8 - 6], [19 - 10, 11 - 6]]) / COLUMNS
    assert torch.allclose(low[0], expected_low)
    assert torch.allclose(high[0], expected_high)
    low, high = boxes(torch.zeros(1, 1, ROWS, COLUMNS, dtype=torch.bool))
    assert bool(low.isfinite().all() & high.isfinite().all())


def test_boxes_are_asked_about_by_their_corners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompting, "BOXES", 1.0)
    monkeypatch.setattr(prompting, "BOX_JITTER", 0.0)
    questions = first_questions(scene(), OBJECTS, BACKGROUND)
    low, high = boxes(questions.targets[:, :OBJECTS])
    assert torch.equal(questions.prompts.points[:, :OBJECTS], torch.stack([low, high], 2))
    assert (questions.prompts.kinds[:, :OBJECTS] == torch.tensor([CORNER_LOW, CORNER_HIGH])).all()
    assert (questions.prompts.kinds[:, OBJECTS:, 0] == INSIDE).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000))
def test_corrections_lie_where_the_answer_is_wrong(seed: int) -> None:
    torch.manual_seed(seed)
    questions = first_questions(scene(), OBJECTS, BACKGROUND)
    right = 4.0 * (2 * questions.targets.float() - 1)
    logits = right.clone()
    logits[0] = torch.randn_like(logits[0])
    again = corrected(questions, logits, OBJECTS)
    assert again.prompts.points.shape == (2, OBJECTS, 3, 2)
    assert torch.equal(again.prompts.points[:, :, :2], questions.prompts.points[:, :OBJECTS])
    assert torch.equal(again.prompts.kinds[:, :, :2], questions.prompts.kinds[:, :OBJECTS])
    assert (again.prompts.kinds[1, :, 2] == ABSENT).all()  # nothing is wrong there
    for number in range(OBJECTS):
        row, column = cell(again.prompts.points[0, number, 2])
        target, answer = bool(again.targets[0, number, row, column]), bool(logits[0, number, row, column] > 0)
        assert target != answer
        assert int(again.prompts.kinds[0, number, 2]) == (INSIDE if target else OUTSIDE)
    thrice = corrected(again, logits[:, :OBJECTS], OBJECTS)
    assert thrice.prompts.points.shape[2] == 4


def test_nothing_is_corrected_where_nothing_is_known() -> None:
    batch = scene()
    batch.ids[:] = -1
    questions = first_questions(batch, OBJECTS, BACKGROUND)
    assert not questions.present.any()
    assert not questions.background.any()
    again = corrected(questions, torch.randn(questions.targets.shape), OBJECTS)
    assert (again.prompts.kinds[:, :, 2] == ABSENT).all()
    assert bool(again.prompts.points.isfinite().all())


def test_clicks_reach_every_cell_and_half_of_them_the_middle() -> None:
    torch.manual_seed(0)
    mask = torch.zeros(1, 1, ROWS, COLUMNS, dtype=torch.bool)
    mask[..., 1:11, 2:16] = True
    points = random_points(mask.expand(1, 4000, -1, -1))[0]
    cells = [cell(point) for point in points]
    assert set(cells) == {(row, column) for row in range(1, 11) for column in range(2, 16)}
    central = sum(4 <= row < 8 and 5 <= column < 13 for row, column in cells) / len(cells)
    assert central > 1.3 * 32 / 140
