"""Stages that need a device: each runs in the device's own process, and on a graphics card with one of Prefect's slots too.

The slot of `scenegen.compute.slot` keeps two processes of one machine off one card. Prefect's global concurrency limit `gpu`
bounds how many cards all machines use together, for this and whatever else shares them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from prefect.concurrency._asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency

from scenegen.compute.runtime import GPU_LIMIT
from scenegen.config import Settings
from scenegen.errors import UsageError
from stages.layers import in_process_on
from stages.stage import Held, Stage


def gpu_slots(devices: Sequence[str]) -> tuple[Held, ...]:
    """For `Layers.held`: holds a slot of the limit `gpu` while a stage that needs a device runs; nothing on the CPU.

    Args:
        devices: the devices that have processes for stages.
    """
    if set(devices) <= {"cpu"}:
        return ()
    needs_device = in_process_on(devices)

    def held(stage: Stage[Any], config: Settings, object_id: int | None) -> contextlib.AbstractContextManager[None]:
        return gpu_slot() if needs_device(stage, config, object_id) else contextlib.nullcontext()

    return (held,)


@contextlib.contextmanager
def gpu_slot() -> Iterator[None]:
    """Waits for a slot of the limit `gpu`, and holds it while the block runs. The server takes it back when this process
    has died. If the server does not answer for a moment, the work goes on.

    Raises:
        UsageError: if there is no such limit.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(concurrency(GPU_LIMIT, strict=True, raise_on_lease_renewal_failure=False))
        except ConcurrencySlotAcquisitionError as error:
            raise UsageError(
                f"the server has no concurrency limit `{GPU_LIMIT}`; create it with prefect gcl create {GPU_LIMIT} --limit N, "
                "where N is the number of cards, or with scenegen prefect-setup --gpus N."
            ) from error
        yield
