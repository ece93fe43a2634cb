"""Training of the perception network on one folder of scenes or several, on the CPU, for a given time."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
from cyclopts import Parameter
from jaxtyping import Float, Integer

from scenegen.errors import InputError, UsageError
from scenegen.perception.embedded import enlarged_by_object, instances, observe
from scenegen.perception.network import PerceptionNetwork
from scenegen.train.imagenet import imagenet_file, load_imagenet
from scenegen.train.perception_data import (
    MILLIMETRE,
    TALL_SHARE,
    Sample,
    TrainingScene,
    read_scenes,
    vary,
    vary_camera,
)
from scenegen.train.perception_losses import focal_label, losses
from scenegen.weights.file import write_weights

logger = logging.getLogger(__name__)

SIZES = ((256, 192), (320, 256), (384, 288))
"""Longer and shorter sides of the pictures trained on: photos come at several scales, and are often enlarged or reduced."""
BATCH = 8
RATE = 1e-3
"""Largest learning rate of what is new; it falls along a cosine over the time given."""
TRUNK_RATE = 2e-4
WARM_STEPS = 60
FROZEN_BLOCKS = 5
"""First blocks of the trunk that stay as they are: edges and textures of photos, which renders would only narrow."""
AVERAGING = 0.998
"""Decay of the averaged weights, which are those that are kept."""
WEIGHTS = {
    "depth": 0.5,
    "gradient": 2.0,
    "sky": 0.5,
    "object": 1.0,
    "group": 1.0,
    "seed": 1.0,
    "spread": 0.1,
    "focal": 0.2,
    "down": 2.0,
}
PRIOR_DRAWS = 4
"""Cameras drawn per scene to see which focal lengths are frequent."""
RAREST_BIN = 0.003
CHECK_MINUTES = 5.0
HELD_OUT = 40
"""Scenes of the first folder that are not trained on."""
MIN_AREA = 0.002
MAX_OBJECTS = 64


@dataclass(frozen=True)
class Score:
    """How well the network does on scenes it was not trained on."""

    precision: float
    """Share of the objects it finds that match a true one at an IoU above 0.5."""
    recall: float
    abs_rel: float
    """Mean relative error of the depth after one scale per picture, mean over pictures."""
    delta: float
    """Share of the pixels within a factor of 1.25 of the truth."""
    fov_error_deg: float
    down_error_deg: float

    @property
    def total(self) -> float:
        """What the best weights are chosen by."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-9) + self.delta - self.abs_rel


def train(
    *,
    data: Annotated[list[Path], Parameter(consume_multiple=True)],
    minutes: float,
    out: Path,
    checkpoint: Path | None = None,
    init: Path | None = None,
    rate: float = 1.0,
    threads: int = 2,
    bfloat16: bool = False,
    seed: int = 0,
) -> None:
    """Train the perception network.

    It starts from ImageNet weights, from `init`, or where an earlier training stopped.

    Parameters
    ----------
    data
        Folders of scenes; see `scenegen.train.perception_data`. Scenes of the first are held out to choose the best weights.
    minutes
        How long, over all resumed runs together.
    out
        The safetensors file for the best weights (half precision).
    checkpoint
        File the state of the training is kept in, and resumed from if it is there. Default: beside `out`.
    init
        A checkpoint whose weights to start from.
    rate
        Factor on the learning rates.
    threads
        Of torch.
    bfloat16
        Compute the convolutions so: twice as fast on CPUs that have it.
    seed
        Of the order and the variation of the scenes.
    """
    if minutes <= 0:
        raise UsageError(f"`minutes` is {minutes}; it must be positive.")
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    cv2.setNumThreads(1)
    scenes = [read_scenes(folder) for folder in data]
    held_out, trained = split(scenes[0])
    trained += [scene for more in scenes[1:] for scene in more]
    logger.info("%d scenes to train on, %d held out", len(trained), len(held_out))
    state = checkpoint or out.with_suffix(".pt")
    prior = focal_prior(trained, np.random.default_rng(seed))
    training = Training(init, state, rate, prior, bfloat16=bfloat16)
    batches = varied_batches(trained, np.random.default_rng([seed, training.step]))
    recent: list[dict[str, float]] = []
    last_check = time.monotonic()
    while training.minutes < minutes:
        begin = time.monotonic()
        recent.append(training.advance(next(batches), minutes))
        training.minutes += (time.monotonic() - begin) / 60
        if time.monotonic() - last_check > 60 * CHECK_MINUTES or training.minutes >= minutes:
            means = {name: float(np.mean([terms[name] for terms in recent])) for name in recent[0]}
            score = evaluate(training.averaged, held_out)
            logger.info("%.1f min, step %d: %s", training.minutes, training.step, _text(means))
            logger.info("held out: %s", _text({"total": score.total, **asdict(score)}))
            if score.total > training.best:
                training.best = score.total
                write_weights(training.averaged, training.averaged.settings, out, step=str(training.step))
            training.save(state)
            recent, last_check = [], time.monotonic()


