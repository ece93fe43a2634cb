"""The photos of a batch, spread over the workers of a pool by runs of `photos-to-scenes`."""

from __future__ import annotations

import functools
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterState, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelling, Crashed

from flows.parameters import FanOut
from flows.photos import photos_to_scenes
from scenegen.errors import ResourceError, UsageError
from scenegen.inputs.sources import Item
from scenegen.records import digest_json
from stages.batch import Job, Row, failed_row, keep, standing

logger = logging.getLogger(__name__)

POLL_S = 2.0
LATE_S = 60.0
"""Seconds after which the log says that no worker has taken a run."""
SERVER_PATIENCE_S = 600.0
"""Seconds a batch waits for a server that is down, beyond what Prefect's client itself waits."""
PAGE = 200
"""Flow runs that the server lists in one answer."""
LIVE = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED]

Show = Callable[[Row], None]


@dataclass
class Chunk:
    """Photos of one run."""

    items: tuple[Item, ...]
    before: Mapping[str, Row]
    """Their rows, by name, when they were given to the run."""
    tries: int = 1
    warned: bool = False


def make_on_pool(todo: Sequence[Item], job: Job, parameters: Mapping[str, Any], fan_out: FanOut, show: Show) -> None:
    """Makes the photos in runs of `photos-to-scenes` on the pool, a limited number of runs at once.

    Runs of an earlier start of this batch, or of another batch that makes the same scenes, are waited for, not repeated.
    A run that crashed leaves its photos to another, `fan_out.tries` times. When this run is cancelled, so are the others.
    """
    tag = f"batch-{digest_json({'out': job.out, 'config': job.config.model_dump(mode='json')})[:16]}"
    values = {name: value.model_dump(mode="json") if name != "out" else value for name, value in parameters.items()}
    with get_client(sync_client=True) as client:
        running = {run.id: _chunk(_photos(run), job) for run in _live(client, tag)}
        taken = {item.name for chunk in running.values() for item in chunk.items}
        left = [item for item in todo if item.name not in taken]
        waiting = deque(left[start : start + fan_out.chunk] for start in range(0, len(left), fan_out.chunk))
        again: deque[Chunk] = deque()
        try:
            while waiting or again or running:
                while (waiting or again) and len(running) < fan_out.in_flight:
                    chunk = again.popleft() if again else _chunk(waiting.popleft(), job)
                    running[_start(chunk, values, tag, fan_out).id] = chunk
                for run in _ended(client, running, fan_out):
                    chunk = running.pop(run.id)
                    rest = _close(chunk, run, job, show, last=chunk.tries >= fan_out.tries)
                    if rest is not None:
                        again.append(rest)
                if running:
                    time.sleep(POLL_S)
        except BaseException:
            # A signal that ends this process leads here too. If the machine just goes down, the runs stay for the next start.
            if _is_cancelled(client):
                _cancel(client, running)
            raise


def _chunk(items: Sequence[Item], job: Job) -> Chunk:
    return Chunk(tuple(items), {row.name: row for row in standing(items, job)})


def _start(chunk: Chunk, values: Mapping[str, Any], tag: str, fan_out: FanOut) -> FlowRun:
    """A run for `chunk`: a new one, unless there is one for the same photos, with the same rows, that has not ended.

    Raises:
        UsageError: if there is no such deployment.
    """
    name = f"{photos_to_scenes.name}/{fan_out.pool}"
    photos = [item.model_dump(mode="json") for item in chunk.items]
    stand = [chunk.before[item.name].model_dump(mode="json", exclude={"thumbnail"}) for item in chunk.items]
    digest = digest_json({"photos": photos, "stand": stand, "values": dict(values)})

    ask = functools.partial(run_deployment, name, parameters={"photos": photos, **values}, timeout=0, tags=[tag])
    for number in itertools.count(chunk.tries):
        try:
            run: FlowRun = _patiently(functools.partial(ask, idempotency_key=f"{tag}-{digest}-{number}"))
        except ObjectNotFound as error:
            raise UsageError(f"there is no deployment {name}; create it with prefect deploy --all") from error
        if run.state is None or not run.state.is_final():
            return run
    raise AssertionError("unreachable")


