"""Many tasks, such as photos, each on whichever machine of the cluster has a free core."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from scenegen.errors import CrashError, LimitError
from scenegen.faults import described
from stages.cluster.calls import Call, call
from stages.cluster.joining import join_cluster
from stages.workers.child import Done
from stages.workers.pool import Ended

T = TypeVar("T")
R = TypeVar("R")

LOOK_S = 1.0


@dataclass(frozen=True)
class _Running(Generic[T]):
    task: T
    call: Call
    since: float


def run_on_cluster(
    address: str, tasks: Iterable[T], work: Callable[[T], R], at_once: int | None, timeout_s: float
) -> Generator[Ended[T, R], None, None]:
    """As `stages.workers.pool.run_in_children`, on a cluster: runs `work` on every task, and yields each as it ends.

    A task that exceeds the time is stopped, and has failed. One whose machine or process is lost is repeated once, elsewhere if
    need be. All are cancelled when the generator is closed, and when this process ends.

    Args:
        address: of the cluster, as `join_cluster` takes it.
        tasks: taken one by one.
        work: must be importable by its name on every machine.
        at_once: how many tasks are asked for at once, even if the cluster has fewer cores: one that grows by itself then does.
            None means as many as the cluster has cores now.
        timeout_s: for one task, in seconds, without its waits.
    """
    join_cluster(address)
    import ray

    most = at_once or max(1, int(ray.cluster_resources().get("CPU", 0)))
    fresh = iter(tasks)
    running: dict[Any, _Running[T]] = {}
    try:
        while True:
            for task in itertools.islice(fresh, most - len(running)):
                begun = call(str(task), work, task, limit_s=timeout_s)
                running[begun.reference] = _Running(task, begun, time.perf_counter())
            if not running:
                return
            for reference in ray.wait([*running], timeout=LOOK_S)[0]:
                yield _ended(running.pop(reference))
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _ended(running: _Running[T]) -> Ended[T, Any]:
    try:
        reply = running.call.result()
    except CrashError as error:
        result, reason = None, str(error)
    else:
        result, reason = (reply.result, "") if isinstance(reply, Done) else (None, _reason(reply.error))
    return Ended(running.task, result, reason, time.perf_counter() - running.since)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, LimitError) else described(error)
