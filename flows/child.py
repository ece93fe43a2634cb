"""What the child processes of a flow run do. They import Prefect only if they have a graphics card."""

from __future__ import annotations

import contextlib

from scenegen.inputs.sources import Item
from scenegen.messages.progress import log_event
from stages.batch import Job, Row, run_item
from stages.layers import Slot


def make_photo(item: Item, job: Job) -> Row:
    """`stages.batch.run_item`, with its stages in the log, and with one of Prefect's slots while a graphics card works."""
    slot: Slot = contextlib.nullcontext
    if not set(job.devices) <= {"cpu"}:
        from flows.gpu import slot_on

        slot = slot_on(job.devices)
    return run_item(item, job, slot, log_event)
