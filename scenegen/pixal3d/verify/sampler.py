"""Checks the sampler against stored runs on a toy velocity, call by call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scenegen.pixal3d.sampler import SamplerSettings, Step, Velocity, sample, schedule
from scenegen.pixal3d.verify.case import Case, Check, Measured, compare, compare_exactly

STATE_TOLERANCE = 1e-5
TIME_TOLERANCE = 1e-6
"""Relative."""


def check_sampler(case: Case) -> list[Measured]:
    """Schedule, calls of the network in order, every state and every clean latent."""
    stored = case.tensors
    arguments: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in case.config.items()
        if name in SamplerSettings.__dataclass_fields__
    }
    settings = SamplerSettings(**arguments)
    lengths = torch.bincount(stored["coords"][:, 0]).tolist() if "coords" in stored else None
    calls: list[tuple[Tensor, bool]] = []
    steps: list[Step] = []
    toy = _toy_velocity(case, lengths)

    def logged(x: Tensor, t: Tensor, conditional: bool) -> Tensor:
        calls.append((t, conditional))
        return toy(x, t, conditional)

    samples = sample(logged, stored["noise"], settings, lengths, steps.append)
    called = torch.stack([t for t, _ in calls])
    return [
        compare_exactly("t_seq", torch.from_numpy(schedule(settings)), stored["t_seq"]),
        compare_exactly("n_model_calls", torch.tensor(len(calls)), torch.tensor(case.config["n_model_calls"])),
        compare_exactly("call_is_cond", torch.tensor([c for _, c in calls], dtype=torch.int32), stored["call_is_cond"]),
        compare(
            "call_t over t",
            called / stored["call_t"][:, None],
            torch.ones_like(called),
            TIME_TOLERANCE,
        ),
        compare("pred_x_t", torch.stack([step.state for step in steps]), stored["pred_x_t"], STATE_TOLERANCE),
        compare("pred_x_0", torch.stack([step.clean for step in steps]), stored["pred_x_0"], STATE_TOLERANCE),
        compare("samples", samples, stored["samples"], STATE_TOLERANCE),
    ]


CHECKS: Mapping[str, Check] = {"10_sampler": check_sampler}


def _toy_velocity(case: Case, lengths: list[int] | None) -> Velocity:
    """v = 1.5 tanh(W x + cond + s t), channel by channel, with the case's constants."""
    W, s, cond, negative = (case.tensors[name] for name in ("W", "s", "cond", "neg_cond"))
    concat = case.tensors.get("concat_cond")

    def velocity(x: Tensor, t: Tensor, conditional: bool) -> Tensor:
        if concat is not None:
            x = torch.cat([x, concat], dim=1)
        offset = (cond if conditional else negative) + s * (t / 1000.0)[:, None]
        if lengths is not None:
            offset = offset.repeat_interleave(torch.tensor(lengths), dim=0)
        offset = offset.reshape(*offset.shape, *(1,) * (x.ndim - 2))
        return 1.5 * torch.tanh(torch.einsum("oi,bi...->bo...", W, x) + offset)

    return velocity
