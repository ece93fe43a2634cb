"""The compact generator: what its tokens are, what they are told, and that an untrained one gives the prior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scenegen.errors import InputError
from scenegen.geometry.field import cell_centres, cube_edge, metric_crop_from_latent, placed
from scenegen.geometry.generator import ObjectView, OtherView
from scenegen.pixal3d import compact
from scenegen.pixal3d.compact import (
    OUTSIDE,
    RELIEF_ERROR,
    CompactGenerator,
    CompactSettings,
    Evidence,
    cells_of,
    evidence,
    open_tokens,
    packed,
    tokens_of,
    unpacked,
)
from scenegen.pixal3d.visibility import (
    BEHIND_FRONT,
    CHANNELS,
    IN_LIMIT,
    IN_OUTLINE,
    PRIOR,
    REACH,
    TRUNCATION,
    visibility,
)
from tests.geometry.views import CENTRE, RADIUS, SIDE, sphere_view, turned_view

SMALL = CompactSettings(
    tokens=8, model_channels=32, num_blocks=2, num_heads=2, cond_channels=16, lifted_channels=32, trunk_channels=(4, 6)
)


class TinyTrunk(nn.Module):
    """Two levels of random features."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 6, 2, 2)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        fine = self.fine(pictures)
        return [fine, self.coarse(fine)]


def small_generator(trained: bool = False) -> CompactGenerator:
    torch.manual_seed(0)
    generator = CompactGenerator(TinyTrunk(), SMALL)
    if trained:
        nn.init.normal_(generator.flow.out_layer.weight, std=0.05)
    return generator


def seen_sphere(occluded: bool = False) -> tuple[ObjectView, float, Evidence]:
    view = sphere_view(occluded)
    edge = cube_edge(view)
    return view, edge, evidence(view, edge, SMALL)


def sphere_distances(view: ObjectView, edge: float, resolution: int) -> np.ndarray:
    """Of the cells from the sphere's surface, in edges."""
    points = placed(cell_centres(resolution).reshape(-1, 3), metric_crop_from_latent(view, edge))
    return ((np.linalg.norm(points - CENTRE, axis=1) - RADIUS) / edge).reshape(3 * (resolution,))


