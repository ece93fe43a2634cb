"""The graph of stages, written once: read -> segment -> depth -> layout -> generate -> compose -> export -> report.

It is a function over `submit`, so that the command line runs it with plain calls and `flows/` with Prefect tasks.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from queue import LifoQueue
from typing import Any, Protocol, TypeVar, runtime_checkable

from scenegen.config import Config, DepthSettings, Settings
from scenegen.errors import ObjectError, ScenegenError
from scenegen.faults import described, ends_photo, shared_limit
from scenegen.records import (
    Depth,
    Export,
    Failure,
    Instances,
    Kept,
    Layout,
    ObjectMesh,
    Objects,
    Photo,
    Record,
    Report,
    Scene,
    Source,
    StageTiming,
    Timings,
)
from scenegen.runtime import Runtime
from scenegen.store import Store
from stages.compose import COMPOSE
from stages.depth import DEPTH
from stages.export import EXPORT
from stages.generate import GENERATE
from stages.layout import LAYOUT
from stages.read import READ
from stages.report import REPORT
from stages.segment import SEGMENT
from stages.stage import Outcome, Stage, Work, execute
from stages.telling import telling
from stages.worker import DeviceWorker, device_workers

logger = logging.getLogger(__name__)

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
    """Starts a stage. `object_id` is given where the stage works on one object."""

    def __call__(
        self, stage: Stage[R], *inputs: Record | int, config: Settings, object_id: int | None = None
    ) -> Pending[Outcome[R]]:
        """Returns at once."""
        ...


@dataclass(frozen=True)
class SceneRun:
    """Every outcome of one photo."""

    source: Source
    config: Config
    photo: Outcome[Photo]
    instances: Outcome[Instances]
    depth: Outcome[Depth]
    layout: Outcome[Layout]
    objects: tuple[Outcome[ObjectMesh], ...]
    scene: Outcome[Scene]
    export: Outcome[Export]
    report: Outcome[Report]

    @property
    def outcomes(self) -> tuple[Outcome[Any], ...]:
        """In the order of the graph."""
        head = (self.photo, self.instances, self.depth, self.layout)
        return (*head, *self.objects, self.scene, self.export, self.report)


def image_to_scene(source: Source, config: Config, submit: Submit, kept: Kept | None = None) -> SceneRun:
    """Runs every stage for one photo.

    An object that fails is left out and named in `Scene.failures`; `scenegen.faults` says which failures are an object's and
    which end the photo, as those of all other stages do.

    Args:
        source: what the user gave, in the store.
        config: the resolved configuration.
        submit: starts a stage.
        kept: objects that must stay where an earlier run placed them.

    Raises:
        ScenegenError: from the stage that failed.
    """
    submit = telling(submit)
    photo = submit(READ, source, config=config.read).result()
    instances = submit(SEGMENT, photo.record, config=config.segment).result()
    depth_settings = DepthSettings(depth=config.depth, camera=config.camera)
    depth = submit(DEPTH, photo.record, instances.record, config=depth_settings).result()
    perceived = (photo.record, instances.record, depth.record)
    layout = submit(LAYOUT, *perceived, config=config.layout).result()
    pending = [
        (
            item.id,
            submit(
                GENERATE,
                *perceived,
                layout.record,
                item.id,
                config=config.object_settings(item.id),
                object_id=item.id,
            ),
        )
        for item in instances.record.items
    ]
    objects: list[Outcome[ObjectMesh]] = []
    failures: list[Failure] = []
    errors: list[Exception] = []
    for object_id, future in pending:
        try:
            objects.append(future.result())
        except Exception as error:
            if ends_photo(error):
                raise
            failures.append(_left_out(GENERATE.name, object_id, error))
            errors.append(error)
    if errors and not objects and (limit := shared_limit(errors)) is not None:
        raise limit from errors[0].__cause__
    made = Objects(items=tuple(outcome.record for outcome in objects), failures=tuple(failures))

    while True:
        reached: Stage[Any] = COMPOSE
        try:
            scene = submit(COMPOSE, *perceived, layout.record, made, kept or Kept(), config=config.compose).result()
            reached = EXPORT
            export = submit(EXPORT, photo.record, scene.record, config=config.export).result()
            reached = REPORT
            times = timings((photo, instances, depth, layout, *objects, scene, export))
            given = (*perceived, layout.record, scene.record, export.record, times)
            report = submit(REPORT, *given, config=config.report).result()
        except ObjectError as error:
            made = _without(made, reached, error)
        else:
            return SceneRun(source, config, photo, instances, depth, layout, tuple(objects), scene, export, report)


def _left_out(stage: str, object_id: int, error: BaseException) -> Failure:
    """Says in the log that the object is left out: with a traceback, unless the error is one that scenegen has words for."""
    traceback = not isinstance(error, ScenegenError) or logger.isEnabledFor(logging.DEBUG)
    text = described(error)
    logger.error("object %d failed and is left out: %s", object_id, text, exc_info=error if traceback else None)
    return Failure(stage=stage, object=object_id, error=text)


def _without(made: Objects, stage: Stage[Any], error: ObjectError) -> Objects:
    """`made` without the object that `stage` cannot go on with. What has failed is not in the store, so that the next run
    tries the object again.

    Raises:
        ObjectError: `error` itself, if there is no such object.
    """
    items = tuple(item for item in made.items if item.id != error.object_id)
    if len(items) == len(made.items):
        raise error
    failure = _left_out(stage.name, error.object_id, error.__cause__ or error)
    return Objects(items=items, failures=(*made.failures, failure))


def timings(outcomes: tuple[Outcome[Any], ...]) -> Timings:
    """Wall time of each stage, as measured when it was executed."""
    return Timings(
        items=tuple(
            StageTiming(
                stage=outcome.stage,
                object=outcome.record.id if isinstance(outcome.record, ObjectMesh) else None,
                seconds=outcome.seconds,
            )
            for outcome in outcomes
        )
    )


def local_submit(store: Store, runtime: Runtime, executor: Executor, limit: int | None = None) -> Submit:
    """`submit` for plain calls: stages of one object run side by side in `executor`, the others at once.

    Args:
        store: where results go.
        runtime: where to compute.
        executor: for the stages of one object.
        limit: how many of these may be submitted and not finished; who submits one more waits.
    """
    room = None if limit is None else threading.Semaphore(limit)

    def submit(
        stage: Stage[R], *inputs: Record | int, config: Settings, object_id: int | None = None
    ) -> Pending[Outcome[R]]:
        if object_id is None:
            future: Future[Outcome[R]] = Future()
            future.set_result(execute(stage, inputs, config, store, runtime))
            return future
        # Log lines of the executor's thread are about what this thread works on.
        here = contextvars.copy_context()
        if room is None:
            return executor.submit(here.run, execute, stage, inputs, config, store, runtime)
        room.acquire()
        try:
            future = executor.submit(here.run, execute, stage, inputs, config, store, runtime)
        except BaseException:
            room.release()
            raise
        future.add_done_callback(lambda _: room.release())
        return future

    return submit


NeedsDevice = Callable[[Stage[Any], Settings, int | None], bool]
"""Whether a stage, with its settings and its object, has to run on a device of its own."""


@runtime_checkable
class RunStage(Protocol):
    """Runs a stage on its inputs, for an object or none."""

    def __call__(
        self, stage: Stage[R], given: tuple[Record | int, ...], config: Settings, work: Work, object_id: int | None
    ) -> R:
        """Returns the stage's record."""
        ...


