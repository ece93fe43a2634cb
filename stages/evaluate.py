"""Evaluate: makes scenes from folders with ground truth, and measures them.

Measurements are stages too, so that a second run with the same settings finds everything in the store.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scenegen.camera import fov_x_deg
from scenegen.compute.runtime import Runtime
from scenegen.config import Config
from scenegen.errors import ScenegenError
from scenegen.evaluate.ground_truth import TrueScene, load_depth, load_masks, load_scene, read_truth
from scenegen.evaluate.measure import MadeScene, measure_perception, measure_scene, nothing_made, nothing_seen
from scenegen.evaluate.memory import peak_memory
from scenegen.evaluate.record import (
    EvaluateSettings,
    Evaluation,
    PerceptionScores,
    SceneEntry,
    SceneScores,
    SceneTiming,
    TrueView,
    Truth,
)
from scenegen.evaluate.summary import summarise
from scenegen.export.bodies import with_bodies
from scenegen.export.manifest import Given, environment
from scenegen.inputs.photos import folder_names
from scenegen.records import Depth, Instances, Scene, Source
from scenegen.store.png import read_png
from scenegen.store.store import Store
from stages.depth import DEPTH
from stages.export import part_scene
from stages.graph import image_to_scene
from stages.layers import Submit
from stages.read import READ
from stages.run import publish_scene
from stages.segment import SEGMENT
from stages.stage import Outcome, Stage, Work

logger = logging.getLogger(__name__)

RESAMPLES = 2000


@dataclass(frozen=True)
class GivenTruth:
    """Which ground truth is given to the scenes."""

    masks: bool = False
    depth: bool = False
    """The true field of view is given too."""
    cameras: bool = False
    """Of several photos of one scene, where their cameras stand."""


def evaluate_scenes(
    folders: Sequence[Path],
    config: Config,
    settings: EvaluateSettings,
    given: GivenTruth,
    store: Store,
    runtime: Runtime,
    submit: Submit,
) -> Evaluation:
    """Makes and measures every folder (layouts: `scenegen.evaluate.ground_truth`).

    A rendered scene is made completely, published next to the store, and measured completely. For a photo only masks,
    depth and camera are estimated and measured, without help. What cannot be made counts as nothing; the entry says why.

    Args:
        folders: from `find_folders`.
        config: configuration of the scenes.
        settings: how to measure them; `matching` is decided here.
        given: which truth the scenes get.
        store: of the results.
        runtime: where to compute.
        submit: starts a stage.
    """
    settings = settings.model_copy(
        update={
            "matching": "id" if given.masks else "mask",
            "density_kg_m3": config.export.density_kg_m3,
            "hulls": config.export.hulls,
        }
    )
    entries: list[SceneEntry] = []
    timings: list[SceneTiming] = []
    names = folder_names(folders, store.root.parent)
    for place, (folder, name) in enumerate(zip(folders, names, strict=True), 1):
        logger.info("%d of %d: %s", place, len(folders), folder)
        try:
            truth = read_truth(folder, store).model_copy(update={"name": name})
            # Read before minutes are spent on a scene that could not be measured.
            known = load_scene(truth, store.path) if truth.layout == "scene" else None
        except ScenegenError as error:
            logger.error("%s: left out, because its ground truth cannot be used: %s", folder, error)
            entries.append(SceneEntry(name=name, layout=None, perception=None, scene=None, error=str(error)))
            continue
        try:
            if truth.layout == "scene":
                entry, timing = _scene(truth, config, settings, given, store, runtime, submit)
            else:
                entry, timing = _photo(truth, config, settings, submit)
        except Exception as error:  # one bad scene must not stop the others; it is logged and in the file
            logger.error(
                "%s: failed, and counts as an empty scene: %s",
                folder,
                error,
                exc_info=logger.isEnabledFor(logging.DEBUG),
            )
            entries.append(_nothing(truth, known, settings, store, f"{type(error).__name__}: {error}"))
        else:
            entries.append(entry)
            timings.append(timing)
    return Evaluation(
        true_masks=given.masks,
        true_depth=given.depth,
        true_cameras=given.cameras,
        settings=settings,
        resamples=RESAMPLES,
        config=config,
        environment=environment(runtime.device),
        scenes=tuple(entries),
        summary=summarise(entries, RESAMPLES, settings.seed),
        timings=tuple(timings),
    )


def perception(
    truth: Truth, instances: Instances, depth: Depth, *, config: EvaluateSettings, work: Work
) -> PerceptionScores:
    """Masks, depth and camera against the truth."""
    return measure_perception(
        read_png(work.read(instances.masks)),
        np.load(work.read(depth.depth), allow_pickle=False),
        depth.intrinsics,
        load_masks(truth, work.read),
        load_depth(truth, work.read),
        truth.intrinsics,
    )


def objects(truth: Truth, instances: Instances, scene: Scene, *, config: EvaluateSettings, work: Work) -> SceneScores:
    """The made objects against the true ones."""
    parts = part_scene(scene, work, {})
    camera_from_world = np.linalg.inv(parts.world_from_camera)
    made = MadeScene(
        meshes={
            item.id: part.mesh.transformed(camera_from_world @ part.world_from_part)
            for item, part in zip(scene.objects, parts.objects, strict=True)
        },
        supports={item.id: item.support for item in scene.objects if isinstance(item.support, int)},
        ids=read_png(work.read(instances.masks)),
        camera=scene.intrinsics,
        bodies=with_bodies(parts, config.density_kg_m3, config.hulls) if config.settle else None,
    )
    scores = measure_scene(made, load_scene(truth, work.read), config)
    if scores.alignment is None:
        logger.warning("%s: too few pixels match to align the scene; its aligned scores count as missing.", truth.name)
    if scores.penetration.left_out:
        named = ", ".join(map(str, scores.penetration.left_out))
        logger.warning("%s: object(s) %s are not closed and left out of penetration.", truth.name, named)
    return scores


PERCEPTION = Stage(name="evaluate-perception", record=PerceptionScores, run=perception)
OBJECTS = Stage(name="evaluate-objects", record=SceneScores, run=objects)


def _scene(
    truth: Truth,
    config: Config,
    settings: EvaluateSettings,
    given: GivenTruth,
    store: Store,
    runtime: Runtime,
    submit: Submit,
) -> tuple[SceneEntry, SceneTiming]:
    """A rendered scene, made as a whole."""
    masks = () if truth.masks is None or not given.masks else (truth.masks,)
    depth = truth.depth if given.depth else None
    if given.depth and truth.intrinsics is not None:
        camera = config.camera.model_copy(update={"fov_deg": fov_x_deg(truth.intrinsics)})
        config = config.model_copy(update={"camera": camera})
    cameras = (truth.camera,) if given.cameras and truth.camera is not None else ()
    source = Source(name=truth.name, photo=truth.image, masks=masks, depth=depth, camera=cameras)
    others = [_source(view, truth.name, given) for view in truth.views]
    start = time.perf_counter()
    with peak_memory() as peak:
        run = image_to_scene(source, config, submit, others=others, name=truth.name if others else "")
    timing = _timing(truth, run.outcomes, time.perf_counter() - start, peak.bytes)
    files = [_given_files(each) for each in (source, *others)]
    publish_scene(run, files, store.root.parent / truth.name, store, runtime)
    seen = run.instances.record
    entry = SceneEntry(
        name=truth.name,
        layout=truth.layout,
        photos=1 + len(others),
        perception=submit(PERCEPTION, truth, seen, run.depth.record, config=settings).result().record,
        scene=submit(OBJECTS, truth, seen, run.scene.record, config=settings).result().record,
        failures=run.scene.record.failures,
    )
    return entry, timing


def _source(view: TrueView, scene: str, given: GivenTruth) -> Source:
    """A further photo of the scene, with what is given of it."""
    return Source(
        name=f"{scene}-{view.name}",
        photo=view.image,
        masks=(view.masks,) if given.masks else (),
        depth=view.depth if given.depth else None,
        camera=(view.camera,) if given.cameras else (),
    )


def _given_files(source: Source) -> Given:
    """Names for the files of a source."""
    return Given(
        photo=f"{source.name}{Path(source.photo.path).suffix}",
        masks=("masks.png",) if source.masks else (),
        depth=None if source.depth is None else f"depth{Path(source.depth.path).suffix}",
        camera=("camera.json",) if source.camera else (),
    )


def _nothing(truth: Truth, known: TrueScene | None, settings: EvaluateSettings, store: Store, error: str) -> SceneEntry:
    """A picture of which nothing could be made, measured as that."""
    return SceneEntry(
        name=truth.name,
        layout=truth.layout,
        perception=nothing_seen(load_masks(truth, store.path)),
        scene=measure_scene(nothing_made(known.camera), known, settings) if known is not None else None,
        error=error,
    )


def _photo(truth: Truth, config: Config, settings: EvaluateSettings, submit: Submit) -> tuple[SceneEntry, SceneTiming]:
    """A real photo: what is seen in it, and nothing is made of it."""
    start = time.perf_counter()
    with peak_memory() as peak:
        photo = submit(READ, Source(name=truth.name, photo=truth.image), config=config.read).result()
        instances = submit(SEGMENT, photo.record, config=config.segment).result()
        depth = submit(DEPTH, photo.record, instances.record, config=config.depth_settings).result()
    timing = _timing(truth, (photo, instances, depth), time.perf_counter() - start, peak.bytes)
    scores = submit(PERCEPTION, truth, instances.record, depth.record, config=settings).result().record
    return SceneEntry(name=truth.name, layout=truth.layout, perception=scores, scene=None), timing


def _timing(truth: Truth, outcomes: Sequence[Outcome[Any]], wall: float, peak: int | None) -> SceneTiming:
    computed = not all(outcome.cached for outcome in outcomes)
    return SceneTiming(
        name=truth.name,
        seconds=sum(outcome.seconds for outcome in outcomes),
        wall_seconds=wall,
        peak_memory_mb=peak / 1e6 if peak is not None and computed else None,
    )
