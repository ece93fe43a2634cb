"""Makes scenes in a process of their own, so that the page stays quick and a making can be cancelled."""

from __future__ import annotations

import contextvars
import functools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from scenegen.compute.runtime import Runtime
from scenegen.errors import OutdatedError
from scenegen.faults import described
from scenegen.messages.progress import Event, progress_to, tell_progress
from scenegen.records import Artifact, Failure, PlacedObject, Record, Shown
from scenegen.system.processes import Died
from stages.replay import edited_scene, read_edits
from stages.run import open_store, publish_scene
from stages.workers.child import Done
from stages.workers.worker import Worker
from stages.workplace import workplace

logger = logging.getLogger(__name__)

GLB = "scene.glb"
EVENT = TypeAdapter(Event)


class Made(Record):
    """A scene that was made. Its files are in the store."""

    revision: int
    """Of the edits that it was made from."""
    glb: Artifact
    objects: tuple[PlacedObject, ...]
    failures: tuple[Failure, ...]
    warnings: tuple[Shown, ...]


class Job(Record):
    """How far a making is."""

    state: Literal["running", "done", "failed", "cancelled"]
    publishes: bool
    revision: int
    """Of the edits that it began with."""
    stages: tuple[tuple[str, str], ...] = ()
    """Every stage, with its object if it works on one, and how far it is."""
    error: str = ""


def make(folder: Path, publishes: bool, runtime: Runtime, at_once: int) -> Made:
    """Makes the scene that the edits in `folder` say, and publishes it if it shall. Tells every `Event` as progress, in JSON.

    Raises:
        ScenegenError: from the stage or the publication that failed.
    """
    tell = contextvars.copy_context()

    def watch(event: Event) -> None:
        # Stages redirect progress while they run, in threads of their own.
        tell.copy().run(tell_progress, EVENT.dump_json(event).decode())

    store = open_store(folder.parent)
    edits = read_edits(folder, store)
    _, config = edits.resolved()
    with workplace(store, config, runtime, at_once) as place, place.submit(watch) as submit, store.in_use():
        run = edited_scene(edits, store, runtime, submit)
        if publishes:
            publish_scene(run, [edits.given], folder, store, runtime)
    scene = run.scene.record
    return Made(
        revision=edits.revision,
        glb=dict(run.export.record.files)[GLB],
        objects=scene.objects,
        failures=scene.failures,
        warnings=tuple(dict.fromkeys(text for each in run.outcomes for text in getattr(each.record, "warnings", ()))),
    )


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

    def start(self, revision: int, publishes: bool = False) -> None:
        """Begins a making.

        Raises:
            OutdatedError: if one is running.
        """
        with self._state:
            if self.job is not None and self.job.state == "running":
                raise OutdatedError("a scene is being made already; wait for it, or cancel it.")
            self.job = Job(state="running", publishes=publishes, revision=revision)
            self._thread = threading.Thread(target=self._run, args=(publishes,), daemon=True)
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

    def _run(self, publishes: bool) -> None:
        job = functools.partial(make, self._folder, publishes, self._runtime, self._at_once)
        try:
            with progress_to(self._told):
                reply = self._worker.attempt(job, {})
            if isinstance(reply, Done):
                self.made = reply.result
                self._update(state="done")
            else:
                error = str(reply) if isinstance(reply, Died) else described(reply.error)
                logger.error("the scene could not be made: %s", error)
                self._update(state="failed", error=error)
        except CancelledError:
            self._update(state="cancelled")
        except Exception as error:
            logger.exception("the scene could not be made")
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
