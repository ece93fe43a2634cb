"""The largest memory of a graphics card that a job takes: measured in the card's process, told to who started the job."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass
class Peak:
    """Bytes; 0 as long as nothing is measured."""

    bytes: int = 0

    def include(self, found: int) -> None:
        """Takes in what one of several parts has found."""
        self.bytes = max(self.bytes, found)


_of_job, _of_stage = (ContextVar[Peak | None](name, default=None) for name in ("job", "stage"))


@contextlib.contextmanager
def job_peak(*place: str) -> Iterator[Peak]:
    """Measures what runs until the block ends on `place`, the one device that this process computes on; 0 unless it is a card.

    torch keeps one peak for the process. Who wants that of a part of the job begins it by `begin_part`.
    """
    peak = Peak()
    token = _of_job.set(peak)
    try:
        _restart(*place)
        yield peak
        peak.include(_measured(*place))
    finally:
        _of_job.reset(token)


def begin_part(device: Any) -> None:
    """From now on torch's peak is that of a part; what came before still counts for the whole job."""
    job = _of_job.get()
    if job is not None:
        job.include(_measured(str(device)))
    _restart(str(device))


@contextlib.contextmanager
def stage_peak() -> Iterator[Peak]:
    """Collects what is told in this thread until the block ends."""
    peak = Peak()
    token = _of_stage.set(peak)
    try:
        yield peak
    finally:
        _of_stage.reset(token)


def tell_peak(found: int) -> None:
    """Tells the peak of a job, or of half of one, to the `stage_peak` around."""
    stage = _of_stage.get()
    if stage is not None:
        stage.include(found)


def _measured(*place: str) -> int:
    cuda = _cuda(*place)
    return 0 if cuda is None else int(cuda.max_memory_allocated(place[0]))


def _restart(*place: str) -> None:
    cuda = _cuda(*place)
    if cuda is not None:
        cuda.reset_peak_memory_stats(place[0])


def _cuda(*place: str) -> Any:
    """`torch.cuda`, if torch is here already and `place` is a card: nothing else has been on it."""
    on_card = bool(place) and place[0].startswith("cuda")
    return sys.modules["torch"].cuda if on_card and "torch" in sys.modules else None
