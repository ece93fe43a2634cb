"""The command line. Slow modules are imported inside the functions that use them, so that `--help` answers at once."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from scenegen import __version__
from scenegen.cli.siblings import check_sibling
from scenegen.edits.again import OnEdited
from scenegen.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_PARTIAL,
    InputError,
    ResourceError,
    ScenegenError,
    UsageError,
    WeightsError,
)
from scenegen.inputs.options import (
    ConfigOptions,
    InputOptions,
    LogOptions,
    PromptOptions,
    RunOptions,
    SceneRunOptions,
    check_object,
    refuse_with_ray,
    scene_config,
)
from scenegen.messages.progress import log_photo, logging_to_stderr, watching
from scenegen.messages.redaction import redacted
from scenegen.messages.spelling import did_you_mean
from scenegen.system.processes import kill_descendants

if TYPE_CHECKING:
    from rich.table import Table

    from scenegen.config import Config
    from scenegen.inputs.photos import Inputs
    from stages.run import Result

logger = logging.getLogger(__name__)

app = App(
    name="scenegen",
    usage="Usage: scenegen IMAGE... [OPTIONS]\n       scenegen COMMAND [OPTIONS]\n",
    help="One photo in, an editable 3D scene out: one textured mesh per object, as GLB and USD.",
    version=__version__,
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)
config_app = App(name="config", help="Show the configuration.")
models_app = App(name="models", help="The weights that presets need.")
evaluate_app = App(name="evaluate")
app.register_install_completion_command(
    help="Set up completion of commands and options for this shell (bash, zsh or fish)."
)
app.command(config_app)
app.command(evaluate_app)
app.command(models_app)
app.command("scenegen.cli.store_command:app", name="store")


WIDE = 240
"""Columns of a table that goes to a file or another program."""
INTERRUPTED = "interrupted; finished work is kept: run the same command again to continue"


@app.default
def scene(
    images: list[str],
    /,
    *,
    out: Annotated[Path, Parameter(alias="-o")] = Path("out"),
    config_options: ConfigOptions = ConfigOptions(),
    input_options: InputOptions = InputOptions(),
    prompt_options: PromptOptions = PromptOptions(),
    fov: float | None = None,
    seed: int | None = None,
    edits: OnEdited = "refuse",
    run_options: SceneRunOptions = SceneRunOptions(),
    log_options: LogOptions = LogOptions(),
) -> int:
    """Make a scene of each photo.

    Args:
        images: Photos, folders of photos, or glob patterns.
        out: Folder that gets one folder per photo.
        fov: Horizontal field of view of the camera in degrees.
        seed: Random seed.
        edits: What becomes of a scene that was edited in the studio: refuse to touch it, apply its edits, or discard them.
    """
    from scenegen.inputs.listing import find_photos, log_skipped
    from scenegen.inputs.photos import folder_names, is_single
    from scenegen.store.destination import check_path

    log_options.apply()
    run_options.check()
    check_path(out)
    _refuse_command(images)
    found, single = find_photos(images), is_single(images)
    config = scene_config(config_options, input_options, prompt_options, single=single, fov=fov, seed=seed)
    log_skipped(found.skipped)
    codes = [InputError.exit_code for item in found.skipped if item.failed]
    todo: list[Inputs] = []
    for photo, name in zip(found.photos, folder_names(found.photos, out), strict=True):
        log_photo(name if log_options.log_json else "")
        given = _given(photo, name, input_options, single)
        if given is None:
            codes.append(InputError.exit_code)
        else:
            todo.append(given)
    log_photo("")
    if todo:
        codes += _make_scenes(todo, out, config, run_options, edits, log_options.log_json or len(found.photos) > 1)
    return overall(codes)


@app.command
def views(
    photos: list[str],
    /,
    *,
    out: Annotated[Path, Parameter(alias="-o")] = Path("out"),
    name: str | None = None,
    config_options: ConfigOptions = ConfigOptions(),
    input_options: InputOptions = InputOptions(),
    fov: float | None = None,
    seed: int | None = None,
    edits: OnEdited = "refuse",
    run_options: SceneRunOptions = SceneRunOptions(),
    log_options: LogOptions = LogOptions(),
) -> int:
    """Make one scene of several photos of it.

    Args:
        photos: Photos of the scene, or their folder; a folder of such folders gives one scene for each. The scene is laid out
            in the camera of the first photo.
        out: Folder that gets the folder of the scene.
        name: Name of that folder; by default that of the photos' folder, or of the first photo.
        fov: Horizontal field of view of all cameras in degrees.
        seed: Random seed.
        edits: What becomes of a scene that was edited in the studio: refuse to touch it, apply its edits, or discard them.
    """
    from scenegen.inputs.listing import find_photos, log_skipped
    from scenegen.inputs.photos import holds_scenes, views_of
    from scenegen.inputs.sources import list_scenes
    from scenegen.store.destination import check_path
    from scenegen.store.folder import local_path

    log_options.apply()
    run_options.check()
    check_path(out)
    config = scene_config(config_options, input_options, PromptOptions(), single=False, fov=fov, seed=seed)
    if holds_scenes(photos):
        if name is not None:
            raise UsageError(f"`name` is that of one scene, but {photos[0]} is a folder of scenes; drop --name.")
        listing = list_scenes(photos[0], input_options)
        skipped = listing.skipped
        todo = [item.inputs([local_path(photo) for photo in item.photos]) for item in listing.items]
    else:
        found = find_photos(photos)
        skipped = found.skipped
        folder = Path(photos[0]) if len(photos) == 1 and Path(photos[0]).is_dir() else None
        todo = [views_of(found.photos, name or ("" if folder is None else folder.resolve().name), input_options)]
    log_skipped(skipped)
    codes = [InputError.exit_code for item in skipped if item.failed]
    if todo:
        codes += _make_scenes(todo, out, config, run_options, edits, log_options.log_json or len(todo) > 1)
    return overall(codes)


def _refuse_command(words: list[str]) -> None:
    """Refuses a mistyped command, which would otherwise be taken for a missing photo."""
    word = words[0]
    commands = [name for name in app if not name.startswith("-")]
    if re.fullmatch(r"[a-z-]+", word) and not Path(word).exists() and (hint := did_you_mean(word, commands)):
        raise UsageError(f"{word} is neither a command nor a photo that exists.{hint}")


def _given(photo: Path, name: str, options: InputOptions, single: bool) -> Inputs | None:
    """The files of one scene; None if one is missing, which is logged."""
    from scenegen.inputs.photos import companions

    try:
        return companions(photo, name, options, single)
    except InputError as error:
        logger.error("%s", error, exc_info=logger.isEnabledFor(logging.DEBUG))
        return None


def _make_scenes(
    todo: list[Inputs], out: Path, config: Config, run_options: SceneRunOptions, edits: OnEdited, named: bool
) -> list[int]:
    """The exit code of each photo. With `named`, log lines name the photo."""
    from scenegen.inputs.photos import require_models_for
    from scenegen.store.destination import check_folder

    start = time.monotonic()
    require_models_for(todo, config, run_options.runtime(), generates=run_options.ray is None)
    check_folder(out)
    codes = []
    with _photo_runner(out, config, run_options, edits) as run:
        for place, inputs in enumerate(todo, start=1):
            log_photo(inputs.folder if named else "")
            count = f" ({place} of {len(todo)})" if len(todo) > 1 else ""
            try:
                result = run(inputs, f"{inputs.photo}{count}")
            except Exception as error:  # noqa: BLE001 (one bad photo must not stop the others; it is logged)
                codes.append(_log_failure(error, f"{inputs.photo}: "))
            else:
                codes.append(_say_result(result, time.monotonic() - start))
            start = time.monotonic()
    log_photo("")
    return codes


@app.command
def regenerate(
    folder: Path,
    /,
    *,
    object_id: Annotated[int, Parameter(name="--object")],
    seed: int | None = None,
    run_options: RunOptions = RunOptions(),
    log_options: LogOptions = LogOptions(),
) -> int:
    """Make one object of a scene again; everything else stays as it is.

    Args:
        folder: Folder of the scene.
        object_id: Id of the object.
        seed: Its new seed; by default its last one plus one.
    """
    log_options.apply()
    check_object(object_id, seed)
    run_options.check()
    start = time.monotonic()
    folder = folder.resolve()
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder of a scene, such as out/photo.")
    runtime = run_options.runtime()
    if run_options.as_flow():
        _need_prefect()
        from flows.parameters import Making, ObjectLimits
        from flows.scene import regenerate_object
        from stages.run import Result

        making, pace = Making(**run_options.as_parameters()), ObjectLimits(objects_at_once=1)
        values = regenerate_object(str(folder), object_id, seed, making, pace)
        return _say_result(Result.model_validate(values), time.monotonic() - start)
    from scenegen.export.manifest import read_manifest
    from scenegen.weights_registry.needed import require_models

    config = read_manifest(folder).config
    require_models(config, runtime, segments=False, measures=False)
    from stages.run import open_store
    from stages.run import regenerate as run
    from stages.workplace import workplace

    store = open_store(folder.parent)
    title = f"{folder.name}, object {object_id}"
    with (
        workplace(store, [config], runtime, 1, isolate=run_options.isolate) as place,
        watching(title) as watch,
        place.submit(watch) as submit,
    ):
        result = run(folder, object_id, seed, store, runtime, submit)
    return _say_result(result, time.monotonic() - start)


@app.command
def replay(
    folder: Path, /, *, run_options: SceneRunOptions = SceneRunOptions(), log_options: LogOptions = LogOptions()
) -> int:
    """Make the scene again that its edits say (edits.json), from the photo; what is unchanged is not computed again.

    Args:
        folder: Folder of the scene.
    """
    log_options.apply()
    run_options.check()
    start = time.monotonic()
    folder = folder.resolve()
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder of a scene, such as out/photo.")
    from stages.replay import read_edits
    from stages.replay import replay as run
    from stages.run import open_store
    from stages.workplace import workplace

    runtime, store = run_options.runtime(), open_store(folder.parent)
    _, config = read_edits(folder, store).resolved()
    with (
        workplace(
            store, [config], runtime, run_options.workers(), isolate=run_options.isolate, ray=run_options.ray
        ) as place,
        watching(folder.name) as watch,
        place.submit(watch) as submit,
    ):
        result = run(folder, store, runtime, submit)
    return _say_result(result, time.monotonic() - start)


@app.command
def studio(
    place: Path,
    /,
    *,
    out: Annotated[Path, Parameter(alias="-o")] = Path("out"),
    port: int = 0,
    browser: Annotated[bool, Parameter(negative="--no-browser")] = True,
    config_options: ConfigOptions = ConfigOptions(),
    input_options: InputOptions = InputOptions(),
    device: str = "auto",
    offline: bool = False,
    jobs: int | None = None,
    log_options: LogOptions = LogOptions(),
) -> int:
    """Open a page on this machine on which a scene is put right: its objects, their names, its scale.

    Args:
        place: A photo, or the folder of a scene.
        out: Folder that gets the folder of a photo's scene.
        port: Port to listen at; by default one that is free.
        browser: Open the page in the browser.
        device: auto, cpu, cuda, cuda:1 or mps.
        offline: Never use the network.
        jobs: Objects at once on the CPU; by default two per core, at most 4.
    """
    from importlib.util import find_spec

    from scenegen.inputs.photos import companions, folder_names
    from scenegen.store.destination import check_folder
    from stages.replay import begin, check_edits_of, read_edits, write_edits
    from stages.run import open_store

    log_options.apply()
    run_options = SceneRunOptions(device=device, offline=offline, jobs=jobs)
    run_options.check()
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise WeightsError("the studio needs packages that are not installed: pip install 'scenegen-3d[studio]'")
    check_sibling("studio")
    runtime = run_options.runtime()
    if place.is_dir():
        folder = place.resolve()
        store = open_store(folder.parent)
        read_edits(folder, store)
    else:
        (name,) = folder_names([place], out)
        inputs = companions(place, name, input_options, single=True)
        config = config_options.load()
        check_folder(out)
        store, folder = open_store(out.absolute()), out.absolute() / name
        if check_edits_of(place, folder, store):
            logger.info("%s was edited before: going on from there, with the settings it had", folder)
        else:
            write_edits(folder, store, begin(inputs, config, store), 0)
    from studio.serve import serve

    serve(folder, store, runtime, run_options.workers(), port, browser, _say)
    return EXIT_DONE


@app.command
def batch(
    source: str,
    /,
    *,
    out: Annotated[str, Parameter(alias="-o")] = "out",
    workers: int | None = None,
    timeout: float = 3600.0,
    failed: bool = False,
    missing: bool = False,
    views: bool = False,
    cache: Path | None = None,
    config_options: ConfigOptions = ConfigOptions(),
    input_options: InputOptions = InputOptions(),
    seed: int | None = None,
    device: str = "auto",
    offline: bool = False,
    isolate: bool = False,
    ray: str | None = None,
    log_options: LogOptions = LogOptions(),
) -> int:
    """Make a scene of each of many photos; finished scenes are kept. Writes batch.csv, batch.html and batch.json at the end.

    Args:
        source: Folder, glob pattern, list file (.txt, one path or URL per line), or a URL such as s3://bucket/photos.
        out: Folder or URL that gets one folder per photo, and the tables.
        workers: Photos at once, each in its own process; by default one per graphics card in use, else 1.
        timeout: Seconds a photo may take before it is stopped; waiting for a card does not count.
        failed: Run only photos that failed or lack an object.
        missing: Run only photos that have not been tried yet.
        views: Make one scene of each folder in SOURCE, from all the photos in it.
        cache: Folder to make scenes in if OUT is a URL; by default in the user's cache folder.
        seed: Random seed.
        device: auto, cpu, cuda, cuda:1 or mps.
        offline: Never use the network.
        isolate: Make each object in its own process on the CPU too.
        ray: Make the scenes on a Ray cluster: auto, host:port or ray://host:port. All its machines must be able to reach
            SOURCE and OUT; --workers is by default the number of its cores.
    """
    from scenegen.compute.runtime import MAX_AT_ONCE
    from scenegen.inputs.listing import log_skipped
    from scenegen.inputs.sources import list_photos, list_scenes
    from scenegen.messages.progress import BatchProgress
    from scenegen.store.destination import check_folder
    from scenegen.store.folder import is_url, local_path, refuse_network
    from scenegen.store.store import disk_errors
    from scenegen.weights_registry.needed import require_models

    log_options.apply()
    if workers is not None and not 1 <= workers <= MAX_AT_ONCE:
        raise UsageError(f"`workers` is {workers}; it must be at least 1 and at most {MAX_AT_ONCE}.")
    if not 0 < timeout < math.inf:
        raise UsageError(f"`timeout` is {timeout}; it must be positive and finite.")
    run_options = RunOptions(device=device, offline=offline)
    run_options.check()
    refuse_with_ray(ray, isolate)
    for argument, place in (("SOURCE", source), ("out", out)):
        if offline and is_url(place):
            refuse_network(place, argument)
    if cache is not None and not is_url(out):
        raise UsageError(f"`cache` needs an `out` that is a URL; {out} is a folder. Drop --cache.")
    config = scene_config(config_options, input_options, PromptOptions(), single=False, fov=None, seed=seed)
    listing = list_scenes(source, input_options) if views else list_photos(source, input_options)
    runtime = run_options.runtime(elsewhere=ray is not None)
    segments, measures = input_options.masks is None, input_options.depth is None
    if ray is None:
        finds = views and input_options.camera is None
        require_models(config, runtime, segments, measures, several=views, finds_cameras=finds)
    if cache is not None or not is_url(out):
        check_folder(local_path(out) if cache is None else cache, "out" if cache is None else "cache")
    log_skipped(listing.skipped)
    items = listing.items

    from scenegen.compute.devices import process_devices
    from stages.batch import open_outlet, pending, plan, run_items, skipped_rows, standing
    from stages.table import summary, write_table

    job = plan(out, config, runtime, cache, several=views)
    devices = () if ray else process_devices(runtime, job.weights, isolate, at_once=1)
    job = job.model_copy(update={"devices": devices, "cluster": ray})
    aside = skipped_rows(listing.skipped, job)
    rows = {row.name: row for row in standing(items, job)}
    todo = pending(items, tuple(rows.values()), failed=failed, missing=missing)
    logger.info("%d of %d photos left to do", len(todo), len(items))
    progress = BatchProgress(len(todo))
    try:
        with contextlib.closing(run_items(todo, job, workers, timeout)) as ended:
            for row in ended:
                rows[row.name] = row
                _say(f"{row.output or row.image}: {row.state}")
                logger.info("%s", progress.step(row.state))
    finally:
        # An interrupted batch gets its tables too: they show what is done and what is left.
        outlet = open_outlet(job)
        with disk_errors(outlet.local):
            write_table((*rows.values(), *aside), outlet.folder)
    _say(summary((*rows.values(), *aside)))
    return overall([row.exit_code for row in (*rows.values(), *aside) if row.state != "skipped"])


@evaluate_app.default
def evaluate(
    *,
    scenes: Path,
    json_: Annotated[Path, Parameter(name="--json")],
    true_masks: bool = False,
    true_depth: bool = False,
    true_cameras: bool = False,
    samples: int = 20_000,
    settle: bool = False,
    out: Annotated[Path, Parameter(alias="-o")] = Path("out/evaluate"),
    config_options: ConfigOptions = ConfigOptions(),
    seed: int | None = None,
    device: str = "auto",
    offline: bool = False,
    jobs: int | None = None,
    log_options: LogOptions = LogOptions(),
) -> int:
    """Make scenes of pictures with ground truth, and measure them against it. `evaluate compare` compares two results.

    Args:
        scenes: Folder of rendered scenes or real photos with their ground truth (docs/evaluation.md has the layouts).
        json_: JSON file to write: every number, and the conventions.
        true_masks: Use the true masks as input.
        true_depth: Use the true depth and field of view as input.
        true_cameras: Use the true cameras of several photos of a scene as input.
        samples: Number of points at which an object's surface is measured.
        settle: Switch gravity on, too, and measure what stays; needs MuJoCo.
        out: Folder that gets one folder per scene; a second run computes nothing again.
        seed: Random seed, of the measurement too.
        device: auto, cpu, cuda, cuda:1 or mps.
        offline: Never use the network.
        jobs: Objects at once; by default two per core, at most 4.
    """
    from pydantic import ValidationError

    from scenegen.evaluate.ground_truth import find_folders
    from scenegen.evaluate.record import MAX_SAMPLES, EvaluateSettings
    from scenegen.evaluate.summary import scene_table, summary_table
    from scenegen.store.destination import check_file, check_folder
    from scenegen.store.store import disk_errors
    from scenegen.weights_registry.needed import require_models, require_mujoco
    from stages.evaluate import GivenTruth, evaluate_scenes
    from stages.run import open_store
    from stages.workplace import workplace

    log_options.apply()
    run_options = SceneRunOptions(device=device, offline=offline, jobs=jobs)
    run_options.check()
    config = config_options.load({} if seed is None else {"seed": seed})
    try:
        settings = EvaluateSettings(samples=samples, seed=config.seed, settle=settle)
    except ValidationError as error:
        raise UsageError(f"`samples` is {samples}; it must be at least 10 and at most {MAX_SAMPLES}.") from error
    folders = find_folders(scenes)
    if out.resolve() in {path.resolve() for path in (scenes, *folders)}:
        raise UsageError(f"`out` is {out}, which holds the ground truth; choose another folder with -o.")
    runtime = run_options.runtime()
    several = any((folder / "views").is_dir() for folder in folders)
    finds = several and not true_cameras
    require_models(config, runtime, not true_masks, not true_depth, several=several, finds_cameras=finds)
    if settle:
        require_mujoco()
    check_folder(out)
    check_file(json_, "json")
    store = open_store(out)
    with (
        workplace(store, [config], runtime, run_options.workers()) as place,
        watching(str(scenes)) as watch,
        place.submit(watch) as submit,
    ):
        found = evaluate_scenes(
            folders, config, settings, GivenTruth(true_masks, true_depth, true_cameras), store, runtime, submit
        )
    with disk_errors(json_.parent):
        json_.parent.mkdir(parents=True, exist_ok=True)
        json_.write_text(found.text(), encoding="utf-8")
    _show(scene_table(found))
    _show(summary_table(found))
    failed = [entry.error for entry in found.scenes if entry.error]
    if failed and len(failed) == len(found.scenes):
        raise InputError(f"none of the {len(failed)} scenes could be measured; the first one: {failed[0]}")
    return EXIT_PARTIAL if failed or any(entry.failures for entry in found.scenes) else EXIT_DONE


@evaluate_app.command
def compare(
    first: Path,
    second: Path,
    /,
    *,
    json_: Annotated[Path | None, Parameter(name="--json")] = None,
    log_options: LogOptions = LogOptions(),
) -> int:
    """Compare two results object by object: second minus first, with 95 % intervals over scenes.

    Args:
        first: File that `scenegen evaluate --json` wrote.
        second: Another such file, of the same scenes.
        json_: JSON file to write: every metric.
    """
    from scenegen.evaluate.compare import compare as paired
    from scenegen.evaluate.compare import comparison_table, read_measured
    from scenegen.store.destination import check_file
    from scenegen.store.store import disk_errors

    log_options.apply()
    if json_ is not None:
        check_file(json_, "json")
    found = paired(read_measured(first), read_measured(second))
    for note in found.notes:
        logger.warning("the two results differ in: %s", note)
    if found.left_out:
        logger.warning("left out, because only one result has them: %s", ", ".join(found.left_out))
    if json_ is not None:
        with disk_errors(json_.parent):
            json_.parent.mkdir(parents=True, exist_ok=True)
            json_.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    _show(comparison_table(found))
    return EXIT_DONE


@app.command
def settle(
    folder: Path,
    /,
    *,
    json_: Annotated[bool, Parameter(name="--json")] = False,
    log_options: LogOptions = LogOptions(),
) -> int:
    """Switch gravity on in a scene for two seconds and print what stays. Needs MuJoCo: the extra `physics`.

    Args:
        folder: Folder of the scene.
        json_: Print JSON.
    """
    from rich.table import Column, Table

    from scenegen.export.bodies import settled, with_bodies
    from scenegen.export.glb import read_glb
    from scenegen.export.manifest import read_manifest
    from scenegen.weights_registry.needed import require_mujoco

    log_options.apply()
    require_mujoco()
    config = read_manifest(folder).config.export
    scene = with_bodies(read_glb(folder / "scene.glb"), config.density_kg_m3, config.hulls)
    found = dict(zip([part.name for part in scene.objects], settled(scene), strict=True))
    if json_:
        _say(json.dumps({name: result.model_dump() for name, result in found.items()}, indent=1))
        return EXIT_DONE
    table = Table(
        "object", "stays", *(Column(name, justify="right") for name in ("moves", "tilts", "inside others")), box=None
    )
    for name, result in found.items():
        moved, inside = f"{1000 * result.displacement_m:.1f} mm", f"{1000 * result.penetration_m:.1f} mm"
        table.add_row(name, "yes" if result.stays else "no", moved, f"{result.tilt_deg:.1f} degrees", inside)
    _show(table)
    _say(f"{sum(result.stays for result in found.values())} of {len(found)} stay")
    return EXIT_DONE


@app.command
def doctor(
    *,
    out: Annotated[str, Parameter(alias="-o")] = "out",
    json_: Annotated[bool, Parameter(name="--json")] = False,
    log_options: LogOptions = LogOptions(),
) -> int:
    """Check this machine and print what to fix.

    Args:
        out: Folder or URL that scenes would be written to.
        json_: Print JSON.
    """
    from scenegen.cli.doctor import examine, table
    from scenegen.compute.runtime import Runtime

    log_options.apply()
    checks = examine(out, Runtime())
    if json_:
        _say(json.dumps([dataclasses.asdict(check) for check in checks], indent=1))
    else:
        _show(table(checks))
    return int(any(check.state == "fail" for check in checks))


@app.command
def prefect_setup(
    *,
    pools: Literal["process", "docker", "kubernetes"] = "process",
    remove: bool = False,
    dry_run: bool = False,
    log_options: LogOptions = LogOptions(),
) -> int:
    """Create what the deployments need on the Prefect server, and mend what runs that died have left.

    Args:
        pools: How new work pools start their runs: in processes of the worker, in Docker containers or in Kubernetes jobs.
        remove: Remove all of that instead, and the deployments.
        dry_run: Only list what would be removed.
    """
    log_options.apply()
    _need_prefect()
    from flows import setup
    from scenegen.compute.runtime import POOLS

    if remove or dry_run:
        gone = setup.remove(dry_run)
        _say(
            "\n".join([f"{'would remove' if dry_run else 'removed'} {name}" for name in gone] or ["nothing to remove"])
        )
        return EXIT_DONE
    mended = setup.set_up(pools)
    _say(f"work pools: {', '.join(POOLS)}; queues: {', '.join(name for name, _ in setup.QUEUES)}. {mended}")
    return EXIT_DONE


@config_app.command
def show(*, config_options: ConfigOptions = ConfigOptions()) -> int:
    """Print the resolved configuration as YAML."""
    import yaml

    _say(yaml.safe_dump(config_options.load().model_dump(mode="json"), sort_keys=False).rstrip())
    return EXIT_DONE


@config_app.command
def presets() -> int:
    """Print the names of the presets."""
    from scenegen.config import preset_names

    _say("\n".join(preset_names()))
    return EXIT_DONE


@config_app.command
def backends() -> int:
    """Print every back-end: its kind, `method`, outputs, the licence of its weights, and the package that it comes from."""
    from rich.table import Column, Table

    from scenegen.registry import OWN, PORTS

    table = Table(Column("back-end", no_wrap=True), "method", "gives", "licence", "from", box=None)
    for port in PORTS:
        for backend in port.usable():
            gives = ", ".join(backend.gives)
            table.add_row(port.noun, backend.name, gives, backend.licence, backend.provider or OWN)
    _show(table)
    return EXIT_DONE


@models_app.command(name="list")
def list_() -> int:
    """Print every registered model, its licence, and whether this machine has it."""
    from rich.table import Column, Table

    from scenegen.compute.runtime import Runtime
    from scenegen.weights_registry import list_models

    table = Table(Column("model", no_wrap=True), "for", "licence", "state", box=None)
    rows = list_models(Runtime())
    for row in rows:
        table.add_row(row.model.name, row.model.kind, row.model.licence, " ".join([row.state, row.detail]).strip())
    _show(table)
    _say("\n\n".join(dict.fromkeys(row.model.note for row in rows if row.model.note)))
    return EXIT_DONE


@models_app.command
def fetch(
    names: list[str] | None = None,
    /,
    *,
    preset: str | None = None,
    source: Path | None = None,
    offline: bool = False,
    log_options: LogOptions = LogOptions(),
) -> int:
    """Fetch models to this machine and check them. Says first what they are, how large, and under which licence.

    Args:
        names: Names from `scenegen models list`.
        preset: All models that a preset needs.
        source: Folder to copy the files from, instead of downloading them; of several models, a folder with one for each.
        offline: Never use the network.
    """
    from scenegen.compute.runtime import Runtime
    from scenegen.config import load_config
    from scenegen.messages.progress import transfers
    from scenegen.weights_registry import fetch as bring
    from scenegen.weights_registry import registered
    from scenegen.weights_registry.needed import models_needed

    log_options.apply()
    if bool(names) == (preset is not None):
        raise UsageError("give either names of models or --preset.")
    wanted = tuple(names or ()) if preset is None else models_needed(load_config(preset))
    models = [registered(name) for name in wanted]
    for model in models:
        told = f" ({model.licence_from})" if model.licence_from else ""
        _say(f"{model.name}: {model.gigabytes:.2g} GB, {model.licence}{told}. {model.note}")
    _say(f"together {sum(model.gigabytes for model in models):.3g} GB" if models else f"{preset} needs no models")
    with transfers() as progress:
        for name in wanted:
            own = source if source is None or not (source / name).is_dir() else source / name
            _say(f"{name}: {bring(name, Runtime(offline=offline), progress, own)}")
    return EXIT_DONE


@models_app.command(name="plan")
def plan_(*, preset: str | None = None, card: list[float] | None = None) -> int:
    """Print what of the networks is on a graphics card, stage after stage: by arithmetic, for cards that need not be here.

    Args:
        preset: The preset; otherwise the default.
        card: Memory of a card in GB, as it is sold; may be repeated. Otherwise the usual sizes.
    """
    from rich.table import Table

    from scenegen.config import DEFAULT_PRESET, load_config
    from scenegen.weights_registry.card_plan import CARDS, card_plan

    config = load_config(preset or DEFAULT_PRESET)
    table = Table("card", "stage", "networks", "kept", "peak GB", "in the machine GB", box=None)
    for sold in card or CARDS:
        for step in card_plan(config, sold):
            guest = f", its reader on the {step.guest}" if step.guest else ""
            peak = f"{step.peak:.1f}" if step.fits else f"{step.peak:.1f}: too much"
            table.add_row(f"{sold:g} GB", step.stage, step.backend, step.residency + guest, peak, f"{step.host:.0f}")
    if table.row_count:
        _show(table)
        _say("All objects are segmented, then all completed, then one after another generated. These are estimates.")
    else:
        _say("none of its networks needs more than 1 GB")
    return EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv`, by default that of the process. Returns the exit code and never raises."""
    with logging_to_stderr():
        try:
            check_sibling("stages")
            _refuse_empty(sys.argv[1:] if argv is None else argv)
            return int(app(argv, exit_on_error=False, print_error=False, result_action="return_value") or EXIT_DONE)
        except CycloptsError as error:
            logger.error("%s See scenegen --help.", " ".join(str(error).split()))
            return UsageError.exit_code
        except KeyboardInterrupt:
            kill_descendants()
            logger.error(INTERRUPTED)
            return EXIT_INTERRUPTED
        except Exception as error:  # noqa: BLE001 (the outermost boundary; it is logged)
            return _log_failure(error)


