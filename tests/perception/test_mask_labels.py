"""Names of mask pictures: what they say, and when they say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenegen.perception.mask_labels import mask_labels
from scenegen.untrusted.names import GENERIC, MAX_LABEL


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["bottle.png", "mug.png"], ("bottle", "mug")),
        (["01_coffee-mug.png", "obj_02_teddyBear.PNG"], ("coffee mug", "teddy bear")),
        (["1.png", "2.png"], ("", "")),
        (["mask_1.png", "cup mask.png"], ("", "cup")),
        (["IMG_2034_1.png", "IMG_2034_2.png"], ("", "")),
        (["kitchen_1.png", "kitchen_2.png"], ("", "")),
        (["chair_1.png", "chair_2.png"], ("chair", "chair")),
        (["Flasche.png", "Schüssel.png"], ("flasche", "schüssel")),
        (["chair.png"], ("",)),
    ],
)
def test_names_say_what_they_say(names: list[str], labels: tuple[str, ...]) -> None:
    assert mask_labels([Path(name) for name in names]) == labels


@given(st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1), min_size=2, max_size=4))
def test_labels_are_short_plain_words(names: list[str]) -> None:
    labels = mask_labels([Path(f"{name}.png") for name in names])
    assert len(labels) == len(names)
    for label in labels:
        assert len(label) <= MAX_LABEL
        assert all((len(word) > 1 and word not in GENERIC) or len(label) == MAX_LABEL for word in label.split())
