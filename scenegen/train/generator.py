"""Training of the compact generator (`scenegen.pixal3d.compact`): rectified flow on views that are rendered as it trains."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from scenegen.compute.torch_env import named_device
from scenegen.errors import InputError
from scenegen.perception.trunk import Trunk
from scenegen.pixal3d.compact import CompactGenerator, CompactSettings, Evidence
from scenegen.pixal3d.embedded import ImageTrunk, load_generator
from scenegen.train.feed import Made, Order, Pool, feed
from scenegen.train.imagenet import imagenet_file, load_imagenet
from scenegen.train.meshes import mesh_folder
from scenegen.train.processes import Stream
from scenegen.train.samples import Batch, Samples, batch_of, parted, stacked
from scenegen.weights.file import write_weights

logger = logging.getLogger(__name__)

UNCONDITIONAL = 0.1
"""Share of the items that learn to go without their condition."""
AVERAGE_OVER = 500
"""Largest number of steps that the averaged weights look back."""
WARM_STEPS = 60
CHECK_MINUTES = 5.0
"""Minutes between checkpoints."""
LOG_EVERY_S = 10.0
"""Seconds between lines of the log."""
LEAST = 512
"""Samples that must be there before the first step."""
REFUSED = 50
"""Number of successive steps that are not finite after which training gives up."""


@runtime_checkable
class Generator(Protocol):
    """What is trained."""

    def loss(
        self, known: Evidence, latent: Float[Tensor, "b c g g g"], t: Float[Tensor, "b"], noise: Tensor, kept: Tensor
    ) -> Float[Tensor, "b"]:
        """See `CompactGenerator.loss`."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters by name; those inside the flow's blocks have `.blocks.` in theirs."""
        ...

    def train(self) -> object:
        """Switches to training mode."""
        ...

    def eval(self) -> object:
        """Switches to evaluation mode."""
        ...


Trained = TypeVar("Trained", bound=Generator)


