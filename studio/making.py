"""Makes scenes, and candidates of one object, in a process of their own: the page stays quick, and a making can be cancelled."""

from __future__ import annotations

import contextvars
import functools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from scenegen.compute.runtime import Runtime
from scenegen.config import MAX_SEED, Config, Settings
from scenegen.edits.steps import RegenerateEdit
from scenegen.errors import InputError, OutdatedError, ScenegenError
from scenegen.faults import described
from scenegen.messages.progress import Event, Watch, progress_to, tell_progress
from scenegen.records import Artifact, Failure, Intrinsics, ObjectId, PlacedObject, Record, Shown, Source
from scenegen.system.processes import Died
from stages.export import PREVIEW
from stages.graph import PreviewRun, SceneRun, image_to_object, weights_in_use
from stages.replay import edited_preview, edited_scene, read_edits
from stages.run import open_store, publish_scene
from stages.thumbnail import THUMBNAIL
from stages.workers.child import Done
from stages.workers.worker import Worker
from stages.workplace import workplace

logger = logging.getLogger(__name__)

EVENT = TypeAdapter(Event)


MAX_CANDIDATES = 8
Extent = Literal["preview", "files", "published"]
"""How much of a scene is made: what it takes to look at it, all its files, or these with the folder."""


class Made(Record):
    """A scene that was made. Its files are in the store."""

    revision: int
    """Of the edits that it was made from."""
    glb: Artifact
    """To look at it."""
    depth: Artifact
    """As in `Depth`."""
    files: tuple[tuple[str, Artifact], ...]
    """All that publishing writes, by name; none if only a preview was asked for."""
    intrinsics: Intrinsics
    objects: tuple[PlacedObject, ...]
    failures: tuple[Failure, ...]
    warnings: tuple[Shown, ...]

    def file(self, name: str) -> Artifact:
        """One of its files.

        Raises:
            InputError: if it has none of this name.
        """
        found = dict(self.files).get(name)
        if found is None:
            raise InputError("the scene that was made last has no file of this name, or its files are not written yet.")
        return found


class Choice(Record):
    """How an object may be made: the seed and the generator of a `RegenerateEdit`."""

    seed: Annotated[int, Field(ge=0, le=MAX_SEED)]
    method: Annotated[str, Field(max_length=80)] | None = None


class Choices(Record):
    """The candidates that are asked for."""

    object: ObjectId
    choices: Annotated[tuple[Choice, ...], Field(min_length=1, max_length=MAX_CANDIDATES)]


class Candidate(Record):
    """One of several meshes of an object. The edit that chooses it finds it in the store."""

    choice: Choice
    backend: str
    picture: Artifact | None
    """PNG: the object from two sides; None if it could not be made."""
    error: Shown = ""


class Candidates(Record):
    """Several meshes of one object, to choose from."""

    object: int
    items: tuple[Candidate, ...]


class Job(Record):
    """How far a making is."""

    state: Literal["running", "done", "failed", "cancelled"]
    stages: tuple[tuple[str, str], ...] = ()
    """Every stage, with its object if it works on one, and how far it is."""
    error: str = ""


def make(folder: Path, extent: Extent, runtime: Runtime, at_once: int) -> Made:
    """Makes the scene that the edits in `folder` say. Tells every `Event` as progress, in JSON.

    Raises:
        ScenegenError: from the stage or the publication that failed.
    """
    store = open_store(folder.parent)
    edits = read_edits(folder, store)
    _, config = edits.resolved()
    run: PreviewRun | SceneRun
    files: tuple[tuple[str, Artifact], ...] = ()
    with workplace(store, [config], runtime, at_once) as place, place.submit(_watch()) as submit, store.in_use():
        if extent == "preview":
            run = edited_preview(edits, runtime, submit)
            preview = run.preview
        else:
            run = edited_scene(edits, runtime, submit)
            files = (*run.export.record.files, *run.report.record.files)
            preview = submit(PREVIEW, run.scene.record, config=Settings()).result()
        if isinstance(run, SceneRun) and extent == "published":
            publish_scene(run, edits.all_given, folder, store, runtime)
    scene = run.scene.record
    return Made(
        revision=edits.revision,
        glb=preview.record.glb,
        depth=run.view.depth.depth,
        files=files,
        intrinsics=scene.intrinsics,
        objects=scene.objects,
        failures=scene.failures,
        warnings=run.warnings,
    )


