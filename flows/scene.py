"""One photo, or several of one scene, as a Prefect flow: the graph of `stages.graph`, every stage a task."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.artifacts import show_scene
from flows.gpu import slot_on
from flows.logs import logging_to_prefect
from flows.parameters import Making, ObjectLimits, Place, Shot, check_places
from flows.retries import AGAIN, end_crash_loop
from scenegen.compute.devices import process_devices
from scenegen.compute.runtime import Runtime
from scenegen.config import MAX_ID, MAX_SEED, Config, Settings
from scenegen.errors import UsageError
from scenegen.export.manifest import read_manifest
from scenegen.inputs.photos import Inputs, safe_name, unique_names
from scenegen.inputs.sources import fetch
from scenegen.messages.progress import log_event, log_photo
from scenegen.records import Record
from scenegen.store.store import Store, disk_errors
from stages.batch import deliver, open_outlet
from stages.graph import weights_in_use
from stages.layers import R, Submit, Watching, finishing_for, on_devices
from stages.run import open_store, photo_to_scene, regenerate
from stages.stage import Layers, Outcome, Stage, execute

MAX_TASKS = 64
"""More threads than any machine has devices, because `prefect_submit` bounds the tasks."""


def prefect_submit(store: Store, runtime: Runtime, at_once: int, layers: Layers = Layers()) -> Submit:
    """`submit` as Prefect tasks, named after the stage and, if it works on one, the object (`generate-3`).

    Results stay in memory: they are records, and what they point to is in the store, which also decides what is
    computed. So Prefect neither caches nor pickles. It retries only failures of a network or a device.

    Args:
        store: where results go.
        runtime: where to compute.
        at_once: how many stages of objects run at once; submitting one more waits.
        layers: what surrounds a stage whose result is not in the store.
    """
    room = threading.Semaphore(at_once)

    def submit(
        stage: Stage[R], *inputs: Record | int, config: Settings, object_id: int | None = None
    ) -> PrefectFuture[Outcome[R]]:
        run_name = stage.name if object_id is None else f"{stage.name}-{object_id}"

        @task(name=stage.name, task_run_name=run_name, persist_result=False, cache_policy=NO_CACHE, **AGAIN)
        def step() -> Outcome[R]:
            return execute(stage, inputs, config, store, runtime, layers, object_id)

        if object_id is None:
            return step.submit()
        room.acquire()
        try:
            future = step.submit()
        except BaseException:
            room.release()
            raise
        future.add_done_callback(lambda _: room.release())
        return future

    return submit


@contextlib.contextmanager
def _submitting(store: Store, config: Config, making: Making, pace: ObjectLimits) -> Iterator[Submit]:
    """`prefect_submit`, with the stages that need it in processes of their devices, until the block ends."""
    runtime = making.runtime()
    names = process_devices(runtime, weights_in_use(config), making.isolate, pace.objects_at_once)
    with on_devices(names, pace.object_timeout_s, slot_on(names)) as process:
        watching = Watching(log_event)
        at_once = len(names) + finishing_for(names) if names else pace.objects_at_once
        yield watching.submit(prefect_submit(store, runtime, at_once, Layers((watching.running,), process)))


@flow(name="image-to-scene", task_runner=ThreadPoolTaskRunner(max_workers=MAX_TASKS), persist_result=False)  # type: ignore[arg-type]
def image_to_scene(
    image: Place,
    out: Place = "out",
    name: str | None = None,
    masks: list[Place] | None = None,
    depth: Place | None = None,
    camera: list[Place] | None = None,
    meshes: list[Place] | None = None,
    making: Making = Making(),
    pace: ObjectLimits = ObjectLimits(),
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

    return _published(inputs, name, out, making, pace)


@flow(name="views-to-scene", task_runner=ThreadPoolTaskRunner(max_workers=MAX_TASKS), persist_result=False)  # type: ignore[arg-type]
def views_to_scene(
    views: list[Shot],
    out: Place = "out",
    name: str | None = None,
    making: Making = Making(),
    pace: ObjectLimits = ObjectLimits(),
) -> dict[str, Any]:
    """Makes and publishes one scene of several photos of it.

    Args:
        views: the photos, at least two; the scene is laid out in the camera of the first.
        out: folder or URL that holds the scenes and the store.
        name: name of the scene's folder; without it, the stem of the first photo.
        making: how scenes are made.
        pace: how its objects are made.

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

    return _published(inputs, scene, out, making, pace)


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
    inputs_in: Callable[[Path], Inputs], name: str, out: Place, making: Making, pace: ObjectLimits
) -> dict[str, Any]:
    """Makes and publishes the scene of the files that `inputs_in` fetches to a folder."""
    end_crash_loop()
    job = making.job(out)
    log_photo(name)
    with logging_to_prefect():
        outlet = open_outlet(job)
        with outlet.store.staging() as folder, _submitting(outlet.store, job.config, making, pace) as submit:

            @task(name="fetch", task_run_name="fetch", persist_result=False, cache_policy=NO_CACHE, **AGAIN)
            def fetch_inputs() -> Inputs:
                with disk_errors(folder):
                    return inputs_in(folder)

            @task(name="deliver", task_run_name="deliver", persist_result=False, cache_policy=NO_CACHE, **AGAIN)
            def deliver_scene() -> None:
                show_scene(deliver(outlet, name), outlet.folder, outlet.address(name))

            result = photo_to_scene(fetch_inputs(), job.config, outlet.store, making.runtime(), submit)
            deliver_scene()
        return result.model_copy(update={"folder": outlet.address(name)}).model_dump(mode="json")


@flow(name="regenerate-object", task_runner=ThreadPoolTaskRunner(max_workers=MAX_TASKS), persist_result=False)  # type: ignore[arg-type]
def regenerate_object(
    folder: str,
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
    store, config = open_store(Path(folder).parent), read_manifest(Path(folder)).config
    log_photo(Path(folder).name)
    with logging_to_prefect(), _submitting(store, config, making, pace) as submit:
        return regenerate(Path(folder), object_id, seed, store, making.runtime(), submit).model_dump(mode="json")
