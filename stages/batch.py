"""Many photos: which are done, which are left, and the work on one photo from listing to published scene.

A photo is done if its published manifest says so and the files that it names exist: the same content, configuration,
weights and version, and no object missing. So there is no other record that could be wrong. A scene that somebody has edited is
theirs: it stays as it is, and where its files are damaged, it is made as its edits say. In addition, every attempt
leaves its row in the store's folder (`.scenegen/batch/<name>.json`). It tells what failed, and a finished photo need not
be downloaded, nor its files read, again.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
import logging
import statistics
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from queue import LifoQueue
from typing import Annotated, Literal

from platformdirs import user_cache_path
from pydantic import AfterValidator, ValidationError

from scenegen import __version__
from scenegen.compute.runtime import Runtime
from scenegen.config import Config
from scenegen.errors import EXIT_DONE, EXIT_PARTIAL, InputError, ResourceError, ScenegenError, TransientError
from scenegen.export.manifest import Manifest, heal, read_manifest
from scenegen.inputs.listing import Skipped
from scenegen.inputs.sources import Item, fetch
from scenegen.messages.progress import Watch, log_photo
from scenegen.messages.redaction import redacted, redacted_url
from scenegen.records import Artifact, Record, Shown, digest_json
from scenegen.store.destination import check_path
from scenegen.store.digest import identity, sha256_file
from scenegen.store.folder import Folder, LocalFolder, RemoteFolder, is_url, local_path, refuse_network
from scenegen.store.store import MANIFEST, STAGING, STORE, Store, disk_errors, input_digest
from stages.cluster.joining import join_cluster
from stages.cluster.objects import cluster_submit
from stages.cluster.photos import run_on_cluster
from stages.graph import weights_in_use
from stages.layers import Watching, finishing_for, in_process_on, local_submit, run_on
from stages.replay import is_edited, make_scene
from stages.run import content_digest, ingested
from stages.stage import Layers
from stages.workers.device import queue_of
from stages.workers.pool import run_in_children
from stages.workers.worker import Worker

logger = logging.getLogger(__name__)

ROWS = f"{STORE}/batch"
OVERLAY = "overlay.png"
THUMBNAIL_SIDE = 160
LOOKS = 8
"""Photos checked at once to see which are done."""


class Job(Record):
    """What a batch does with every photo."""

    out: str
    """Folder or URL that gets one folder per photo."""
    config: Config
    weights: dict[str, dict[str, str]]
    """Revisions of the weights in use, by stage."""
    device: str = "auto"
    devices: tuple[str, ...] = ()
    """Devices whose processes run the stages that need one, as `scenegen.compute.devices.process_devices` decides."""
    cluster: str | None = None
    """Address of the Ray cluster that makes the photos and their objects, if any."""
    offline: bool = False
    cache: str | None = None
    """Folder in which scenes are made if `out` is a URL; by default in the user's cache."""


class Row(Record):
    """One scene of a batch, as its table shows it."""

    image: Annotated[str, AfterValidator(redacted_url)]
    name: str
    state: Literal["complete", "partial", "failed", "missing", "skipped"]
    """`partial`: an object failed, or none was found. `missing`: not tried yet with this content and configuration.
    `skipped`: not a photo, by its name or kind."""
    objects: int = 0
    failed_objects: int = 0
    silhouette_iou: float | None = None
    """Median over the objects."""
    seconds: float = 0.0
    """Computing time of the scene's stages, whenever they ran; for a failed photo, wall time of its last attempt."""
    output: Shown = ""
    """Folder or URL of the scene."""
    error: Shown = ""
    exit_code: int = EXIT_DONE
    """The exit code that the main command would have had."""
    transient: bool = False
    """Whether it failed because of a network or device that may be back soon."""
    config_sha256: str
    photo_sha256: str | None = None
    """Of the photo; if it is not alone, one digest for all files of the scene."""
    version: str | None = None
    """`Item.version` of that content."""
    thumbnail: str = ""
    """JPEG of the scene over the photo, as a data URI."""
    files: str = ""
    """As `published_files` of the scene, whose files were then as its manifest says."""

    @property
    def done(self) -> bool:
        """Whether another run would give the same result."""
        return self.state in ("complete", "partial") and self.failed_objects == 0