def _refuse_empty(words: Sequence[str]) -> None:
    """Refuses an empty argument: it usually comes from an unset variable in a script."""
    for word in words:
        option, equals, value = word.partition("=")
        if not word or (option.startswith("--") and equals and not value):
            raise UsageError(f"{word or 'an argument'} is empty; give it a value or leave it out.")


def overall(codes: Sequence[int]) -> int:
    """The exit code over several photos: partial if some are worse than others."""
    failed = [code for code in codes if code not in (EXIT_DONE, EXIT_PARTIAL)]
    if len(failed) == len(codes):
        return failed[0]
    return EXIT_DONE if set(codes) == {EXIT_DONE} else EXIT_PARTIAL


@contextlib.contextmanager
def _photo_runner(
    out: Path, config: Config, run_options: SceneRunOptions, edits: OnEdited
) -> Iterator[Callable[[Inputs, str], Result]]:
    """A function that makes one photo's scene and shows progress under a title: by the stages here, or by the Prefect flow."""
    runtime, workers = run_options.runtime(), run_options.workers()
    if run_options.as_flow():
        _need_prefect()
        from flows.parameters import Making, ObjectLimits, Shot
        from flows.scene import image_to_scene, views_to_scene
        from stages.run import Result

        making = Making(settings=config.model_dump(mode="json"), **run_options.as_parameters())
        pace = ObjectLimits(objects_at_once=workers)

        def flow(inputs: Inputs) -> dict[str, Any]:
            if inputs.others:
                shots = [
                    Shot(
                        image=str(each.photo),
                        masks=tuple(str(path) for path in each.masks),
                        depth=None if each.depth is None else str(each.depth),
                        camera=tuple(str(path) for path in each.camera),
                    )
                    for each in (inputs, *inputs.others)
                ]
                return views_to_scene(shots, str(out), inputs.folder, making=making, pace=pace, edits=edits)
            return image_to_scene(
                str(inputs.photo),
                str(out),
                inputs.name,
                [str(path) for path in inputs.masks],
                None if inputs.depth is None else str(inputs.depth),
                [str(path) for path in inputs.camera],
                [str(path) for path in inputs.meshes],
                making=making,
                pace=pace,
                edits=edits,
            )

        yield lambda inputs, title: Result.model_validate(flow(inputs))
        return
    from stages.replay import make_scene
    from stages.run import open_store
    from stages.workplace import workplace

    # It is absolute because other machines may have to find it.
    store = open_store(out.absolute() if run_options.ray else out)
    # Entered here, so that the weights stay loaded from one photo to the next.
    with workplace(store, [config], runtime, workers, isolate=run_options.isolate, ray=run_options.ray) as place:

        def run(inputs: Inputs, title: str) -> Result:
            with watching(title) as watch, place.submit(watch) as submit:
                return make_scene(inputs, config, store, runtime, submit, edits)

        yield run