class Training:
    """The network, its running average, the optimiser, and how far they are."""

    def __init__(
        self,
        init: Path | None,
        resume: Path,
        rate: float,
        focal_prior: Float[np.ndarray, "bins"],
        *,
        bfloat16: bool = False,
    ) -> None:
        self.network = PerceptionNetwork()
        self.averaged = PerceptionNetwork().requires_grad_(False).eval()
        self.focal_prior = torch.from_numpy(focal_prior.astype(np.float32))
        self.bfloat16 = bfloat16
        self.step = 0
        self.minutes = 0.0
        self.best = -np.inf
        state = _read(resume) if resume.exists() else None
        if state is None and init is None:
            load_imagenet(self.network.trunk, imagenet_file())
        elif state is None and init is not None:
            self.network.load_state_dict(_read(init)["averaged"])
        self.averaged.load_state_dict(self.network.state_dict())
        self.network.to(memory_format=torch.channels_last)
        frozen = [self.network.trunk.stem, *self.network.trunk.blocks[:FROZEN_BLOCKS]]
        for module in frozen:
            module.requires_grad_(False)
        trunk = [value for value in self.network.trunk.parameters() if value.requires_grad]
        rest = [value for name, value in self.network.named_parameters() if not name.startswith("trunk.")]
        self.rates = (TRUNK_RATE * rate, RATE * rate)
        self.optimizer = torch.optim.AdamW([{"params": trunk}, {"params": rest}], weight_decay=1e-3)
        if state is not None:
            self.network.load_state_dict(state["network"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.minutes, self.best = state["step"], state["minutes"], state["best"]
            logger.info("resumed at step %d, %.1f minutes", self.step, self.minutes)

    def advance(self, batch: Sequence[Sample], minutes: float) -> dict[str, float]:
        """One step of the optimiser, at the learning rate of the moment. Returns the loss terms."""
        share = min(self.minutes / minutes, 1.0)
        factor = min(1.0, (self.step + 1) / WARM_STEPS) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * share)))
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = float(rate * factor)  # a plain number: numpy's are refused when a checkpoint is read
        pictures = torch.from_numpy(np.stack([sample.image for sample in batch])).permute(0, 3, 1, 2).float() / 255
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            prediction = self.network(pictures.contiguous(memory_format=torch.channels_last))
        terms = losses(
            prediction,
            torch.from_numpy(np.stack([sample.ids for sample in batch])),
            torch.from_numpy(np.stack([sample.log_depth for sample in batch])),
            torch.tensor([sample.log_focal for sample in batch], dtype=torch.float32),
            torch.from_numpy(np.stack([sample.down for sample in batch])),
            self.focal_prior,
        )
        total = sum((WEIGHTS[name] * term for name, term in terms.items()), torch.zeros(()))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        # Early on the average follows closely, so that it forgets where it started.
        decay = min(AVERAGING, self.step / (self.step + 20))
        with torch.no_grad():
            for mean, value in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        return {name: float(term.detach()) for name, term in terms.items()}

    def save(self, path: Path) -> None:
        """Writes everything a resumed training needs; an interruption leaves the earlier file."""
        state = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "minutes": self.minutes,
            "best": self.best,
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)


