"""What the child processes of a flow run do. They do not import Prefect."""

from __future__ import annotations

from scenegen.inputs.sources import Item
from scenegen.messages.progress import log_event
from stages.batch import Job, Row, run_item


def make_photo(item: Item, job: Job) -> Row:
    """`stages.batch.run_item`, with its stages in the log."""
    return run_item(item, job, watch=log_event)
