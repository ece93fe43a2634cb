"""One object by a click, several clicks in and out of it, or a box: answers of the embedded perception network.

The network answers from what it saw of the whole photo, then from a look at the surroundings of that answer or of the box; the
mean of both is the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8, UInt16

from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import COMPACT_THREADS, device_memory, torch_device, torch_threads
from scenegen.config import EmbeddedSegmentConfig
from scenegen.perception import Guess, Names, Segmentation
from scenegen.perception.embedded import (
    LICENCE,
    NAME,
    called,
    guessed,
    look_at,
    network_of,
    perceive,
    snapped,
)
from scenegen.perception.masks import boxes_and_areas
from scenegen.perception.network import CORNER_HIGH, CORNER_LOW, INSIDE, OUTSIDE, PerceptionNetwork, Prompts
from scenegen.perception.objects import Look
from scenegen.perception.prompts import Prompt, answered, check_prompt

SAME_OBJECT = 0.5
"""IoU from which an answer is about the object that was asked for."""
SURROUNDINGS = 1.6
"""Side of what is looked at again, over the longer side of what is asked for."""
LEAST_SIDE = 0.15
"""What is asked for counts as no smaller than this share of the photo's longer side."""
CLOSER_SIDE = 192
"""Longer side of the second look, pixels. On held-out photographs 256 is no better, and takes twice the time."""


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
    first = _asked(network, Look(perceive(image, runtime).prediction), prompt, width, height)
    with torch_threads(COMPACT_THREADS), device_memory(torch_device(runtime)):
        closer = look_at(network, image, _surroundings(prompt, first.logits > 0), CLOSER_SIDE)
    second = _asked(network, closer, prompt, width, height)
    return PromptedObject(
        mask=np.where(np.isfinite(second.logits), first.logits + second.logits, first.logits) > 0,
        score=(first.fit + second.fit) / 2,
        guesses=guessed((first.nouns + second.nouns) / 2, network.settings.nouns),
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

    Each object is prompted by its box in the whole photo. It gets the name of the answer if the answer is about the same object.

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
    height, width = image.shape[:2]
    network = network_of(runtime)
    whole = Look(perceive(image, runtime).prediction)
    for number, box, area in boxes_and_areas(ids):
        if number not in numbers:
            continue
        said = _asked(network, whole, Prompt(box=box), width, height)
        mask = said.logits > 0
        both = np.count_nonzero(mask & (ids == number))
        same = both >= SAME_OBJECT * (area + np.count_nonzero(mask) - both)
        guesses[number] = guessed(said.nouns, network.settings.nouns) if same else ()
    return Names({number: called(each, config) for number, each in guesses.items()}, guesses, NAME, LICENCE)


@dataclass(frozen=True, eq=False)
class _Said:
    """What the network says of one object from one look."""

    logits: Float32[np.ndarray, "h w"]
    """Of the mask, at the photo's size; -inf beyond the look."""
    fit: float
    nouns: Float32[np.ndarray, "c"]


def _surroundings(prompt: Prompt, answered: Bool[np.ndarray, "h w"]) -> tuple[float, float, float, float]:
    """A square around the box, or the answer, and all clicks, as far as it lies within the photo: a window, as looks have."""
    size = np.array(answered.shape[::-1])
    points = [*prompt.inside, *prompt.outside]
    if prompt.box is not None:
        points += [prompt.box[:2], prompt.box[2:]]
    elif answered.any():
        rows, columns = np.flatnonzero(answered.any(1)), np.flatnonzero(answered.any(0))
        points += [(columns[0], rows[0]), (columns[-1] + 1, rows[-1] + 1)]
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    reach = SURROUNDINGS / 2 * max(*(high - low), LEAST_SIDE * size.max())
    left, top = np.maximum(((low + high) / 2 - reach) / size, 0).tolist()
    right, bottom = np.minimum(((low + high) / 2 + reach) / size, 1).tolist()
    return left, top, right, bottom


def _asked(network: PerceptionNetwork, look: Look, prompt: Prompt, width: int, height: int) -> _Said:
    """The answer to a prompt about a photo of this size, from a look at all of it or at a window."""
    corners = () if prompt.box is None else (prompt.box[:2], prompt.box[2:])
    points = [*prompt.inside, *corners, *prompt.outside]
    kinds = [INSIDE] * len(prompt.inside) + [CORNER_LOW, CORNER_HIGH][: len(corners)] + [OUTSIDE] * len(prompt.outside)
    device = look.prediction.log_depth.device
    cells = np.array(look.prediction.log_depth.shape[:0:-1])
    left, top, right, bottom = np.round(np.array(look.window) * [width, height, width, height]).astype(int).tolist()
    # The network's copy of a picture has sides that are multiples of its strides: the two scales differ a little.
    places = ((np.array(points) - [left, top]) / [right - left, bottom - top] - 0.5) * cells / cells.max()
    with torch.inference_mode(), torch_threads(COMPACT_THREADS), device_memory(device):
        answers = network.decoder(
            look.prediction.features,
            Prompts(
                torch.tensor(places, dtype=torch.float32, device=device)[None, None],
                torch.tensor(kinds, device=device)[None, None],
            ),
        )
    cells_logits = answers.logits[0, 0].float().cpu().numpy()
    logits = np.full((height, width), -np.inf, np.float32)
    logits[top:bottom, left:right] = cv2.resize(
        cells_logits, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR
    )
    return _Said(logits, float(answers.fit[0, 0].sigmoid()), answers.nouns[0, 0].softmax(0).cpu().numpy())