@pytest.mark.parametrize(("channels", "side", "patch"), [(1, 8, 4), (3, 6, 2), (2, 9, 3)])
def test_patches_become_channels_and_cells_again(channels: int, side: int, patch: int) -> None:
    grid = torch.arange(2 * channels * side**3).reshape(2, channels, side, side, side).float()
    tokens = tokens_of(grid, patch)
    assert tokens.shape == (2, channels * patch**3, *3 * (side // patch,))
    np.testing.assert_array_equal(cells_of(tokens, patch), grid)
    first = tokens[0, : patch**3, 0, 0, 0].reshape(3 * (patch,))
    np.testing.assert_array_equal(first, grid[0, 0, :patch, :patch, :patch])


def opened(known: Evidence) -> torch.Tensor:
    return open_tokens(known.visibility, known.scalars[:, RELIEF_ERROR], SMALL.patch)


def test_a_latent_is_its_field_and_colours() -> None:
    generator = torch.Generator().manual_seed(0)
    distance = (torch.rand(1, 1, *3 * (SMALL.cells,), generator=generator) - 0.5) * 2 * TRUNCATION
    side = SMALL.tokens * SMALL.colour_patch
    colour = torch.rand(1, 3, side, side, side, generator=generator)
    field, colours = unpacked(packed(distance, colour, SMALL), SMALL)
    np.testing.assert_allclose(field.values, distance[0, 0], atol=1e-6)
    np.testing.assert_allclose(colours, colour[0].movedim(0, -1), atol=1e-6)


def test_visibility_of_a_sphere() -> None:
    view, edge, _ = seen_sphere()
    seen = visibility(view, edge, 24)
    assert seen.shape == (24, 24, 24, CHANNELS)
    assert np.abs(seen).max() <= 1
    points = placed(cell_centres(24).reshape(-1, 3), metric_crop_from_latent(view, edge)).reshape(24, 24, 24, 3)
    distance = sphere_distances(view, edge, 24)
    inside = distance < -0.03
    for channel in (BEHIND_FRONT, IN_OUTLINE, IN_LIMIT):
        assert (seen[..., channel][inside] > 0).all()
    in_front = (np.linalg.norm(points[..., :2], axis=-1) < 0.2) & (points[..., 2] < CENTRE[2] - RADIUS - 0.03)
    assert in_front.any()
    assert (seen[..., BEHIND_FRONT][in_front] < 0).all()
    beyond = points[..., 2] > 3.05
    assert (seen[..., IN_LIMIT][beyond] < 0).all()
    # A disc's prior is the sphere: its half thickness is the square root of r^2 - d^2.
    clear = (np.abs(distance) > 0.06) & (points[..., 2] < 3)
    agreement = ((seen[..., PRIOR] < 0) == (distance < 0))[clear].mean()
    assert agreement > 0.97


def test_what_is_hidden_is_told_apart_from_what_is_empty() -> None:
    view, edge, _ = seen_sphere(occluded=True)
    unseen = visibility(view, edge, 24)[..., 2]
    matrix = metric_crop_from_latent(view, edge)
    points = placed(cell_centres(24).reshape(-1, 3), matrix).reshape(24, 24, 24, 3)
    columns = points[..., 0] / points[..., 2] * 1.2 + 0.5  # of the picture's width
    assert (unseen[columns < 0.35] == 1).all()
    inside = (np.hypot(points[..., 0], points[..., 1]) / points[..., 2] < 0.25) & (columns > 0.45)
    assert (unseen[inside] == -1).all()


def test_tokens_and_places_on_the_picture_belong_together() -> None:
    view, _, known = seen_sphere()
    outline = tokens_of(known.visibility[..., IN_OUTLINE][:, None], SMALL.patch).mean(dim=1).flatten()
    column, row = (((known.centres[0, 0].T + 1) / 2 * SIDE).long()).clamp(0, SIDE - 1)
    mask = torch.from_numpy(view.mask)[row, column] > 0.5
    clear = outline.abs() > 0.25
    assert clear.sum() > 100
    np.testing.assert_array_equal((outline > 0)[clear], mask[clear])


@pytest.mark.parametrize("occluded", [False, True])
def test_no_part_of_the_object_lies_in_a_token_that_is_left_out(occluded: bool) -> None:
    view, edge, known = seen_sphere(occluded)
    left_in = opened(known)[0].numpy()
    inside = sphere_distances(view, edge, SMALL.cells) < 0
    held = np.kron(left_in, np.ones(3 * (SMALL.patch,))) > 0
    assert held[inside].all()
    assert left_in.mean() < 0.9


def test_an_untrained_network_gives_the_prior_for_every_seed() -> None:
    _, _, known = seen_sphere()
    generator = small_generator()
    sampler = replace(SMALL.sampler, guidance_strength=1.0)
    field, colours = generator.generate(known, 3, sampler)
    left_in = (
        np.kron(
            opened(known)[0].numpy(),
            np.ones(3 * (SMALL.patch,)),
        )
        > 0
    )
    prior = known.visibility[0, ..., PRIOR].numpy() * TRUNCATION
    np.testing.assert_allclose(field.values[left_in], prior[left_in], atol=1e-4)
    np.testing.assert_allclose(field.values[~left_in], np.maximum(prior, OUTSIDE * TRUNCATION)[~left_in], atol=1e-6)
    np.testing.assert_allclose(field.values, generator.generate(known, 4, sampler)[0].values, atol=1e-4)
    held = (
        np.kron(
            opened(known)[0].numpy(),
            np.ones(3 * (SMALL.colour_patch,)),
        )
        > 0
    )
    np.testing.assert_allclose(colours[held], 200 / 255, atol=0.02)


def test_the_same_seed_gives_the_same_object_and_another_another() -> None:
    _, _, known = seen_sphere()
    generator = small_generator(trained=True)
    first, again, other = (generator.generate(known, seed, SMALL.sampler)[0].values for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_one_step_depends_less_on_its_seed_the_more_noises_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, known = seen_sphere()
    generator = small_generator(trained=True)

    def difference(pairs: int) -> float:
        monkeypatch.setattr(compact, "PAIRS", pairs)
        sampler = replace(SMALL.sampler, steps=1)
        fields = [generator.generate(known, seed, sampler)[0].values for seed in range(6)]
        return float(np.std(fields, axis=0).mean())

    assert difference(8) < 0.6 * difference(1)


def test_guidance_of_one_is_the_condition_alone_and_more_goes_further() -> None:
    _, _, known = seen_sphere()
    generator = small_generator(trained=True)
    one, two, none = (
        generator.generate(known, 1, replace(SMALL.sampler, steps=1, guidance_strength=strength))[0].values
        for strength in (1.0, 2.0, 0.0)
    )
    clear = np.maximum.reduce([np.abs(one), np.abs(none), np.abs(two)]) < 0.99 * TRUNCATION
    clear &= np.abs(one - none) > 1e-4
    assert clear.any()
    np.testing.assert_allclose(two[clear], 2 * one[clear] - none[clear], atol=1e-4)


def test_the_loss_is_the_error_of_the_prior_before_training() -> None:
    _, _, known = seen_sphere()
    generator = small_generator()
    colour = torch.full((1, 3, *3 * (SMALL.tokens * SMALL.colour_patch,)), 0.0)
    colour += (known.image[:, 0].mean(dim=(2, 3)) / known.scalars[:, -1:])[:, :, None, None, None]
    truth = packed(known.visibility[..., PRIOR][:, None] * TRUNCATION, colour, SMALL)
    one, t = torch.ones(1), torch.full((1,), 0.7)
    assert generator.loss(known, truth, t, torch.randn(truth.shape), one).item() == pytest.approx(0, abs=1e-10)
    shifted = torch.cat([truth[:, :64] + 0.5, truth[:, 64:]], dim=1)
    assert generator.loss(known, shifted, t, torch.randn(truth.shape), one).item() == pytest.approx(0.25, rel=1e-4)


def test_all_but_the_trunk_learns() -> None:
    _, _, known = seen_sphere()
    generator = small_generator(trained=True)
    truth = torch.randn(1, SMALL.latent_channels, *3 * (SMALL.tokens,))
    generator.loss(known, truth, torch.full((1,), 0.7), torch.randn(truth.shape), torch.ones(1)).sum().backward()
    for name, value in generator.named_parameters():
        learns = value.grad is not None and bool(value.grad.abs().sum() > 0)
        assert learns is not name.startswith("trunk"), name


def test_a_picture_that_leaves_no_room_is_refused() -> None:
    view, edge, _ = seen_sphere()
    nearer = replace(view, limit=np.full_like(view.limit, 0.5))
    assert (visibility(nearer, edge, 8)[..., IN_LIMIT] < 0).all()
    with pytest.raises(InputError, match="no room"):
        small_generator().condition(evidence(nearer, edge, SMALL))


def test_reach_holds_what_is_clipped() -> None:
    assert REACH >= TRUNCATION


def test_the_same_view_again_changes_nothing() -> None:
    view, edge, _ = seen_sphere(occluded=True)
    generator = small_generator(trained=True)
    known = [evidence(replace(view, others=(OtherView(view, np.eye(4)),) * count), edge, SMALL) for count in (1, 2)]
    assert known[1].image.shape[1] == 3
    np.testing.assert_allclose(known[1].shares, 1 / 3, atol=1e-6)
    twice, thrice = (generator.condition(each) for each in known)
    for name in ("coords", "tokens", "lifted", "prior"):
        torch.testing.assert_close(getattr(thrice, name), getattr(twice, name), atol=1e-5, rtol=1e-5)


def test_the_order_of_the_other_views_does_not_matter() -> None:
    view, edge, _ = seen_sphere()
    generator = small_generator(trained=True)
    side, back = turned_view(80), turned_view(170)
    one, two = (
        generator.condition(evidence(replace(view, others=others), edge, SMALL))
        for others in ((side, back), (back, side))
    )
    torch.testing.assert_close(one.lifted, two.lifted)
    torch.testing.assert_close(one.tokens, two.tokens)
    assert torch.equal(one.prior, two.prior)


@pytest.mark.parametrize("degrees", [90, 180])
def test_what_any_view_sees_empty_is_empty(degrees: float) -> None:
    view, edge, _ = seen_sphere()
    distance = sphere_distances(view, edge, 24)
    both = visibility(replace(view, others=(turned_view(degrees),)), edge, 24)
    empty = (both[..., BEHIND_FRONT] < -0.1) | (both[..., IN_OUTLINE] < -0.1)
    assert not empty[distance < -0.01].any()
    alone = visibility(view, edge, 24)
    assert empty.mean() > ((alone[..., BEHIND_FRONT] < -0.1) | (alone[..., IN_OUTLINE] < -0.1)).mean() + 0.1
    clear = np.abs(distance) > 0.06
    assert ((both[..., PRIOR] < 0) == (distance < 0))[clear].mean() > 0.97


def test_a_token_listens_most_to_the_view_that_sees_it() -> None:
    view, edge, _ = seen_sphere()
    known = evidence(replace(view, others=(turned_view(180),)), edge, SMALL)
    nearer = torch.from_numpy(placed(cell_centres(SMALL.tokens).reshape(-1, 3), metric_crop_from_latent(view, edge)))
    front = (nearer[:, :2].norm(dim=1) < 0.3) & (nearer[:, 2] < CENTRE[2] - 0.2)
    back = (nearer[:, :2].norm(dim=1) < 0.3) & (nearer[:, 2] > CENTRE[2] + 0.2)
    assert (known.shares[0, 0][front] > 0.6).all()
    assert (known.shares[0, 0][back] < 0.4).all()
    torch.testing.assert_close(known.shares.sum(dim=1), torch.ones_like(known.shares[:, 0]))


def test_an_item_with_fewer_views_than_others_is_the_same_beside_them() -> None:
    _, _, known = seen_sphere()
    generator = small_generator(trained=True)
    empty = replace(
        known,
        **{
            name: torch.cat([getattr(known, name), torch.zeros_like(getattr(known, name))], dim=1)
            for name in ("image", "centres", "parts", "shares")
        },
    )
    alone, beside = generator.condition(known), generator.condition(empty)
    torch.testing.assert_close(beside.lifted, alone.lifted)
    torch.testing.assert_close(beside.tokens, alone.tokens)
    torch.testing.assert_close(beside.prior, alone.prior)