@dataclass(frozen=True)
class Outlet:
    """The folders in which a job's scenes are made and published."""

    local: Path
    """Folder in which scenes are made, next to the store: the published one, or a cache of it."""
    store: Store
    folder: Folder
    """The published folder."""
    remote: RemoteFolder | None
    """`folder`, if it is not on this machine."""

    def address(self, name: str) -> str:
        """Path or URL of a scene, for display."""
        return str(self.local / name) if self.remote is None else self.remote.address(name)


def plan(out: str, config: Config, runtime: Runtime, cache: Path | None = None, several: bool = False) -> Job:
    """The job of making scenes in `out`; with `several`, each of several photos.

    Raises:
        UsageError: if there can be no scene in such a folder.
        WeightsError: if weights that the configuration names are missing.
    """
    if not is_url(out):
        check_path(local_path(out))
    return Job(
        out=out if is_url(out) else str(local_path(out).absolute()),
        config=config,
        device=runtime.device,
        offline=runtime.offline,
        weights=weights_in_use(config, several),
        cache=None if cache is None else str(cache.absolute()),
    )


def open_outlet(job: Job) -> Outlet:
    """The outlet of `job`, after repairing what killed runs have left on this machine.

    Raises:
        ResourceError: if something needs repair and the disk cannot be written.
    """
    remote = RemoteFolder(job.out) if is_url(job.out) else None
    if remote is None:
        local = Path(job.out)
        store = Store(local / STORE)
        folder: Folder = LocalFolder(local, local / STORE / STAGING)
    else:
        cache = user_cache_path("scenegen") / "batch" if job.cache is None else Path(job.cache)
        local = cache / hashlib.sha256(job.out.rstrip("/").encode()).hexdigest()[:16]
        store = Store(local / STORE, mirror=RemoteFolder(remote.address(STORE)))
        folder = remote
    store.sweep()
    heal(store, local)
    return Outlet(local, store, folder, remote)


def standing(items: Sequence[Item], job: Job) -> tuple[Row, ...]:
    """The state of every photo before anything is run, in the order of `items`. Local photos are hashed, but not decoded.

    Raises:
        ResourceError: if the outputs cannot be reached.
    """
    outlet = open_outlet(job)
    with ThreadPoolExecutor(LOOKS) as looking:
        return tuple(looking.map(lambda item: _stands(item, job, outlet), items))


def pending(
    items: Sequence[Item], rows: Sequence[Row], failed: bool = False, missing: bool = False
) -> tuple[Item, ...]:
    """The photos that are left to do.

    Args:
        items: photos of the batch.
        rows: state of each photo.
        failed: choose those that failed or lack an object.
        missing: choose those that have not been tried yet. With neither or both, all that are not done.
    """
    wanted = {"failed", "partial"} if failed and not missing else {"missing"} if missing and not failed else None
    return tuple(
        item for item, row in zip(items, rows, strict=True) if not row.done and (wanted is None or row.state in wanted)
    )


def run_item(item: Item, job: Job, watch: Watch | None = None) -> Row:
    """Makes and publishes one scene, unless it is there. Every failure becomes a row.

    Args:
        item: the photo, or several of one scene.
        job: what to do with it.
        watch: told what becomes of its stages.
    """
    log_photo(item.name)
    start = time.perf_counter()
    digest = None
    try:
        for image in item.photos:
            if job.offline and is_url(image):
                refuse_network(image, "SOURCE")
        outlet = open_outlet(job)
        runtime = Runtime(device=job.device, offline=job.offline)
        with outlet.store.staging() as folder:
            with disk_errors(folder):
                inputs = item.inputs(
                    [_fetched(image, folder / str(number)) for number, image in enumerate(item.photos)]
                )
                sources = [ingested(each, outlet.store.ingest) for each in (inputs, *inputs.others)]
            digest = content_digest(sources)
            row = _done(item, job, outlet, digest)
            if row is None:
                at_once, process = 1, None
                if job.devices:
                    workers = workers_on(job.devices)
                    at_once = workers.at_once
                    process = run_on(workers.idle, in_process_on(job.devices), workers.finishers)
                with ThreadPoolExecutor(at_once) as executor:
                    watching = Watching(watch or (lambda event: None))
                    layers = Layers((watching.running,), process)
                    submit = watching.submit(local_submit(outlet.store, runtime, executor, layers))
                    if job.cluster is not None:
                        join_cluster(job.cluster)
                        submit = cluster_submit(submit, outlet.store, runtime)
                    make_scene(inputs, job.config, outlet.store, runtime, submit, "apply")
                manifest = deliver(outlet, item.name)
                files = published_files(outlet, item.name, manifest) or ""
                row = _row(item, job, outlet, manifest).model_copy(update={"files": files})
    except Exception as error:
        message, code = described(error)
        logger.error("%s", message, exc_info=logger.isEnabledFor(logging.DEBUG))
        row = failed_row(item, job, message, code, time.perf_counter() - start, digest)
        row = row.model_copy(update={"transient": isinstance(error, TransientError)})
    keep(row, job)
    log_photo("")
    return row


