"""What needs a graphics card runs in the card's own process, and with one of Prefect's slots.

The slot of `scenegen.compute.slot` keeps two processes of one machine off one card. Prefect's global concurrency limit `gpu`
bounds how many cards all machines use together, for this and whatever else shares them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from prefect.concurrency._asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency

from scenegen.compute.runtime import GPU_LIMIT
from scenegen.errors import UsageError
from stages.layers import Slot


def slot_on(devices: Sequence[str]) -> Slot:
    """For `stages.layers.on_devices`: `gpu_slot` if the devices are graphics cards; nothing on the CPU."""
    return contextlib.nullcontext if set(devices) <= {"cpu"} else gpu_slot


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