def works_on_object(stage: Stage[Any], config: Settings, object_id: int | None) -> bool:
    """Whether the stage works on one object."""
    return object_id is not None


def uses_weights(stage: Stage[Any], config: Settings, object_id: int | None) -> bool:
    """Whether the stage runs a network."""
    return bool(stage.weights(config))


def weights_in_use(config: Config) -> dict[str, dict[str, str]]:
    """Revisions of the weights in use, by stage.

    Raises:
        WeightsError: if weights that the configuration names are missing.
    """
    settings: tuple[tuple[Stage[Any], Settings], ...] = (
        (SEGMENT, config.segment),
        (DEPTH, DepthSettings(depth=config.depth, camera=config.camera)),
        (GENERATE, config.object_settings(0)),
    )
    return {stage.name: dict(stage.weights(part)) for stage, part in settings}


def in_process_on(names: Sequence[str]) -> NeedsDevice:
    """Which stages run in the processes of these devices: on the CPU those of objects, elsewhere those with weights."""
    return works_on_object if "cpu" in names else uses_weights


@contextlib.contextmanager
def on_devices(names: Sequence[str], timeout_s: float | None = None) -> Iterator[Callable[[Submit], Submit]]:
    """What sends the stages that need it to processes of their own, one for each of `names`, until the block ends.
    One that takes longer than `timeout_s` is stopped, and has failed."""
    if not names:
        yield lambda submit: submit
        return
    with device_workers(names, timeout_s) as idle:
        yield lambda submit: worker_submit(submit, idle, in_process_on(names))


def worker_submit(submit: Submit, idle: LifoQueue[DeviceWorker], needs_device: NeedsDevice = works_on_object) -> Submit:
    """`submit`, with the stages that need a device run by whichever worker is idle.

    `submit` still looks into the store, waits and commits; only `Stage.run` is done elsewhere. It should run as many
    stages side by side as there are workers: the time one waits for a worker counts as its own.

    Args:
        submit: starts a stage, from `local_submit` or another; what it wraps around `Stage.run` stays in this process.
        idle: from `stages.worker.device_workers`.
        needs_device: which stages.
    """

    def run(stage: Stage[R], given: tuple[Record | int, ...], config: Settings, work: Work, object_id: int | None) -> R:
        worker = idle.get()
        try:
            return worker.run(stage, given, config, work, object_id)
        finally:
            idle.put(worker)

    return run_by(submit, needs_device, run)


def run_by(submit: Submit, which: NeedsDevice, run: RunStage) -> Submit:
    """`submit`, with `run` in place of `Stage.run` for the stages that `which` tells; what `submit` does around it stays."""

    def submit_otherwise(
        stage: Stage[R], *inputs: Record | int, config: Settings, object_id: int | None = None
    ) -> Pending[Outcome[R]]:
        if not which(stage, config, object_id):
            return submit(stage, *inputs, config=config, object_id=object_id)

        def otherwise(*given: Record | int, config: Settings, work: Work) -> R:
            return run(stage, given, config, work, object_id)

        return submit(replace(stage, run=otherwise), *inputs, config=config, object_id=object_id)

    return submit_otherwise
