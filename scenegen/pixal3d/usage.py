"""Time and memory of each stage of a generation."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from scenegen.compute.card_peak import begin_part
from scenegen.system.memory import resident_peak

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageUsage:
    """Time and memory that one stage took."""

    stage: str
    seconds: float
    peak_bytes: int
    """Peak memory; `peak_of` says of what."""
    peak_of: Literal["stage on the device", "process so far"]
    """On CUDA, the peak of what tensors held on the device during the stage. Elsewhere, the largest resident set of the whole
    process from its start to the end of the stage, including mapped weight files; it never falls."""
    reserved_bytes: int = 0
    """On CUDA, the peak of what this process had taken from the device, unused rest included: what others cannot have."""


class UsageMeter:
    """Measures stages one after the other."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stages: list[StageUsage] = []

    @property
    def stages(self) -> tuple[StageUsage, ...]:
        """The stages that have ended, in order."""
        return tuple(self._stages)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures what runs until the block ends. A stage that raises is not recorded."""
        on_cuda = self._device.type == "cuda"
        if on_cuda:
            begin_part(self._device)
        start = time.perf_counter()
        yield
        if on_cuda:
            torch.cuda.synchronize(self._device)
            usage = StageUsage(
                name,
                time.perf_counter() - start,
                torch.cuda.max_memory_allocated(self._device),
                "stage on the device",
                torch.cuda.max_memory_reserved(self._device),
            )
        else:
            usage = StageUsage(name, time.perf_counter() - start, resident_peak(), "process so far")
        self._stages.append(usage)
        reserved = f", {usage.reserved_bytes / 2**30:.2f} GiB reserved" if on_cuda else ""
        peak = usage.peak_bytes / 2**30
        logger.info("%s: %.1f s, peak %.2f GiB (%s)%s", name, usage.seconds, peak, usage.peak_of, reserved)
