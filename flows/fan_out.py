"""The photos of a batch, spread over workers by runs of `photos-to-scenes`."""

from __future__ import annotations

import functools
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterState, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Crashed

from flows.parameters import FanOut, Making, PhotoLimits
from flows.photos import photos_to_scenes, run_name
from flows.runs import PAGE, POLL_S, is_cancelled, patient_client, patiently, read_runs
from scenegen.errors import ResourceError, UsageError
from scenegen.inputs.sources import Item
from scenegen.records import digest_json
from stages.batch import Job, Row, failed_row, keep, standing

logger = logging.getLogger(__name__)

LATE_S = 60.0
"""Seconds after which the log says that no worker has taken a run."""
LIVE = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED]

Show = Callable[[Sequence[Row]], None]


@dataclass
class Chunk:
    """Photos of one run."""

    items: tuple[Item, ...]
    before: Mapping[str, Row]
    """Their rows, by name, when they were given to the run."""
    tries: int = 1
    warned: bool = False


def made_on_workers(making: Making, fan_out: FanOut) -> Making:
    """How runs of the deployment make scenes: what the batch leaves open, the deployment says. That of the cards requires one.

    Raises:
        UsageError: if there is no such deployment.
    """
    with patient_client() as client:
        stated = _parameters(client, fan_out).get("making", {})
    return Making.model_validate({**stated, **making.model_dump(mode="json", exclude_unset=True)})


def make_on_workers(
    todo: Sequence[Item], job: Job, out: str, making: Making, work: PhotoLimits, fan_out: FanOut, show: Show
) -> None:
    """Makes the photos in runs of the deployment, a limited number of runs at once.

    Runs of an earlier start of this batch, or of another batch that makes the same scenes, are waited for, not repeated.
    A run that crashed leaves its photos to another, `fan_out.tries` times. When this run is cancelled, so are the others.
    """
    tag = f"batch-{digest_json({'out': job.out, 'config': job.config.model_dump(mode='json')})[:16]}"
    with patient_client() as client:
        stated = making.model_dump(mode="json", exclude_unset=True)
        values = {"out": out, "making": stated, "work": work.model_dump(mode="json")}
        running = {run.id: _chunk(_photos(run), job) for run in _live(client, tag)}
        taken = {item.name for chunk in running.values() for item in chunk.items}
        left = [item for item in todo if item.name not in taken]
        size = min(fan_out.chunk, max(1, math.ceil(len(left) / fan_out.in_flight)))
        waiting = deque(left[start : start + size] for start in range(0, len(left), size))
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
            if is_cancelled(client):
                _cancel(client, running)
            raise


def _chunk(items: Sequence[Item], job: Job) -> Chunk:
    return Chunk(tuple(items), {row.name: row for row in standing(items, job)})


def _start(chunk: Chunk, values: Mapping[str, Any], tag: str, fan_out: FanOut) -> FlowRun:
    """A run for `chunk`: a new one, unless there is one for the same photos, with the same rows, that has not ended."""
    photos = [item.model_dump(mode="json") for item in chunk.items]
    stand = [chunk.before[item.name].model_dump(mode="json", exclude={"thumbnail"}) for item in chunk.items]
    digest = digest_json({"photos": photos, "stand": stand, "values": dict(values)})

    ask = functools.partial(
        run_deployment,
        _name(fan_out),
        parameters={"photos": photos, **values},
        flow_run_name=run_name([item.name for item in chunk.items]),
        timeout=0,
        tags=[tag],
    )
    for number in itertools.count(chunk.tries):
        run: FlowRun = patiently(functools.partial(ask, idempotency_key=f"{tag}-{digest}-{number}"))
        if run.state is None or not run.state.is_final():
            return run
    raise AssertionError("unreachable")


def _name(fan_out: FanOut) -> str:
    return f"{photos_to_scenes.name}/{fan_out.deployment}"


def _parameters(client: SyncPrefectClient, fan_out: FanOut) -> Mapping[str, Any]:
    """Parameters that the deployment sets.

    Raises:
        UsageError: if there is no such deployment.
    """
    try:
        found = client.read_deployment_by_name(_name(fan_out))
    except ObjectNotFound as error:
        raise UsageError(f"there is no deployment {_name(fan_out)}; create it with prefect deploy --all") from error
    parameters: Mapping[str, Any] = found.parameters
    return parameters


def _live(client: SyncPrefectClient, tag: str) -> list[FlowRun]:
    """Runs with the tag that have not ended."""
    states = FlowRunFilterState.model_validate({"type": {"any_": LIVE}})
    chosen = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]), state=states)
    return read_runs(client, chosen)


def _photos(run: FlowRun) -> list[Item]:
    return [Item.model_validate(photo) for photo in run.parameters["photos"]]


def _ended(client: SyncPrefectClient, running: Mapping[UUID, Chunk], fan_out: FanOut) -> Iterator[FlowRun]:
    """The runs that have ended."""
    ids = list(running)
    for start in range(0, len(ids), PAGE):
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=ids[start : start + PAGE]))
        found = client.read_flow_runs(flow_run_filter=chosen, limit=PAGE)
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
                    "no worker has taken run %s for %.0f s: they are busy, or none runs; prefect worker start --pool %s",
                    run.name,
                    waited,
                    run.work_pool_name,
                )
        for gone in set(ids[start : start + PAGE]) - {run.id for run in found}:
            yield FlowRun(id=gone, flow_id=gone, name="that was deleted")


def _close(chunk: Chunk, run: FlowRun, job: Job, show: Show, last: bool) -> Chunk | None:
    """Shows what became of the photos of a run that has ended. Returns those it did not get to, for another run."""
    state = run.state
    rows = {row.name: row for row in standing(chunk.items, job)}
    ended = {
        row.name: row
        for row in rows.values()
        # An unchanged row: the run ended before the photo did.
        if row.done or (state is not None and state.is_completed()) or row != chunk.before[row.name]
    }
    show([*ended.values()])
    rest = [item for item in chunk.items if item.name not in ended]
    if not rest:
        return None
    how = "is gone" if state is None else f"ended as {state.name}: {state.message}"
    if state is not None and state.type == StateType.CANCELLED:
        logger.warning("run %s was cancelled with %d photos left", run.name, len(rest))
        return None
    if not last:
        logger.warning("run %s %s; another one gets its %d photos", run.name, how, len(rest))
        return Chunk(tuple(rest), {item.name: rows[item.name] for item in rest}, chunk.tries + 1)
    for item in rest:
        error = f"its run {run.name} {how} (try {chunk.tries})"
        logger.error("%s: %s", item.name, error)
        row = failed_row(item, job, error, ResourceError.exit_code, 0.0, None)
        keep(row, job)
        show([row])
    return None


def _cancel(client: SyncPrefectClient, running: Mapping[UUID, Chunk]) -> None:
    for run_id in running:
        try:
            client.set_flow_run_state(run_id, Cancelling(message="The batch was cancelled."))
        except (httpx.HTTPError, ObjectNotFound) as error:
            logger.warning("run %s could not be cancelled: %s", run_id, error)
