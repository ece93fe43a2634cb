"""Varied pictures keep what is true of them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional

from scenegen.train import variation
from scenegen.train.pool import Batch
from scenegen.train.variation import GREY, PASTED_ID, greyed, with_other_tone, with_pasted

SIDE, CELLS = 64, 16


def two_pictures() -> Batch:
    """A green one with a red box (1, noun 7), and a blue one with a white box (2, noun 8)."""
    ids = torch.zeros(2, CELLS, CELLS, dtype=torch.long)
    ids[0, 5:11, 5:11] = 1
    ids[1, 4:12, 6:12] = 2
    colours = torch.tensor([[(0, 0.8, 0), (1, 0, 0), (1, 1, 1)], [(0, 0, 0.8), (1, 0, 0), (1, 1, 1)]])
    cells = torch.stack([colours[index][ids[index]] for index in range(2)]).permute(0, 3, 1, 2)
    nouns = torch.full((2, 256), -1)
    nouns[0, 1], nouns[1, 2] = 7, 8
    return Batch(
        images=cells.repeat_interleave(4, 2).repeat_interleave(4, 3),
        ids=ids,
        exhaustive=torch.tensor([True, False]),
        log_depth=torch.zeros(2, CELLS, CELLS),
        focal=torch.tensor([90.0, math.nan]),
        down=torch.tensor([[0.0, 1, 0], [math.nan] * 3]),
        nouns=nouns,
    )


def widened(masks: Bool[Tensor, "b h w"], rim: float) -> Bool[Tensor, "b h w"]:
    """By two cells; `rim` is what lies beyond the picture."""
    return functional.max_pool2d(functional.pad(masks[:, None].float(), (2, 2, 2, 2), value=rim), 5, 1)[:, 0] > 0.5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 100_000))
def test_any_tone_is_still_a_picture(seed: int) -> None:
    torch.manual_seed(seed)
    images = two_pictures().images
    varied = with_other_tone(images)
    assert varied.shape == images.shape
    assert bool(varied.isfinite().all())
    assert 0 <= float(varied.min()) <= float(varied.max()) <= 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 1))
def test_a_pasted_object_is_new_has_its_name_and_hides_what_was_there(seed: int, serial: int) -> None:
    torch.manual_seed(seed)
    before = two_pictures()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variation, "PASTE", 1.0)
        after = with_pasted(before, serial)
    new = PASTED_ID + serial
    pasted = after.ids == new
    assert torch.equal(after.ids[~pasted], before.ids[~pasted])
    assert (after.log_depth[pasted] == -math.inf).all()
    assert torch.equal(after.log_depth[~pasted], before.log_depth[~pasted])
    assert after.nouns[:, new].tolist() == [8, 7]
    kept = torch.ones(256, dtype=torch.bool)
    kept[new] = False
    assert torch.equal(after.nouns[:, kept], before.nouns[:, kept])
    # Well inside, the picture shows the other's object; far outside, itself.
    inner = ~widened(~pasted, rim=1.0)
    outer = ~widened(pasted, rim=0.0)
    images, old = after.images[:, :, 2::4, 2::4], before.images[:, :, 2::4, 2::4]
    for index, colour in ((0, (1.0, 1, 1)), (1, (1.0, 0, 0))):
        shown = images[index].permute(1, 2, 0)
        assert torch.allclose(shown[inner[index]], torch.tensor(colour), atol=0.05)
        assert torch.allclose(shown[outer[index]], old[index].permute(1, 2, 0)[outer[index]], atol=0.05)
    assert torch.equal(after.exhaustive, before.exhaustive)


def test_nothing_is_pasted_from_pictures_without_objects() -> None:
    batch = two_pictures()
    for value in (0, -1):
        batch.ids[:] = value
        after = with_pasted(batch, 0)
        assert torch.equal(after.ids, batch.ids)
        assert torch.equal(after.log_depth, batch.log_depth)
        assert torch.allclose(after.images, batch.images)


def test_nearly_all_but_the_object_is_grey() -> None:
    """The mask is a little wrong."""
    torch.manual_seed(0)
    batch = Batch.joined([two_pictures()] * 40)
    shown = greyed(batch)
    inner, outer = shown[0::2, :, 28:36, 28:36], shown[0::2, :, :8]
    assert (inner == batch.images[0::2, :, 28:36, 28:36]).float().mean() > 0.9
    assert (outer == GREY).float().mean() > 0.9
    assert (shown[1::2] == GREY).float().mean() > 0.9  # its object has another id
    same = (shown[0::2] == shown[:1]).flatten(1).all(1)
    assert not same[1:].all()
