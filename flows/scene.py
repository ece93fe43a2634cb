"""One photo, or several of one scene, as a Prefect flow: the graph of `stages.graph`, every stage a task."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, PrefectWrappedFuture
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.artifacts import show_scene
from flows.logs import logging_to_prefect
from flows.parameters import Making, ObjectLimits, Place, Shot, check_places
from flows.retries import AGAIN, end_crash_loop
from flows.runs import completed
from scenegen.compute.runtime import Runtime
from scenegen.config import MAX_ID, MAX_SEED, Config, Settings
from scenegen.edits.again import OnEdited
from scenegen.errors import UsageError
from scenegen.export.manifest import read_manifest
from scenegen.inputs.photos import Inputs, safe_name, unique_names
from scenegen.inputs.sources import fetch
from scenegen.messages.progress import log_event, log_photo
from scenegen.records import Record, Source, artifacts
from scenegen.store.folder import is_url
from scenegen.store.store import Store, disk_errors, entry_folder
from stages.batch import deliver, open_outlet
from stages.graph import weights_in_use
from stages.layers import R, Submit, Watching, finishing_for, on_devices
from stages.replay import make_scene
from stages.run import Result, open_store, regenerate
from stages.stage import Layers, Outcome, Stage, execute

Tasks = dict[PrefectFuture[Any], frozenset[PrefectFuture[Any]]]
"""In the order of their submission, each with all that come before it, be it through others."""

RUNNER: Any = ThreadPoolTaskRunner(max_workers=64)
"""More threads than any machine has devices, because `prefect_submit` bounds the tasks."""


def prefect_submit(
    store: Store, runtime: Runtime, at_once: int, layers: Layers = Layers(), tasks: Tasks | None = None
) -> Submit:
    """`submit` as Prefect tasks, named after the stage and, if it works on one, the object (`generate-3`).

    Results stay in memory: they are records, and what they point to is in the store, which also decides what is
    computed. So Prefect neither caches nor pickles. It retries only failures of a network or a device.

    Args:
        store: where results go.
        runtime: where to compute.
        at_once: how many stages of objects run at once; submitting one more waits.
        layers: what surrounds a stage whose result is not in the store.
        tasks: gets every task; the one that has fetched the user's files is in it already.
    """
    tasks = {} if tasks is None else tasks
    room = threading.Semaphore(at_once)

    def submit(
        stage: Stage[R], *inputs: Record | int, config: Settings, object_id: int | None = None
    ) -> PrefectFuture[Outcome[R]]:
        run_name = stage.name if object_id is None else f"{stage.name}-{object_id}"

        @task(name=stage.name, task_run_name=run_name, persist_result=False, cache_policy=NO_CACHE, **AGAIN)
        def step() -> Outcome[R]:
            return execute(stage, inputs, config, store, runtime, layers, object_id)

        after = _before(tasks, inputs)
        if object_id is None:
            future = step.submit(wait_for=after, return_state=False)
        else:
            room.acquire()
            try:
                future = step.submit(wait_for=after, return_state=False)
            except BaseException:
                room.release()
                raise
            future.add_done_callback(lambda _: room.release())
        tasks[future] = frozenset(after).union(*(tasks[task] for task in after))
        return future

    return submit


def _before(tasks: Tasks, inputs: Sequence[Record | int]) -> list[PrefectFuture[Any]]:
    """The tasks whose results are among the inputs, so that Prefect draws them as edges; those that come before another of them
    go without saying. They are told by their files, since a record may be a part or a changed copy of a result."""
    records = [value for value in inputs if isinstance(value, Record)]
    files = [artifact.path for record in records for artifact in artifacts(record)]
    fetched = any(isinstance(record, Source) for record in records)

    def made(result: object) -> bool:
        if not isinstance(result, Outcome):
            return fetched
        folder = f"{entry_folder(result.stage, result.key)}/"
        return any(path.startswith(folder) for path in files)

    found = [task for task in tasks if _has_completed(task) and made(task.result())]
    earlier = frozenset[PrefectFuture[Any]]().union(*(tasks[task] for task in found))
    return [task for task in found if task not in earlier]


def _has_completed(task: PrefectFuture[Any]) -> bool:
    """Told without the server, which `state` asks for tasks that still run: they are nobody's input."""
    assert isinstance(task, PrefectWrappedFuture)
    future = task.wrapped_future
    return bool(future.done() and future.exception() is None and future.result().is_completed())


