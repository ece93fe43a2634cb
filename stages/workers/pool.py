"""Child processes that work on one task after another, and can be killed at any time."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from scenegen.system.processes import KILLED, ending, kill_group, kill_with, lead_group
from stages.workers.child import forward_logs
from stages.workers.process import Died, died, log_here, log_levels, oom_kills

T = TypeVar("T")
R = TypeVar("R")

SPAWN = multiprocessing.get_context("spawn")
"""A forked child would share locks and CUDA's state with threads that it does not have."""


@dataclass(frozen=True)
class Ended(Generic[T, R]):
    """What became of one task."""

    task: T
    result: R | None
    """None if the task failed, for the `reason`."""
    reason: str
    seconds: float
    """Wall time of the last attempt."""


def run_in_children(
    tasks: Iterable[T],
    work: Callable[[T], R],
    workers: int,
    timeout_s: float,
    retries: int = 1,
) -> Generator[Ended[T, R], None, None]:
    """Runs `work` on every task, in at most `workers` processes, and yields each as it ends.

    A child that exceeds the time is killed with all it has started, and its task has failed. If a child dies, its task is
    tried again, `retries` times. Either child is replaced. Every child is killed when the generator is closed, when an
    error such as KeyboardInterrupt passes through it, and when this process ends, however it ends.

    Log records of the children go to this process's loggers while the generator runs.

    Args:
        tasks: taken one by one, as children become free.
        work: must be importable by its name, and must not raise: that ends the child.
        workers: how many children.
        timeout_s: for one task, in seconds.
        retries: how often a task is tried again after its child died.
    """
    waiting: deque[_Attempt[T]] = deque()
    fresh = (_Attempt(task) for task in tasks)
    busy: dict[_Child, _Attempt[T]] = {}
    idle: list[_Child] = []
    try:
        while True:
            while len(busy) < workers:
                attempt = waiting.popleft() if waiting else next(fresh, None)
                if attempt is None:
                    break
                child = _living(idle) or _Child(work)
                attempt.begun, attempt.oom_kills = time.monotonic(), oom_kills()
                attempt.count += 1
                busy[child] = attempt
                child.give(attempt.task)
            if not busy:
                return
            for child in _ready(busy, timeout_s):
                attempt = busy[child]
                seconds = time.monotonic() - attempt.begun
                answer = child.answer()
                if answer is not None:
                    del busy[child]
                    idle.append(child)
                    yield Ended(attempt.task, answer[0], "", seconds)
                elif seconds >= timeout_s and child.alive():
                    child.kill()
                    del busy[child]
                    yield Ended(attempt.task, None, f"took longer than {timeout_s:g} s and was stopped", seconds)
                elif not child.alive():
                    end = died(child.kill(), attempt.oom_kills)
                    del busy[child]
                    if attempt.count <= retries:
                        waiting.append(attempt)
                    else:
                        reason = f"its process died {attempt.count} times ({ending(end.code)}){_memory(end)}"
                        yield Ended(attempt.task, None, reason, seconds)
    finally:
        for child in (*busy, *idle):
            child.kill()


@dataclass
class _Attempt(Generic[T]):
    task: T
    count: int = 0
    begun: float = 0.0
    oom_kills: int | None = None
    """The system's count when it began."""


def _memory(end: Died) -> str:
    """Whether a death was for lack of memory, as far as the system tells."""
    if not end.out_of_memory:
        return ""
    return "; perhaps memory ran out" if end.oom_kills is None else "; memory ran out"


def _living(idle: list[_Child]) -> _Child | None:
    """Takes a child that waits for work, if there is one; those that have died in the meantime are removed."""
    while idle:
        child = idle.pop()
        if child.alive():
            return child
        child.kill()
    return None


def _ready(busy: dict[_Child, _Attempt[T]], timeout_s: float) -> list[_Child]:
    """Children that have answered, died or used up their time, once there are any."""
    first = min(attempt.begun for attempt in busy.values()) + timeout_s
    handles: list[Any] = [handle for child in busy for handle in (child.connection, child.process.sentinel)]
    wait(handles, max(0.0, first - time.monotonic()))
    return list(busy)


class _Child:
    """One child process, in a process group of its own: what it starts can be killed with it."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.connection, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(theirs, work, log_levels()))
        self.process.start()
        theirs.close()

    def give(self, task: object) -> None:
        # A dead child is noticed by its sentinel, not here.
        with contextlib.suppress(OSError):
            self.connection.send(task)

    def answer(self) -> tuple[Any] | None:
        """The result in a tuple, or None if there is none yet, or never will be. Logs the records that came before it."""
        with contextlib.suppress(EOFError, OSError):
            while self.connection.poll():
                message = self.connection.recv()
                if not isinstance(message, logging.LogRecord):
                    return (message,)
                log_here(message, {})
        return None

    def alive(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> int:
        """Kills the child with its group, also if only the group is left. Returns its exit code."""
        pid = self.process.pid
        if pid is not None:
            kill_group(pid)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode
        self.connection.close()
        self.process.close()
        return KILLED if code is None else code


def _serve(connection: Connection[Any, Any], work: Callable[[Any], Any], levels: Mapping[str, int]) -> None:
    """The child: works on its tasks until its parent is gone."""
    lead_group()
    parent = multiprocessing.parent_process()
    assert parent is not None
    kill_with(parent.sentinel)
    sending = threading.Lock()

    def send(message: object) -> None:
        with sending:
            connection.send(message)

    forward_logs(send, levels)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            send(work(connection.recv()))
