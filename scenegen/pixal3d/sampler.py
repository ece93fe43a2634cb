"""Euler's method for rectified flows, with classifier-free guidance in an interval of time.

x_t = (1 - t) x_0 + (sigma + (1 - sigma) t) noise, and the velocity is its derivative (Liu et al. 2022, arXiv 2209.03003).
Guidance: Ho and Salimans 2022 (arXiv 2207.12598); its interval: Kynkäänniemi et al. 2024 (arXiv 2404.07724); its rescaling:
Lin et al. 2023 (arXiv 2305.08891).

A state is dense, [b, c, ...], or sparse: the concatenated tokens of all items, [n, c], with the `lengths` of the items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from scenegen.errors import UsageError, WeightsError

TIME_SCALE = 1000.0
"""Factor on the time that networks are given."""


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """How a latent is sampled. Names are those of the released configs.

    Raises:
        UsageError: for values outside their ranges.
    """

    steps: int
    guidance_strength: float
    """1: conditional velocity alone, 0: unconditional alone, above 1: away from the unconditional."""
    guidance_rescale: float
    """Share, in [0, 1], of the guided prediction rescaled to the standard deviation of the conditional one."""
    guidance_interval: tuple[float, float]
    """Times, ends included, at which guidance acts."""
    rescale_t: float
    """Above 1, more of the steps are spent near the noise."""
    sigma_min: float = 1e-5

    def __post_init__(self) -> None:
        low, high = self.guidance_interval
        for name, fits, allowed in (
            ("steps", self.steps >= 1, "at least 1"),
            ("guidance_strength", self.guidance_strength >= 0, "at least 0"),
            ("guidance_rescale", 0 <= self.guidance_rescale <= 1, "0 to 1"),
            ("guidance_interval", 0 <= low <= high <= 1, "two times, 0 <= from <= to <= 1"),
            ("rescale_t", self.rescale_t > 0, "above 0"),
            ("sigma_min", 0 <= self.sigma_min < 1, "0 or more, below 1"),
        ):
            if not fits:
                raise UsageError(f"`{name}` is {getattr(self, name)}; allowed: {allowed}.")


@dataclass(frozen=True, eq=False)
class Step:
    """What is known after one step."""

    done: int
    """Steps done, 1 to `steps`."""
    steps: int
    state: Float32[Tensor, "n *rest"]
    """The latent after the step."""
    clean: Float32[Tensor, "n *rest"]
    """The clean latent the step's velocity points to."""


Velocity = Callable[[Tensor, Tensor, bool], Tensor]
"""(state, 1000 t of each item [b], conditional) -> velocity, of the state's shape."""


def schedule(settings: SamplerSettings) -> Float64[np.ndarray, "n"]:
    """The times of the states, `steps` + 1 from 1 to 0.

    They are float64, since whether a time lies on the end of the guidance interval decides a call of the network.

    Examples:
        >>> settings = SamplerSettings(
        ...     steps=2, guidance_strength=1.0, guidance_rescale=0.0, guidance_interval=(0.0, 1.0), rescale_t=3.0
        ... )
        >>> schedule(settings).tolist()
        [1.0, 0.75, 0.0]
    """
    t = np.linspace(1.0, 0.0, settings.steps + 1)
    return settings.rescale_t * t / (1 + (settings.rescale_t - 1) * t)


def euler_step(
    x: Float[Tensor, "n *rest"], v: Float[Tensor, "n *rest"], t: float, t_next: float
) -> Float[Tensor, "n *rest"]:
    """The state at `t_next`, along the velocity `v` at `t`.

    Examples:
        >>> euler_step(torch.tensor([[1.0]]), torch.tensor([[2.0]]), t=1.0, t_next=0.75).tolist()
        [[0.5]]
    """
    return x - (t - t_next) * v


def clean_from_velocity(
    x: Float[Tensor, "n *rest"], v: Float[Tensor, "n *rest"], t: float, sigma_min: float
) -> Float[Tensor, "n *rest"]:
    """The clean latent x_0 that the velocity `v` of the state `x` at `t` points to.

    Examples:
        >>> clean_from_velocity(torch.tensor([[1.0]]), torch.tensor([[0.5]]), t=0.5, sigma_min=0.0).tolist()
        [[0.75]]
    """
    return (1 - sigma_min) * x - (sigma_min + (1 - sigma_min) * t) * v


def velocity_from_clean(
    x: Float[Tensor, "n *rest"], clean: Float[Tensor, "n *rest"], t: float, sigma_min: float
) -> Float[Tensor, "n *rest"]:
    """The inverse of `clean_from_velocity`, for t above 0 or sigma_min above 0.

    Examples:
        >>> velocity_from_clean(torch.tensor([[1.0]]), torch.tensor([[0.75]]), t=0.5, sigma_min=0.0).tolist()
        [[0.5]]
    """
    return ((1 - sigma_min) * x - clean) / (sigma_min + (1 - sigma_min) * t)


