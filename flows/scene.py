"""One photo as a Prefect flow: the graph of `stages.graph`, every stage a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import Flow, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from scenegen.config import DEFAULT_PRESET, Settings, load_config
from scenegen.inputs import Inputs, safe_name
from scenegen.progress import log_event
from scenegen.records import Record
from scenegen.runtime import Runtime
from scenegen.store import Store
from stages.graph import R, Submit
from stages.run import Result, open_store, photo_to_scene, regenerate, watched
from stages.stage import Outcome, Stage, execute


def prefect_submit(store: Store, runtime: Runtime) -> Submit:
    """`submit` as Prefect tasks, named after the stage and, where it works on one, the object (`generate-3`).

    Results stay in memory: they are records, and what they point to is in the store, which also decides what is
    computed. So Prefect neither caches nor pickles, and does not retry: a stage that failed would fail again.
    """

    def submit(
        stage: Stage[R], *inputs: Record | int, config: Settings, object_id: int | None = None
    ) -> PrefectFuture[Outcome[R]]:
        run_name = stage.name if object_id is None else f"{stage.name}-{object_id}"

        @task(name=stage.name, task_run_name=run_name, persist_result=False, cache_policy=NO_CACHE)
        def step() -> Outcome[R]:
            return execute(stage, inputs, config, store, runtime)

        return step.submit()

    return submit


@flow(name="image-to-scene", task_runner=ThreadPoolTaskRunner(max_workers=2), persist_result=False)  # type: ignore[arg-type]
def image_to_scene(
    image: str,
    out: str = "out",
    name: str | None = None,
    masks: list[str] | None = None,
    depth: str | None = None,
    preset: str = DEFAULT_PRESET,
    settings: dict[str, Any] | None = None,
    device: str = "auto",
    offline: bool = False,
) -> dict[str, Any]:
    """Makes and publishes the scene of one photo.

    Args:
        image: path of the photo.
        out: folder that holds the scenes and the store.
        name: name of the scene's folder; without it, the stem of the photo.
        masks: one id picture, or one picture per object.
        depth: a depth map.
        preset: name of a preset.
        settings: any part of the configuration, laid over the preset.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        offline: never use the network.

    Returns:
        `stages.run.Result` as plain JSON values.

    Raises:
        ScenegenError: from the part that failed.
    """
    inputs = Inputs(
        name=safe_name(Path(image).stem if name is None else name),
        photo=Path(image),
        masks=tuple(Path(mask) for mask in masks or ()),
        depth=None if depth is None else Path(depth),
    )
    config = load_config(preset, overrides=[settings or {}])
    store, runtime = open_store(Path(out)), Runtime(device=device, offline=offline)
    submit = watched(prefect_submit(store, runtime), log_event)
    return photo_to_scene(inputs, config, store, runtime, submit).model_dump(mode="json")


@flow(name="regenerate-object", task_runner=ThreadPoolTaskRunner(max_workers=2), persist_result=False)  # type: ignore[arg-type]
def regenerate_object(
    folder: str, object_id: int, seed: int | None = None, device: str = "auto", offline: bool = False
) -> dict[str, Any]:
    """Makes one object of a published scene anew; the others stay where and as they are.

    Args:
        folder: folder of the scene.
        object_id: the object.
        seed: its new seed; without it, the one after its last.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        offline: never use the network.

    Returns:
        `stages.run.Result` as plain JSON values.

    Raises:
        ScenegenError: from the part that failed.
    """
    store, runtime = open_store(Path(folder).parent), Runtime(device=device, offline=offline)
    submit = watched(prefect_submit(store, runtime), log_event)
    return regenerate(Path(folder), object_id, seed, store, runtime, submit).model_dump(mode="json")


def as_result(scene_flow: Flow[..., dict[str, Any]], workers: int, **parameters: Any) -> Result:
    """Runs one of the flows of this module with `workers` tasks at a time."""
    runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=workers)
    values = scene_flow.with_options(task_runner=runner)(**parameters)  # type: ignore[arg-type]
    return Result.model_validate(values)
