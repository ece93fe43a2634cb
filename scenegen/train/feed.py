"""Samples without end: processes that render views, and the memory they are drawn from."""

from __future__ import annotations

import logging
import multiprocessing
import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing.queues import Queue
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

from scenegen.errors import InputError, ResourceError
from scenegen.pixal3d.compact import CompactSettings
from scenegen.train.meshes import MeshFolder
from scenegen.train.samples import Samples, samples_of, stacked

logger = logging.getLogger(__name__)

WAITING = 64
"""Views that are rendered ahead of the training, at most."""
PATIENCE = 5.0
"""Seconds after which either side looks whether the other is still there."""
SEEDS = 1_000_000
"""Between the first seeds of two views to judge by: more than one can use up."""

View = list[dict[str, np.ndarray]]
"""Samples of one view."""


@dataclass(frozen=True)
class Made:
    """What a process hands over."""

    samples: View
    judged: int | None
    """Number of the view among those to judge by; None for one to learn from."""


@dataclass(frozen=True)
class Order:
    """What the processes make."""

    learned: MeshFolder
    judging: MeshFolder
    solids: Path
    """A folder for signed distances, shared by all."""
    settings: CompactSettings
    conditions: int
    """Samples of each view to learn from."""
    judged: int
    """Views to judge by, of one sample each. They are made first, and are the same each time."""
    seed: int
    """No view to learn from is like one of another seed."""


class Feed:
    """The processes' side of a training: what they have made, as it comes."""

    def __init__(self, made: Queue[Made], processes: Sequence[multiprocessing.process.BaseProcess]) -> None:
        self._made = made
        self._processes = processes

    def get(self, wait: bool) -> Made | None:
        """The next view, or None where none is ready.

        Args:
            wait: for up to `PATIENCE` seconds.

        Raises:
            ResourceError: where all processes have ended.
        """
        try:
            return self._made.get(timeout=PATIENCE) if wait else self._made.get_nowait()
        except queue.Empty:
            if not any(process.is_alive() for process in self._processes):
                codes = sorted({str(process.exitcode) for process in self._processes})
                raise ResourceError(
                    f"the processes that render have ended (exit codes {', '.join(codes)}); they say why above. "
                    "Most often memory is short: take fewer `workers`."
                ) from None
            return None


@contextmanager
def feed(order: Order, workers: int) -> Iterator[Feed]:
    """`workers` processes that render until the block ends."""
    context = multiprocessing.get_context("spawn")
    made: Queue[Made] = context.Queue(WAITING)
    processes = [
        context.Process(target=_render, args=(order, number, workers, made), daemon=True, name=f"render {number}")
        for number in range(workers)
    ]
    try:
        for process in processes:
            process.start()
        yield Feed(made, processes)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
        for process in processes:
            if process.pid is not None:
                process.join(PATIENCE)
        made.close()
        made.cancel_join_thread()


def _render(order: Order, number: int, workers: int, made: Queue[Made]) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for view in _views(order, number, workers):
        while True:
            try:
                made.put(view, timeout=PATIENCE)
                break
            except queue.Full:
                parent = multiprocessing.parent_process()
                if parent is not None and not parent.is_alive():
                    return


def _views(order: Order, number: int, workers: int) -> Iterator[Made]:
    """What process `number` of `workers` makes."""
    for index in range(number, order.judged, workers):
        for seed in count(index * SEEDS):
            try:
                yield Made(samples_of(order.judging, order.solids, seed, order.settings), index)
                break
            except InputError as error:
                logger.debug("view %d to judge by: %s", seed, error)
    for step in count():
        seed = int(np.random.SeedSequence([order.seed, number, workers, step]).generate_state(1)[0])
        try:
            yield Made(samples_of(order.learned, order.solids, seed, order.settings, order.conditions), None)
        except InputError as error:
            logger.debug("view %d: %s", seed, error)


class Pool:
    """The latest samples, in the memory of one device; more than it holds replace the oldest."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.capacity = capacity
        self.device = device
        self.received = 0
        self._held: Samples | None = None

    def __len__(self) -> int:
        return min(self.received, self.capacity)

    @property
    def samples(self) -> Samples:
        """The first `len(self)` rows of them are filled.

        Raises:
            InputError: before anything was added.
        """
        if self._held is None:
            raise InputError("no samples have been added yet.")
        return self._held

    def add(self, samples: View) -> None:
        """Takes the samples of a view."""
        fresh = stacked(samples)
        if self._held is None:
            self._held = Samples(
                **{
                    name: torch.empty((self.capacity, *value.shape[1:]), dtype=value.dtype, device=self.device)
                    for name, value in vars(fresh).items()
                }
            )
        rows = (self.received + torch.arange(len(fresh))) % self.capacity
        for name, value in vars(fresh).items():
            getattr(self._held, name)[rows.to(self.device)] = value.to(self.device)
        self.received += len(fresh)

    def draw(self, size: int, rng: torch.Generator) -> Integer[Tensor, "b"]:
        """Rows of `samples`, each as likely as any."""
        return torch.randint(len(self), (size,), generator=rng, device=self.device)
