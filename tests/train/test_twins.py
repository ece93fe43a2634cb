"""The twins: equal in weights and operations, different in what a voxel is given; a training that is resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from scenegen.pixal3d.compact import Evidence
from scenegen.pixal3d.visibility import CHANNELS, TRUNCATION
from scenegen.train import twins
from scenegen.train.generator import Training
from scenegen.train.samples import QUANTUM, Samples, batch_of
from scenegen.train.twins import TWINS, Conditioning, Twin, batch_rows, picture_tokens, sines, train_twin
from tests.pixal3d.test_compact import SMALL, TinyTrunk, seen_sphere


def twin(conditioning: Conditioning) -> Twin:
    torch.manual_seed(0)
    return Twin(TinyTrunk(), SMALL, conditioning)


@pytest.fixture(scope="module")
def known() -> Evidence:
    _, _, seen = seen_sphere()
    return replace(seen, image=torch.rand(seen.image.shape, generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def samples(known: Evidence) -> Samples:
    """Six of them, of the same view."""
    cells, side = SMALL.cells, SMALL.tokens * SMALL.colour_patch
    ramp = np.linspace(-100, 100, cells).astype(np.int8)

    def repeated(values: Tensor) -> Tensor:
        return values.repeat_interleave(6, dim=0)

    return Samples(
        image=(repeated(known.image) * 255).round().to(torch.uint8),
        visibility=torch.zeros(1, dtype=torch.int8).expand(6, cells, cells, cells, CHANNELS),
        centres=repeated(known.centres),
        parts=repeated(known.parts),
        shares=repeated(known.shares),
        scalars=repeated(known.scalars),
        distance=torch.from_numpy(ramp).expand(6, cells, cells, cells),
        colour=torch.zeros((6, side, side, side, 3), dtype=torch.uint8),
    )


def test_weights_are_the_same_in_number_and_at_the_start() -> None:
    first, second = (twin(conditioning).state_dict() for conditioning in TWINS)
    assert list(first) == list(second)
    for name, value in first.items():
        assert torch.equal(value, second[name])


def given_each_voxel(conditioning: Conditioning, known: Evidence) -> Tensor:
    one = twin(conditioning)
    return one.seen(one.trunk(known.image[:, 0]), known)[0]


def test_a_shifted_picture_changes_what_a_voxel_is_told_only_by_back_projection(known: Evidence) -> None:
    shifted = replace(known, image=known.image.roll(16, dims=4))
    here, there = (given_each_voxel("back-projection", seen) for seen in (known, shifted))
    assert (here - there).abs().amax(dim=1).min() > 0.01
    assert here.std(dim=0).min() > 0.01
    for seen in (known, shifted):
        same = given_each_voxel("cross-attention", seen)
        torch.testing.assert_close(same, same[:1].expand_as(same))
    assert same.shape == here.shape


def test_both_see_the_whole_picture_by_attention(known: Evidence) -> None:
    """The tokens hold every pixel: what is looked up is a function of them."""
    maps = TinyTrunk()(known.image[:, 0])
    tokens = picture_tokens(maps, known.image[:, 0])
    assert tokens.shape == (1, 16 * 16, 4 * 4 + 6 + 64 * 3)
    row, column = 3, 10
    patch = known.image[0, 0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
    assert torch.equal(tokens[0, 16 * row + column, -192:], patch.flatten())
    first, second = (twin(conditioning).condition(known) for conditioning in TWINS)
    assert torch.equal(first.tokens, second.tokens)
    assert not torch.equal(first.lifted, second.lifted)


def test_sines_tell_every_token_from_every_other() -> None:
    axis = (torch.arange(16) + 0.5) / 8 - 1
    places = sines(torch.cartesian_prod(axis, axis))
    assert torch.cdist(places, places).fill_diagonal_(torch.inf).min() > 0.5


def test_a_field_is_drawn_for_every_cell(known: Evidence) -> None:
    torch.manual_seed(0)
    one = twin("cross-attention")
    torch.nn.init.normal_(one.flow.out_layer.weight, std=0.1)
    field = one.generate(known, 0)
    assert field.values.shape == 3 * (SMALL.cells,)
    assert np.array_equal(field.values, one.generate(known, 0).values)
    assert not np.array_equal(field.values, one.generate(known, 1).values)


def test_tokens_of_what_is_learned_are_the_cells_of_what_is_made(samples: Samples, known: Evidence) -> None:
    """A network that gives the truth, whatever the noise, makes the field the truth was packed from."""
    latent = batch_of(samples, torch.arange(1), False, SMALL).latent
    truth = latent[0, : SMALL.patch**3].flatten(1).T

    class Knowing(Twin):
        def clean(self, x: Tensor, t: Tensor, given: object) -> Tensor:
            return truth

    knowing = Knowing(TinyTrunk(), SMALL, "back-projection")
    made = knowing.generate(known, 0).values
    np.testing.assert_allclose(made, samples.distance[0] / QUANTUM * TRUNCATION, atol=1e-4)
    half = torch.full((1,), 0.5)
    zero = knowing.loss(known, latent, half, torch.randn(latent.shape), torch.ones(1))
    assert zero.item() == 0


def test_batches_depend_on_the_step_alone_and_show_every_sample_once_an_epoch() -> None:
    epoch = [batch_rows(11, 2, step, 0) for step in range(5)]
    assert len(np.unique(np.concatenate(epoch))) == 10
    assert not np.array_equal(epoch[0], batch_rows(11, 2, 5, 0))
    assert np.array_equal(epoch[3], batch_rows(11, 2, 3, 0))


def trained(samples: Samples, path: Path, conditioning: Conditioning = "back-projection") -> Training[Twin]:
    torch.manual_seed(5)
    return train_twin(TinyTrunk(), conditioning, samples, path, steps=4, settings=SMALL, batch=2)


def test_an_interrupted_training_goes_on_at_its_step(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(samples, tmp_path / "whole.pt")
    monkeypatch.setattr(twins, "CHECK_MINUTES", 0.0)
    steps, stop, loss = [], 2, twins.batch_loss

    def counted(*arguments: object) -> Tensor:
        if len(steps) == stop:
            raise KeyboardInterrupt
        steps.append(arguments)
        return loss(*arguments)

    monkeypatch.setattr(twins, "batch_loss", counted)
    with pytest.raises(KeyboardInterrupt):
        trained(samples, tmp_path / "state.pt")
    stop = 5
    resumed = trained(samples, tmp_path / "state.pt")
    assert (resumed.step, len(steps)) == (4, 4)
    assert resumed.minutes > 0
    for name, value in whole.averaged.items():
        torch.testing.assert_close(resumed.averaged[name], value)
    stop = 4
    assert trained(samples, tmp_path / "state.pt").step == 4  # nothing is left to do
