"""Training of the perception network on folders of scenes and photographs, for a given time, on a CPU or a graphics card."""

from __future__ import annotations

import logging
import pickle
import re
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
from cyclopts import Parameter
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from scenegen.errors import InputError, UsageError
from scenegen.perception.network import STRIDE, PerceptionNetwork, PerceptionSettings
from scenegen.perception.nouns import NOUNS
from scenegen.perception.relief import SIDE as CROP_SIDE
from scenegen.train.imagenet import imagenet_file, load_imagenet
from scenegen.train.perception_losses import (
    answer_losses,
    focal_label,
    mean_of,
    object_relief,
    picture_losses,
    relief_losses,
)
from scenegen.train.pictures import TrainingPicture, read_pictures
from scenegen.train.pool import Batch, Cutouts, Pool
from scenegen.train.prompting import corrected, first_questions
from scenegen.train.rendering import rendering
from scenegen.train.variation import greyed, with_objects, with_other_tone
from scenegen.weights.file import read_weights, write_weights

logger = logging.getLogger(__name__)

SIZES = ((320, 256), (384, 288), (384, 288), (448, 320))
"""Longer and shorter sides of the pictures trained on: photos come at several scales."""
TALL_SHARE = 0.3
"""Share of the batches that show portrait pictures."""
PHOTO_SIDE, SCENE_SIDE = 448, 384
"""Sides of the canvases on which pictures are kept."""
MIXTURE = {"photographs": 0.55, "measured": 0.1, "scenes": 0.35}
"""Shares of a batch; `measured` are photographs whose depth or focal length is known."""
VIEW_SHARE = 0.6
"""Share of the crops that show rendered single objects, if there are any; the others are cut from scenes and photographs."""
RENDERED = 12000
"""Rendered pictures kept; the newest replace the oldest."""
OBJECTS, BACKGROUND = 10, 5
"""Prompts for each picture."""
RATE = 1e-3
"""Largest learning rate of the layers after the trunk; it falls along a cosine over the given time."""
TRUNK_RATE = 2.5e-4
WARM_STEPS = 200
DECAY = 0.05
AVERAGING = 0.998
"""Decay of the averaged weights, which are the ones that are kept."""
WEIGHTS = {
    "depth": 0.5,
    "gradient": 2.0,
    "sky": 0.3,
    "within": 3.0,
    "object": 1.0,
    "dice": 2.0,
    "mask": 5.0,
    "fit": 1.0,
    "there": 0.7,
    "noun": 0.3,
    "focal": 0.7,
    "down": 2.0,
    "relief": 0.5,
    "relief_gradient": 3.0,
    "relief_shape": 1.0,
    "normal": 1.0,
}
CORRECTION = 0.5
"""Weight of an answer after a correcting click, against the first answer."""
HELD_OUT = 12
"""One in this many groups of pictures is held out."""
AT_ONCE = 12
"""Largest number of rendered pictures taken at a time, so that no step waits long for them."""
PRIOR_DRAWS = 40
RAREST_BIN = 0.003
HELD_OUT_BATCHES = 6
LOG_EARLY = (1, 10, 100)
"""Early steps after which the log reports the speed."""
REFUSED = 50
"""Number of successive steps that are not finite after which training gives up."""


