"""What is tried again, and when that ends."""

from __future__ import annotations

from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.tasks import exponential_backoff

from scenegen.errors import ResourceError, TransientError

RETRIES = 3
FIRST_DELAY_S = 10
MAX_STARTS = 5
"""How often a crashing run is started before it is given up."""


def may_pass(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a task failed because of a network or a device, so that it may succeed when repeated. Never for bad input."""
    try:
        state.result()
    except TransientError:
        return True
    except Exception:  # noqa: BLE001 (it is only looked at)
        return False
    return False


AGAIN: dict[str, Any] = {
    "retries": RETRIES,
    "retry_delay_seconds": exponential_backoff(FIRST_DELAY_S),
    "retry_jitter_factor": 1.0,
    "retry_condition_fn": may_pass,
}
"""Arguments of a task that retries after 10, 20 and 40 seconds, each up to twice as long, so that many do not retry at once."""


def end_crash_loop() -> None:
    """Fails a flow run that has crashed too often: what took the process down would do it again.

    Raises:
        ResourceError: if it has.
    """
    context = FlowRunContext.get()
    starts = 0 if context is None or context.flow_run is None else context.flow_run.run_count
    if starts > MAX_STARTS:
        raise ResourceError(
            f"this run was started {starts} times, and each time its process was killed or the machine went down. "
            "Check the worker's log and the machine's memory, then run the deployment again."
        )
