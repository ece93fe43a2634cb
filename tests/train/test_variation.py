"""Varied pictures keep what is true of them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional

from scenegen.train import variation
from scenegen.train.pool import Batch, Cutouts
from scenegen.train.variation import (
    GREY,
    PASTED_ID,
    compressed,
    greyed,
    with_objects,
    with_other_tone,
    with_pasted,
)

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


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100_000))
def test_uncompressed_pictures_are_the_same(seed: int) -> None:
    torch.manual_seed(seed)
    images = torch.rand(2, 3, 16, 24)
    assert torch.allclose(compressed(images, torch.zeros(2)), images, atol=1e-5)


def test_compression_leaves_the_mean_of_a_block_in_whole_steps_and_no_weak_detail() -> None:
    """A flat block of brightness m keeps the nearest multiple of the step; a weak chequerboard over it is lost."""
    row, column = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    images = (0.43 + 0.04 * ((row + column) % 2 - 0.5)).expand(1, 3, 8, 8)
    assert torch.allclose(compressed(images, torch.tensor([0.1])), torch.tensor(0.4), atol=1e-6)
    assert torch.allclose(compressed(images, torch.tensor([0.0])), images, atol=1e-4)


def discs(count: int, extent: float = 64.0) -> Cutouts:
    """White discs (noun 9) of diameter 24 on black squares of 32."""
    row, column = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(32) - 15.5, indexing="ij")
    disc = (torch.hypot(row, column) < 12).float().expand(count, 1, 32, 32)
    return Cutouts(disc.expand(-1, 3, -1, -1), disc, torch.full((count,), extent), torch.full((count,), 9))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 2))
def test_a_pasted_object_is_new_has_its_name_and_hides_what_was_there(seed: int, serial: int) -> None:
    torch.manual_seed(seed)
    before = two_pictures()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variation, "PASTED_SIZE", (0.3, 0.8))
        after = with_pasted(before, discs(2), serial, share=1.0)
    new = PASTED_ID + serial
    pasted = after.ids == new
    assert torch.equal(after.ids[~pasted], before.ids[~pasted])
    assert (after.log_depth[pasted] == -math.inf).all()
    assert torch.equal(after.log_depth[~pasted], before.log_depth[~pasted])
    assert after.nouns[:, new].tolist() == [9, 9]
    kept = torch.ones(256, dtype=torch.bool)
    kept[new] = False
    assert torch.equal(after.nouns[:, kept], before.nouns[:, kept])
    # Well inside, the picture shows the disc; far outside, itself.
    inner = ~widened(~pasted, rim=1.0)[:, None].expand(-1, 3, -1, -1)
    outer = ~widened(pasted, rim=0.0)[:, None].expand(-1, 3, -1, -1)
    images, old = after.images[:, :, 2::4, 2::4], before.images[:, :, 2::4, 2::4]
    assert torch.allclose(images[inner], torch.tensor(1.0), atol=0.05)
    assert torch.allclose(images[outer], old[outer], atol=0.05)
    assert torch.equal(after.exhaustive, before.exhaustive)


@pytest.mark.parametrize("extent", [8.0, 64.0])
def test_pasted_objects_have_the_sizes_they_are_given(extent: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the picture's side; but nothing is made larger than it can be shown."""
    monkeypatch.setattr(variation, "PASTED_SIZE", (0.5, 0.5))
    torch.manual_seed(0)
    batch = Batch.joined([two_pictures()] * 200)
    pasted = with_pasted(batch, discs(400, extent), 0, share=1.0).ids == PASTED_ID
    radius = 12 / 32 * min(SIDE / 2, variation.LARGEST_ZOOM * extent) / 4
    assert float(pasted.sum((1, 2)).max()) == pytest.approx(math.pi * radius**2, abs=2 * radius + 1)


def test_nothing_is_pasted_where_no_whole_object_was_cut_out() -> None:
    batch = two_pictures()
    nothing = replace(discs(2), shares=torch.zeros(2, 1, 32, 32))
    after = with_objects(batch, [nothing, nothing])
    assert torch.equal(after.ids, batch.ids)
    assert torch.equal(after.log_depth, batch.log_depth)
    assert torch.allclose(after.images, batch.images)


def test_of_what_is_nearly_hidden_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variation, "PASTED_SIZE", (0.75, 0.75))
    torch.manual_seed(0)
    batch = Batch.joined([two_pictures()] * 50)
    after = with_objects(batch, [discs(100), discs(100)])
    number = torch.tensor([1, 2] * 50)[:, None, None]
    before, left = ((ids == number).sum((1, 2)) for ids in (batch.ids, after.ids))
    asked = left > 0
    assert (left[asked] >= variation.LEAST_LEFT * before[asked]).all()
    assert asked.any()
    assert not asked.all()
    unasked = after.ids == -1
    assert unasked.any()
    assert (batch.ids[unasked] == number.expand_as(batch.ids)[unasked]).all()


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
