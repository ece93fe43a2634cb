"""Outlines closed by continuation and symmetry: closed forms, and what always holds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scenegen.completion import PartView
from scenegen.completion.outline import complete_outline, continued, mirrored

SIDE = 64


def disc(radius: float = 24) -> np.ndarray:
    v, u = np.mgrid[:SIDE, :SIDE] + 0.5
    return (u - 32) ** 2 + (v - 32) ** 2 < radius**2


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def view(seen: np.ndarray, may_hide: np.ndarray) -> PartView:
    image = np.full((SIDE, SIDE, 3), 20, np.uint8)
    image[seen] = (200, 60, 50)
    return PartView(image, seen, may_hide, "plate")


def test_a_bar_before_a_disc_is_bridged_straight() -> None:
    bar = np.zeros((SIDE, SIDE), bool)
    bar[:, 28:36] = True
    seen = disc() & ~bar
    assert iou(continued(seen, bar), disc()) > 0.98


def test_a_disc_hidden_on_one_side_is_mirrored() -> None:
    right = np.zeros((SIDE, SIDE), bool)
    right[:, 44:] = True
    seen = disc() & ~right
    assert iou(mirrored(seen, right), disc()) > 0.95
    assert iou(continued(seen, right), disc()) < 0.85
    whole = complete_outline(view(seen, right))
    assert iou(whole.mask, disc()) > 0.95
    assert (whole.backend, whole.licence) == ("outline", "none: no weights")
    assert np.abs(whole.image[disc() & right].astype(int) - (200, 60, 50)).max() <= 1


def test_a_mirror_image_must_not_lie_where_something_else_is_seen() -> None:
    seen = np.zeros((SIDE, SIDE), bool)
    seen[20:40, 10:20] = seen[30:40, 10:40] = True  # an L
    may_hide = np.zeros_like(seen)
    may_hide[30:40, 40:50] = True
    assert not (mirrored(seen, may_hide) & ~seen & ~may_hide).any()


masks = arrays(bool, (12, 12))


@given(masks, masks)
def test_what_is_seen_stays_and_only_what_may_hide_is_added(seen: np.ndarray, other: np.ndarray) -> None:
    if not seen.any():
        return
    may_hide = other & ~seen
    for whole in (continued(seen, may_hide), mirrored(seen, may_hide)):
        assert (whole | ~seen).all()
        assert not (whole & ~seen & ~may_hide).any()


@given(masks.filter(lambda mask: mask.any()), st.integers(0, 3))
def test_without_room_nothing_changes(seen: np.ndarray, turn: int) -> None:
    nowhere = np.zeros_like(seen)
    np.testing.assert_array_equal(continued(seen, nowhere), seen)
    np.testing.assert_array_equal(mirrored(np.rot90(seen, turn), nowhere), np.rot90(seen, turn))
