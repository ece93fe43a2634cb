"""What the child processes of a flow run do. They import Prefect only where they have a graphics card."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from scenegen.progress import log_event
from scenegen.sources import Item
from stages.batch import Job, Row, run_item
from stages.graph import Submit
from stages.run import watched


def make_photo(item: Item, job: Job) -> Row:
    """`stages.batch.run_item`, with its stages in the log, and a slot of Prefect's while a graphics card is at work."""
    return run_item(item, job, functools.partial(_around, devices=job.devices))


def _around(submit: Submit, devices: Sequence[str]) -> Submit:
    if not set(devices) <= {"cpu"}:
        from flows.gpu import with_gpu_slot

        submit = with_gpu_slot(submit, devices)
    return watched(submit, log_event)