def train(
    *,
    data: Annotated[list[Path], Parameter(consume_multiple=True)],
    minutes: float,
    out: Path,
    meshes: Path | None = None,
    workers: int = 0,
    checkpoint: Path | None = None,
    start: Path | None = None,
    rate: float = 1.0,
    batch: int = 8,
    crops: int = 8,
    device: str = "cpu",
    threads: int = 2,
    bfloat16: bool = False,
    every: float = 240.0,
    free: bool = False,
    seed: int = 0,
) -> None:
    """Train the perception network.

    It starts from ImageNet weights, from `start`, or from the point at which an earlier training stopped.

    Parameters
    ----------
    data
        Folders or archives of scenes and photographs; see `scenegen.train.pictures`.
    minutes
        How long, over all resumed runs together, including preparation.
    out
        The safetensors file for the averaged weights (half precision).
    meshes
        Meshes from which more pictures are rendered while it trains.
    workers
        Processes that render them.
    checkpoint
        File that keeps the state of the training, which is resumed from it if it exists. Default: beside `out`.
    start
        Weights of an earlier training to start from; without them, only the trunk is pretrained.
    rate
        Factor on the learning rates.
    batch
        Pictures per step.
    crops
        Crops of single objects per step.
    device
        `cpu`, or `cuda`.
    threads
        Threads of torch on the CPU.
    bfloat16
        Compute in bfloat16 where it does no harm: twice as fast on hardware that has it.
    every
        Seconds between checkpoints.
    free
        Leave out photographs whose licence forbids commercial use or changes, or is not stated.
    seed
        Random seed.
    """
    began = time.monotonic()
    if minutes <= 0:
        raise UsageError(f"`minutes` is {minutes}; it must be positive.")
    if workers and meshes is None:
        raise UsageError("`workers` and `meshes` need each other, but only one is given; give both.")
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    training_device = torch.device(device)
    if training_device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    with rendering(meshes, workers, seed) as source:
        trained, held_out = split(read_all(data), free=free)
        pools = Pools(trained, training_device, rendered=workers > 0)
        check = Pools(held_out, training_device, rendered=False)
        logger.info("%d pictures to train on, %d held out", len(trained), len(held_out))
        state = checkpoint or out.with_suffix(".pt")
        training = Training(start, state, rate, pools.focal_prior(), training_device, bfloat16=bfloat16, seed=seed)
        recent: list[dict[str, Tensor]] = []
        last_check = time.monotonic()
        earlier = training.minutes
        while training.minutes < minutes:
            for picture in source.ready(AT_ONCE):
                pools.add_rendered(picture)
            recent.append(training.advance(pools, batch, crops, minutes))
            if len(recent) in LOG_EARLY:
                logger.info("step %d after %.1f minutes", training.step, training.minutes)
            training.minutes = earlier + (time.monotonic() - began) / 60
            if time.monotonic() - last_check > every or training.minutes >= minutes:
                means = {name: float(torch.stack([terms[name] for terms in recent]).mean()) for name in recent[0]}
                logger.info(
                    "%.1f min, step %d, %d rendered: %s", training.minutes, training.step, pools.rendered, _text(means)
                )
                logger.info("held out: %s", _text(training.held_out(check, batch, crops)))
                write_weights(training.averaged, training.averaged.settings, out)
                training.save(state)
                recent, last_check = [], time.monotonic()


def read_all(data: Sequence[Path]) -> list[TrainingPicture]:
    """The pictures of every folder."""
    with ThreadPoolExecutor() as threads:
        return [picture for pictures in threads.map(read_pictures, data) for picture in pictures]


def split(
    pictures: Sequence[TrainingPicture], *, free: bool = False
) -> tuple[list[TrainingPicture], list[TrainingPicture]]:
    """The pictures to train on, and the pictures held out. Those marked `test` are in neither.

    Raises:
        InputError: if nothing is left to train on or to hold out.
    """
    usable = [picture for picture in pictures if picture.split == "train" and (not free or allows_all(picture.licence))]
    held_out = [picture for picture in usable if zlib.crc32(picture.group.encode()) % HELD_OUT == 0]
    trained = [picture for picture in usable if zlib.crc32(picture.group.encode()) % HELD_OUT != 0]
    if not trained or not held_out:
        raise InputError(f"`data` has {len(usable)} pictures, too few to train on some and hold out others; give more.")
    return trained, held_out


def allows_all(licence: str) -> bool:
    """Whether a licence as stated allows commercial use and changes. This project's own renders state none, and count."""
    text = licence.lower()
    refused = ("research", "non-commercial", "not stated", "no terms", "no licence")
    if {"nc", "nd"} & set(re.split(r"\W+", text)) or any(word in text for word in refused):
        return False
    return not text or any(word in text for word in ("cc by", "cc0", "mit", "bsd", "apache", "no known", "free to use"))


