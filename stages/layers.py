"""The layers between the graph of stages and the function of each, from outside in.

1. A `Submit` says when a stage runs, and in which thread: `local_submit` for plain calls, `flows.scene.prefect_submit` for
   Prefect tasks, `stages.cluster.objects.cluster_submit` for a Ray cluster.
2. `stages.stage.execute` looks into the store, and runs only what is not there.
3. `Layers.held` is held meanwhile, or told: progress.
4. `Layers.process` is where it runs, if not in this process: in that of a device.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from queue import Empty, LifoQueue
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from scenegen.compute.runtime import Runtime
from scenegen.compute.waiting import own_time, waiting
from scenegen.config import Settings
from scenegen.messages.progress import Event, State, Watch, progress_to, tell_progress
from scenegen.records import Record
from scenegen.store.store import Store
from stages.stage import Layers, Outcome, RunStage, Stage, Work, execute
from stages.workers.device import device_workers, finishing_workers, run_stage
from stages.workers.worker import Worker

R = TypeVar("R", bound=Record)
T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class Pending(Protocol[T_co]):
    """A submitted stage."""

    def result(self) -> T_co:
        """Waits, then returns the outcome or raises the stage's error."""
        ...


@runtime_checkable
class Submit(Protocol):
    """Starts a stage. `object_id` is given if the stage works on one object."""

    def __call__(
        self, stage: Stage[R], *inputs: Record | int, config: Settings, object_id: int | None = None
    ) -> Pending[Outcome[R]]:
        """Returns at once."""
        ...


def local_submit(
    store: Store, runtime: Runtime, executor: Executor, layers: Layers = Layers(), limit: int | None = None
) -> Submit:
    """`submit` for plain calls: stages of one object run in parallel in `executor`, the others immediately.

    Args:
        store: where results go.
        runtime: where to compute.
        executor: for the stages of one object.
        layers: what a stage runs in that is not in the store.
        limit: how many of these may be submitted and not finished; who submits one more waits.
    """
    room = None if limit is None else threading.Semaphore(limit)

    def submit(
        stage: Stage[R], *inputs: Record | int, config: Settings, object_id: int | None = None
    ) -> Pending[Outcome[R]]:
        if object_id is None:
            future: Future[Outcome[R]] = Future()
            future.set_result(execute(stage, inputs, config, store, runtime, layers, object_id))
            return future
        # Log lines of the executor's thread are about what this thread works on.
        here = contextvars.copy_context()
        if room is None:
            return executor.submit(here.run, execute, stage, inputs, config, store, runtime, layers, object_id)
        room.acquire()
        try:
            future = executor.submit(here.run, execute, stage, inputs, config, store, runtime, layers, object_id)
        except BaseException:
            room.release()
            raise
        future.add_done_callback(lambda _: room.release())
        return future

    return submit


SHOWN_S = 0.1
"""A stage that has waited for a worker or a device for less says nothing of it."""