def _live(client: SyncPrefectClient, tag: str) -> list[FlowRun]:
    """Runs with the tag that have not ended."""
    states = FlowRunFilterState.model_validate({"type": {"any_": LIVE}})
    chosen = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]), state=states)
    runs: list[FlowRun] = []
    while page := _patiently(
        functools.partial(client.read_flow_runs, flow_run_filter=chosen, limit=PAGE, offset=len(runs))
    ):
        runs += page
    return runs


def _photos(run: FlowRun) -> list[Item]:
    return [Item.model_validate(photo) for photo in run.parameters["photos"]]


def _ended(client: SyncPrefectClient, running: Mapping[UUID, Chunk], fan_out: FanOut) -> Iterator[FlowRun]:
    """The runs that have ended."""
    ids = list(running)
    for start in range(0, len(ids), PAGE):
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=ids[start : start + PAGE]))
        found = _patiently(functools.partial(client.read_flow_runs, flow_run_filter=chosen, limit=PAGE))
        for run in found:
            state = run.state
            if state is None or state.is_final():
                yield run
                continue
            waited = (datetime.now(UTC) - state.timestamp).total_seconds()
            if state.is_pending() and waited > fan_out.pending_timeout_s:
                # Its worker died between taking and starting it, before there was a heartbeat to miss.
                message = f"No process has begun this run within {fan_out.pending_timeout_s:g} s."
                client.set_flow_run_state(run.id, Crashed(message=message))
            elif state.is_scheduled() and waited > LATE_S and not running[run.id].warned:
                running[run.id].warned = True
                logger.warning(
                    "no worker has taken run %s for %.0f s: prefect worker start --pool %s",
                    run.name,
                    waited,
                    fan_out.pool,
                )
        for gone in set(ids[start : start + PAGE]) - {run.id for run in found}:
            yield FlowRun(id=gone, flow_id=gone, name="that was deleted")


def _close(chunk: Chunk, run: FlowRun, job: Job, show: Show, last: bool) -> Chunk | None:
    """Shows what became of the photos of a run that has ended. Returns those it did not get to, for another run."""
    state = run.state
    begun = {row.name: row for row in standing(chunk.items, job)}
    rest = []
    for item in chunk.items:
        row = begun[item.name]
        # The row is unchanged, so the run ended before the photo did.
        if row.done or (state is not None and state.is_completed()) or row != chunk.before[item.name]:
            show(row)
        else:
            rest.append(item)
    if not rest:
        return None
    how = "is gone" if state is None else f"ended as {state.name}: {state.message}"
    if state is not None and state.type == StateType.CANCELLED:
        logger.warning("run %s was cancelled with %d photos left", run.name, len(rest))
        return None
    if not last:
        logger.warning("run %s %s; another one gets its %d photos", run.name, how, len(rest))
        return Chunk(tuple(rest), {item.name: begun[item.name] for item in rest}, chunk.tries + 1)
    for item in rest:
        error = f"its run {run.name} {how} (try {chunk.tries})"
        logger.error("%s: %s", item.name, error)
        row = failed_row(item, job, error, ResourceError.exit_code, 0.0, None)
        keep(row, job)
        show(row)
    return None


def _is_cancelled(client: SyncPrefectClient) -> bool:
    """Whether this very run is being cancelled."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return False
    state = client.read_flow_run(context.flow_run.id).state
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def _cancel(client: SyncPrefectClient, running: Mapping[UUID, Chunk]) -> None:
    for run_id in running:
        try:
            client.set_flow_run_state(run_id, Cancelling(message="The batch was cancelled."))
        except (httpx.HTTPError, ObjectNotFound) as error:
            logger.warning("run %s could not be cancelled: %s", run_id, error)


def _patiently(ask: Callable[[], Any]) -> Any:
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