def _need_prefect() -> None:
    from importlib.util import find_spec

    if find_spec("prefect") is None:
        raise WeightsError("this needs Prefect, which is not installed: pip install 'scenegen-3d[prefect]'")
    check_sibling("flows")


def _log_failure(error: Exception, subject: str = "") -> int:
    """Logs an error in one line, with its traceback if everything is logged. Returns its exit code."""
    traceback = logger.isEnabledFor(logging.DEBUG)
    if isinstance(error, ScenegenError):
        logger.error("%s%s", subject, error, exc_info=traceback)
        return error.exit_code
    if isinstance(error, MemoryError):
        logger.error("%sout of memory; try a smaller read.max_side, or --jobs 1.", subject, exc_info=traceback)
        return ResourceError.exit_code
    hint = "" if traceback else "; run again with -v for the traceback"
    text = " ".join(str(error).split())
    logger.error("%sunexpected %s: %s%s", subject, type(error).__name__, text, hint, exc_info=traceback)
    return ScenegenError.exit_code


def _say_result(result: Result, seconds: float) -> int:
    """One line on standard output: what was made, where its report is, how long it took. Returns the exit code."""
    count = f"{result.objects} object{'' if result.objects == 1 else 's'}"
    iou = "-" if result.silhouette_iou is None else f"{result.silhouette_iou:.3f}"
    _say(f"{result.folder}/report.html: {count}, silhouette IoU {iou}, {result.state}, {seconds:.1f} s")
    return EXIT_DONE if result.state == "complete" else EXIT_PARTIAL


def _show(table: Table) -> None:
    """A table on standard output. It is never cut off unless that is a terminal."""
    from rich.console import Console

    # Names and paths are not markup.
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(table, "")


def _say(text: str) -> None:
    sys.stdout.write(f"{redacted(text)}\n")
    sys.stdout.flush()