def guided_velocity(
    x: Float[Tensor, "n *rest"],
    positive: Float[Tensor, "n *rest"],
    negative: Float[Tensor, "n *rest"],
    t: float,
    settings: SamplerSettings,
    lengths: Sequence[int] | None = None,
) -> Float[Tensor, "n *rest"]:
    """Conditional and unconditional velocity, combined and rescaled.

    g `positive` + (1 - g) `negative` overshoots for large g. Rescaling gives the clean latent it points to the standard
    deviation of the one that `positive` points to, and mixes the two by `guidance_rescale`.

    Examples:
        >>> settings = SamplerSettings(
        ...     steps=2, guidance_strength=3.0, guidance_rescale=0.0, guidance_interval=(0.0, 1.0), rescale_t=1.0
        ... )
        >>> x = torch.zeros(1, 1)
        >>> guided_velocity(x, positive=x + 1, negative=x, t=0.5, settings=settings).tolist()
        [[3.0]]
    """
    g, share, sigma = settings.guidance_strength, settings.guidance_rescale, settings.sigma_min
    v = g * positive + (1 - g) * negative
    if share == 0:
        return v
    clean = clean_from_velocity(x, v, t, sigma)
    ratio = standard_deviation(clean_from_velocity(x, positive, t, sigma), lengths) / standard_deviation(clean, lengths)
    if lengths is not None:
        ratio = ratio.repeat_interleave(torch.tensor(lengths, device=x.device))
    rescaled = clean * ratio.reshape(-1, *(1,) * (x.ndim - 1))
    return velocity_from_clean(x, share * rescaled + (1 - share) * clean, t, sigma)


def standard_deviation(x: Float[Tensor, "n *rest"], lengths: Sequence[int] | None = None) -> Float[Tensor, "b"]:
    """Standard deviation of each item: unbiased for a dense state, biased for a sparse one, as the reference has them.

    Only ratios are used, in which the difference cancels.

    Examples:
        >>> standard_deviation(torch.tensor([[1.0], [3.0], [5.0]]), lengths=[2, 1]).tolist()
        [1.0, 0.0]
    """
    if lengths is None:
        return x.flatten(1).std(dim=1)
    return torch.stack([item.std(correction=0) for item in x.split(list(lengths))])


def sample(
    velocity: Velocity,
    noise: Float[Tensor, "n *rest"],
    settings: SamplerSettings,
    lengths: Sequence[int] | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Float32[Tensor, "n *rest"]:
    """Samples a latent: integrates the flow from noise at t = 1 to t = 0.

    Within the guidance interval a step calls `velocity` twice, conditional first, otherwise once. A `guidance_strength` of 1 or
    0 needs one call. The state is float32.

    Args:
        velocity: the network with its conditions.
        noise: standard normal; dense, or sparse with `lengths`.
        settings: settings of the sampler.
        lengths: tokens of each item of a sparse state; None for a dense one.
        on_step: called after each step. To cancel the sampling, raise an exception in it.

    Raises:
        UsageError: if `lengths` does not add up to the tokens.
        WeightsError: if the velocity is not finite.

    Examples:
        >>> settings = SamplerSettings(
        ...     steps=4, guidance_strength=1.0, guidance_rescale=0.0, guidance_interval=(0.0, 1.0), rescale_t=1.0
        ... )
        >>> sample(lambda x, t, conditional: torch.ones_like(x), torch.ones(1, 1), settings).tolist()
        [[0.0]]
    """
    if lengths is not None and (sum(lengths) != len(noise) or min(lengths, default=0) < 1):
        raise UsageError(
            f"`lengths` is {list(lengths)[:8]}, {sum(lengths)} together; give each item's tokens, at least 1, "
            f"{len(noise)} together."
        )
    items = len(noise) if lengths is None else len(lengths)
    times = schedule(settings).tolist()
    x = noise.float()
    for done, (t, t_next) in enumerate(pairwise(times), start=1):
        v = _velocity_at(velocity, x, t, items, settings, lengths)
        if not bool(torch.isfinite(v).all()):
            raise WeightsError(
                f"`velocity` is not finite at step {done} of {settings.steps} (t = {t:.3f}): the weights are damaged, or "
                f"overflow in their dtype. Fetch them again, or use bfloat16 or float32."
            )
        clean = clean_from_velocity(x, v, t, settings.sigma_min)
        x = euler_step(x, v, t, t_next)
        if on_step is not None:
            on_step(Step(done, settings.steps, x, clean))
    return x


def _velocity_at(
    velocity: Velocity, x: Tensor, t: float, items: int, settings: SamplerSettings, lengths: Sequence[int] | None
) -> Tensor:
    """The velocity a step follows: guided within the interval, conditional outside."""
    time = torch.full((items,), TIME_SCALE * t, dtype=torch.float32, device=x.device)
    low, high = settings.guidance_interval
    if not low <= t <= high or settings.guidance_strength == 1:
        return velocity(x, time, True).float()
    if settings.guidance_strength == 0:
        return velocity(x, time, False).float()
    positive = velocity(x, time, True).float()
    negative = velocity(x, time, False).float()
    return guided_velocity(x, positive, negative, t, settings, lengths)
