"""The janitor, against a real server: whom it ends, whom it starts again, and whom it leaves alone."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Completed, Crashed, Pending, Running, Scheduled

from flows import batch, janitor, setup
from flows.deployments import ENTRYPOINTS
from flows.janitor import HEARTBEAT, RESTART, Mended, mend
from flows.retries import MAX_STARTS
from flows.times import PENDING_S, SETTLED_S, SILENCE_S
from scenegen.compute.runtime import POOLS, TAG
from scenegen.errors import UsageError

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0
"""For an event to be in the server's database: many times what it takes on an idle machine."""


@pytest.fixture
def client(server: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client
        for deployment in client.read_deployments():
            client.delete_deployment(deployment.id)
        for run in client.read_flow_runs():
            client.delete_flow_run(run.id)


@flow
def theirs() -> None:
    """Another team's."""


def deploy(
    client: SyncPrefectClient,
    *tags: str,
    name: str = "some",
    pool: str | None = None,
    entrypoint: str = f"{ENTRYPOINTS}batch_scenes",
) -> uuid.UUID:
    flow_id = client.create_flow(theirs)
    return client.create_deployment(flow_id, name, tags=[*tags], work_pool_name=pool, entrypoint=entrypoint)


def begin(client: SyncPrefectClient, deployment: uuid.UUID, *states: State[Any], **options: Any) -> FlowRun:
    """A run of the deployment that has gone through the states, just now."""
    run = client.create_flow_run_from_deployment(deployment, **options)
    for state in states:
        client.set_flow_run_state(run.id, state, force=True)
    return client.read_flow_run(run.id)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets so many seconds pass for the janitor, and for heartbeats; the server's clock stands still."""

    def pass_by(seconds: float) -> None:
        monkeypatch.setattr(janitor, "_now", lambda: datetime.now(UTC) + timedelta(seconds=seconds))

    return pass_by


def state(client: SyncPrefectClient, run: FlowRun) -> StateType:
    found = client.read_flow_run(run.id).state
    assert found is not None
    return found.type


def beat(client: SyncPrefectClient, *runs: FlowRun) -> None:
    """Heartbeats of these runs, which are in the database when this returns."""
    for run in runs:
        emit_event(HEARTBEAT, {"prefect.resource.id": f"prefect.flow-run.{run.id}"}, janitor._now())
    end = time.monotonic() + PATIENCE_S
    while janitor.silent(client, runs, SILENCE_S):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_runs_whose_process_is_gone_are_ended_and_no_others(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch, later: Callable[[float], None]
) -> None:
    ours, others = deploy(client, TAG), deploy(client, "restart", "night", name="other")
    dead, late, alive = (begin(client, ours, Running()) for _ in range(3))
    pending = begin(client, ours, Pending())
    stopping = begin(client, ours, Running(), Cancelling())
    foreign = begin(client, others, Running())
    namesake = begin(client, deploy(client, TAG, RESTART, name="theirs", entrypoint="flow.py:made"), Running())
    by_hand = client.create_flow_run(theirs, state=Running(), tags=[TAG])
    waits = []

    def wait(seconds: float) -> None:
        # The server was down for a while, and hears of this one only now.
        waits.append(seconds)
        beat(client, late)

    monkeypatch.setattr(janitor, "_wait", wait)
    assert mend(client, SILENCE_S) == Mended()
    assert waits == []
    later(SILENCE_S + 10)
    beat(client, alive)
    mended = mend(client, SILENCE_S)
    assert waits == [SILENCE_S]
    assert mended.started == ()
    assert set(mended.ended) == {dead.name, stopping.name}
    assert (state(client, dead), state(client, stopping)) == (StateType.CRASHED, StateType.CANCELLED)
    assert {state(client, run) for run in (late, alive, foreign, namesake, by_hand)} == {StateType.RUNNING}
    assert state(client, pending) == StateType.PENDING
    # Nothing is left to do, so nobody is waited for.
    assert mend(client, SILENCE_S) == Mended()
    assert len(waits) == 1
    later(PENDING_S + 10)
    beat(client, alive, late)
    monkeypatch.setattr(janitor, "_wait", lambda seconds: None)
    assert mend(client, SILENCE_S).ended == (pending.name,)


def test_crashed_runs_are_started_again_a_few_times(client: SyncPrefectClient, later: Callable[[float], None]) -> None:
    ours, batchs = deploy(client, TAG, RESTART), deploy(client, TAG, name="of-a-batch")
    crashed = begin(client, ours, Running(), Crashed())
    a_batch_cares = begin(client, batchs, Running(), Crashed())
    given_up = begin(client, ours, *[Running(), Crashed()] * (MAX_STARTS + 1))
    done = begin(client, ours, Running(), Completed())
    namesake = begin(client, deploy(client, TAG, RESTART, name="theirs", entrypoint="flow.py:made"), Crashed())
    assert mend(client, SILENCE_S) == Mended()
    later(SETTLED_S + 10)
    assert mend(client, SILENCE_S) == Mended(started=(crashed.name,))
    assert state(client, crashed) == StateType.SCHEDULED
    assert {state(client, run) for run in (a_batch_cares, given_up, namesake)} == {StateType.CRASHED}
    assert state(client, done) == StateType.COMPLETED


def test_a_batch_leaves_its_work_to_one_that_has_begun_it_earlier_and_is_alive(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch, later: Callable[[float], None]
) -> None:
    ours = deploy(client, TAG)
    places: dict[str, Any] = {"parameters": {"source": "/in", "out": "/out"}}
    first = begin(client, ours, Running(), **places)
    elsewhere = begin(client, ours, Running(), parameters={"source": "/in", "out": "/other"})
    mine = begin(client, ours, Running(), **places)
    monkeypatch.setattr(janitor, "_wait", lambda seconds: None)

    def at_work(run: FlowRun, out: str = "/out") -> uuid.UUID | None:
        monkeypatch.setattr(batch, "this_run", lambda: run)
        other = batch._at_work("/in", out)
        return None if other is None else other.id

    assert (at_work(mine), at_work(first), at_work(elsewhere, "/other")) == (first.id, None, None)
    later(SILENCE_S + 10)
    beat(client, first, mine)
    assert at_work(mine) == first.id
    # All places in the janitor's queue may be taken by such as this one.
    dead = begin(client, ours, Running())
    later(2 * SILENCE_S + 20)
    beat(client, mine)
    assert at_work(mine) is None
    assert {state(client, run) for run in (first, dead)} == {StateType.CRASHED}


def test_late_runs_of_a_schedule_are_dropped(client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import runs

    ours, others = deploy(client, TAG), deploy(client, TAG, name="other")
    now = datetime.now(UTC)

    def scheduled(deployment: uuid.UUID, minutes: float) -> FlowRun:
        return begin(client, deployment, state=Scheduled(scheduled_time=now + timedelta(minutes=minutes)))

    late, coming, foreign = scheduled(ours, -10), scheduled(ours, 10), scheduled(others, -10)
    mine = begin(client, ours, Running()).model_copy(update={"auto_scheduled": True})
    every = [run.model_copy(update={"auto_scheduled": True}) for run in (late, coming)]
    monkeypatch.setattr(runs, "this_run", lambda: mine)
    monkeypatch.setattr(runs, "read_runs", lambda client, chosen: every)
    runs.drop_late_twins(client)
    assert state(client, late) == StateType.CANCELLED
    assert state(client, coming) == state(client, foreign) == StateType.SCHEDULED


def test_set_up_makes_what_remove_removes_and_nothing_of_others(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "_check_server", lambda: None)
    client.create_work_pool(WorkPoolCreate(name="their-pool", type="process"))
    deploy(client, TAG, name="theirs", pool="their-pool", entrypoint="flow.py:made")
    for _ in range(2):
        assert setup.set_up() == Mended()
    for pool in POOLS:
        names = {queue.name: queue for queue in client.read_work_queues(work_pool_name=pool)}
        priorities = [names[name].priority for name, _ in setup.QUEUES]
        assert priorities == sorted(set(priorities))
        assert names["janitor"].concurrency_limit == 10
    deploy(client, TAG, name="ours", pool=POOLS[0])
    made = ("deployment ours", *(f"work pool {pool}" for pool in POOLS))
    assert setup.remove(dry=True) == made
    guest = deploy(client, TAG, name="guest", pool=POOLS[0], entrypoint="flow.py:made")
    with pytest.raises(UsageError, match=f"{POOLS[0]} is used by deployments that are not scenegen's: guest"):
        setup.remove()
    client.delete_deployment(guest)
    assert set(setup.remove()) == set(made)
    assert setup.remove() == ()
    assert [deployment.name for deployment in client.read_deployments()] == ["theirs"]
    assert client.read_work_pool("their-pool").name == "their-pool"
    with pytest.raises(ObjectNotFound):
        client.read_work_pool(POOLS[0])
    client.delete_work_pool("their-pool")
