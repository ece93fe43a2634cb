"""The graph of stages, written once: read -> segment (-> edit) -> depth -> layout (-> complete) -> generate ->
compose -> export -> report.

An edited photo is seen first as if nobody had edited it: every object is generated in that depth and that layout, one with an
edited outline after `outline` has looked at it there. So no object depends on the edits of others. `measure` and a second layout
then make the depth and the room of the scene as edited, in which `compose` places the objects.

It is a function over `submit`, so that the command line runs it with plain calls and `flows/` with Prefect tasks. Several photos
of one scene are read, segmented and measured each alone; then register -> match makes views of one scene of them, and every
object is generated from all that show it, in the layout of the one that shows it best.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from scenegen.camera import matrix4
from scenegen.config import Config, MeasureSettings, Settings
from scenegen.errors import InputError, ObjectError, ScenegenError, UsageError
from scenegen.faults import described, ends_photo, shared_limit
from scenegen.records import (
    Completions,
    Depth,
    Export,
    Failure,
    Instances,
    Kept,
    Layout,
    ObjectMesh,
    Objects,
    OutlinedObject,
    OutlinedObjects,
    Perceived,
    Photo,
    Preview,
    Record,
    Removed,
    RemoveEdit,
    Report,
    Scene,
    SeenView,
    Source,
    StageTiming,
    Timings,
    Views,
)
from scenegen.registry import OBJECT_GENERATORS
from scenegen.weights_registry.needed import require_settings
from stages.complete import COMPLETE
from stages.compose import COMPOSE, contradicted
from stages.depth import DEPTH
from stages.edit import EDIT
from stages.export import EXPORT, PREVIEW
from stages.generate import GENERATE, GENERATE_FROM_VIEWS
from stages.layers import Pending, Submit
from stages.layout import LAYOUT
from stages.match import MATCH
from stages.measure import MEASURE, MEASURE_VIEWS
from stages.outline import OUTLINE
from stages.read import READ
from stages.register import REGISTER
from stages.report import REPORT, distinct
from stages.segment import SEGMENT
from stages.stage import Outcome, Stage
from stages.telling import Remarks

logger = logging.getLogger(__name__)


R = TypeVar("R", bound=Record)
IDENTITY = matrix4(np.eye(4))


@dataclass(frozen=True)
class Perception:
    """What one photo shows, seen alone."""

    photo: Outcome[Photo]
    found: tuple[Outcome[Instances], ...]
    """Its objects as they were found, and after each edit."""
    depth: Outcome[Depth]
    estimated: tuple[Outcome[Depth], ...] = ()
    """What `depth` was made from, if a known length or edits change it."""

    @property
    def instances(self) -> Outcome[Instances]:
        """Its objects."""
        return self.found[-1]

    @property
    def depths(self) -> tuple[Outcome[Depth], ...]:
        """In the order of the graph."""
        return *self.estimated, self.depth

    @property
    def outcomes(self) -> tuple[Outcome[Any], ...]:
        """In the order of the graph."""
        return self.photo, *self.found, *self.depths

    def alone(self, instances: Instances) -> SeenView:
        """The photo, with these objects in it, as the only view of its scene. No other stage needs its meshes."""
        return SeenView(
            photo=self.photo.record.with_given_of(None),
            instances=instances,
            depth=self.depth.record,
            main_from_camera=IDENTITY,
        )


@dataclass(frozen=True)
class AsEdited:
    """What a photo shows once it is edited."""

    view: SeenView
    depth: Outcome[Depth]
    layout: Outcome[Layout]
    outlined: Mapping[int, OutlinedObject]
    """The objects with edited outlines."""
    failures: Mapping[Failure, Exception]
    """Of those of which nothing can be told."""
    outcomes: tuple[Outcome[Any], ...]
    """Of all stages between the first layout and that of the scene."""


@dataclass(frozen=True, kw_only=True)
class ComposedRun:
    """Every outcome of one scene up to where its objects are, and what its files are made from."""

    source: Source
    """Of the first photo."""
    others: tuple[Source, ...]
    """Of further photos of the scene."""
    name: str
    """Of the scene's folder, if there are several photos."""
    config: Config
    photo: Outcome[Photo]
    found: tuple[Outcome[Instances], ...]
    """The objects as they were found, and after each edit."""
    view: SeenView
    """The first photo as edited, with what it shows."""
    depth: Outcome[Depth]
    """Of the first photo by itself."""
    layout: Outcome[Layout]
    objects: tuple[Outcome[ObjectMesh], ...]
    views: Views
    """All photos, as far as they are believed."""
    scene: Outcome[Scene]
    further: tuple[Outcome[Any], ...] = ()
    """Of all that is between the objects that were found and the layout: the depth, that of an edited photo, other photos, and
    what makes views of one scene of all."""
    completed: tuple[Outcome[Completions], ...] = ()
    """Of each photo that shows objects alone, if partly hidden ones are completed."""

    @property
    def instances(self) -> Outcome[Instances]:
        """The objects."""
        return self.found[-1]

    @property
    def outcomes(self) -> tuple[Outcome[Any], ...]:
        """In the order of the graph."""
        return (
            self.photo,
            *self.found,
            *self.further,
            self.layout,
            *self.completed,
            *self.objects,
            self.scene,
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be said of the scene, each once. What edits have made untrue, of the depth say, is not among it."""
        seen = (self.photo.record, self.instances.record, self.view.depth, self.layout.record)
        return distinct(*seen, *(outcome.record for outcome in self.completed), self.scene.record)


@dataclass(frozen=True, kw_only=True)
class PreviewRun(ComposedRun):
    """A scene that can be looked at."""

    preview: Outcome[Preview]


@dataclass(frozen=True, kw_only=True)
class SceneRun(ComposedRun):
    """A scene with all its files."""

    export: Outcome[Export]
    report: Outcome[Report]

    @property
    def outcomes(self) -> tuple[Outcome[Any], ...]:
        """In the order of the graph."""
        return (*super().outcomes, self.export, self.report)

    @property
    def warnings(self) -> tuple[str, ...]:
        """As of a `ComposedRun`, with what its files remark."""
        return tuple(dict.fromkeys((*super().warnings, *distinct(self.export.record, self.report.record))))


W = TypeVar("W", bound=ComposedRun)


@runtime_checkable
class RunNext(Protocol):
    """Runs one of the stages that work on the whole scene."""

    def __call__(self, stage: Stage[R], *inputs: Record, config: Settings) -> Outcome[R]:
        """Raises ObjectError if one object keeps it from its result."""
        ...


def image_to_scene(
    source: Source,
    config: Config,
    submit: Submit,
    kept: Kept | None = None,
    others: Sequence[Source] = (),
    name: str = "",
) -> SceneRun:
    """Runs every stage for one photo, or for several of one scene.

    An object that fails is left out and named in `Scene.failures`; `scenegen.faults` decides which failures are an object's
    and which end the photo, as those of all other stages do.

    Args:
        source: what the user gave, in the store.
        config: the resolved configuration.
        submit: starts a stage.
        kept: what must stay as an earlier run made it.
        others: further photos of the same scene. One that cannot be used is left out and named in `Scene.failures`.
        name: of the scene, if there are several photos.

    Raises:
        UsageError: if there are several photos, and the generator makes use of one only.
        WeightsError: if a package that the settings ask for is missing.
        ScenegenError: from the stage that failed.
    """
    stays = kept or Kept()

    def written(run: ComposedRun, run_next: RunNext) -> SceneRun:
        view, scene = run.view, run.scene.record
        export = run_next(EXPORT, view.photo, scene, stays, config=config.export)
        times = timings((*run.outcomes, export))
        hidden = Completions.of_all([outcome.record for outcome in run.completed])
        several = (run.views,) if others else ()
        beside = (run.views if others else Views(), hidden) if run.completed else several
        known = (view.photo, view.instances, view.depth, run.layout.record, scene, export.record, times, *beside)
        report = run_next(REPORT, *known, config=config.report)
        return SceneRun(**vars(run), export=export, report=report)

    return _composed(source, config, submit, stays, others, name, written)


def image_to_preview(
    source: Source, config: Config, submit: Submit, others: Sequence[Source] = (), name: str = ""
) -> PreviewRun:
    """As `image_to_scene`, but instead of the scene's files makes only what it takes to look at it."""

    def written(run: ComposedRun, run_next: RunNext) -> PreviewRun:
        return PreviewRun(**vars(run), preview=run_next(PREVIEW, run.scene.record, config=Settings()))

    return _composed(source, config, submit, Kept(), others, name, written)


def _composed(
    source: Source,
    config: Config,
    submit: Submit,
    kept: Kept,
    others: Sequence[Source],
    name: str,
    written: Callable[[ComposedRun, RunNext], W],
) -> W:
    """What `written` makes of the scene. An object that it, or placing the objects, cannot handle is left out."""
    require_settings(config)
    said = Remarks()
    shown = _shown(source, config, submit, others, name, said)
    first, main, views = shown.first, shown.main, shown.views

    def generated(numbers: Iterable[int], views: Views) -> tuple[list[Outcome[ObjectMesh]], dict[Failure, Exception]]:
        """Objects, and those that failed."""
        pending = {number: _generated(number, shown, views, config, submit) for number in sorted(numbers)}
        objects, failed = [], {}
        for object_id, future in pending.items():
            try:
                objects.append(said.result(future, object_id))
            except Exception as error:
                if ends_photo(error):
                    raise
                failed[_left_out(GENERATE.name, object_id, error)] = error
        return objects, failed

    objects, failed = generated(shown.ids - {failure.object for failure in shown.unclear}, views)
    reasons = [*shown.unclear.values(), *failed.values()]
    if reasons and not objects and (limit := shared_limit(reasons)) is not None:
        raise limit from reasons[0].__cause__
    made = Objects(items=tuple(outcome.record for outcome in objects), failures=(*shown.failures, *failed))
    with_meshes = main.photo.model_copy(update={"meshes": first.photo.record.meshes})
    reached: Stage[Any] = COMPOSE

    def run_next(stage: Stage[R], *inputs: Record, config: Settings) -> Outcome[R]:
        nonlocal reached
        reached = stage
        return said.result(submit(stage, *inputs, config=config))

    while True:
        several = (views,) if others else ()
        try:
            given = (with_meshes, main.instances, main.depth, shown.layout.record, made, kept, *several)
            scene = run_next(COMPOSE, *given, config=config.compose)
            believed, views = views, contradicted(scene.record, views)
            if again := set(views.alone) - set(believed.alone):
                remade, failed = generated(again, views)
                objects = [*(each for each in objects if each.record.id not in again), *remade]
                made = _with(made, again, remade, failed)
                continue
            composed = ComposedRun(
                source=source,
                others=tuple(others),
                name=name,
                config=config,
                photo=first.photo,
                found=first.found,
                view=main,
                depth=shown.depth,
                layout=shown.layout,
                objects=tuple(objects),
                views=views,
                scene=scene,
                further=shown.further,
                completed=shown.completed,
            )
            return written(composed, run_next)
        except ObjectError as error:
            made = _without(made, reached, error)


def image_to_object(
    source: Source, config: Config, object_id: int, submit: Submit, others: Sequence[Source] = (), name: str = ""
) -> tuple[Outcome[ObjectMesh], Layout]:
    """One object, as `image_to_scene` makes it, and the layout that it is made in.

    Raises:
        UsageError: if there is no such object.
        ScenegenError: from the stage that failed.
    """
    said = Remarks()
    shown = _shown(source, config, submit, others, name, said)
    if object_id not in shown.ids:
        known = ", ".join(map(str, sorted(shown.ids))) or "none"
        raise UsageError(f"there is no object {object_id}; objects: {known}.")
    for failure, error in shown.unclear.items():
        if failure.object == object_id:
            raise error
    pending = _generated(object_id, shown, shown.views, config, submit)
    return said.result(pending, object_id), shown.layouts[shown.views.best(object_id)].record


@dataclass(frozen=True)
class Shown:
    """What the photos of a scene show: all that comes before its objects are made."""

    first: Perception
    """Of the first photo."""
    main: SeenView
    """The first photo as edited."""
    depth: Outcome[Depth]
    """Of the first photo by itself, as edited."""
    layout: Outcome[Layout]
    """Of the scene."""
    layouts: Mapping[int, Outcome[Layout]]
    """That objects are generated in, by the number of the view."""
    views: Views
    """That objects are generated from."""
    further: tuple[Outcome[Any], ...]
    """As of a `ComposedRun`."""
    completed: tuple[Outcome[Completions], ...] = ()
    """Likewise."""
    outlined: Mapping[int, OutlinedObject] = field(default_factory=dict)
    """The objects of a single photo with edited outlines."""
    unclear: Mapping[Failure, Exception] = field(default_factory=dict)
    """Objects of which nothing can be told."""
    left_out: tuple[Failure, ...] = ()
    """Photos that cannot be used."""

    @property
    def ids(self) -> frozenset[int]:
        """Of the objects."""
        return frozenset(item.id for seen in (self.main, *self.views.others) for item in seen.instances.items)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Of photos and objects."""
        return (*self.left_out, *self.unclear)

    @property
    def hidden(self) -> Completions:
        """What is completed of partly hidden objects."""
        return Completions.of_all([outcome.record for outcome in self.completed])


def _shown(source: Source, config: Config, submit: Submit, others: Sequence[Source], name: str, said: Remarks) -> Shown:
    if others:
        shown = photos_to_views(source, config, submit, said, others, name)
        partly_hidden = list(shown_once(shown.views))
    else:
        first, layout, edited = image_to_layout(source, config, submit, said)
        shown = Shown(
            first=first,
            main=edited.view,
            depth=edited.depth,
            layout=edited.layout,
            layouts={0: layout},
            views=Views(items=(first.alone(first.found[0].record),)),
            further=(first.depth, *edited.outcomes),
            outlined=edited.outlined,
            unclear=edited.failures,
        )
        partly_hidden = [(edited.view.photo, edited.view.instances, first.depth.record)]
    if config.complete.method == "none":
        return shown
    settings = config.complete_settings
    completed = (said.result(submit(COMPLETE, *given, config=settings)) for given in partly_hidden)
    return replace(shown, completed=tuple(completed))


def photos_to_views(
    source: Source, config: Config, submit: Submit, said: Remarks, others: Sequence[Source], name: str
) -> Shown:
    """What several photos of a scene show.

    Raises:
        ScenegenError: from the stage that failed.
    """
    left_out: list[Failure] = []
    removed = Removed(items=tuple(change for change in source.edits if isinstance(change, RemoveEdit)))
    alone = _perceive_all((source.without_removals(), *others), config, submit, said, left_out)
    perceived = Perceived(scene=name, items=tuple(each.alone(each.instances.record) for each in alone))
    registered = said.result(submit(REGISTER, perceived, config=config.views))
    left_out += _views_left_out(registered.record.left_out)
    matched = said.result(submit(MATCH, registered.record, removed, config=config.views))
    together = [matched]
    if config.camera.known_length is not None:
        together.append(said.result(submit(MEASURE_VIEWS, matched.record, config=config.measure_settings)))
    views = together[-1].record
    layouts = {}
    for index in sorted({0, *(index for _, index in views.made_from)}):
        seen = views.items[index]
        beside_it = (views,) if index == 0 else ()
        given = (seen.photo, seen.instances.unnamed, seen.depth.unnamed, *beside_it)
        settings = config.layout if index == 0 else config.first_layout  # the floor is shown in the first photo
        layouts[index] = said.result(submit(LAYOUT, *given, config=settings))
    return Shown(
        first=alone[0],
        main=views.items[0],
        depth=alone[0].depth,
        layout=layouts[0],
        layouts=layouts,
        views=views,
        further=(
            *alone[0].depths,
            *(outcome for each in alone[1:] for outcome in each.outcomes),
            registered,
            *together,
            *(layouts[index] for index in layouts if index > 0),
        ),
        left_out=tuple(left_out),
    )


def image_to_layout(
    source: Source, config: Config, submit: Submit, said: Remarks
) -> tuple[Perception, Outcome[Layout], AsEdited]:
    """One photo as it was seen first, the layout of that, and what it shows once it is edited.

    Raises:
        ScenegenError: from the stage that failed.
    """
    first = _perceive(source, config, submit, said)
    view = first.alone(first.found[0].record)
    given = (view.photo, view.instances.unnamed, view.depth.unnamed)
    layout = said.result(submit(LAYOUT, *given, config=config.first_layout))
    return first, layout, _as_edited(first, layout, config, submit, said)


def _perceive(source: Source, config: Config, submit: Submit, said: Remarks) -> Perception:
    """What the photo shows, seen alone."""
    photo, found = image_to_instances(source, config, submit, said)
    seen = photo.record.with_given_of(None)
    depth = said.result(submit(DEPTH, seen, found[0].record, config=config.depth_settings))
    return Perception(photo, found, depth)


def _perceived(first: Perception, config: Config, submit: Submit, said: Remarks) -> Perception:
    """One of several photos as it was edited, with its depth. A length is known in the first alone, and measures all of them."""
    if len(first.found) == 1:
        return first
    seen, instances = first.photo.record.with_given_of(None), first.instances.record
    depth = said.result(submit(DEPTH, seen, instances, config=config.depth_settings))
    given = (seen, instances, depth.record, OutlinedObjects())
    measured = said.result(submit(MEASURE, *given, config=MeasureSettings(known_length=None)))
    return replace(first, depth=measured, estimated=(depth,))


def _as_edited(first: Perception, layout: Outcome[Layout], config: Config, submit: Submit, said: Remarks) -> AsEdited:
    """What the photo shows once it is edited; just what it showed at first if nothing was.

    Args:
        first: the photo as it was seen first, with its objects after every edit.
        layout: of the first view.
        config: all settings.
        submit: starts a stage.
        said: gets what the stages remark.
    """
    photo, instances = first.photo.record.with_given_of(None), first.instances.record
    before = (photo, first.found[0].record, first.depth.record, layout.record)
    pending = {
        each.id: submit(OUTLINE, *before, each, config=config.outline_settings, object_id=each.id)
        for each in instances.edited
    }
    outlined, failed = {}, {}
    for number, future in pending.items():
        try:
            outlined[number] = said.result(future, number)
        except Exception as error:
            if ends_photo(error):
                raise
            failed[_left_out(OUTLINE.name, number, error)] = error
    depth, outcomes = first.depth, list[Outcome[Any]](outlined.values())
    records = {number: outcome.record for number, outcome in outlined.items()}
    settings = config.measure_settings
    if len(first.found) > 1 or settings.known_length is not None:
        together = OutlinedObjects(items=tuple(records.values()))
        depth = said.result(submit(MEASURE, photo, instances, first.depth.record, together, config=settings))
        outcomes.append(depth)
    seen = (instances.unnamed, depth.record.unnamed)
    seen_first = (first.found[0].record.unnamed, first.depth.record.unnamed)
    as_found = config.layout == config.first_layout
    if not as_found or [each.digest() for each in seen] != [each.digest() for each in seen_first]:
        outcomes.insert(0, layout)
        same_metres = settings.known_length is None and depth.record.sized == first.depth.record.sized
        stays = (Views(), layout.record) if as_found and same_metres else ()
        layout = said.result(submit(LAYOUT, photo, *seen, *stays, config=config.layout))
    view = first.alone(instances).model_copy(update={"depth": depth.record})
    return AsEdited(view, depth, layout, records, failed, tuple(outcomes))


def image_to_instances(
    source: Source, config: Config, submit: Submit, said: Remarks
) -> tuple[Outcome[Photo], tuple[Outcome[Instances], ...]]:
    """The photo, and its objects: as they were found, and after each edit.

    Raises:
        ScenegenError: from the stage that failed.
    """
    photo = said.result(submit(READ, source.without_edits(), config=config.read))
    seen = photo.record.with_given_of(None)
    found = [said.result(submit(SEGMENT, seen, config=config.segment))]
    for change in source.edits:
        found.append(said.result(submit(EDIT, seen, found[-1].record, change, config=config.segment)))
    return photo, tuple(found)


def _perceive_all(
    sources: Sequence[Source], config: Config, submit: Submit, said: Remarks, failures: list[Failure]
) -> list[Perception]:
    """What each photo of a scene shows; those that cannot be read go to `failures`.

    Raises:
        UsageError: if the generator makes use of one view only.
        InputError: if no photo can be read.
    """
    generator = OBJECT_GENERATORS.of(config.generate)
    if generator.several is None:
        raise UsageError(
            f"`generate` is {generator.name}, which makes an object from one view; choose a generator for several: --set "
            "generate=embedded."
        )
    found = []
    errors = []
    for source in sources:
        try:
            found.append(_perceived(_perceive(source, config, submit, said), config, submit, said))
        except InputError as error:
            errors.append(error)
            failures += _views_left_out([Failure(stage=READ.name, object=None, error=str(error))])
    if not found:
        raise errors[0]
    return found


def shown_once(views: Views) -> Iterator[tuple[Photo, Instances, Depth]]:
    """Each photo that shows objects which no other does, with these objects only: of the others, another photo may show what is
    hidden in one."""
    for number, seen in enumerate(views.items):
        alone = tuple(item for item in seen.instances.items if views.together(item.id) == (number,))
        if alone:
            yield seen.photo, seen.instances.model_copy(update={"items": alone}), seen.depth


def _views_left_out(left_out: Sequence[Failure]) -> list[Failure]:
    """Logs the photos that cannot be used."""
    for failure in left_out:
        logger.error("left out: %s", failure.error)
    return list(left_out)


def _generated(
    object_id: int, shown: Shown, views: Views, config: Config, submit: Submit
) -> Pending[Outcome[ObjectMesh]]:
    """Starts an object: from the view that shows it best, and from the others that show it too."""
    given = shown.first.photo.record.with_given_of(object_id)
    seen, *others = (views.items[number] for number in views.together(object_id))
    whole = shown.hidden.of(object_id)
    beside: tuple[Record, ...] = (Views(), *whole) if whole else ()
    if given.meshes:
        others = []  # the user's mesh is put in its place by the best one
    if others:
        here_from_main = np.linalg.inv(np.array(seen.main_from_camera))
        moved = [
            each.model_copy(update={"main_from_camera": matrix4(here_from_main @ np.array(each.main_from_camera))})
            for each in (seen, *others)
        ]
        beside = (Views(items=tuple(moved)),)
    return submit(
        GENERATE_FROM_VIEWS if others else GENERATE,
        seen.photo.model_copy(update={"meshes": given.meshes, "pictures": given.pictures}),
        seen.instances,
        seen.depth,
        shown.layouts[views.best(object_id)].record,
        shown.outlined.get(object_id, object_id),
        *beside,
        config=config.object_settings(object_id),
        object_id=object_id,
    )


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


def _with(made: Objects, again: Set[int], remade: Sequence[Outcome[ObjectMesh]], failed: Iterable[Failure]) -> Objects:
    """`made` with those objects that were made again."""
    kept = [item for item in made.items if item.id not in again]
    items = sorted((*kept, *(outcome.record for outcome in remade)), key=lambda item: item.id)
    return Objects(items=tuple(items), failures=(*made.failures, *failed))


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


def weights_in_use(config: Config, several: bool = False) -> dict[str, dict[str, str]]:
    """Revisions of the weights in use, by stage; with `several`, of scenes of several photos.

    Raises:
        WeightsError: if weights that the configuration names are missing.
    """
    settings: tuple[tuple[Stage[Any], Settings], ...] = (
        (SEGMENT, config.segment),
        (DEPTH, config.depth_settings),
        (COMPLETE, config.complete_settings),
        (GENERATE_FROM_VIEWS if several else GENERATE, config.object_settings(0)),
        *(((REGISTER, config.views),) if several else ()),
    )
    return {stage.name: dict(stage.weights(part)) for stage, part in settings}
