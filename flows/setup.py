"""`scenegen prefect-setup`: what the deployments need on the server. Running it again changes only what differs."""

from __future__ import annotations

from datetime import timedelta

from prefect.automations import AutomationCore, ChangeFlowRunState, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound

from flows.parameters import LONGEST_S
from scenegen.compute.runtime import GPU_LIMIT, POOLS
from scenegen.errors import UsageError

HEARTBEAT = "prefect.flow-run.heartbeat"
HEARTBEAT_S = 30
"""Seconds between heartbeats, as PREFECT_FLOWS_HEARTBEAT_FREQUENCY in the deployments; the least that Prefect allows."""
ENDS = ("Completed", "Failed", "Cancelled", "Crashed")
RESTART_S = 60
"""Seconds a crashed run waits before it is started again. A worker reports the same crash twice, up to half a minute apart:
an earlier start would be taken for the one that crashed."""
RESTART = "restart"
"""Tag of the deployments whose crashed runs are started again. A batch takes care of its own runs."""


def set_up(gpus: int, silence_s: float) -> None:
    """Makes the work pools, the concurrency limit of the cards, and the automations against zombies.

    Args:
        gpus: total number of graphics cards over all machines: slots of the limit `gpu`.
        silence_s: seconds without a heartbeat after which a run counts as crashed.

    Raises:
        UsageError: for numbers out of range, or a work pool of another type.
    """
    if gpus < 1 or not HEARTBEAT_S < silence_s <= LONGEST_S:
        raise UsageError(
            f"`gpus` is {gpus} and `silence` {silence_s}; `gpus` must be at least 1, and `silence` above {HEARTBEAT_S} and at "
            f"most {LONGEST_S:g}."
        )
    with get_client(sync_client=True) as client:
        for pool in POOLS:
            _make_pool(client, pool)
        client.upsert_global_concurrency_limit_by_name(GPU_LIMIT, gpus)
        for automation in automations(silence_s):
            _make_automation(client, automation)


def automations(silence_s: float) -> tuple[AutomationCore, ...]:
    """What the server does by itself: a run that sends no more heartbeats is CRASHED, and a crashed one is started again.

    Args:
        silence_s: how long a run may be silent.
    """
    return (
        AutomationCore(
            name="scenegen: a silent run has crashed",
            description=f"No heartbeat for {silence_s:g} s: the process, the machine or its network is gone.",
            trigger=EventTrigger(
                after={HEARTBEAT},
                expect={HEARTBEAT, *(f"prefect.flow-run.{end}" for end in ENDS)},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=silence_s),
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"No heartbeat for {silence_s:g} s.")],
        ),
        AutomationCore(
            name="scenegen: a crashed run is started again",
            description="Runs that end themselves after too many starts are left alone: they end as Failed.",
            trigger=EventTrigger(
                after={"prefect.flow-run.Crashed"},
                expect={f"prefect.flow-run.{state}" for state in ("Scheduled", "Pending", "Running")},
                match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{RESTART}"},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=RESTART_S),
            ),
            actions=[ChangeFlowRunState(state=StateType.SCHEDULED, message="It crashed, and is started again.")],
        ),
    )


def _make_pool(client: SyncPrefectClient, name: str) -> None:
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        return
    if pool.type != "process":
        raise UsageError(f"work pool {name} is of type {pool.type}; it must be a process pool: delete or rename it.")


def _make_automation(client: SyncPrefectClient, automation: AutomationCore) -> None:
    found = client.read_automations_by_name(automation.name)
    if found:
        client.update_automation(found[0].id, automation)
    else:
        client.create_automation(automation)
