"""Several photos in one flow run, each in a child process that can be killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run, task_run
from pydantic import Field

from flows.artifacts import show_row
from flows.child import make_photo
from flows.logs import logging_to_prefect
from flows.parameters import MAX_CHUNK, Making, PhotoLimits, Place, check_places
from flows.retries import AGAIN
from flows.runs import completed
from scenegen.errors import TransientError
from scenegen.inputs.sources import Item
from stages.batch import Job, Row, run_items, standing
from stages.table import summary


def run_name(names: Sequence[str]) -> str:
    """Name of a run that works on these photos."""
    first, *others = names
    return f"{first} and {len(others)} more" if others else first


def _run_name() -> str:
    return run_name(
        [photo["name"] if isinstance(photo, dict) else photo.name for photo in flow_run.parameters["photos"]]
    )


@flow(name="photos-to-scenes", flow_run_name=_run_name, persist_result=False)
def photos_to_scenes(
    photos: Annotated[list[Item], Field(min_length=1, max_length=MAX_CHUNK)],
    out: Place,
    making: Making = Making(),
    work: PhotoLimits = PhotoLimits(),
) -> dict[str, int]:
    """Makes and publishes the scenes of some photos of a batch; finished ones stay as they are.

    A photo that fails does not stop the others. Its result is in its row next to the scenes, not in this run's state.

    Args:
        photos: as a batch has listed them.
        out: folder or URL that gets one folder per photo.
        making: how scenes are made.
        work: how this run works on them.

    Returns:
        The number of photos in each state, which the state's message says too.

    Raises:
        ScenegenError: if the outputs cannot be reached, or some photos keep failing because of a network or device.
    """
    check_places(making.offline, out=out, cache=work.cache)
    with logging_to_prefect():
        job = making.here(making.job(out, work.cache, several=any(photo.others for photo in photos)))
        make_photos(photos, job, work, lambda row: show_row(row, job.out))
        rows = standing(photos, job)
        return completed(summary(rows), count(rows))


def make_photos(
    items: Sequence[Item], job: Job, work: PhotoLimits, show: Callable[[Row], None], failed: bool = True
) -> None:
    """Runs the photos that are not done as one task of this flow, which retries those that may succeed later.

    Args:
        items: the photos.
        job: what to do with them.
        work: how many photos at once, and for how long.
        show: gets every row as it comes.
        failed: whether photos that have failed before are tried again.

    Raises:
        TransientError: if some photos still fail because of a network or device.
    """

    @task(name="photos", task_run_name="photos", persist_result=False, cache_policy=NO_CACHE, **AGAIN)
    def photos() -> None:
        again = (task_run.run_count or 1) > 1
        left = [
            item
            for item, row in zip(items, standing(items, job), strict=True)
            if not row.done and (row.transient or row.state == "missing" or (failed and not again))
        ]
        lost = []
        for row in run_items(left, job, work.photos_at_once, work.photo_timeout_s, make_photo):
            show(row)
            if row.transient:
                lost.append(row)
        if lost:
            raise TransientError(
                f"{len(lost)} of {len(items)} photos failed because of a network or device; the first one: {lost[0].error}"
            )

    photos()


def count(rows: Sequence[Row]) -> dict[str, int]:
    """The number of photos in each state."""
    states = ("complete", "partial", "failed", "missing")
    return {state: sum(row.state == state for row in rows) for state in states}
