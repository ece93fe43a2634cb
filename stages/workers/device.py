"""Stages in processes of their own: one worker, and one such process, per device, which keeps its weights.

The store stays with the caller, so it never contains anything half-written.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from queue import LifoQueue
from typing import TypeVar, cast

from scenegen.compute.card_peak import tell_peak
from scenegen.compute.runtime import MAX_ECONOMY, Runtime
from scenegen.compute.threads import one_blas_thread
from scenegen.config import Settings
from scenegen.errors import CrashError, LimitError, TransientError
from scenegen.faults import described, is_device_lost
from scenegen.records import Photo, Record, Source, artifacts
from scenegen.store.store import Store
from scenegen.system.processes import Died
from stages.stage import Stage, Work
from stages.workers.child import Done, Raised
from stages.workers.worker import Worker, is_spent

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class StageCall:
    """One run of a stage: the arguments of `Stage.run`, in a form that can be sent."""

    run: Callable[..., Record]
    record: type[Record]
    """That it must return."""
    inputs: tuple[Record | int, ...]
    config: Settings
    root: Path
    """Of the store."""
    runtime: Runtime
    folder: Path
    stage: str
    key: str

    def __call__(self, device: str = "cpu") -> Record:
        """In the child, whose device, if it has one, replaces the runtime's."""
        one_blas_thread()
        work = Work(Store(self.root), replace(self.runtime, device=device), self.folder, self.stage, self.key)
        record = self.run(*self.inputs, config=self.config, work=work)
        if not isinstance(record, self.record):
            raise TypeError(f"stage {self.stage} must return a {self.record.__name__}, not a {type(record).__name__}.")
        return record


def run_stage(
    worker: Worker,
    stage: Stage[R],
    inputs: tuple[Record | int, ...],
    config: Settings,
    work: Work,
    object_id: int | None = None,
) -> R:
    """What `stage.run(*inputs, config=config, work=work)` returns or raises, in the child of `worker`, on its device.

    After a crash, or an error that leaves the device unusable in that process, the job is tried once more in a new child; out
    of memory, once more with each higher `Runtime.economy`. A child that the system has killed to free memory counts as out of
    memory. Log records have the attributes `image`, `stage` and `object_id`.

    An error that is neither scenegen's nor Python's becomes the nearest type of Python's. Every error has the child's
    traceback as a note.

    Raises:
        TypeError: if `stage.run` is not a function of a module, or returns another record than the stage's.
        LimitError: if the job took too long, or failed even with the least memory that it can use.
        CrashError: if its process died twice, or could no longer use the device.
        TransientError: if the device is lost.
        concurrent.futures.CancelledError: if the worker was killed.
    """
    for record in inputs:
        for artifact in artifacts(record):
            # The child has no mirror: files that are only there are fetched first.
            work.read(artifact)
    label = stage.label(object_id)
    image = next((value.name for value in inputs if isinstance(value, (Photo, Source))), None)
    about = {"image": image, "stage": stage.name, "object_id": object_id}
    root, folder = work.store.root.absolute(), work.folder.absolute()
    job = StageCall(stage.run, stage.record, inputs, config, root, work.runtime, folder, stage.name, work.key)
    crashed, kept = False, set(work.folder.iterdir())
    try:
        reply = worker.attempt(job, about)
        while not isinstance(reply, Done) and (again := _retry(reply, job, crashed)) is not None:
            crashed = crashed or again is job
            how = "" if again is job else f" with less memory (economy {again.runtime.economy})"
            logger.warning("%s: %s; trying once more%s", label, _cause(reply), how, extra=about)
            _empty(work.folder, kept)
            job, reply = again, worker.attempt(again, about)
    except TimeoutError as error:
        raise LimitError(
            f"{label} was stopped: it took longer than {worker.timeout_s:g} s on {worker.device}. Raise the time limit, "
            "or make it smaller."
        ) from error
    if isinstance(reply, Done):
        tell_peak(reply.card_peak)
        return cast(R, reply.result)
    if isinstance(reply, Raised) and not is_spent(reply):
        raise reply.error
    lost = isinstance(reply, Raised) and is_device_lost(reply.error)
    kind = LimitError if reply.out_of_memory else TransientError if lost else CrashError
    failure = kind(f"{label}: {_cause(reply)} on {worker.device}, {_economy(job)}. {_fix(reply)}")
    raise failure from (reply.error if isinstance(reply, Raised) else None)


@contextlib.contextmanager
def device_workers(
    names: Sequence[str], timeout_s: float | None = None, max_jobs: int | None = None
) -> Iterator[LifoQueue[Worker]]:
    """A worker for each device of `names`, idle, until the block ends; then they are killed.

    Whoever takes a worker out of the queue has its device, and puts it back. The last one back is the first one out,
    since its weights are loaded already.
    """
    with _idle([Worker(name, timeout_s=timeout_s, max_jobs=max_jobs) for name in names]) as idle:
        yield idle


@contextlib.contextmanager
def finishing_workers(count: int, timeout_s: float | None = None) -> Iterator[LifoQueue[Worker] | None]:
    """So many workers for what needs no device, likewise; None for none of them."""
    if count == 0:
        yield None
        return
    with _idle([Worker(timeout_s=timeout_s) for _ in range(count)]) as idle:
        yield idle


def queue_of(workers: Sequence[Worker]) -> LifoQueue[Worker]:
    """The workers, none of them busy, the first one out first."""
    idle: LifoQueue[Worker] = LifoQueue()
    for worker in reversed(workers):
        idle.put(worker)
    return idle


@contextlib.contextmanager
def _idle(workers: Sequence[Worker]) -> Iterator[LifoQueue[Worker]]:
    """The workers, none of them busy, until the block ends; then they are killed."""
    try:
        yield queue_of(workers)
    finally:
        for worker in workers:
            worker.kill()


def _retry(reply: Raised | Died, job: StageCall, crashed: bool) -> StageCall | None:
    """The job to try next, None if that would not help: it has `crashed` before, or already uses the least memory."""
    if reply.out_of_memory and job.runtime.economy < MAX_ECONOMY:
        return replace(job, runtime=replace(job.runtime, economy=job.runtime.economy + 1))
    return job if is_spent(reply) and not reply.out_of_memory and not crashed else None


def _empty(folder: Path, kept: Set[Path]) -> None:
    """Removes the content of `folder` but for what was there before."""
    for path in set(folder.iterdir()) - kept:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _cause(reply: Raised | Died) -> str:
    if isinstance(reply, Died):
        return str(reply)
    return f"{'out of memory' if reply.out_of_memory else 'the device failed'} ({described(reply.error)})"


def _economy(job: StageCall) -> str:
    level = job.runtime.economy
    return f"even with less memory (economy {level})" if level else "twice"


def _fix(reply: Raised | Died) -> str:
    if reply.out_of_memory:
        return "Use a smaller model or fewer tokens, free the device's memory, or use --device cpu."
    return "Run with -v to see what came before, or use --device cpu."
