"""Many photos as a Prefect flow: made here, or spread over workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import FlowRun
from pydantic import Field

from flows.artifacts import Bar, show_row, show_table
from flows.fan_out import made_on_workers, make_on_workers
from flows.janitor import live_runs, mend
from flows.logs import logging_to_prefect
from flows.parameters import FanOut, FilesBeside, Making, PhotoLimits, Place, check_places, without_secrets
from flows.photos import count, make_photos
from flows.retries import end_crash_loop
from flows.runs import completed, drop_late_twins, patient_client, this_run
from flows.times import SILENCE_S
from scenegen.errors import ScenegenError, TransientError, UsageError
from scenegen.inputs.listing import log_skipped
from scenegen.inputs.sources import Item, Listing, list_photos, list_scenes
from scenegen.store.store import disk_errors
from stages.batch import Job, Row, open_outlet, pending, skipped_rows, standing
from stages.table import summary, write_table

logger = logging.getLogger(__name__)


@flow(name="batch-scenes", flow_run_name="{source}", persist_result=False)
def batch_scenes(
    source: Place,
    out: Place,
    which: Literal["all", "failed", "missing"] = "all",
    views: bool = False,
    files: FilesBeside = FilesBeside(),
    making: Making = Making(),
    work: PhotoLimits = PhotoLimits(),
    fan_out: FanOut = FanOut(),
    failed_share: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0,
) -> dict[str, int]:
    """Makes a scene of each photo that has none yet, and a table of all of them.

    The published scenes are the record of what is done, so a run that is restarted after any failure does what is left. A
    bad photo does not stop the others. A run that finds another one of its deployment at the same work leaves it to that one.

    Args:
        source: folder, glob pattern, list file (.txt, one path or URL per line), or a URL such as s3://bucket/photos.
        out: folder or URL that gets one folder per photo, batch.csv, batch.html and batch.json.
        which: all photos that are not done, those that failed, or those that have not been tried yet.
        views: whether the source is a folder or URL of folders, each with several photos of one scene.
        files: folders of masks, depth maps, cameras and meshes that belong to the photos, or to the scenes of several.
        making: how scenes are made.
        work: how each run works on its photos.
        fan_out: how photos are spread over workers.
        failed_share: the run fails if this share of all photos, or more, has failed; 0 if any has, 1 only if all have.

    Returns:
        The number of photos in each state, which the state's message says too. If another run is at work, the state is called
        Skipped.

    Raises:
        UsageError: if the source names nothing, or a URL contains a secret.
        ScenegenError: if the outputs cannot be reached, or too many photos failed.
    """
    end_crash_loop()
    check_places(making.offline, source=source, out=out, cache=work.cache, **files.places())
    with logging_to_prefect():
        if (other := _at_work(source, out)) is not None:
            logger.info("run %s is at work on %s", other.name, source)
            return completed(f"Run {other.name} ({other.id}) is at work on it.", count(()), name="Skipped")
        if fan_out.deployment is not None:
            making = made_on_workers(making, fan_out)
        job = making.job(out, work.cache, several=views)
        listing = _listed(source, views, files)
        items, aside = listing.items, skipped_rows(listing.skipped, job)
        rows = {row.name: row for row in standing(items, job)}
        todo = pending(items, tuple(rows.values()), failed=which == "failed", missing=which == "missing")
        logger.info("%d of %d photos left to do", len(todo), len(items))
        bar = Bar(out, len(todo))

        def show(ended: Sequence[Row]) -> None:
            rows.update({row.name: row for row in ended})
            bar.step(*(row.name for row in ended))

        if fan_out.deployment is None:
            _here(todo, making.here(job), work, show)
        elif todo:
            make_on_workers(todo, job, out, making, work, fan_out, show)
        outlet = open_outlet(job)
        with disk_errors(outlet.local):
            write_table((*rows.values(), *aside), outlet.folder)
        table = (*rows.values(), *aside)
        show_table(table, out)
        logger.info("%s", summary(table))
        _check_failed(table, failed_share)
        return completed(summary(table), count(table))


def _check_failed(table: Sequence[Row], failed_share: float) -> None:
    """Fails if too many photos have.

    Raises:
        ScenegenError: naming the first.
    """
    failed = [row for row in table if row.state == "failed"]
    if failed and len(failed) >= failed_share * sum(row.state != "skipped" for row in table):
        raise ScenegenError(f"{summary(table)}; the first that failed, {failed[0].name}: {failed[0].error}")


def _at_work(source: str, out: str) -> FlowRun | None:
    """Another run of this run's deployment that has begun the same work earlier, and is alive.

    Nothing has to be held for this and so nothing can be left behind, as the slot of a limit would be by a process that
    died: whoever is not alive is ended first, as the janitor does it. Its own queue may be full of janitors that have died.
    """
    run = this_run()
    if run is None or run.deployment_id is None:
        return None
    with patient_client() as client:
        drop_late_twins(client)
        mend(client, SILENCE_S)
        live = live_runs(client)
    begun = {each.id: (each.state.timestamp, each.id) for each in live if each.state and each.state.is_running()}
    same = (
        each
        for each in live
        if each.deployment_id == run.deployment_id
        and (each.parameters.get("source"), each.parameters.get("out")) == (source, out)
        and each.id in begun
        and run.id in begun
        and begun[each.id] < begun[run.id]
    )
    return next(same, None)


def _listed(source: str, views: bool, files: FilesBeside) -> Listing:
    options = files.options()
    listing = list_scenes(source, options) if views else list_photos(source, options)
    log_skipped(listing.skipped)
    for item in listing.items:
        try:
            for image in item.photos:
                without_secrets(image)
        except ValueError as error:
            raise UsageError(f"`source` {source} lists {item.name}: {error}") from error
    return listing


def _here(todo: Sequence[Item], job: Job, work: PhotoLimits, show: Callable[[Sequence[Row]], None]) -> None:
    """The photos in child processes of this run."""

    def show_all(row: Row) -> None:
        show([row])
        show_row(row, job.out)

    try:
        make_photos(todo, job, work, show_all)
    except TransientError as error:
        logger.error("%s", error)
