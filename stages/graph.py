"""The graph of stages, written once: read -> segment -> depth -> layout -> generate -> compose -> export -> report.

It is a function over `submit`, so that the command line runs it with plain calls and `flows/` with Prefect tasks.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

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
    Report,
    Scene,
    Source,
    StageTiming,
    Timings,
)
from stages.compose import COMPOSE
from stages.depth import DEPTH
from stages.export import EXPORT
from stages.generate import GENERATE
from stages.layers import Submit
from stages.layout import LAYOUT
from stages.read import READ
from stages.report import REPORT
from stages.segment import SEGMENT
from stages.stage import Outcome, Stage
from stages.telling import Remarks

logger = logging.getLogger(__name__)


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

    An object that fails is left out and named in `Scene.failures`; `scenegen.faults` decides which failures are an object's
    and which end the photo, as those of all other stages do.

    Args:
        source: what the user gave, in the store.
        config: the resolved configuration.
        submit: starts a stage.
        kept: objects that must stay where an earlier run placed them.

    Raises:
        ScenegenError: from the stage that failed.
    """
    said = Remarks()
    photo = said.result(submit(READ, source, config=config.read))
    instances = said.result(submit(SEGMENT, photo.record, config=config.segment))
    depth_settings = DepthSettings(depth=config.depth, camera=config.camera)
    depth = said.result(submit(DEPTH, photo.record, instances.record, config=depth_settings))
    perceived = (photo.record.with_meshes_of(None), instances.record, depth.record)
    layout = said.result(submit(LAYOUT, *perceived, config=config.layout))
    pending = [
        (
            item.id,
            submit(
                GENERATE,
                photo.record.with_meshes_of(item.id),
                *perceived[1:],
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
            objects.append(said.result(future, object_id))
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
            given = (*perceived, layout.record, made, kept or Kept())
            scene = said.result(submit(COMPOSE, *given, config=config.compose))
            reached = EXPORT
            export = said.result(submit(EXPORT, photo.record, scene.record, config=config.export))
            reached = REPORT
            times = timings((photo, instances, depth, layout, *objects, scene, export))
            shown = (*perceived, layout.record, scene.record, export.record, times)
            report = said.result(submit(REPORT, *shown, config=config.report))
        except ObjectError as error:
            made = _without(made, reached, error)
        else:
            return SceneRun(source, config, photo, instances, depth, layout, tuple(objects), scene, export, report)


def _left_out(stage: str, object_id: int, error: BaseException) -> Failure:
    """Logs that the object is left out, with a traceback unless the error is scenegen's own."""
    traceback = not isinstance(error, ScenegenError) or logger.isEnabledFor(logging.DEBUG)
    text = described(error)
    logger.error("object %d failed and is left out: %s", object_id, text, exc_info=error if traceback else None)
    return Failure(stage=stage, object=object_id, error=text)


def _without(made: Objects, stage: Stage[Any], error: ObjectError) -> Objects:
    """`made` without the object that `stage` cannot handle. The failure is not stored, so that the next run tries the object
    again.

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