@dataclass
class Training(Generic[Trained]):
    """The state of a training, from which it can be resumed."""

    generator: Trained
    minutes: float = 0.0
    """Minutes trained so far."""
    step: int = 0
    runs: int = 0
    """How often it was resumed."""

    def __post_init__(self) -> None:
        self.learned = {name: value for name, value in self.generator.named_parameters() if value.requires_grad}
        self.averaged = {name: value.detach().clone() for name, value in self.learned.items()}
        # Muon for the matrices inside (Jordan et al. 2024), whose updates it makes as large as AdamW's.
        inner = [value for name, value in self.learned.items() if ".blocks." in name and value.ndim == 2]
        outer = [value for name, value in self.learned.items() if not (".blocks." in name and value.ndim == 2)]
        self.optimisers = (
            torch.optim.Muon(inner, lr=1.0, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(outer, lr=1.0, betas=(0.9, 0.98), weight_decay=0.01),
        )

    @property
    def device(self) -> torch.device:
        """Device of everything that is trained."""
        return next(iter(self.learned.values())).device

    def update(self, loss: Tensor, rate: float) -> bool:
        """One step down `loss`. Returns whether it was made: it is not if loss or gradient is not finite."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if not torch.isfinite(torch.nn.utils.clip_grad_norm_(self.learned.values(), 1.0)):
            return False
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        share = max(1 / AVERAGE_OVER, 1 / (1 + self.step / 4))
        torch._foreach_lerp_(list(self.averaged.values()), [value.detach() for value in self.learned.values()], share)
        return True

    def save(self, path: Path) -> None:
        """Writes `path`, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "weights": {name: value.detach() for name, value in self.learned.items()},
            "averaged": self.averaged,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "minutes": self.minutes,
            "step": self.step,
            "runs": self.runs,
        }
        whole = path.with_suffix(".tmp")
        torch.save(state, whole)
        whole.replace(path)

    def load(self, path: Path) -> None:
        """Restores the state from `path`."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        for name, value in self.learned.items():
            value.data.copy_(state["weights"][name])
        self.averaged = {name: state["averaged"][name] for name in self.averaged}
        for optimiser, held in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(held)
        self.minutes, self.step, self.runs = state["minutes"], state["step"], state["runs"] + 1

    @contextmanager
    def judged(self) -> Iterator[Trained]:
        """The network with the averaged weights, until the block ends."""
        current = {name: value.detach().clone() for name, value in self.learned.items()}
        for name, value in self.learned.items():
            value.data.copy_(self.averaged[name])
        try:
            self.generator.eval()
            yield self.generator
        finally:
            for name, value in self.learned.items():
                value.data.copy_(current[name])
            self.generator.train()


def train(
    *,
    meshes: Path,
    out: Path,
    minutes: float,
    cache: Path | None = None,
    checkpoint: Path | None = None,
    start: Path | None = None,
    device: str = "auto",
    workers: int = 1,
    threads: int = 1,
    batch: int = 8,
    rate: float = 1.5e-3,
    conditions: int = 2,
    views: int = 1,
    stretch: float = 0.2,
    reuse: float = 16.0,
    pool: int = 4096,
    judged: int = 128,
    least: int = LEAST,
    every: float = 60 * CHECK_MINUTES,
    seed: int = 0,
) -> None:
    """Train the compact generator.

    Separate processes render views while it trains, without end and without repetition. The image trunk keeps its ImageNet
    weights. The same command given again resumes an interrupted training from its checkpoint.

    Parameters
    ----------
    meshes
        A folder of GLB files, or what `pack-meshes` made of one.
    out
        The safetensors file for the best weights (half precision).
    minutes
        How long, over all resumed runs together, including preparation.
    cache
        A folder for signed distances, which take half a second per mesh; by default `solids` beside `out`.
    checkpoint
        The state to resume from; by default beside `out`.
    start
        Weights of an earlier training to start from; without them, only the trunk is pretrained.
    device
        `auto`, `cpu`, `cuda`, `cuda:1`.
    workers
        Processes that render.
    threads
        Threads of torch on the CPU, in addition to them.
    batch
        Samples per step.
    rate
        Largest learning rate; it falls along a cosine over `minutes`.
    conditions
        Samples of each object, each with new estimates of mask, depth and background.
    views
        Largest number of views of a sample: each has one to so many, from cameras anywhere around the object.
    stretch
        Largest change of the logarithm of a mesh's extents: boxes get other proportions.
    reuse
        How often a sample is trained on, on average; training waits for new samples if it is faster.
    pool
        Samples that are kept to draw from, 0.35 MB each, and 0.07 MB for each further view, in the memory of the device.
    judged
        Samples of held-out meshes, by which the best weights are chosen.
    least
        Samples that must be there before the first step.
    every
        Seconds between checkpoints.
    seed
        Random seed of weights, views, order, noise and times.

    Raises
    ------
    ResourceError
        If the device is absent, or the rendering processes have ended.
    InputError
        If there are no meshes, or the numbers do not stay finite.
    """
    began = time.monotonic()
    place = named_device(device)
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")  # TF32, if the device has it
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(seed)
    fresh = CompactGenerator(imagenet_trunk(), CompactSettings()) if start is None else load_generator(start).train()
    training = Training(fresh.to(place))
    state = out.with_suffix(".pt") if checkpoint is None else checkpoint
    if state.is_file():
        training.load(state)
        logger.info("resuming at step %d, after %.1f minutes", training.step, training.minutes)
    earlier = training.minutes
    if earlier >= minutes:
        logger.info("already trained for %.1f of %g minutes: nothing left to do", earlier, minutes)
        return
    learned, judging = parted(mesh_folder(meshes))
    order = Order(
        learned=learned,
        judging=judging,
        solids=out.parent / "solids" if cache is None else cache,
        settings=fresh.settings,
        conditions=conditions,
        shown=views,
        stretch=stretch,
        judged=judged if len(judging) else 0,
        seed=int(np.random.SeedSequence([seed, training.runs]).generate_state(1)[0]),
    )
    with feed(order, workers) as source:
        run = _Run(training, source, Pool(pool, place), order.judged, batch, state, out)
        run.best = _judged_loss_of(out)
        checked = time.monotonic()
        logged = time.monotonic()
        while training.minutes < minutes:
            run.collect(wait=not run.may_step(reuse, least))
            training.minutes = earlier + (time.monotonic() - began) / 60
            if run.may_step(reuse, least):
                run.step(rate * rate_share(training.step, training.minutes / minutes))
            if time.monotonic() - logged > LOG_EVERY_S:
                logged = time.monotonic()
                run.tell()
            if time.monotonic() - checked > every:
                checked = time.monotonic()
                run.check()
        run.check()


class _Run:
    """A training in progress: its samples, and its results so far."""

    def __init__(
        self,
        training: Training[CompactGenerator],
        source: Stream[Made],
        pool: Pool,
        judged: int,
        batch: int,
        state: Path,
        out: Path,
    ) -> None:
        self.training = training
        self.best = math.inf
        self._source = source
        self._pool = pool
        self._wanted = judged
        self._judges: dict[int, dict[str, np.ndarray]] = {}
        self._judged: Samples | None = None
        self._batch = batch
        self._state = state
        self._out = out
        self._steps = 0
        self._refused = 0
        self._losses: list[Tensor] = []
        self._began = time.monotonic()

    def collect(self, wait: bool) -> None:
        """Takes what has been rendered; with `wait`, at least one view if one comes soon."""
        made = self._source.get(wait)
        while made is not None:
            if made.judged is None:
                self._pool.add(made.samples)
            else:
                self._judges[made.judged] = made.samples[0]
                if len(self._judges) == self._wanted:
                    whole = stacked([self._judges[number] for number in sorted(self._judges)])
                    device = self._pool.device
                    self._judged = Samples(**{name: value.to(device) for name, value in vars(whole).items()})
                    logger.info("before training: validation loss %.4f", self._judge(self.training.generator))
            made = self._source.get(wait=False)

    def may_step(self, reuse: float, least: int) -> bool:
        """Whether there are enough samples for another step."""
        enough = self._pool.received >= max(least, 1)
        return enough and self._steps * self._batch < reuse * self._pool.received

    def step(self, rate: float) -> None:
        """One step of the training.

        Raises:
            InputError: if `REFUSED` steps in a row were not finite.
        """
        training = self.training
        self._steps += 1
        rng = seeded(self._pool.device, training.runs, self._steps)
        rows = self._pool.draw(self._batch, rng)
        chosen = batch_of(self._pool.samples, rows, self._steps % 2 == 0, training.generator.settings)
        loss = batch_loss(training.generator, chosen, rng).mean()
        if training.update(loss, rate):
            self._refused = 0
            self._losses.append(loss.detach())
            return
        self._refused += 1
        logger.warning("step %d is not finite and was skipped", training.step)
        if self._refused >= REFUSED:
            raise InputError(f"{REFUSED} steps in a row were not finite; use a smaller `rate`.")

    def tell(self) -> None:
        """Logs the progress."""
        if self._losses:
            loss = torch.stack(self._losses).mean().item()
            passed = time.monotonic() - self._began
            logger.info(
                "step %d, %.1f minutes: loss %.4f; %d samples, %.1f per second; %.1f steps per second",
                self.training.step,
                self.training.minutes,
                loss,
                self._pool.received,
                self._pool.received / passed,
                self._steps / passed,
            )
            self._losses.clear()
        else:
            logger.info("%d samples", self._pool.received)

    def check(self) -> None:
        """Writes the state, and the averaged weights if they are the best so far."""
        training = self.training
        training.save(self._state)
        with training.judged() as generator:
            found = self._judge(generator)
            logger.info("step %d, %.1f minutes: validation loss %.4f", training.step, training.minutes, found)
            if found < self.best or not self._out.is_file():
                self.best = found
                write_weights(
                    generator, generator.settings, self._out, judged_loss=f"{found:.6f}", step=str(training.step)
                )

    def _judge(self, generator: CompactGenerator) -> float:
        """The validation loss; infinite as long as there are no samples for it."""
        return math.inf if self._judged is None else judged_loss(generator, self._judged, max(self._batch, 16))


def _judged_loss_of(out: Path) -> float:
    """Validation loss of the weights that are in the file; infinite if there is no file."""
    if not out.is_file():
        return math.inf
    with safe_open(out, "pt") as file:
        return float((file.metadata() or {}).get("judged_loss", math.inf))


def rate_share(step: int, progress: float) -> float:
    """Share of the largest learning rate after `step` steps, `progress` (0..1) through the training: a cosine, after a ramp."""
    return min(1, (step + 1) / WARM_STEPS) * (0.03 + 0.97 * (1 + math.cos(math.pi * progress)) / 2)


def imagenet_trunk() -> ImageTrunk:
    """The image trunk with its ImageNet weights."""
    whole = Trunk()
    load_imagenet(whole, imagenet_file("lite0"))
    return ImageTrunk(whole)


@torch.inference_mode()
def judged_loss(generator: CompactGenerator, samples: Samples, batch: int) -> float:
    """Mean loss over all samples, with the same noise and times every time."""
    device = samples.image.device
    rng = seeded(device, 0)
    losses = [
        batch_loss(generator, batch_of(samples, rows, False, generator.settings), rng, unconditional=0.0)
        for rows in torch.arange(len(samples), device=device).split(batch)
    ]
    return float(torch.cat(losses).mean())


def seeded(device: torch.device, *numbers: int) -> torch.Generator:
    """A source of random numbers on `device` that depends on `numbers` alone."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def batch_loss(
    generator: Generator, batch: Batch, rng: torch.Generator, unconditional: float = UNCONDITIONAL
) -> Float[Tensor, "b"]:
    """Loss of each sample.

    Times favour the noisy end, where the shape is decided (logit-normal: Esser et al. 2024, arXiv 2403.03206).

    Args:
        generator: the network being trained.
        batch: the samples.
        rng: source of random numbers on their device.
        unconditional: share of the items that go without their condition.
    """
    device = batch.latent.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, device=device)

    t = torch.sigmoid(1.5 + 1.2 * normal(len(batch.latent)))
    noise = normal(*batch.latent.shape)
    kept = (torch.rand(len(batch.latent), generator=rng, device=device) >= unconditional).float()
    with torch.autocast(device.type, torch.bfloat16):
        return generator.loss(batch.known, batch.latent, t, noise, kept)