class Pools:
    """The pictures on the device, by what they can teach."""

    def __init__(self, pictures: Sequence[TrainingPicture], device: torch.device, *, rendered: bool) -> None:
        scenes = [picture for picture in pictures if picture.down is not None]
        photographs = [picture for picture in pictures if picture.down is None]
        measured = [picture for picture in photographs if picture.log_depth is not None or picture.camera is not None]
        self.whole: dict[str, Pool] = {}
        sources = {
            "photographs": (photographs, PHOTO_SIDE, 0),
            "measured": (measured, PHOTO_SIDE, 0),
            "scenes": (scenes, SCENE_SIDE, RENDERED if rendered else 0),
        }
        for name, (members, side, more) in sources.items():
            if members or more:
                self.whole[name] = pool = Pool(len(members) + more, side, device)
                for picture in members:
                    pool.add(picture)
        self.views = Pool(2 * RENDERED if rendered else 1, CROP_SIDE, device)
        self.rendered = 0

    def add_rendered(self, picture: TrainingPicture) -> None:
        """Adds a composed scene, or a view of a single object, which has no gravity."""
        (self.views if picture.down is None else self.whole["scenes"]).add(picture)
        self.rendered += 1

    def batch(self, count: int) -> Batch:
        """Whole pictures of one random size."""
        longer, shorter = SIZES[int(torch.randint(len(SIZES), ()))]
        width, height = (shorter, longer) if torch.rand(()) < TALL_SHARE else (longer, shorter)
        present = {name: MIXTURE[name] for name, pool in self.whole.items() if len(pool)}
        parts = []
        left, weight = count, sum(present.values())
        for name, share in present.items():
            some = left if share == weight else int(left * share / weight + float(torch.rand(())))
            left, weight = left - some, weight - share
            if some:
                parts.append(self.whole[name].draw(some, width, height))
        return Batch.joined(parts)

    def cutouts(self, count: int) -> Cutouts:
        """Single objects to paste."""
        sources = [(pool, MIXTURE[name]) for name, pool in self.whole.items()] + [(self.views, MIXTURE["scenes"])]
        sources = [(pool, share) for pool, share in sources if len(pool)]
        drawn = torch.multinomial(torch.tensor([share for _, share in sources]), count, replacement=True)
        of_each = drawn.bincount(minlength=len(sources)).tolist()
        return Cutouts.joined(
            [pool.cutouts(some, CROP_SIDE) for (pool, _), some in zip(sources, of_each, strict=True) if some]
        )

    def crops(self, count: int) -> tuple[Batch, Float[Tensor, "b"]]:
        """Crops of single objects, and their focal lengths over their sides."""
        views = round(VIEW_SHARE * count) if len(self.views) >= count else 0
        deep = [name for name, pool in self.whole.items() if name != "photographs" and bool(pool.depth_known.any())]
        # Scenes come last. If no picture has known depth, crops teach nothing.
        main = deep[-1] if deep else next(iter(self.whole))
        shares = {main: count - views}
        if len(deep) > 1:
            shares[deep[0]] = (count - views) // 5
            shares[main] -= shares[deep[0]]
        drawn = [self.whole[name].crops(some, CROP_SIDE) for name, some in shares.items() if some]
        if views:
            drawn.append(self.views.crops(views, CROP_SIDE))
        return Batch.joined([part for part, _ in drawn]), torch.cat([focal for _, focal in drawn])

    def focal_prior(self) -> Float[Tensor, "bins"]:
        """Log frequency of the bins of the focal length among drawn pictures, at least that of `RAREST_BIN`."""
        longer, shorter = SIZES[0]
        shares = []
        for name, pool in self.whole.items():
            known = pool.focal_known[: len(pool)].nonzero()[:, 0]
            if len(known):
                _, focal = pool.view_cameras(known.repeat(PRIOR_DRAWS), longer, shorter)
                shares.append(MIXTURE[name] * len(known) / len(pool) * focal_label((focal / longer).log()).mean(0))
        total = torch.stack(shares).sum(0) if shares else torch.ones(len(focal_label(torch.zeros(1))[0]))
        return (total / total.sum()).clamp(min=RAREST_BIN).log()


