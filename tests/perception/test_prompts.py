"""Prompts as everybody writes them: pixels of the photo as given, checked, in order."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenegen.config import EmbeddedSegmentConfig, SamConfig, load_config
from scenegen.errors import UsageError
from scenegen.perception.prompts import Prompt, answered, check_prompt, configured_prompts

GUESSES = ((("cup", 0.9),), (("pan", 0.3),), (("table", 0.8),))
CLICK, TWO = (20.0, 30.0), [[80, 40], [95, 40.5, 0]]


@pytest.mark.parametrize("config", [EmbeddedSegmentConfig, SamConfig])
def test_short_spellings_stand_for_the_long_one(config: type) -> None:
    made = config(points=[CLICK, TWO, [[1, 2, 1]]], boxes=[[0, 1, 2, 3]])
    assert made.points == (((20, 30, 1),), ((80, 40, 1), (95, 40.5, 0)), ((1, 2, 1),))
    assert config.model_validate(made.model_dump(mode="json")) == made
    first, second, third, fourth = configured_prompts(made.boxes, made.points, (100, 100))
    assert first == Prompt(box=(0, 1, 2, 3))
    assert second == Prompt(inside=(CLICK,))
    assert third == Prompt(inside=((80, 40),), outside=((95, 40.5),))
    assert fourth == Prompt(inside=((1, 2),))


@pytest.mark.parametrize(
    "text", ["[[1]]", "[[1, 2, 3]]", "[[[1, 2, 0.5]]]", "[[]]", "[5]", "x", "[[.nan, 2]]", "[[[1, 2], 3]]"]
)
def test_what_is_no_click_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match=r"segment\.points"):
        load_config(overrides=[f"segment.points={text}"])


@pytest.mark.parametrize(
    ("prompt", "said_of_it"),
    [
        (Prompt(), "neither a click inside the object nor a box"),
        (Prompt(outside=((5, 5),)), "neither a click inside the object nor a box"),
        (Prompt(inside=((130.5, 5),)), "130.5,5, which lies outside the photo of 130x90"),
        (Prompt(inside=((5, 5),), outside=((5, -1),)), "outside the photo"),
        (Prompt(inside=((float("nan"), 5),)), "outside the photo"),
        (Prompt(box=(10, 10, 131, 20)), "outside the photo"),
        (Prompt(box=(30, 10, 20, 40)), "30,10,20,40, which has no area"),
        (Prompt(box=(30, 10, 40, 10)), "no area"),
    ],
)
def test_prompts_that_mean_nothing_are_refused(prompt: Prompt, said_of_it: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said_of_it)):
        check_prompt(prompt, 130, 90)


sides = st.integers(1, 4000)


@given(sides, sides, sides, sides, st.data())
def test_a_prompt_in_a_photo_is_one_in_its_copy(
    width: int, height: int, smaller: int, lower: int, data: st.DataObject
) -> None:
    point = data.draw(st.tuples(st.floats(0, width), st.floats(0, height)))
    prompt = Prompt(inside=(point,), outside=(point,), box=(0, 0, width, height))
    check_prompt(prompt, width, height)
    scaled = prompt.scaled(smaller / width, lower / height)
    assert scaled.inside == scaled.outside
    assert scaled.inside[0] == pytest.approx((point[0] * smaller / width, point[1] * lower / height))
    assert scaled.box == pytest.approx((0, 0, smaller, lower))


def test_prompts_without_pixels_are_named_and_the_others_keep_their_order() -> None:
    masks = np.zeros((3, 8, 10), bool)
    masks[0, 2:4, 2:4] = True
    masks[2] = True
    found = answered(masks, (0.5, 0.6, 0.7), ("cup", "object", "table"), (0.9, None, 0.8), "net", "L", GUESSES)
    assert (found.scores, found.labels, found.label_confidences) == ((0.5, 0.7), ("cup", "table"), (0.9, 0.8))
    assert found.guesses == (GUESSES[0], GUESSES[2])
    np.testing.assert_array_equal(found.ids, np.where(masks[0], 1, 2))
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("segment: prompt 2 of 3")
    assert answered(masks[:1], (0.5,), ("cup",), (0.9,), "net", "L").warnings == ()
