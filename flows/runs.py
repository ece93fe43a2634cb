"""What flow runs there are on the server, and which of them this is."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId, FlowRunFilterState
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Cancelled, Completed

logger = logging.getLogger(__name__)

T = TypeVar("T")

PAGE = 200
"""Flow runs that the server lists in one answer."""
POLL_S = 2.0
SERVER_PATIENCE_S = 600.0
"""Seconds a server that is down is waited for, beyond what Prefect's client itself waits."""


@contextlib.contextmanager
def patient_client() -> Iterator[SyncPrefectClient]:
    """Prefect's client, each of whose requests waits for a server that is down for a while. Prefect itself gives up after
    seconds, and a run that asks meanwhile would fail. In a flow run it is the run's own client, until the block ends."""
    with get_client(sync_client=True) as client:
        ask = client.request

        def request(*words: Any, **options: Any) -> Any:
            return patiently(functools.partial(ask, *words, **options))

        client.request = request  # type: ignore[method-assign]
        try:
            yield client
        finally:
            client.request = ask  # type: ignore[method-assign]


def this_run() -> FlowRun | None:
    """The flow run that this is part of."""
    context = FlowRunContext.get()
    return None if context is None else context.flow_run


def read_runs(client: SyncPrefectClient, chosen: FlowRunFilter) -> list[FlowRun]:
    """All runs that the filter lets through, however many."""
    runs: list[FlowRun] = []
    while page := client.read_flow_runs(flow_run_filter=chosen, limit=PAGE, offset=len(runs)):
        runs += page
    return runs


def is_cancelled(client: SyncPrefectClient) -> bool:
    """Whether this very run is being cancelled."""
    run = this_run()
    state = None if run is None else client.read_flow_run(run.id).state
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def completed(message: str, data: T, name: str | None = None) -> T:
    """What a flow returns to end in a completed state with this message. Whoever calls the flow gets `data`."""
    state: Any = Completed(name=name, message=message, data=data)
    return cast(T, state)


def drop_late_twins(client: SyncPrefectClient) -> None:
    """Cancels the runs that the schedule of this run's deployment has made for moments that are past: this run does their
    work. They pile up while no worker runs."""
    run = this_run()
    if run is None or run.deployment_id is None or not run.auto_scheduled:
        return
    late = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[run.deployment_id]),
        state=FlowRunFilterState.model_validate({"type": {"any_": [StateType.SCHEDULED]}}),
    )
    now = datetime.now(UTC)
    for twin in read_runs(client, late):
        if twin.auto_scheduled and twin.run_count == 0 and twin.expected_start_time and twin.expected_start_time <= now:
            client.set_flow_run_state(twin.id, Cancelled(message=f"Late; run {run.name} does its work."))


def patiently(ask: Callable[[], Any]) -> Any:
    """The server's answer; a server that is down for a while is waited for."""
    end = time.monotonic() + SERVER_PATIENCE_S
    while True:
        try:
            return ask()
        except (httpx.TransportError, PrefectHTTPStatusError) as error:
            refused = isinstance(error, PrefectHTTPStatusError) and error.response.status_code < 500
            if refused or time.monotonic() > end:
                raise
            logger.warning("the server does not answer (%s); asking again", type(error).__name__)
            time.sleep(POLL_S)