class Training:
    """The network, its running average, the optimiser, and their progress."""

    def __init__(
        self,
        start: Path | None,
        resume: Path,
        rate: float,
        focal_prior: Float[Tensor, "bins"],
        device: torch.device,
        *,
        bfloat16: bool = False,
        seed: int = 0,
        settings: PerceptionSettings = PerceptionSettings(nouns=NOUNS),
    ) -> None:
        torch.manual_seed(seed)
        state = _read(resume) if resume.exists() else None
        if start is not None:
            self.network = read_weights(start, PerceptionNetwork, settings).train()
            if self.network.settings.nouns != settings.nouns:
                raise InputError(
                    f"`start` {start} has other nouns than this version; start from ImageNet weights instead."
                )
        else:
            self.network = PerceptionNetwork(settings)
        self.focal_prior = focal_prior
        self.device, self.bfloat16, self.seed = device, bfloat16, seed
        # On graphics cards, cuDNN takes minutes to set up single-channel convolutions in the other layout.
        self.layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
        self.step, self.minutes, self.refused = 0, 0.0, 0
        self.learned = start is not None
        if state is None and start is None:
            load_imagenet(self.network.trunk, imagenet_file(settings.trunk))
        self.network.to(device, memory_format=self.layout)
        self.averaged = PerceptionNetwork(self.network.settings).requires_grad_(False).eval().to(device)
        self.averaged.load_state_dict(self.network.state_dict())
        trunk = list(self.network.trunk.parameters())
        rest = [value for name, value in self.network.named_parameters() if not name.startswith("trunk.")]
        self.rates = (TRUNK_RATE * rate, RATE * rate)
        self.optimizer = torch.optim.AdamW(
            [{"params": trunk}, {"params": rest}], weight_decay=DECAY, fused=device.type == "cuda"
        )
        if state is not None:
            try:
                self.network.load_state_dict(state["network"])
                self.averaged.load_state_dict(state["averaged"])
            except RuntimeError as error:
                raise InputError(
                    f"{resume} belongs to another network; give its `start`, or remove it to start afresh."
                ) from error
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.minutes, self.learned = state["step"], state["minutes"], state["learned"]
            logger.info("resumed at step %d, %.1f minutes", self.step, self.minutes)

    def advance(self, pools: Pools, pictures: int, crops: int, minutes: float) -> dict[str, Tensor]:
        """One step of the optimiser, at the learning rate of the moment. Returns the loss terms."""
        share = min(self.minutes / minutes, 1.0)
        factor = min(1.0, (self.step + 1) / WARM_STEPS) * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * share)))
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = float(rate * factor)  # a plain number: numpy's are refused when a checkpoint is read
        torch.manual_seed(self.seed * 1_000_003 + self.step)  # so that a resumed training does not repeat itself
        self.optimizer.zero_grad(set_to_none=True)
        terms = self.terms(self.network, pools, pictures, crops, varied=True)
        total = torch.stack([WEIGHTS[name] * term for name, term in terms.items()]).sum()
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 3.0)
        self.step += 1
        if norm.isfinite():
            self.optimizer.step()
            self.refused = 0
        else:
            self.refused += 1
            if self.refused > REFUSED:
                raise InputError(f"{REFUSED} steps in a row were not finite; start afresh with a lower `rate`.")
        # Early on the average follows closely, to forget its starting point, unless that was trained.
        decay = AVERAGING if self.learned else min(AVERAGING, self.step / (self.step + 20))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), 1 - decay)
        return {name: term.detach() for name, term in terms.items()}

    def terms(
        self, network: PerceptionNetwork, pools: Pools, pictures: int, crops: int, *, varied: bool
    ) -> dict[str, Tensor]:
        """The loss terms of a random batch."""
        # Within one outer context weights are converted once, not at every use.
        with self.autocast(), torch.autocast(self.device.type, enabled=False):
            return self._terms(network, pools, pictures, crops, varied=varied)

    def _terms(
        self, network: PerceptionNetwork, pools: Pools, pictures: int, crops: int, *, varied: bool
    ) -> dict[str, Tensor]:
        terms = self.picture_terms(network, pools, pictures, varied=varied)
        batch, focal = pools.crops(crops)
        if varied:
            batch = replace(batch, images=with_other_tone(batch.images))
        shown = greyed(batch)
        with self.autocast():
            prediction = network(shown.contiguous(memory_format=self.layout))
        return {**terms, **relief_losses(prediction, batch, focal, STRIDE / CROP_SIDE)}

    def picture_terms(
        self, network: PerceptionNetwork, pools: Pools, pictures: int, *, varied: bool
    ) -> dict[str, Tensor]:
        """The loss terms of whole pictures and prompts."""
        batch = pools.batch(pictures)
        if varied:
            batch = with_objects(batch, [pools.cutouts(pictures) for _ in range(2)])
            batch = replace(batch, images=with_other_tone(batch.images))
        with self.autocast():
            prediction = network(batch.images.contiguous(memory_format=self.layout))
        terms = picture_losses(prediction, batch, self.focal_prior)
        questions = first_questions(batch, OBJECTS, BACKGROUND)
        terms["within"] = object_relief(prediction.log_depth, batch.log_depth, questions.targets[:, :OBJECTS])
        rounds = []
        for repeat in range(3):
            with self.autocast():
                answers = network.decoder(prediction.features, questions.prompts)
            rounds.append(
                answer_losses(answers, questions.targets, questions.known, questions.present, questions.nouns)
            )
            if repeat == 0:
                there = functional.binary_cross_entropy_with_logits(
                    answers.object_logit, questions.present.float(), reduction="none"
                )
                terms["there"] = mean_of(there, questions.present | questions.background)
            questions = corrected(questions, answers.logits, OBJECTS)
        for name in rounds[0]:
            terms[name] = rounds[0][name] + CORRECTION * sum(each[name] for each in rounds[1:])
        return terms

    def held_out(self, pools: Pools, pictures: int, crops: int) -> dict[str, float]:
        """Mean loss terms of the averaged network on pictures it was not trained on; always the same draws."""
        kept = torch.get_rng_state()
        rounds = []
        for index in range(HELD_OUT_BATCHES):
            torch.manual_seed(index)
            with torch.no_grad():
                rounds.append(self.terms(self.averaged, pools, pictures, crops, varied=False))
        torch.set_rng_state(kept)
        return {name: float(torch.stack([each[name] for each in rounds]).mean()) for name in rounds[0]}

    def autocast(self) -> torch.autocast:
        """A context for computations in which bfloat16 does no harm."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def save(self, path: Path) -> None:
        """Writes everything a resumed training needs; an interruption leaves the earlier file."""
        state = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "minutes": self.minutes,
            "learned": self.learned,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} is not a readable checkpoint ({error}); remove it to start afresh.") from error
    return dict(state)


def _text(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())
