"""Stages, and how they run against the store."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from pydantic import ValidationError

from scenegen.compute.card_peak import stage_peak
from scenegen.compute.runtime import Runtime
from scenegen.compute.threads import one_blas_thread
from scenegen.compute.waiting import own_time
from scenegen.config import Settings
from scenegen.messages.progress import logged_stage
from scenegen.records import Artifact, Record, digest_json
from scenegen.registry import Chosen
from scenegen.store.digest import sha256_file
from scenegen.store.store import Store, disk_errors, entry_folder
from stages.code import code_key

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Work:
    """What a stage may use besides its inputs: the store to read from, and its own new folder to write to."""

    store: Store
    runtime: Runtime
    folder: Path
    stage: str
    key: str

    def read(self, artifact: Artifact) -> Path:
        """Path of an input file."""
        return self.store.path(artifact)

    def write(self, name: str) -> Path:
        """Path for an output file of this stage; missing folders are created."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def artifact(self, name: str) -> Artifact:
        """The record of an output file that has been written."""
        path = self.folder / name
        return Artifact(
            path=f"{entry_folder(self.stage, self.key)}/{name}", sha256=sha256_file(path), bytes=path.stat().st_size
        )


@functools.cache
def _schema(record: type[Record]) -> Any:
    """The form of a stage's record, without its descriptions. If it changes, the key must change."""
    return _without_words(record.model_json_schema())


def _without_words(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_words(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: {each: _without_words(item) for each, item in value.items()}
        if name in ("properties", "$defs")
        else _without_words(value)
        for name, value in schema.items()
        if name not in ("title", "description")
    }


def no_backends(config: Any) -> tuple[Chosen[Any], ...]:
    """Back-ends of a stage that uses none."""
    return ()


@dataclass(frozen=True)
class Halves(Generic[R]):
    """A stage in two parts: `run` is `finish` after `begin`, in one process or in two."""

    begin: Callable[..., R | Record]
    """Does what needs a device. Returns the stage's record, if nothing is left to do, or another one for `finish`."""
    finish: Callable[..., R]
    """(what `begin` has returned, config, work) -> the stage's record. It finds the files that `begin` has left in the folder,
    and removes those that are not part of the result."""


@dataclass(frozen=True)
class Stage(Generic[R]):
    """A function from records to a record, and what its key is made from.

    `run(*inputs, config, work)` must depend on nothing else, and write only through `work`.
    """

    name: str
    record: type[R]
    run: Callable[..., R]
    backends: Callable[[Any], tuple[Chosen[Any], ...]] = no_backends
    """From the stage's config to the back-ends that it chooses. Their code and weights decide the result too."""

    halves: Halves[R] | None = None
    """Its two parts, if it has them."""

    @property
    def code(self) -> str:
        """The function whose code makes the result, as `module:qualified.name`."""
        return function_name(self.run)

    def label(self, object_id: int | None) -> str:
        """What is told of a run of it, which works on this object if on one."""
        return self.name if object_id is None else f"{self.name} {object_id}"

    def weights(self, config: Settings) -> Mapping[str, str]:
        """Revisions of the weights that it uses."""
        return {name: revision for chosen in self.backends(config) for name, revision in chosen.weights().items()}

    def key(self, inputs: tuple[Record | int, ...], config: Settings, weights: Mapping[str, str] | None = None) -> str:
        """sha256 of everything that determines the result. `weights` are looked up unless the caller gives them."""
        backends = [chosen.backend for chosen in self.backends(config)]
        return digest_json(
            {
                "stage": self.name,
                "code": code_key(self.code, *(function_name(part) for backend in backends for part in backend.parts)),
                "providers": sorted({backend.provider for backend in backends} - {""}),
                "record": _schema(self.record),
                "config": config.model_dump(mode="json"),
                "weights": dict(self.weights(config) if weights is None else weights),
                "inputs": [value if isinstance(value, int) else value.digest() for value in inputs],
            }
        )


def function_name(function: Callable[..., Any]) -> str:
    """Where a function is: `module:qualified.name`."""
    return f"{function.__module__}:{function.__qualname__}"


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """A stage's record, and how it was made."""

    record: R
    stage: str
    key: str
    seconds: float
    """Wall time of the execution, which may have been in an earlier run, without waiting for a worker or a device."""
    cached: bool
    weights: Mapping[str, str]
    """Name and revision of the weights it was computed with."""
    card_peak_bytes: int = 0
    """As in `scenegen.store.entry.Entry`."""


@runtime_checkable
class RunStage(Protocol):
    """Runs a stage on its inputs, for an object or none."""

    def __call__(
        self, stage: Stage[R], given: tuple[Record | int, ...], config: Settings, work: Work, object_id: int | None, /
    ) -> R:
        """Returns the stage's record."""
        ...


Held = Callable[[Stage[Any], Settings, int | None], contextlib.AbstractContextManager[None]]
"""What is held, or told, while a stage runs with some settings, for an object or none."""


@dataclass(frozen=True)
class Layers:
    """What lies between the store and a stage's function."""

    held: tuple[Held, ...] = ()
    """From outside in."""
    process: RunStage | None = None
    """Runs the stage; None: a plain call."""


def execute(
    stage: Stage[R],
    inputs: tuple[Record | int, ...],
    config: Settings,
    store: Store,
    runtime: Runtime,
    layers: Layers = Layers(),
    object_id: int | None = None,
) -> Outcome[R]:
    """The result of `stage` from the store, computed and committed there if it is not there yet.

    If another worker computes it already, this one waits and takes its result.
    """
    # Looked up once: for a local checkpoint that means hashing gigabytes.
    weights = dict(stage.weights(config))
    key = stage.key(inputs, config, weights)

    def find() -> Outcome[R] | None:
        entry = store.find(stage.name, key)
        if entry is None:
            return None
        try:
            record = stage.record.model_validate(entry.record)
        except ValidationError:
            store.discard(stage.name, key, "its record has another form")
            return None
        logger.debug("%s: found %s", stage.name, key[:12])
        return Outcome(record, stage.name, key, entry.seconds, True, weights, entry.card_peak_bytes)

    with logged_stage(stage.label(object_id)):
        found = find()
        if found is not None:
            return found
        with store.lease(stage.name, key, find) as landed:
            if landed is not None:
                return landed
            one_blas_thread()
            with own_time() as clock, store.staging() as folder, disk_errors(folder):
                work = Work(store, runtime, folder, stage.name, key)
                with stage_peak() as peak, contextlib.ExitStack() as held:
                    for layer in layers.held:
                        held.enter_context(layer(stage, config, object_id))
                    if layers.process is None:
                        record = stage.run(*inputs, config=config, work=work)
                    else:
                        record = layers.process(stage, inputs, config, work, object_id)
                seconds = round(clock.seconds, 3)
                store.commit(folder, stage.name, key, record, seconds, peak.bytes)
        logger.debug("%s: computed %s in %.1f s", stage.name, key[:12], seconds)
        return Outcome(record, stage.name, key, seconds, False, weights, peak.bytes)
