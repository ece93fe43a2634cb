"""Many tasks, each in a child process, some at once."""

from __future__ import annotations

import contextvars
import functools
import itertools
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

from scenegen.faults import described
from scenegen.system.processes import Died, ending
from stages.workers.child import Done
from stages.workers.worker import Worker

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Ended(Generic[T, R]):
    """What became of one task."""

    task: T
    result: R | None
    """None if the task failed, for the `reason`."""
    reason: str
    seconds: float
    """Wall time, of all attempts."""


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
        work: must be importable by its name.
        workers: how many children.
        timeout_s: for one task, in seconds.
        retries: how often a task is tried again after its child died.
    """
    fresh = iter(tasks)
    running: dict[Future[Ended[T, R]], Worker] = {}
    children = [Worker(timeout_s=timeout_s) for _ in range(workers)]
    with ThreadPoolExecutor(workers) as executor:

        def begin(worker: Worker) -> None:
            for task in itertools.islice(fresh, 1):
                here = contextvars.copy_context()
                running[executor.submit(here.run, _run, worker, task, work, retries)] = worker

        try:
            for worker in children:
                begin(worker)
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    ended = future.result()
                    # First of all: what the caller does with the result is not waited for.
                    begin(running.pop(future))
                    yield ended
        finally:
            for worker in children:
                worker.kill()


def _run(worker: Worker, task: T, work: Callable[[T], R], retries: int) -> Ended[T, R]:
    start = time.perf_counter()
    result, reason = None, ""
    for count in range(1, retries + 2):
        try:
            reply = worker.attempt(functools.partial(work, task), {})
        except TimeoutError:
            reason = f"took longer than {worker.timeout_s:g} s and was stopped"
            break
        if not isinstance(reply, Died):
            result, reason = (reply.result, "") if isinstance(reply, Done) else (None, described(reply.error))
            break
        reason = f"its process died {count} times ({ending(reply.code)}){_memory(reply)}"
    return Ended(task, result, reason, time.perf_counter() - start)


def _memory(end: Died) -> str:
    """Whether a death was for lack of memory, as far as the system tells."""
    if not end.out_of_memory:
        return ""
    return "; perhaps memory ran out" if end.oom_kills is None else "; memory ran out"