@dataclass(frozen=True)
class CardWorkers:
    """The processes that this one keeps for the stages of its photos, so that every photo finds its weights loaded. They end
    with it."""

    idle: LifoQueue[Worker]
    """One, which takes a device that no other process uses."""
    finishers: LifoQueue[Worker] | None
    at_once: int
    """Objects made at once: on the device, and beside it."""


@functools.cache
def workers_on(devices: tuple[str, ...]) -> CardWorkers:
    """One set for the devices of a batch. The processes that share them share the cores too."""
    distinct = tuple(dict.fromkeys(devices))
    finishing = finishing_for(distinct)
    share = max(1, finishing // len(distinct)) if finishing else 0
    finishers = queue_of([Worker() for _ in range(share)]) if share else None
    return CardWorkers(queue_of([Worker(*distinct)]), finishers, 1 + share)


def _fetched(image: str, folder: Path) -> Path:
    folder.mkdir()
    return fetch(image, folder)


def _content_of(scene: Manifest) -> str:
    """The digest of the files of a scene that was made."""
    return content_digest([scene.source, *(other.source for other in scene.others)])


def _in_place(path: Path) -> Artifact:
    """A file as it would be in a store.

    Raises:
        InputError: as `input_digest`.
    """
    digest, size = input_digest(path)
    return Artifact(path=digest, sha256=digest, bytes=size)


def _unmade(manifest: Manifest) -> int:
    """How many parts another run may make. Photos of several that cannot be used stay so."""
    return sum(failure.object is not None for failure in manifest.failures)


def run_items(
    items: Sequence[Item],
    job: Job,
    workers: int | None,
    timeout_s: float,
    work: Callable[..., Row] = run_item,
) -> Generator[Row, None, None]:
    """Runs the photos in killable processes, and yields their rows as they end.

    A photo that takes longer than `timeout_s` is stopped and fails. One whose process dies is tried once more.

    Args:
        items: the photos.
        job: what to do with them. If it names a cluster, they run there.
        workers: how many side by side; None means one for each device of the job, or each core of the cluster.
        timeout_s: for one photo, in seconds.
        work: what makes one.
    """
    task = functools.partial(work, job=job)
    if job.cluster is None:
        running = run_in_children(items, task, workers or len(job.devices) or 1, timeout_s)
    else:
        running = run_on_cluster(job.cluster, items, task, workers, timeout_s)
    with contextlib.closing(running) as ends:
        for end in ends:
            if end.result is not None:
                yield end.result
                continue
            logger.error("%s: %s", end.task.name, end.reason)
            row = failed_row(end.task, job, end.reason, ResourceError.exit_code, end.seconds, None)
            keep(row, job)
            yield row


def failed_row(item: Item, job: Job, error: str, code: int, seconds: float, digest: str | None) -> Row:
    """The row of a photo that has failed; `digest` of its content, if that could be read."""
    return Row(
        image=item.image,
        name=item.name,
        state="failed",
        seconds=round(seconds, 3),
        error=error,
        exit_code=code,
        config_sha256=_config_digest(job),
        photo_sha256=digest,
        version=item.version,
    )


def skipped_rows(skipped: Sequence[Skipped], job: Job) -> tuple[Row, ...]:
    """A row for everything in the source that is not worked on: skipped files and unreadable folders."""
    return tuple(
        Row(
            image=item.place,
            name="",
            state="failed" if item.failed else "skipped",
            error=item.reason,
            exit_code=InputError.exit_code if item.failed else EXIT_DONE,
            config_sha256=_config_digest(job),
        )
        for item in skipped
    )


def keep(row: Row, job: Job) -> None:
    """Saves a row for later runs. If that fails, they check the scene themselves, and a warning says so."""
    try:
        outlet = open_outlet(job)
        with disk_errors(outlet.local):
            outlet.folder.write(_row_name(row.name), row.model_dump_json(indent=1).encode())
    except ScenegenError as error:
        logger.warning("%s: cannot save its row: %s", row.name, error)


def described(error: Exception) -> tuple[str, int]:
    """An error in one line, and its exit code."""
    if isinstance(error, ScenegenError):
        return redacted(str(error)), error.exit_code
    if isinstance(error, MemoryError):
        return "out of memory; try a smaller read.max_side, or fewer --workers.", ResourceError.exit_code
    text = redacted(" ".join(str(error).split()))
    return f"unexpected {type(error).__name__}: {text}", ScenegenError.exit_code


def _stands(item: Item, job: Job, outlet: Outlet) -> Row:
    last = _last_row(item, outlet)
    digest = None
    if not any(map(is_url, item.photos)):
        with contextlib.suppress(InputError):  # running it reports the error
            inputs = item.inputs([local_path(image) for image in item.photos])
            digest = content_digest([ingested(each, _in_place) for each in (inputs, *inputs.others)])
    elif last is not None and item.version is not None:
        digest = last.photo_sha256
    row = None if digest is None else _done(item, job, outlet, digest, log=logging.WARNING)
    if row is not None:
        return row
    if (
        last is not None
        and not last.done
        and last.config_sha256 == _config_digest(job)
        and (digest is None or last.photo_sha256 in (None, digest))
    ):
        return last
    return Row(
        image=item.image,
        name=item.name,
        state="missing",
        exit_code=EXIT_PARTIAL,
        config_sha256=_config_digest(job),
        version=item.version,
    )


def _done(item: Item, job: Job, outlet: Outlet, digest: str, log: int = logging.DEBUG) -> Row | None:
    """The row of a photo whose scene is published, or None; `log` is the level at which damage to it is logged."""
    manifest = _published(outlet.folder.read(f"{item.name}/{MANIFEST}"))
    if manifest is None or _content_of(manifest) != digest:
        return None
    if not is_edited(outlet.local / item.name, digest, outlet.store) and (
        _unmade(manifest)
        or manifest.environment.scenegen != __version__
        or not _same_config(manifest.config, job.config)
        or any(entry.weights != job.weights.get(entry.stage, {}) for entry in manifest.stages)
    ):
        return None
    files = published_files(outlet, item.name, manifest)
    last = _last_row(item, outlet)
    if files is None or (
        files and (last is None or last.files != files) and not _are_whole(outlet, item.name, manifest)
    ):
        logger.log(log, "%s: published files are missing or damaged; publishing the scene again", item.name)
        return None
    row = _row(item, job, outlet, manifest).model_copy(update={"files": files})
    if last is None or last.files != files:
        keep(row, job)
    return row


def published_files(outlet: Outlet, name: str, manifest: Manifest) -> str | None:
    """A text that changes whenever a file of a published scene does; None if one is missing or of another size. It is empty
    if files are elsewhere: they are written as a whole, and only their sizes can be queried."""
    if outlet.remote is not None:
        sizes = outlet.remote.sizes(name)
        return "" if all(sizes.get(file.name) == file.bytes for file in manifest.outputs) else None
    try:
        found = [(file, identity(outlet.local / name / file.name)) for file in manifest.outputs]
    except OSError:
        return None
    if any(size != file.bytes for file, (_, _, size, _, _) in found):
        return None
    return digest_json([[file.name, file.sha256, *seen] for file, seen in found])


def _are_whole(outlet: Outlet, name: str, manifest: Manifest) -> bool:
    try:
        return all(sha256_file(outlet.local / name / file.name) == file.sha256 for file in manifest.outputs)
    except OSError:
        return False


def _same_config(made: Config, wanted: Config) -> bool:
    """Whether a scene was made as configured. Objects that were regenerated since then are accepted."""
    if not wanted.objects:
        made = made.model_copy(update={"objects": {}})
    return made == wanted


def _row(item: Item, job: Job, outlet: Outlet, manifest: Manifest) -> Row:
    """The row of a published scene."""
    ious = [placed.scores.silhouette_iou for placed in manifest.objects]
    gone = [f"{failure.stage} {failure.object or ''}".strip() + f": {failure.error}" for failure in manifest.failures]
    last = _last_row(item, outlet)
    picture = ""
    if last is not None and last.done and last.config_sha256 == _config_digest(job):
        picture = last.thumbnail
    if not picture and any(file.name == OVERLAY for file in manifest.outputs):
        picture = thumbnail(outlet.folder.read(f"{item.name}/{OVERLAY}"))
    return Row(
        image=item.image,
        name=item.name,
        state=manifest.state,
        objects=len(manifest.objects),
        failed_objects=_unmade(manifest),
        silhouette_iou=statistics.median(ious) if ious else None,
        seconds=round(sum(entry.seconds for entry in manifest.stages), 3),
        output=outlet.address(item.name),
        error="; ".join(gone) if gone else "" if ious else "no object was found",
        exit_code=EXIT_DONE if manifest.state == "complete" else EXIT_PARTIAL,
        config_sha256=_config_digest(job),
        photo_sha256=_content_of(manifest),
        version=item.version,
        thumbnail=picture,
    )


def deliver(outlet: Outlet, name: str) -> Manifest:
    """Publishes the scene that was made in `outlet.local`. Returns its manifest.

    Raises:
        TransientError: if the published folder is elsewhere and cannot be reached.
    """
    manifest = read_manifest(outlet.local / name)
    if outlet.remote is not None:
        _upload(outlet, outlet.remote, name, manifest)
    return manifest


def _upload(outlet: Outlet, remote: RemoteFolder, name: str, manifest: Manifest) -> None:
    """Publishes a scene to the URL: the old manifest goes first and the new one comes last, so that whoever finds a
    manifest finds the files it names. The local copy is removed."""
    folder = outlet.local / name
    text = (folder / MANIFEST).read_bytes()
    old = remote.read(f"{name}/{MANIFEST}")
    if old != text or published_files(outlet, name, manifest) is None:
        remote.remove(f"{name}/{MANIFEST}")
        for file in manifest.outputs:
            remote.upload(folder / file.name, f"{name}/{file.name}")
        before = _published(old)
        stale = {file.name for file in before.outputs} if before is not None else set()
        for gone in sorted(stale - {file.name for file in manifest.outputs}):
            if ".." not in PurePosixPath(gone).parts:
                remote.remove(f"{name}/{gone}")
        remote.write(f"{name}/{MANIFEST}", text)
    with disk_errors(folder), outlet.store.staging() as trash:
        folder.rename(trash / "published")


def _published(content: bytes | None) -> Manifest | None:
    try:
        return None if content is None else Manifest.model_validate_json(content)
    except ValidationError:
        return None  # made by another version, or damaged: it is made again


def _last_row(item: Item, outlet: Outlet) -> Row | None:
    """The row that the last attempt at exactly this photo left."""
    content = outlet.folder.read(_row_name(item.name))
    try:
        row = None if content is None else Row.model_validate_json(content)
    except ValidationError:
        return None
    return row if row is not None and (row.image, row.version) == (redacted_url(item.image), item.version) else None


def _row_name(name: str) -> str:
    return f"{ROWS}/{name}.json"


def _config_digest(job: Job) -> str:
    return digest_json(job.config.model_dump(mode="json"))


def thumbnail(png: bytes | None) -> str:
    """A small JPEG of a PNG, as a data URI; empty if there is none or it cannot be read."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(png or b""), formats=("PNG",)) as picture:
            small = picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        logger.warning("cannot make a thumbnail: %s", error)
        return ""
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
