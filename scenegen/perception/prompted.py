"""One object by a click, several clicks in and out of it, or a box: answers of the embedded perception network."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, UInt8

from scenegen.errors import InputError
from scenegen.perception.embedded import network_of, perceive
from scenegen.perception.network import CORNER_HIGH, CORNER_LOW, INSIDE, OUTSIDE, Prompts
from scenegen.runtime import Runtime
from scenegen.torch_env import COMPACT_THREADS, device_memory, torch_threads


@dataclass(frozen=True)
class Prompt:
    """What says which object is meant. All in the photo's pixels: u right, v down."""

    inside: tuple[tuple[float, float], ...] = ()
    outside: tuple[tuple[float, float], ...] = ()
    box: tuple[float, float, float, float] | None = None
    """u0, v0, u1, v1."""


@dataclass(frozen=True, eq=False)
class PromptedObject:
    """What was meant."""

    mask: Bool[np.ndarray, "h w"]
    score: float
    """How well the mask is thought to fit, 0..1."""
    noun: str
    noun_confidence: float


def answer(image: UInt8[np.ndarray, "h w 3"], prompt: Prompt, runtime: Runtime) -> PromptedObject:
    """The object that `prompt` means. The photo is looked at once; further prompts about it are quick.

    Raises:
        InputError: where the prompt has neither a click inside nor a box, lies outside the photo, or its box has no area.
        WeightsError: where the package's weights are missing or damaged.
        ResourceError: where the device is absent or its memory full.
    """
    height, width = image.shape[:2]
    corners = () if prompt.box is None else (prompt.box[:2], prompt.box[2:])
    points = [*prompt.inside, *corners, *prompt.outside]
    if not prompt.inside and prompt.box is None:
        raise InputError("`prompt` has neither a click inside the object nor a box; give one.")
    if not all(0 <= u <= width and 0 <= v <= height for u, v in points):
        raise InputError(f"`prompt` lies outside the photo, which is {width}x{height}: {prompt}.")
    if prompt.box is not None and not (prompt.box[0] < prompt.box[2] and prompt.box[1] < prompt.box[3]):
        raise InputError(
            f"`prompt` has a box without area: {prompt.box}; give u0, v0, u1, v1 with u0 < u1 and v0 < v1."
        )
    kinds = [INSIDE] * len(prompt.inside) + [CORNER_LOW, CORNER_HIGH][: len(corners)] + [OUTSIDE] * len(prompt.outside)
    prediction = perceive(image, runtime).prediction
    network = network_of(runtime)
    device = prediction.log_depth.device
    rows, columns = prediction.log_depth.shape[1:]
    # The network's copy of the photo has sides that are multiples of its strides: the two scales differ a little.
    size = np.array([columns, rows]) / max(columns, rows)
    places = (np.array(points) / [width, height] - 0.5) * size
    with torch.inference_mode(), torch_threads(COMPACT_THREADS), device_memory(device):
        answers = network.decoder(
            prediction.features,
            Prompts(
                torch.tensor(places, dtype=torch.float32, device=device)[None, None],
                torch.tensor(kinds, device=device)[None, None],
            ),
        )
        nouns = answers.nouns[0, 0].softmax(0)
    logits = cv2.resize(answers.logits[0, 0].float().cpu().numpy(), (width, height), interpolation=cv2.INTER_LINEAR)
    return PromptedObject(
        mask=logits > 0,
        score=float(answers.fit[0, 0].sigmoid()),
        noun=network.settings.nouns[int(nouns.argmax())],
        noun_confidence=float(nouns.max()),
    )