def split(scenes: Sequence[TrainingScene]) -> tuple[list[TrainingScene], list[TrainingScene]]:
    """Scenes held out, evenly spread over the folder, and the others.

    Raises:
        InputError: for fewer than two scenes.
    """
    if len(scenes) < 2:
        raise InputError(f"`data` has {len(scenes)} scene; at least two are needed, one of them to hold out.")
    every = max(2, len(scenes) // HELD_OUT)
    return list(scenes[::every]), [scene for index, scene in enumerate(scenes) if index % every]


def varied_batches(scenes: Sequence[TrainingScene], rng: np.random.Generator) -> Iterator[list[Sample]]:
    """Batches without end: every scene once per round, in any order, varied."""
    order: list[int] = []
    while True:
        longer, shorter = SIZES[rng.integers(len(SIZES))]
        width, height = (shorter, longer) if rng.random() < TALL_SHARE else (longer, shorter)
        while len(order) < BATCH:
            order += rng.permutation(len(scenes)).tolist()
        yield [vary(scenes[index], width, height, rng) for index in order[:BATCH]]
        order = order[BATCH:]


def focal_prior(scenes: Sequence[TrainingScene], rng: np.random.Generator) -> Float[np.ndarray, "bins"]:
    """Logarithm of how frequent the bins of the focal length are among varied scenes; none is taken to be very rare."""
    width, height = SIZES[0]
    focals = [vary_camera(scene, width, height, rng).focal for scene in scenes for _ in range(PRIOR_DRAWS)]
    share = focal_label(torch.log(torch.tensor(focals) / width)).mean(dim=0)
    return np.log(np.maximum(share.numpy(), RAREST_BIN))


def evaluate(network: PerceptionNetwork, scenes: Sequence[TrainingScene]) -> Score:
    """The network on whole scenes, as photos are treated but for the snapping to edges."""
    counts = np.zeros(3, int)
    errors, deltas, fovs, downs = [], [], [], []
    for scene in scenes:
        height, width = scene.ids.shape
        perception = observe(network, scene.image, max(height, width))
        ids, _ = instances(perception, height, width, MIN_AREA, MAX_OBJECTS)
        counts += matches(ids, scene.ids, MIN_AREA)
        error, delta = depth_errors(enlarged_by_object(perception.log_depth, ids), scene.depth_mm * MILLIMETRE)
        errors.append(error)
        deltas.append(delta)
        fov = np.degrees(2 * np.arctan(width / (2 * scene.camera[0, 0])))
        fovs.append(abs(perception.fov_x_deg - fov))
        downs.append(np.degrees(np.arccos(np.clip(perception.down @ scene.down, -1, 1))))
    found, true, both = counts.tolist()
    return Score(
        precision=both / max(found, 1),
        recall=both / max(true, 1),
        abs_rel=float(np.mean(errors)),
        delta=float(np.mean(deltas)),
        fov_error_deg=float(np.mean(fovs)),
        down_error_deg=float(np.mean(downs)),
    )


def matches(
    ids: Integer[np.ndarray, "h w"], true_ids: Integer[np.ndarray, "h w"], min_area: float
) -> tuple[int, int, int]:
    """How many objects are found, how many there are, and how many pairs agree at an IoU above 0.5 (so each at most once).

    True objects below `min_area` of the picture are not counted, nor is what is found there.
    """
    table = np.zeros((int(ids.max()) + 1, int(true_ids.max()) + 1), int)
    np.add.at(table, (ids.ravel(), true_ids.ravel()), 1)
    ours, theirs = table.sum(1)[1:], table.sum(0)[1:]
    iou = table[1:, 1:] / np.maximum(ours[:, None] + theirs[None] - table[1:, 1:], 1)
    counted = theirs >= min_area * ids.size
    matched = iou > 0.5
    excused = matched[:, ~counted].any(1)
    return int(((ours > 0) & ~excused).sum()), int(counted.sum()), int(matched[:, counted].sum())


def depth_errors(log_depth: Float[np.ndarray, "h w"], depth: Float[np.ndarray, "h w"]) -> tuple[float, float]:
    """AbsRel and the share within a factor of 1.25, after the median ratio; pixels without a depth (0) do not count."""
    valid = depth > 0
    ratio = np.exp(log_depth[valid]) / depth[valid]
    ratio /= np.median(ratio)
    return float(np.abs(ratio - 1).mean()), float((np.maximum(ratio, 1 / ratio) < 1.25).mean())


def _read(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} is no readable checkpoint ({error}); remove it to start afresh.") from error
    return dict(state)


def _text(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())