class Watching:
    """Tells a watch every change of a stage's state: `submit` what comes before and after, `running` what is between."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._last: dict[tuple[str, int | None], State] = {}

    def submit(self, submit: Submit) -> Submit:
        """`submit`, with its stages watched."""

        def watched(
            stage: Stage[R], *inputs: Record | int, config: Settings, object_id: int | None = None
        ) -> Pending[Outcome[R]]:
            def tell(state: State) -> None:
                self._tell(stage, object_id, state)

            tell("waiting")
            try:
                return _Watched(submit(stage, *inputs, config=config, object_id=object_id), tell)
            except BaseException:
                tell("failed")
                raise

        return watched

    @contextlib.contextmanager
    def running(self, stage: Stage[Any], config: Settings, object_id: int | None) -> Iterator[None]:
        """For `Layers.held`."""
        self._tell(stage, object_id, "running")
        try:
            with (
                progress_to(lambda detail: self._watch(Event(stage.name, object_id, "running", detail=detail))),
                own_time() as clock,
            ):
                yield
        except BaseException:
            self._tell(stage, object_id, "failed")
            raise
        waited = f"after {clock.waited_s:.1f} s of waiting" if clock.waited_s >= SHOWN_S else ""
        self._tell(stage, object_id, "done", clock.seconds, waited)

    def _tell(
        self, stage: Stage[Any], object_id: int | None, state: State, seconds: float = 0.0, detail: str = ""
    ) -> None:
        place = (stage.name, object_id)
        if self._last.get(place) != state:
            self._last[place] = state
            self._watch(Event(stage.name, object_id, state, seconds, detail))


@dataclass(frozen=True)
class _Watched(Generic[R]):
    """A submitted stage that tells how it ended if its run could not: it never ran, or failed around the run."""

    pending: Pending[Outcome[R]]
    tell: Callable[[State], None]

    def result(self) -> Outcome[R]:
        try:
            outcome = self.pending.result()
        except BaseException:
            self.tell("failed")
            raise
        if outcome.cached:
            self.tell("found")
        return outcome


FINISHING = 3
"""Objects that are finished at a time for each graphics card."""

NeedsDevice = Callable[[Stage[Any], Settings, int | None], bool]
"""Whether a stage, with its settings and its object, has to run on a device of its own."""


def works_on_object(stage: Stage[Any], config: Settings, object_id: int | None) -> bool:
    """Whether the stage works on one object."""
    return object_id is not None


def uses_weights(stage: Stage[Any], config: Settings, object_id: int | None) -> bool:
    """Whether the stage runs a network."""
    return bool(stage.weights(config))


def in_process_on(names: Sequence[str]) -> NeedsDevice:
    """Which stages run in the processes of these devices: on the CPU those of objects, elsewhere those with weights."""
    return works_on_object if "cpu" in names else uses_weights


@contextlib.contextmanager
def on_devices(names: Sequence[str], timeout_s: float | None = None) -> Iterator[RunStage | None]:
    """Processes for the stages that need one, one process for each of `names`, until the block ends; for `Layers.process`.
    A stage that takes longer than `timeout_s` is stopped, and has failed."""
    if not names:
        yield None
        return
    with contextlib.ExitStack() as held:
        idle = held.enter_context(device_workers(names, timeout_s))
        finishers = held.enter_context(finishing_workers(finishing_for(names), timeout_s))
        yield run_on(idle, in_process_on(names), finishers)


def finishing_for(names: Sequence[str]) -> int:
    """How many objects may be finished at a time beside those that are on the devices: half the cores, at most so many for a
    card; none on the CPU, where nothing would be gained."""
    return 0 if "cpu" in names or not names else max(1, min((os.cpu_count() or 1) // 2, FINISHING * len(names)))


def run_on(
    idle: LifoQueue[Worker],
    needs_device: NeedsDevice = works_on_object,
    finishers: LifoQueue[Worker] | None = None,
) -> RunStage:
    """Runs the stages that need a device by whichever worker is idle, the others here.

    Of a stage in two halves the device's worker runs the first only, if there are `finishers` for the second: the device goes on
    with the next object. Waiting for a worker is not the stage's own time.

    Args:
        idle: from `stages.workers.device.device_workers`.
        needs_device: which stages.
        finishers: likewise from `finishing_workers`.
    """

    def run(stage: Stage[R], given: tuple[Record | int, ...], config: Settings, work: Work, object_id: int | None) -> R:
        if not needs_device(stage, config, object_id):
            return stage.run(*given, config=config, work=work)
        if finishers is None or stage.halves is None:
            with taken(idle) as worker:
                return run_stage(worker, stage, given, config, work, object_id)
        first = Stage(stage.name, Record, stage.halves.begin, stage.backends)
        with taken(idle) as worker:
            begun = run_stage(worker, first, given, config, work, object_id)
        if isinstance(begun, stage.record):
            return begun
        second = replace(stage, run=stage.halves.finish)
        with taken(finishers) as worker:
            return run_stage(worker, second, (begun,), config, work, object_id)

    return run


@contextlib.contextmanager
def taken(idle: LifoQueue[Worker]) -> Iterator[Worker]:
    """An idle worker, waited for if there is none; it goes back when the block ends."""
    try:
        worker = idle.get_nowait()
    except Empty:
        tell_progress("waiting for a worker")
        with waiting():
            worker = idle.get()
        tell_progress("has a worker")
    try:
        yield worker
    finally:
        idle.put(worker)
