"""Where a computation runs. It is never part of a result's key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from platformdirs import user_cache_path

from scenegen.errors import UsageError
from scenegen.messages.spelling import did_you_mean

DEVICE = r"auto|cpu|mps|cuda(:\d+)?"
"""Pattern of the names of devices."""
MAX_ECONOMY = 2
MAX_AT_ONCE = 256
"""Most objects or photos that one run works on at once."""
TAG = "scenegen"
"""Prefect's tag of scenegen's deployments and of their runs."""
POOLS = CPU_POOL, GPU_POOL = ("scenegen-cpu", "scenegen-gpu")
"""Prefect's work pools: for machines of any kind, and for those with graphics cards."""


def check_device(name: str) -> None:
    """Refuses a name that is no device's.

    Raises:
        UsageError: naming what is allowed.
    """
    if not re.fullmatch(DEVICE, name):
        hint = did_you_mean(name, ("auto", "cpu", "cuda", "mps"))
        raise UsageError(f"`device` is {name!r}; allowed: auto, cpu, cuda, cuda:N, mps.{hint}")


@dataclass(frozen=True)
class Runtime:
    """The device of a run, and what it may use."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    offline: bool = False
    """Never use the network."""
    models: Path = field(default_factory=lambda: user_cache_path("scenegen") / "models")
    """Folder of fetched weights."""
    economy: int = 0
    """How much memory to save, 0..`MAX_ECONOMY`. 0: as configured. 1: half of `max_tokens`, and weights staged on the
    device one network at a time. 2: weights streamed to the device block by block as well.

    A stage that saves memory marks its record as provisional: the result is coarser than the key promises."""
