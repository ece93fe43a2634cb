"""Many photos as a Prefect flow: made here, or spread over the workers of a pool."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Literal

from prefect import flow

from flows.artifacts import Bar, show_row, show_table
from flows.fan_out import make_on_pool
from flows.logs import logging_to_prefect
from flows.parameters import FanOut, Making, PhotoLimits, Place, check_places, without_secrets
from flows.photos import count, make_photos
from flows.retries import end_crash_loop
from scenegen.errors import ScenegenError, TransientError, UsageError
from scenegen.inputs.listing import log_skipped
from scenegen.inputs.sources import Item, Listing, list_photos, list_scenes
from scenegen.store.store import disk_errors
from stages.batch import Job, Row, open_outlet, pending, skipped_rows, standing
from stages.table import summary, write_table

logger = logging.getLogger(__name__)


@flow(name="batch-scenes", persist_result=False)
def batch_scenes(
    source: Place,
    out: Place,
    which: Literal["all", "failed", "missing"] = "all",
    views: bool = False,
    making: Making = Making(),
    work: PhotoLimits = PhotoLimits(),
    fan_out: FanOut = FanOut(),
) -> dict[str, int]:
    """Makes a scene of each photo that has none yet, and a table of all of them.

    The published scenes are the record of what is done, so a run that is restarted after any failure does what is left. A
    bad photo does not stop the others.

    Args:
        source: folder, glob pattern, list file (.txt, one path or URL per line), or a URL such as s3://bucket/photos.
        out: folder or URL that gets one folder per photo, batch.csv, batch.html and batch.json.
        which: all photos that are not done, those that failed, or those that have not been tried yet.
        views: whether the source is a folder or URL of folders, each with several photos of one scene.
        making: how scenes are made.
        work: how each run works on its photos.
        fan_out: how photos are spread over workers.

    Returns:
        The number of photos in each state.

    Raises:
        UsageError: if the source names nothing, or a URL contains a secret.
        ScenegenError: if the outputs cannot be reached, or every photo failed.
    """
    end_crash_loop()
    check_places(making.offline, source=source, out=out, cache=work.cache)
    job = making.job(out, work.cache, several=views)
    with logging_to_prefect():
        listing = _listed(source, views)
        items, aside = listing.items, skipped_rows(listing.skipped, job)
        rows = {row.name: row for row in standing(items, job)}
        todo = pending(items, tuple(rows.values()), failed=which == "failed", missing=which == "missing")
        logger.info("%d of %d photos left to do", len(todo), len(items))
        bar = Bar(out, len(todo))

        def show(row: Row) -> None:
            rows[row.name] = row
            bar.step(row.name)

        if fan_out.pool is None:
            _here(todo, job, work, show)
        elif todo:
            make_on_pool(todo, job, {"out": out, "making": making, "work": work}, fan_out, show)
        outlet = open_outlet(job)
        with disk_errors(outlet.local):
            write_table((*rows.values(), *aside), outlet.folder)
        show_table((*rows.values(), *aside), out)
        counts = count((*rows.values(), *aside))
        logger.info("%s", summary((*rows.values(), *aside)))
        failed = [row for row in (*rows.values(), *aside) if row.state == "failed"]
        if len(failed) == len(rows) + sum(row.state == "failed" for row in aside):
            raise ScenegenError(f"every photo failed; the first one: {failed[0].error}")
        return counts


def _listed(source: str, views: bool) -> Listing:
    listing = list_scenes(source) if views else list_photos(source)
    log_skipped(listing.skipped)
    for item in listing.items:
        try:
            for image in item.photos:
                without_secrets(image)
        except ValueError as error:
            raise UsageError(f"`source` {source} lists {item.name}: {error}") from error
    return listing


def _here(todo: Sequence[Item], job: Job, work: PhotoLimits, show: Callable[[Row], None]) -> None:
    """The photos in child processes of this run."""

    def show_all(row: Row) -> None:
        show(row)
        show_row(row)

    try:
        make_photos(todo, job, work, show_all)
    except TransientError as error:
        logger.error("%s", error)