def make_candidates(folder: Path, asked: Choices, runtime: Runtime, at_once: int) -> Candidates:
    """Makes an object in several ways. One that fails says so. Tells every `Event` as progress, in JSON.

    Raises:
        ScenegenError: if all fail, what was wrong with the first.
    """
    store = open_store(folder.parent)
    edits = read_edits(folder, store)
    items: dict[Choice, Candidate] = {}
    failed: list[ScenegenError] = []

    def left_out(choice: Choice, error: ScenegenError) -> None:
        logger.warning("a candidate of object %d failed: %s", asked.object, described(error))
        items[choice] = Candidate(choice=choice, backend="", picture=None, error=described(error))
        failed.append(error)

    ways: dict[Choice, tuple[Source, Config]] = {}
    needs: list[Config] = []
    for choice in dict.fromkeys(asked.choices):
        step = RegenerateEdit(object=asked.object, seed=choice.seed, method=choice.method)
        try:
            source, config = edits.after(step).resolved()
            # What is made there is the candidate alone, by its own generator.
            generate = config.object_settings(asked.object).generate
            needed = config.model_copy(update={"generate": generate})
            weights_in_use(needed)
        except ScenegenError as error:
            left_out(choice, error)
        else:
            ways[choice] = source, config
            needs.append(needed)
    with workplace(store, needs, runtime, at_once) as place, place.submit(_watch()) as submit, store.in_use():
        for choice, (source, config) in ways.items():
            try:
                made, layout = image_to_object(source, config, asked.object, submit, edits.other_sources, edits.scene)
                seen = submit(THUMBNAIL, made.record, layout, config=Settings()).result()
            except ScenegenError as error:
                left_out(choice, error)
            else:
                picture = seen.record.picture
                items[choice] = Candidate(choice=choice, backend=made.record.backend, picture=picture)
    if len(failed) == len(items):
        raise failed[0]
    return Candidates(object=asked.object, items=tuple(items[choice] for choice in dict.fromkeys(asked.choices)))


def _watch() -> Watch:
    """Tells every event as this process's progress."""
    tell = contextvars.copy_context()

    def watch(event: Event) -> None:
        # Stages redirect progress while they run, in threads of their own.
        tell.copy().run(tell_progress, EVENT.dump_json(event).decode())

    return watch


class Maker:
    """One making at a time, in a child process that keeps what it has loaded.

    Args:
        folder: of the scene.
        runtime: where to compute.
        at_once: objects made at once.
        changed: called, from another thread, whenever something about the making has changed.
    """

    def __init__(self, folder: Path, runtime: Runtime, at_once: int, changed: Callable[[], None]) -> None:
        self._folder, self._runtime, self._at_once, self._changed = folder, runtime, at_once, changed
        self._state = threading.Lock()
        self._worker = Worker()
        self._thread: threading.Thread | None = None
        self.job: Job | None = None
        """The last making that was begun; None if there was none."""
        self.made: Made | None = None
        """The last scene that was made."""
        self.candidates: Candidates | None = None
        """Those that were made last."""

    def start(self, extent: Extent = "preview") -> None:
        """Begins to make the scene.

        Raises:
            OutdatedError: if a making is running.
        """
        self._begin(functools.partial(make, self._folder, extent, self._runtime, self._at_once))

    def start_candidates(self, asked: Choices) -> None:
        """Begins to make candidates of one object.

        Raises:
            OutdatedError: if a making is running.
        """
        self._begin(functools.partial(make_candidates, self._folder, asked, self._runtime, self._at_once))

    def _begin(self, call: Callable[[], Made | Candidates]) -> None:
        with self._state:
            if self.job is not None and self.job.state == "running":
                raise OutdatedError("something is being made already; wait for it, or cancel it.")
            self.job = Job(state="running")
            self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
            self._thread.start()
        self._changed()

    def cancel(self) -> None:
        """Ends the making, if one is running. What it has finished stays in the store."""
        with self._state:
            if self.job is None or self.job.state != "running":
                return
            self._worker.kill()
            self.join()
            self._worker = Worker()

    def join(self) -> None:
        """Waits for the making to end."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, call: Callable[[], Made | Candidates]) -> None:
        try:
            with progress_to(self._told):
                reply = self._worker.attempt(call, {})
            if isinstance(reply, Done):
                if isinstance(reply.result, Made):
                    self.made = reply.result
                else:
                    self.candidates = reply.result
                self._update(state="done")
            else:
                error = str(reply) if isinstance(reply, Died) else described(reply.error)
                logger.error("what was asked for could not be made: %s", error)
                self._update(state="failed", error=error)
        except CancelledError:
            self._update(state="cancelled")
        except Exception as error:
            logger.exception("what was asked for could not be made")
            self._update(state="failed", error=described(error))

    def _told(self, detail: str) -> None:
        event = EVENT.validate_json(detail)
        assert self.job is not None
        stages = dict(self.job.stages) | {event.label: event.detail or event.state}
        self._update(stages=tuple(stages.items()))

    def _update(self, **values: Any) -> None:
        assert self.job is not None
        self.job = self.job.model_copy(update=values)
        self._changed()
