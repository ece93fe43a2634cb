"""Perception networks that say what a test wants, and one small enough to run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scenegen.perception.network import (
    FOCAL_BINS,
    Answers,
    Features,
    PerceptionNetwork,
    PerceptionSettings,
    Prediction,
    Prompts,
)

TINY = PerceptionSettings(
    trunk="lite0", width=32, heads=2, context_blocks=1, decoder_blocks=1, fine=16, kernel=8, nouns=("box", "cup")
)
SURE = 8.0
"""A logit."""


def said(log_depth: Float[Tensor, "b h w"], **more: Tensor) -> Prediction:
    """A prediction of this depth: flat, background, of an even field of view, gravity down; unless `more` says otherwise."""
    flat = torch.zeros_like(log_depth)
    count = len(log_depth)
    features = Features(*(torch.zeros(count, 1, *log_depth.shape[1:]) for _ in range(4)))
    values: dict[str, Tensor] = {
        "log_error": flat,
        "relief": flat,
        "relief_log_error": flat,
        "normal": torch.tensor([0.0, 0, -1])[:, None, None].expand(count, 3, *flat.shape[1:]),
        "object_logit": flat - SURE,
        "focal_logits": torch.zeros(count, FOCAL_BINS),
        "down": torch.tensor([[0.0, 1, 0]]).expand(count, 3),
        **more,
    }
    return Prediction(log_depth=log_depth, features=features, **values)


class Decoder(nn.Module):
    """Answers prompts as a function says."""

    def __init__(self, answer: Callable[[Prompts], Answers]) -> None:
        super().__init__()
        self.answer = answer
        self.asked: list[Prompts] = []

    def forward(self, features: Features, prompts: Prompts) -> Answers:
        """The function's answers."""
        self.asked.append(prompts)
        return self.answer(prompts)


class Scripted(PerceptionNetwork):
    """Sees pictures and answers prompts as functions say."""

    def __init__(
        self,
        *,
        seen: Callable[[Tensor], Prediction] | None = None,
        answer: Callable[[Prompts], Answers] | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self.settings = TINY
        self.anchor = nn.Parameter(torch.zeros(1))
        self.seen = seen
        if answer is not None:
            self.decoder = Decoder(answer)

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> Prediction:
        """What the function sees."""
        assert self.seen is not None
        return self.seen(pictures)