@contextlib.contextmanager
def _submitting(
    store: Store, config: Config, making: Making, pace: ObjectLimits, tasks: Tasks | None = None
) -> Iterator[Submit]:
    """`prefect_submit`, with the stages that need it in processes of their devices, until the block ends."""
    runtime = making.runtime()
    names = making.devices(weights_in_use(config), pace.objects_at_once)
    with on_devices(names, pace.object_timeout_s) as process:
        watching = Watching(log_event)
        at_once = len(names) + finishing_for(names) if names else pace.objects_at_once
        yield watching.submit(prefect_submit(store, runtime, at_once, Layers((watching.running,), process), tasks))


def _name_of_photo() -> str:
    given = flow_run.parameters
    return given.get("name") or safe_name(Path(given["image"]).stem)


def _name_of_views() -> str:
    given = flow_run.parameters
    first = Shot.model_validate(given["views"][0])
    return f"{given.get('name') or safe_name(Path(first.image).stem)}, {len(given['views'])} views"


def _name_of_object() -> str:
    given = flow_run.parameters
    return f"{Path(given['folder']).name}, object {given['object_id']}"


@flow(name="image-to-scene", flow_run_name=_name_of_photo, task_runner=RUNNER, persist_result=False)
def image_to_scene(
    image: Place,
    out: Place,
    name: str | None = None,
    masks: list[Place] | None = None,
    depth: Place | None = None,
    camera: list[Place] | None = None,
    meshes: list[Place] | None = None,
    making: Making = Making(),
    pace: ObjectLimits = ObjectLimits(),
    edits: OnEdited = "refuse",
) -> dict[str, Any]:
    """Makes and publishes the scene of one photo.

    Args:
        image: path or URL of the photo.
        out: folder or URL that holds the scenes and the store.
        name: name of the scene's folder; without it, the stem of the photo.
        masks: one file for all objects, or one picture per object.
        depth: a depth map: .npy, .npz, .exr, .png, .tif or .pfm.
        camera: the file of the camera, and with COLMAP's cameras that of its images.
        meshes: meshes of objects: N.glb of object N.
        making: how scenes are made.
        pace: how its objects are made.
        edits: what becomes of a scene that was edited: `refuse`, `apply` its edits, or `discard` them.

    Returns:
        `stages.run.Result` as plain JSON values.

    Raises:
        ScenegenError: from the part that failed.
    """
    shot = Shot(
        image=image, masks=tuple(masks or ()), depth=depth, camera=tuple(camera or ()), meshes=tuple(meshes or ())
    )
    check_places(making.offline, out=out, **shot.places())
    name = safe_name(Path(image).stem if name is None else name)

    def inputs(folder: Path) -> Inputs:
        return _fetched(shot, name, folder)

    return _published(inputs, name, out, making, pace, edits)


@flow(name="views-to-scene", flow_run_name=_name_of_views, task_runner=RUNNER, persist_result=False)
def views_to_scene(
    views: list[Shot],
    out: Place,
    name: str | None = None,
    making: Making = Making(),
    pace: ObjectLimits = ObjectLimits(),
    edits: OnEdited = "refuse",
) -> dict[str, Any]:
    """Makes and publishes one scene of several photos of it.

    Args:
        views: the photos, at least two; the scene is laid out in the camera of the first.
        out: folder or URL that holds the scenes and the store.
        name: name of the scene's folder; without it, the stem of the first photo.
        making: how scenes are made.
        pace: how its objects are made.
        edits: what becomes of a scene that was edited: `refuse`, `apply` its edits, or `discard` them.

    Returns:
        `stages.run.Result` as plain JSON values.

    Raises:
        ScenegenError: from the part that failed.
    """
    if len(views) < 2:
        raise UsageError(f"`views` has {len(views)}; for one photo run image-to-scene.")
    named = {key: place for n, shot in enumerate(views) for key, place in shot.places(f"views[{n}].").items()}
    check_places(making.offline, out=out, **named)
    stems = unique_names([Path(shot.image) for shot in views])
    scene = safe_name(stems[0] if name is None else name)

    def inputs(folder: Path) -> Inputs:
        first, *others = (_fetched(shot, stem, folder / stem) for shot, stem in zip(views, stems, strict=True))
        return replace(first, others=tuple(others), scene=scene)

    return _published(inputs, scene, out, making, pace, edits)


