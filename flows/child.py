"""What the child processes of a flow run do. They need not import Prefect unless they have a graphics card."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from scenegen.runtime import Runtime
from scenegen.sources import Item
from scenegen.store import Store
from stages.batch import Job, Row, run_item
from stages.devices import devices
from stages.graph import Submit, local_submit, worker_submit
from stages.worker import device_workers


def hands(runtime: Runtime, objects_at_once: int) -> list[str]:
    """A device for each object that may be worked on at once: each card, or `objects_at_once` times the CPU."""
    names = devices(runtime)
    return names * objects_at_once if names == ["cpu"] else names


def make_photo(item: Item, job: Job, objects_at_once: int, object_timeout_s: float) -> Row:
    """`stages.batch.run_item`, with its objects made in the processes of the devices."""

    def submit_to(store: Store, runtime: Runtime) -> Submit:
        return _submit_to_devices(runtime.device, objects_at_once, object_timeout_s)(store, runtime)

    return run_item(item, job, submit_to)


@functools.cache
def _submit_to_devices(
    device: str, objects_at_once: int, object_timeout_s: float
) -> Callable[[Store, Runtime], Submit]:
    """Made once a process, so that the weights which the devices' processes have loaded serve every photo. They end
    with this process."""
    names = hands(Runtime(device=device), objects_at_once)
    workers = device_workers(names, object_timeout_s)
    idle = workers.__enter__()
    executor = ThreadPoolExecutor(len(names))

    def submit_to(store: Store, runtime: Runtime) -> Submit:
        submit = local_submit(store, runtime, executor, limit=len(names))
        if any(name != "cpu" for name in names):
            from flows.gpu import with_gpu_slot

            submit = with_gpu_slot(submit, names)
        return worker_submit(submit, idle)

    return submit_to
