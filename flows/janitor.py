"""What a Prefect server does not do by itself: it ends runs whose process is gone, and starts crashed ones again.

The janitor is a deployment of its own, which looks at nothing but runs of scenegen's deployments. It remembers nothing and holds
nothing: what it does follows from the runs and heartbeats in the server's database alone, so it may be killed at any
moment, and so may the server. Prefect's own means do not survive that: a lease of a concurrency limit is in the server's
memory, and an automation waits for events that only the old server saw.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.states import Cancelled, Crashed, Scheduled
from pydantic import Field

from flows.deployments import our_deployments
from flows.logs import logging_to_prefect
from flows.retries import MAX_STARTS
from flows.runs import completed, drop_late_twins, patient_client, read_runs
from flows.times import HEARTBEAT_S, MEMORY, PENDING_S, SETTLED_S, SILENCE_S
from scenegen.compute.runtime import TAG

logger = logging.getLogger(__name__)

RESTART = f"{TAG}-restart"
"""Tag of the deployments whose crashed runs are started again. A batch takes care of its own runs."""
HEARTBEAT = "prefect.flow-run.heartbeat"


@dataclass(frozen=True)
class Mended:
    """What the janitor has done, by names of runs."""

    ended: tuple[str, ...] = ()
    """Their process was gone."""
    started: tuple[str, ...] = ()
    """They are scheduled again."""

    def __str__(self) -> str:
        gone = (
            f"{len(self.ended)} ended whose process was gone ({', '.join(self.ended)})" if self.ended else "none ended"
        )
        again = (
            f"{len(self.started)} started again ({', '.join(self.started)})" if self.started else "none started again"
        )
        return f"Runs: {gone}; {again}."


@flow(name="janitor", flow_run_name="janitor", persist_result=False)
def janitor(silence_s: Annotated[float, Field(gt=HEARTBEAT_S, le=3600.0)] = SILENCE_S) -> dict[str, list[str]]:
    """Ends scenegen's runs whose process is gone, and starts again those that have crashed.

    Args:
        silence_s: seconds without a heartbeat after which a run's process is taken for dead.

    Returns:
        The names of those runs, which the state's message says too.
    """
    with logging_to_prefect(), patient_client() as client:
        drop_late_twins(client)
        done = mend(client, silence_s)
        if done != Mended():
            logger.warning("%s", done)
        return completed(str(done), {"ended": [*done.ended], "started": [*done.started]})


def mend(client: SyncPrefectClient, silence_s: float) -> Mended:
    """Does the janitor's work once. It takes `silence_s` seconds if a run is suspected, and no time otherwise.

    Args:
        client: of the server.
        silence_s: see `janitor`.
    """
    dead = _confirmed_dead(client, live_runs(client), silence_s)
    for run in dead:
        logger.warning("run %s is ended: its process has not been heard of", run.name)
        _end(client, run, silence_s)
    crashed = _crashed(client)
    for run in crashed:
        client.set_flow_run_state(run.id, Scheduled(message="It crashed, and is started again."))
    return Mended(tuple(run.name for run in dead), tuple(run.name for run in crashed))


def live_runs(client: SyncPrefectClient) -> list[FlowRun]:
    """The runs of scenegen's deployments that a process should be working for."""
    states = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    return _our_runs(client, TAG, states)


def silent(client: SyncPrefectClient, runs: Iterable[FlowRun], silence_s: float) -> list[FlowRun]:
    """Those of the runs that have given no sign of life for so long. Another one may just have lost its server for a while."""
    now = _now()
    return [run for run in runs if _quiet_since(run, now, silence_s) and not _heard(client, run, now, silence_s)]


def _now() -> datetime:
    return datetime.now(UTC)


def _wait(seconds: float) -> None:
    time.sleep(seconds)


def _our_runs(client: SyncPrefectClient, tag: str, states: list[StateType], **more: Any) -> list[FlowRun]:
    """The runs of scenegen's deployments with this tag that are in one of these states."""
    ours = [deployment.id for deployment in our_deployments(client)]
    chosen = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag]),
        deployment_id=FlowRunFilterDeploymentId(any_=ours),
        state=FlowRunFilterState.model_validate({"type": {"any_": states}}),
        **more,
    )
    return read_runs(client, chosen) if ours else []


def _quiet_since(run: FlowRun, now: datetime, silence_s: float) -> bool:
    """Whether the run has been in its state for so long that something should have been heard of it."""
    if run.state is None:
        return False
    patience = PENDING_S if run.state.is_pending() else silence_s
    return (now - run.state.timestamp).total_seconds() > patience


def _heard(client: SyncPrefectClient, run: FlowRun, now: datetime, silence_s: float) -> bool:
    """Whether the run has sent a heartbeat lately."""
    lately = EventFilter(
        occurred=EventOccurredFilter(since=now - timedelta(seconds=silence_s), until=now + timedelta(minutes=1)),
        event=EventNameFilter(name=[HEARTBEAT]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
    )
    return bool(client.read_events(lately, limit=1).events)


def _confirmed_dead(client: SyncPrefectClient, runs: Sequence[FlowRun], silence_s: float) -> list[FlowRun]:
    """Those of the runs whose process is gone: silent now, and still so after `silence_s` more seconds, in which a server
    that was down for a while has had time to hear of the living."""
    suspects = silent(client, runs, silence_s)
    if not suspects:
        return []
    logger.info("no sign of life from %s; looking again in %g s", ", ".join(run.name for run in suspects), silence_s)
    _wait(silence_s)
    ids = {run.id for run in suspects}
    return silent(client, [run for run in live_runs(client) if run.id in ids], silence_s)


def _end(client: SyncPrefectClient, run: FlowRun, silence_s: float) -> None:
    cancelling = run.state is not None and run.state.is_cancelling()
    message = f"No sign of life for {silence_s:g} s: the process, the machine or its network is gone."
    client.set_flow_run_state(
        run.id, Cancelled(message=message) if cancelling else Crashed(message=message), force=True
    )


def _crashed(client: SyncPrefectClient) -> list[FlowRun]:
    """Crashed runs that are to be started again."""
    now = _now()
    lately = FlowRunFilterEndTime(after_=now - MEMORY, before_=now - timedelta(seconds=SETTLED_S))
    runs = _our_runs(client, RESTART, [StateType.CRASHED], end_time=lately)
    # One more start than allowed says why it is the last: see `flows.retries.end_crash_loop`.
    return [run for run in runs if run.run_count <= MAX_STARTS]
