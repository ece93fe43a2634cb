"""One object by a click, several clicks in and out of it, or a box: answers of the embedded perception network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, UInt8, UInt16

from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import COMPACT_THREADS, device_memory, torch_threads
from scenegen.config import EmbeddedSegmentConfig
from scenegen.perception import Guess, Names, Segmentation
from scenegen.perception.embedded import LICENCE, NAME, called, guessed, network_of, perceive, snapped
from scenegen.perception.masks import boxes_and_areas
from scenegen.perception.network import (
    CORNER_HIGH,
    CORNER_LOW,
    INSIDE,
    OUTSIDE,
    Answers,
    PerceptionNetwork,
    Prediction,
    Prompts,
)
from scenegen.perception.prompts import Prompt, answered, check_prompt

SAME_OBJECT = 0.5
"""IoU from which an answer is about the object that was asked for."""


@dataclass(frozen=True, eq=False)
class PromptedObject:
    """What was meant."""

    mask: Bool[np.ndarray, "h w"]
    score: float
    """How well the mask is thought to fit, 0..1."""
    guesses: tuple[Guess, ...]
    """What it could be called, the likeliest first."""


def answer(image: UInt8[np.ndarray, "h w 3"], prompt: Prompt, runtime: Runtime) -> PromptedObject:
    """The object that `prompt` means. The network sees the photo once; further prompts about it are fast.

    Raises:
        UsageError: if the prompt has neither a click inside nor a box, lies outside the photo, or its box has no area.
        WeightsError: if the package's weights are missing or damaged.
        ResourceError: if the device is absent or its memory full.

    Examples:
        Two clicks, the second of which takes something away:

        >>> image = np.full((96, 128, 3), 40, dtype=np.uint8)
        >>> image[30:70, 40:90] = (200, 60, 50)
        >>> made = answer(image, Prompt(inside=((64, 50),), outside=((10, 10),)), Runtime(device="cpu"))
        >>> made.mask.shape, 0 <= made.score <= 1
        ((96, 128), True)
    """
    height, width = image.shape[:2]
    check_prompt(prompt, width, height)
    network = network_of(runtime)
    answers = _ask(network, perceive(image, runtime).prediction, prompt, width, height)
    logits = cv2.resize(answers.logits[0, 0].float().cpu().numpy(), (width, height), interpolation=cv2.INTER_LINEAR)
    return PromptedObject(
        mask=logits > 0,
        score=float(answers.fit[0, 0].sigmoid()),
        guesses=guessed(answers.nouns[0, 0].softmax(0).cpu().numpy(), network.settings.nouns),
    )


def segment_prompted(
    image: UInt8[np.ndarray, "h w 3"], prompts: Sequence[Prompt], config: EmbeddedSegmentConfig, runtime: Runtime
) -> Segmentation:
    """One object for each prompt, in their order.

    Raises:
        UsageError: as `answer`.
        WeightsError: if the package's weights are missing or damaged.
        ResourceError: if the device is absent or its memory full.

    Examples:
        >>> image = np.full((96, 128, 3), 40, dtype=np.uint8)
        >>> image[30:70, 40:90] = (200, 60, 50)
        >>> prompts = [Prompt(inside=((64, 50),))]
        >>> segment_prompted(image, prompts, EmbeddedSegmentConfig(), Runtime(device="cpu")).ids.shape
        (96, 128)
    """
    made = [answer(image, prompt, runtime) for prompt in prompts]
    named = [called(each.guesses, config) for each in made]
    found = answered(
        masks=np.stack([each.mask for each in made]),
        scores=[round(each.score, 4) for each in made],
        labels=[label for label, _ in named],
        label_confidences=[confidence for _, confidence in named],
        backend=NAME,
        licence=LICENCE,
        guesses=[each.guesses for each in made],
    )
    return replace(found, ids=snapped(image, found.ids))


def name_objects(
    image: UInt8[np.ndarray, "h w 3"],
    ids: UInt16[np.ndarray, "h w"],
    numbers: Sequence[int],
    config: EmbeddedSegmentConfig,
    runtime: Runtime,
) -> Names:
    """What the objects `numbers` of somebody's masks are called.

    Each object is prompted by its box. It gets the name of the answer if the answer is about the same object.

    Raises:
        WeightsError: if the package's weights are missing or damaged.
        ResourceError: if the device is absent or its memory full.

    Examples:
        >>> image = np.full((96, 128, 3), 40, dtype=np.uint8)
        >>> ids = np.zeros((96, 128), dtype=np.uint16)
        >>> ids[30:70, 40:90] = 1
        >>> sorted(name_objects(image, ids, [1], EmbeddedSegmentConfig(), Runtime(device="cpu")).labels)
        [1]
    """
    guesses: dict[int, tuple[Guess, ...]] = {}
    for number, (x0, y0, x1, y1), area in boxes_and_areas(ids):
        if number not in numbers:
            continue
        made = answer(image, Prompt(box=(x0, y0, x1, y1)), runtime)
        both = np.count_nonzero(made.mask & (ids == number))
        same = both >= SAME_OBJECT * (area + np.count_nonzero(made.mask) - both)
        guesses[number] = made.guesses if same else ()
    return Names({number: called(each, config) for number, each in guesses.items()}, guesses, NAME, LICENCE)


def _ask(network: PerceptionNetwork, prediction: Prediction, prompt: Prompt, width: int, height: int) -> Answers:
    """The network's answer to a prompt about a photo of this size."""
    corners = () if prompt.box is None else (prompt.box[:2], prompt.box[2:])
    points = [*prompt.inside, *corners, *prompt.outside]
    kinds = [INSIDE] * len(prompt.inside) + [CORNER_LOW, CORNER_HIGH][: len(corners)] + [OUTSIDE] * len(prompt.outside)
    device = prediction.log_depth.device
    rows, columns = prediction.log_depth.shape[1:]
    # The network's copy of the photo has sides that are multiples of its strides: the two scales differ a little.
    size = np.array([columns, rows]) / max(columns, rows)
    places = (np.array(points) / [width, height] - 0.5) * size
    with torch.inference_mode(), torch_threads(COMPACT_THREADS), device_memory(device):
        return network.decoder(
            prediction.features,
            Prompts(
                torch.tensor(places, dtype=torch.float32, device=device)[None, None],
                torch.tensor(kinds, device=device)[None, None],
            ),
        )
