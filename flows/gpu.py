"""Stages that need a device: each in the device's own process, and on a graphics card with a slot of Prefect's as well.

The slot of `stages.slot` keeps two processes of one machine off one card. Prefect's global concurrency limit `gpu` bounds
how many cards all machines use together, for this and whatever else shares them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from prefect.concurrency._asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency

from scenegen.config import Settings
from scenegen.doctor import GPU_LIMIT
from scenegen.errors import UsageError
from scenegen.records import Record
from stages.graph import R, Submit, in_process_on, run_by
from stages.stage import Stage, Work


def with_gpu_slot(submit: Submit, devices: Sequence[str]) -> Submit:
    """`submit`, with a slot of the limit `gpu` held while a stage runs that needs a device; on the CPU, `submit` itself.

    Args:
        submit: starts a stage. What `stages.graph.worker_submit` puts around `Stage.run` must lie outside of this.
        devices: those with processes for stages.
    """
    if set(devices) <= {"cpu"}:
        return submit

    def run(stage: Stage[R], given: tuple[Record | int, ...], config: Settings, work: Work, object_id: int | None) -> R:
        with gpu_slot():
            return stage.run(*given, config=config, work=work)

    return run_by(submit, in_process_on(devices), run)


@contextlib.contextmanager
def gpu_slot() -> Iterator[None]:
    """Waits for a slot of the limit `gpu`, and holds it while the block runs. The server takes it back when this process
    has died. Where the server cannot be asked for a moment, the work goes on.

    Raises:
        UsageError: if there is no such limit.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(concurrency(GPU_LIMIT, strict=True, raise_on_lease_renewal_failure=False))
        except ConcurrencySlotAcquisitionError as error:
            raise UsageError(
                f"the server has no concurrency limit `{GPU_LIMIT}`; make it: prefect gcl create {GPU_LIMIT} --limit N, "
                "with the number of cards, or python -P -m flows.setup --gpus N."
            ) from error
        yield
