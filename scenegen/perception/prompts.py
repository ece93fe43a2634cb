"""Prompts, which say which object of a photo is meant. Every promptable segmenter takes these."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from scenegen.errors import UsageError
from scenegen.perception import Guess, Segmentation
from scenegen.perception.masks import paint

Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Prompt:
    """One object. All in pixels of one picture: u right, v down, the centre of the top-left pixel at 0.5."""

    inside: tuple[Point, ...] = ()
    outside: tuple[Point, ...] = ()
    box: Box | None = None
    """u0, v0, u1, v1."""

    def scaled(self, along_u: float, along_v: float) -> Prompt:
        """The same in a picture so much larger.

        >>> Prompt(inside=((4, 6),)).scaled(0.5, 0.5).inside
        ((2.0, 3.0),)
        """
        return Prompt(
            inside=tuple((u * along_u, v * along_v) for u, v in self.inside),
            outside=tuple((u * along_u, v * along_v) for u, v in self.outside),
            box=self.box
            and (self.box[0] * along_u, self.box[1] * along_v, self.box[2] * along_u, self.box[3] * along_v),
        )


def check_prompt(prompt: Prompt, width: int, height: int) -> None:
    """Refuses a prompt that is not valid in a picture of this size.

    Raises:
        UsageError: if it has neither a click inside nor a box, lies outside the picture, or its box has no area.
    """
    if not prompt.inside and prompt.box is None:
        raise UsageError("a prompt has neither a click inside the object nor a box; give one.")
    corners = () if prompt.box is None else (prompt.box[:2], prompt.box[2:])
    for u, v in (*prompt.inside, *prompt.outside, *corners):
        if not (0 <= u <= width and 0 <= v <= height):
            raise UsageError(
                f"a prompt has {u:g},{v:g}, which lies outside the photo of {width}x{height} pixels; points and boxes "
                "are in pixels of the photo as given, turned upright."
            )
    if prompt.box is not None and not (prompt.box[0] < prompt.box[2] and prompt.box[1] < prompt.box[3]):
        shown = ",".join(f"{side:g}" for side in prompt.box)
        raise UsageError(f"a prompt has the box {shown}, which has no area; give x0,y0,x1,y1 with x0 < x1 and y0 < y1.")


def configured_prompts(
    boxes: Iterable[Box], points: Iterable[Sequence[tuple[float, float, int]]], given: tuple[int, int]
) -> tuple[Prompt, ...]:
    """The prompts of a configuration, boxes first.

    Args:
        boxes: x0, y0, x1, y1; one object each.
        points: clicks of one object each: x, y, and 1 inside or 0 outside.
        given: width and height of the photo that all of them are pixels of.

    Raises:
        UsageError: as `check_prompt`.
    """
    prompts = [Prompt(box=box) for box in boxes]
    for clicks in points:
        inside, outside = (tuple((u, v) for u, v, label in clicks if label == wanted) for wanted in (1, 0))
        prompts.append(Prompt(inside=inside, outside=outside))
    for prompt in prompts:
        check_prompt(prompt, *given)
    return tuple(prompts)


def answered(
    masks: Bool[np.ndarray, "n h w"],
    scores: Sequence[float],
    labels: Sequence[str],
    label_confidences: Sequence[float | None],
    backend: str,
    licence: str,
    guesses: Sequence[tuple[Guess, ...]] = (),
) -> Segmentation:
    """One object for each prompt, in their order; if answers overlap, the smaller one is on top.

    A prompt without pixels of its own gives no object, and a warning says so.
    """
    ids, order = paint(masks)
    lost = [str(number + 1) for number in range(len(masks)) if number not in order]
    return Segmentation(
        ids=ids,
        scores=tuple(scores[index] for index in order),
        labels=tuple(labels[index] for index in order),
        label_confidences=tuple(label_confidences[index] for index in order),
        guesses=tuple(guesses[index] for index in order) if guesses else (),
        backend=backend,
        licence=licence,
        warnings=(
            f"segment: prompt {', '.join(lost)} of {len(masks)} (boxes first, then points) shows no object of its own; "
            "click its middle, add clicks, or draw the box closer.",
        )
        if lost
        else (),
    )
