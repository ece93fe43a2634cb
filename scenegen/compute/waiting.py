"""Time in which work waits for its turn: for a worker, or for a device that others use. It is not the work's own.

The seconds of a stage and the time limit of a job go by clocks that stand still meanwhile, in this process and in those that
wait for it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Seconds since it was made, without those spent in `waiting`.

    Example:
        >>> with own_time() as clock, waiting():
        ...     time.sleep(0.1)
        >>> clock.seconds < 0.1 <= clock.waited_s
        True
    """

    began: float = field(default_factory=lambda: time.monotonic())
    waited_s: float = 0.0
    """Grows when a wait ends."""

    @property
    def seconds(self) -> float:
        """What has passed, without the waits that have ended."""
        return time.monotonic() - self.began - self.waited_s


class _Job:
    """How many parts of a job are at work, and how many wait; told whenever the job as a whole begins or ends to wait."""

    def __init__(self, tell: Callable[[bool], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._working = self._waiting = 0

    def change(self, working: int, waiting: int) -> None:
        with self._lock:
            before = self._stands()
            self._working += working
            self._waiting += waiting
            if self._stands() != before:
                self._tell(not before)

    def _stands(self) -> bool:
        return self._waiting > 0 and self._working == 0


_clocks: ContextVar[tuple[Clock, ...]] = ContextVar("clocks", default=())
_job: ContextVar[_Job | None] = ContextVar("job", default=None)


@contextlib.contextmanager
def telling_waits(tell: Callable[[bool], None]) -> Iterator[None]:
    """Calls `tell` with True when no part of the work does anything but wait, and with False when one goes on.

    A part is what runs in an outermost `own_time`. Its thread must have been started with a copy of this one's context.
    """
    token = _job.set(_Job(tell))
    try:
        yield
    finally:
        _job.reset(token)


@contextlib.contextmanager
def own_time() -> Iterator[Clock]:
    """A clock that stands still while this thread is `waiting`. It may be read after the block too."""
    clock, outer, job = Clock(), _clocks.get(), _job.get()
    token = _clocks.set((*outer, clock))
    if job is not None and not outer:
        job.change(+1, 0)
    try:
        yield clock
    finally:
        if job is not None and not outer:
            job.change(-1, 0)
        _clocks.reset(token)


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """The time until the block ends is nobody's own."""
    clocks, job, began = _clocks.get(), _job.get(), time.monotonic()
    part = 1 if clocks else 0
    if job is not None:
        job.change(-part, +1)
    try:
        yield
    finally:
        for clock in clocks:
            clock.waited_s += time.monotonic() - began
        if job is not None:
            job.change(+part, -1)