def _fetched(shot: Shot, name: str, folder: Path) -> Inputs:
    """The files of a photo, copied to `folder` if they lie elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    return Inputs(
        name=name,
        photo=fetch(shot.image, folder),
        masks=tuple(fetch(mask, folder) for mask in shot.masks),
        depth=None if shot.depth is None else fetch(shot.depth, folder),
        camera=tuple(fetch(file, folder) for file in shot.camera),
        meshes=tuple(fetch(file, folder) for file in shot.meshes),
    )


def _published(
    inputs_in: Callable[[Path], Inputs], name: str, out: Place, making: Making, pace: ObjectLimits, edits: OnEdited
) -> dict[str, Any]:
    """Makes and publishes the scene of the files that `inputs_in` fetches to a folder."""
    end_crash_loop()
    job = making.job(out)
    log_photo(name)
    with logging_to_prefect():
        outlet = open_outlet(job)
        tasks: Tasks = {}
        with outlet.store.staging() as folder, _submitting(outlet.store, job.config, making, pace, tasks) as submit:

            @task(name="fetch", task_run_name="fetch", persist_result=False, cache_policy=NO_CACHE, **AGAIN)
            def fetch_inputs() -> Inputs:
                with disk_errors(folder):
                    return inputs_in(folder)

            @task(name="deliver", task_run_name="deliver", persist_result=False, cache_policy=NO_CACHE, **AGAIN)
            def deliver_scene() -> None:
                show_scene(deliver(outlet, name), outlet.folder, outlet.address(name))

            fetched = fetch_inputs.submit()
            tasks[fetched] = frozenset()
            result = make_scene(fetched.result(), job.config, outlet.store, making.runtime(), submit, edits)
            deliver_scene.submit(wait_for=[*tasks][-1:], return_state=False).result()
        return _completed(result.model_copy(update={"folder": outlet.address(name)}))


@flow(name="regenerate-object", flow_run_name=_name_of_object, task_runner=RUNNER, persist_result=False)
def regenerate_object(
    folder: Place,
    object_id: Annotated[int, Field(ge=1, le=MAX_ID)],
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None,
    making: Making = Making(),
    pace: ObjectLimits = ObjectLimits(),
) -> dict[str, Any]:
    """Makes one object of a published scene again; the others stay as they are, where they are.

    Args:
        folder: folder of the scene.
        object_id: the object.
        seed: its new seed; by default the next after its last one.
        making: where to compute; the configuration is the scene's own.
        pace: how long it may take.

    Returns:
        `stages.run.Result` as plain JSON values.

    Raises:
        ScenegenError: from the part that failed.
    """
    check_places(making.offline, folder=folder)
    if is_url(folder):
        raise UsageError(f"`folder` is {folder}; it must be a folder that the worker can reach under a path.")
    store, config = open_store(Path(folder).parent), read_manifest(Path(folder)).config
    log_photo(Path(folder).name)
    with logging_to_prefect(), _submitting(store, config, making, pace) as submit:
        return _completed(regenerate(Path(folder), object_id, seed, store, making.runtime(), submit))


def _completed(result: Result) -> dict[str, Any]:
    iou = "-" if result.silhouette_iou is None else f"{result.silhouette_iou:.3f}"
    message = f"{result.state}: {result.objects} objects, silhouette IoU {iou}, {result.folder}"
    return completed(message, result.model_dump(mode="json"))
