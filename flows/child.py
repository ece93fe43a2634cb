"""What the child processes of a flow run do. They import Prefect only where they have a graphics card."""

from __future__ import annotations

import functools

from scenegen.sources import Item
from stages.batch import Job, Row, run_item


def make_photo(item: Item, job: Job) -> Row:
    """`stages.batch.run_item`, with a slot of Prefect's besides while a graphics card is at work."""
    if set(job.devices) <= {"cpu"}:
        return run_item(item, job)
    from flows.gpu import with_gpu_slot

    return run_item(item, job, functools.partial(with_gpu_slot, devices=job.devices))
