"""The graph of stages, written once: read -> segment -> depth -> layout -> generate -> compose -> export -> report.

It is a function over `submit`, so that the command line runs it with plain calls and `flows/` with Prefect tasks.
"""

from __future__ import annotations

import logging
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from scenegen.config import Config, DepthSettings, Settings
from scenegen.errors import ScenegenError
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
from stages.stage import Outcome, Stage, execute

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

    An object that fails is left out and named in `Scene.failures`; every other failure ends the photo.

    Args:
        source: what the user gave, in the store.
        config: the resolved configuration.
        submit: starts a stage.
        kept: objects that must stay where an earlier run placed them.

    Raises:
        ScenegenError: from the stage that failed.
    """
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
    for object_id, future in pending:
        try:
            objects.append(future.result())
        except (ScenegenError, ArithmeticError, LookupError, ValueError, MemoryError) as error:
            logger.error("object %d failed and is left out: %s", object_id, error)
            text = f"{type(error).__name__}: {error}"
            failures.append(Failure(stage=GENERATE.name, object=object_id, error=text))
    made = Objects(items=tuple(outcome.record for outcome in objects), failures=tuple(failures))
    scene = submit(COMPOSE, *perceived, layout.record, made, kept or Kept(), config=config.compose).result()
    export = submit(EXPORT, photo.record, scene.record, config=config.export).result()
    outcomes: tuple[Outcome[Any], ...] = (photo, instances, depth, layout, *objects, scene, export)
    report = submit(
        REPORT, *perceived, layout.record, scene.record, export.record, timings(outcomes), config=config.report
    ).result()
    return SceneRun(source, config, photo, instances, depth, layout, tuple(objects), scene, export, report)


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


def local_submit(store: Store, runtime: Runtime, executor: Executor) -> Submit:
    """`submit` for plain calls: stages of one object run side by side in `executor`, the others at once."""

    def submit(
        stage: Stage[R], *inputs: Record | int, config: Settings, object_id: int | None = None
    ) -> Pending[Outcome[R]]:
        if object_id is not None:
            return executor.submit(execute, stage, inputs, config, store, runtime)
        future: Future[Outcome[R]] = Future()
        future.set_result(execute(stage, inputs, config, store, runtime))
        return future

    return submit
