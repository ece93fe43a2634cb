"""An endless supply of samples: processes that render views, and the memory that samples are drawn from."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

from scenegen.errors import InputError
from scenegen.pixal3d.compact import CompactSettings
from scenegen.train.meshes import MeshFolder
from scenegen.train.processes import Stream, stream
from scenegen.train.samples import Samples, samples_of, stacked

logger = logging.getLogger(__name__)

WAITING = 64
"""Largest number of views rendered ahead of the training."""
FRESH = 2000
"""Number of views after which a process stretches all meshes again."""
SEEDS = 1_000_000
"""Distance between the first seeds of two views for validation: more than one view can use up."""

View = list[dict[str, np.ndarray]]
"""The samples of one view."""


@dataclass(frozen=True)
class Made:
    """What a process hands over."""

    samples: View
    judged: int | None
    """Number of the view among those for validation; None for one to train on."""


@dataclass(frozen=True)
class Order:
    """What the processes make."""

    learned: MeshFolder
    judging: MeshFolder
    solids: Path
    """A folder for signed distances, shared by all."""
    settings: CompactSettings
    conditions: int
    """Samples of each object to train on."""
    shown: int
    """Largest number of views of a sample."""
    stretch: float
    """Stretch of the meshes to train on (`MeshFolder.stretch`); it differs between processes, and is drawn anew now and then."""
    judged: int
    """Views for validation, of one sample each. They are made first, and are the same each time."""
    seed: int
    """Different seeds share no view to train on."""


def feed(order: Order, workers: int) -> AbstractContextManager[Stream[Made]]:
    """`workers` processes that render until the block ends."""
    return stream(views, [(order, number, workers) for number in range(workers)], WAITING)


def views(order: Order, number: int, workers: int) -> Iterator[Made]:
    """What process `number` of `workers` makes."""
    torch.set_num_threads(1)
    for index in range(number, order.judged, workers):
        for seed in count(index * SEEDS):
            try:
                yield Made(samples_of(order.judging, order.solids, seed, order.settings, views=order.shown), index)
                break
            except InputError as error:
                logger.debug("view %d for validation: %s", seed, error)
    for step in count():
        if step % FRESH == 0:
            drawn = int(np.random.SeedSequence([order.seed, number, workers, step, 1]).generate_state(1)[0])
            meshes = MeshFolder(order.learned.files, order.stretch, drawn)
        seed = int(np.random.SeedSequence([order.seed, number, workers, step]).generate_state(1)[0])
        try:
            yield Made(samples_of(meshes, order.solids, seed, order.settings, order.conditions, order.shown), None)
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
        """The samples, of which the first `len(self)` rows are filled.

        Raises:
            InputError: if nothing has been added yet.
        """
        if self._held is None:
            raise InputError("there are no samples yet; add some first.")
        return self._held

    def add(self, samples: View) -> None:
        """Adds the samples of a view."""
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
        """Random rows of `samples`, all equally likely."""
        return torch.randint(len(self), (size,), generator=rng, device=self.device)
