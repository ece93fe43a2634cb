from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from scenegen.errors import UsageError, WeightsError
from scenegen.pixal3d.sampler import (
    SamplerSettings,
    Step,
    clean_from_velocity,
    euler_step,
    guided_velocity,
    sample,
    schedule,
    standard_deviation,
    velocity_from_clean,
)

STRUCTURE = SamplerSettings(
    steps=12, guidance_strength=7.5, guidance_rescale=0.7, guidance_interval=(0.6, 1.0), rescale_t=5.0
)
SHAPE = SamplerSettings(
    steps=12, guidance_strength=7.5, guidance_rescale=0.5, guidance_interval=(0.6, 1.0), rescale_t=3.0
)
TEXTURE = SamplerSettings(
    steps=12, guidance_strength=1.0, guidance_rescale=0.0, guidance_interval=(0.6, 0.9), rescale_t=3.0
)


def changed(settings: SamplerSettings, **changes: Any) -> SamplerSettings:
    return SamplerSettings(**{**vars(settings), **changes})


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Recorder:
    """A velocity that is a smooth function of state, time and condition, and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[float], bool]] = []

    def __call__(self, x: torch.Tensor, t: torch.Tensor, conditional: bool) -> torch.Tensor:
        self.calls.append((t.tolist(), conditional))
        return torch.tanh(0.8 * x + (0.5 if conditional else -0.2) - float(t[0]) / 1000)


def test_the_times_of_structure_and_shape() -> None:
    structure = [1, 0.982143, 0.961538, 0.9375, 0.909091, 0.875, 0.833333, 0.78125, 0.714286, 0.625, 0.5, 0.3125, 0]
    shape = [1, 0.970588, 0.9375, 0.9, 0.857143, 0.807692, 0.75, 0.681818, 0.6, 0.5, 0.375, 0.214286, 0]
    np.testing.assert_allclose(schedule(STRUCTURE), structure, atol=1e-6)
    np.testing.assert_allclose(schedule(SHAPE), shape, atol=1e-6)


@pytest.mark.parametrize(("settings", "calls"), [(STRUCTURE, 22), (SHAPE, 21), (TEXTURE, 12)])
def test_the_number_and_order_of_calls(settings: SamplerSettings, calls: int) -> None:
    velocity = Recorder()
    sample(velocity, drawn(0, 2, 3, 2, 2, 2), settings)
    assert len(velocity.calls) == calls
    guided = calls - 12
    assert [conditional for _, conditional in velocity.calls] == [True, False] * guided + [True] * (12 - guided)
    assert velocity.calls[0][0] == [1000.0, 1000.0]


def test_the_end_of_the_interval_is_inside_it() -> None:
    """At step 9 of 12 the time is 0.6 exactly, in float64."""
    assert schedule(SHAPE)[8] == 0.6
    velocity = Recorder()
    sample(velocity, drawn(0, 5, 3), SHAPE, lengths=[2, 3])
    assert [conditional for t, conditional in velocity.calls if t[0] == pytest.approx(600)] == [True, False]


def test_a_strength_of_zero_is_unconditional_inside_the_interval() -> None:
    velocity = Recorder()
    sample(velocity, drawn(0, 1, 3), changed(SHAPE, guidance_strength=0.0), lengths=[1])
    assert [conditional for _, conditional in velocity.calls] == [False] * 9 + [True] * 3


def test_a_constant_velocity_is_followed_exactly() -> None:
    noise, v = drawn(0, 2, 3, 2, 2, 2), drawn(1, 2, 3, 2, 2, 2)
    out = sample(lambda x, t, conditional: v, noise, TEXTURE)
    torch.testing.assert_close(out, noise - v, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 4, 25])
def test_the_flow_to_one_latent_arrives_there(steps: int) -> None:
    """Straight paths: with sigma 0 the velocity is (x - x_0) / t, and any number of steps arrives."""
    target = drawn(1, 4, 3)
    settings = changed(TEXTURE, steps=steps, sigma_min=0.0)
    seen: list[Step] = []
    out = sample(
        lambda x, t, conditional: (x - target) / (t[0] / 1000), drawn(0, 4, 3), settings, [1, 3], on_step=seen.append
    )
    torch.testing.assert_close(out, target, atol=1e-5, rtol=1e-5)
    for step in seen:
        torch.testing.assert_close(step.clean, target, atol=1e-5, rtol=1e-5)


def plain_sample(noise: np.ndarray, settings: SamplerSettings) -> np.ndarray:
    """The sampler once more, in numpy and float64, one state with no batch."""
    x, sigma, g, share = noise.astype(float), settings.sigma_min, settings.guidance_strength, settings.guidance_rescale
    times = [settings.rescale_t * u / (1 + (settings.rescale_t - 1) * u) for u in np.linspace(1, 0, settings.steps + 1)]
    for t, t_next in pairwise(times):
        v = positive = np.tanh(0.8 * x + 0.5 - t)
        if settings.guidance_interval[0] <= t <= settings.guidance_interval[1]:
            v = g * positive + (1 - g) * np.tanh(0.8 * x - 0.2 - t)
            reach = sigma + (1 - sigma) * t
            clean, clean_positive = (1 - sigma) * x - reach * v, (1 - sigma) * x - reach * positive
            clean = share * clean * clean_positive.std() / clean.std() + (1 - share) * clean
            v = ((1 - sigma) * x - clean) / reach
        x = x - (t - t_next) * v
    return x


@pytest.mark.parametrize("settings", [STRUCTURE, SHAPE])
def test_the_plain_sampler_agrees(settings: SamplerSettings) -> None:
    noise = drawn(0, 6, 4)
    expected = plain_sample(noise.numpy(), settings)
    dense = sample(Recorder(), noise[None], settings)[0]
    sparse = sample(Recorder(), noise, settings, lengths=[6])
    np.testing.assert_allclose(dense.numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(sparse.numpy(), expected, atol=2e-5)


def test_items_of_a_sparse_state_do_not_see_each_other() -> None:
    noise = drawn(0, 9, 4)
    together = sample(Recorder(), noise, STRUCTURE, lengths=[2, 7])
    apart = torch.cat([sample(Recorder(), part, STRUCTURE, lengths=[len(part)]) for part in noise.split([2, 7])])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


times = st.floats(0.01, 1.0)
few = hypothesis_settings(max_examples=40, deadline=None)


@few
@given(t=times, sigma=st.floats(0.0, 0.1), seed=st.integers(0, 99))
def test_velocity_and_clean_latent_are_inverse(t: float, sigma: float, seed: int) -> None:
    x, v = drawn(seed, 3, 5), drawn(seed + 100, 3, 5)
    clean = clean_from_velocity(x, v, t, sigma)
    torch.testing.assert_close(velocity_from_clean(x, clean, t, sigma), v, atol=2e-4 / t, rtol=1e-4)


@few
@given(t=times, sigma=st.floats(0.0, 0.1), seed=st.integers(0, 99))
def test_the_clean_latent_of_a_made_state_is_found(t: float, sigma: float, seed: int) -> None:
    """The training pair: x = (1 - t) x_0 + (sigma + (1 - sigma) t) e with velocity (1 - sigma) e - x_0."""
    clean, e = drawn(seed, 3, 5), drawn(seed + 100, 3, 5)
    x = (1 - t) * clean + (sigma + (1 - sigma) * t) * e
    v = (1 - sigma) * e - clean
    torch.testing.assert_close(clean_from_velocity(x, v, t, sigma), clean, atol=1e-5, rtol=1e-4)


@few
@given(t=times, t_next=times)
def test_a_step_back_undoes_a_step(t: float, t_next: float) -> None:
    x, v = drawn(0, 3, 5), drawn(1, 3, 5)
    torch.testing.assert_close(euler_step(euler_step(x, v, t, t_next), v, t_next, t), x, atol=1e-5, rtol=1e-5)


@few
@given(g=st.floats(0.5, 9.0), t=times)
def test_guidance_without_rescaling_is_a_line_through_both(g: float, t: float) -> None:
    x, positive, negative = drawn(0, 2, 5), drawn(1, 2, 5), drawn(2, 2, 5)
    settings = changed(SHAPE, guidance_strength=g, guidance_rescale=0.0)
    v = guided_velocity(x, positive, negative, t, settings)
    torch.testing.assert_close(v, negative + g * (positive - negative), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("lengths", [None, [3, 5]])
def test_full_rescaling_gives_the_spread_of_the_conditional(lengths: list[int] | None) -> None:
    shape = (2, 4, 3) if lengths is None else (8, 4)
    x, positive, negative = drawn(0, *shape), drawn(1, *shape), drawn(2, *shape)
    settings = changed(SHAPE, guidance_rescale=1.0)
    v = guided_velocity(x, positive, negative, 0.8, settings, lengths)
    ours = standard_deviation(clean_from_velocity(x, v, 0.8, settings.sigma_min), lengths)
    wanted = standard_deviation(clean_from_velocity(x, positive, 0.8, settings.sigma_min), lengths)
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)


def test_spread_is_unbiased_when_dense_and_biased_when_sparse() -> None:
    x = drawn(0, 6, 4)
    assert standard_deviation(x[None]).item() == pytest.approx(x.numpy().std(ddof=1), rel=1e-5)
    assert standard_deviation(x, [2, 4]).tolist() == pytest.approx([x[:2].numpy().std(), x[2:].numpy().std()], rel=1e-5)


def test_the_state_is_float32_whatever_the_network_gives() -> None:
    seen: list[torch.dtype] = []

    def velocity(x: torch.Tensor, t: torch.Tensor, conditional: bool) -> torch.Tensor:
        seen.append(x.dtype)
        assert t.dtype == torch.float32
        return x.bfloat16()

    out = sample(velocity, drawn(0, 1, 2, 2).bfloat16(), STRUCTURE)
    assert out.dtype == torch.float32
    assert set(seen) == {torch.float32}


def test_steps_are_reported_and_the_noise_is_left_alone() -> None:
    noise = drawn(0, 1, 2, 2)
    kept, seen = noise.clone(), list[Step]()
    out = sample(Recorder(), noise, STRUCTURE, on_step=seen.append)
    assert [(step.done, step.steps) for step in seen] == [(i, 12) for i in range(1, 13)]
    assert torch.equal(seen[-1].state, out)
    assert torch.equal(noise, kept)


def test_what_the_hook_raises_ends_the_sampling() -> None:
    velocity = Recorder()

    def stop(step: Step) -> None:
        if step.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(velocity, drawn(0, 1, 2, 2), STRUCTURE, on_step=stop)
    assert len(velocity.calls) == 4


def test_a_velocity_that_is_not_finite_is_reported() -> None:
    def velocity(x: torch.Tensor, t: torch.Tensor, conditional: bool) -> torch.Tensor:
        return x / 0 if t[0] < 900 else x

    with pytest.raises(WeightsError, match=r"`velocity` is not finite at step 6 of 12"):
        sample(velocity, drawn(0, 1, 2, 2), STRUCTURE)


@pytest.mark.parametrize("lengths", [[2, 2], [5, 0], []])
def test_lengths_that_do_not_fit_are_refused(lengths: list[int]) -> None:
    with pytest.raises(UsageError, match="`lengths` is"):
        sample(Recorder(), drawn(0, 5, 2), STRUCTURE, lengths)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "`steps` is 0; allowed: at least 1"),
        ({"guidance_strength": -1.0}, "`guidance_strength` is -1.0"),
        ({"guidance_rescale": 1.5}, "`guidance_rescale` is 1.5"),
        ({"guidance_interval": (0.9, 0.6)}, r"`guidance_interval` is \(0.9, 0.6\)"),
        ({"rescale_t": 0.0}, "`rescale_t` is 0.0"),
        ({"sigma_min": 1.0}, "`sigma_min` is 1.0"),
    ],
)
def test_settings_outside_their_ranges_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        changed(SHAPE, **change)
