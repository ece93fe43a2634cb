"""`scenegen prefect-setup`: what the deployments need on the server. Running it again changes only what differs."""

from __future__ import annotations

import logging

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from flows.deployments import our_deployments, read_deployments
from flows.janitor import Mended, live_runs, mend, silent
from flows.pools import PoolType, job_template
from flows.times import SILENCE_S
from scenegen.compute.runtime import POOLS
from scenegen.errors import UsageError

logger = logging.getLogger(__name__)

QUEUES = (("janitor", 10), ("interactive", None), ("batch", 20), ("photos", None))
"""Work queues of each pool, first the most urgent, with how many of their runs are worked on at once. Several janitors: those
whose machines have died must not keep the next from noticing. Runs of a batch wait for other runs, so their number is bounded."""


def set_up(kind: PoolType = "process") -> Mended:
    """Makes the work pools and their queues, and does the janitor's work once.

    Args:
        kind: type of the pools that are not there yet.

    Returns:
        What the janitor's work was.

    Raises:
        UsageError: if no server is set.
    """
    _check_server()
    with get_client(sync_client=True) as client:
        for pool in POOLS:
            _make_pool(client, pool, kind)
            for priority, (queue, limit) in enumerate(QUEUES, start=1):
                _make_queue(client, pool, queue, priority, limit)
        return mend(client, SILENCE_S)


def stuck() -> tuple[str, ...]:
    """Names of scenegen's runs whose process seems to be gone.

    Raises:
        UsageError: if no server is set.
    """
    _check_server()
    with get_client(sync_client=True) as client:
        return tuple(run.name for run in silent(client, live_runs(client), SILENCE_S))


def remove(dry: bool = False) -> tuple[str, ...]:
    """Removes what `set_up` and prefect.yaml have made. The history of past runs stays.

    Args:
        dry: only list it.

    Returns:
        What it was, for people to read.

    Raises:
        UsageError: if no server is set, or a deployment that is not scenegen's uses one of its work pools.
    """
    _check_server()
    with get_client(sync_client=True) as client:
        ours = our_deployments(client)
        pools = [pool.name for pool in client.read_work_pools(work_pool_filter=_named(*POOLS))]
        known = {deployment.id for deployment in ours}
        for pool in pools:
            users = read_deployments(client, pools=_named(pool))
            if others := [user.name for user in users if user.id not in known]:
                raise UsageError(
                    f"the work pool {pool} is used by deployments that are not scenegen's: {', '.join(others)}. Give them "
                    "another pool, or delete them; nothing was removed."
                )
        if not dry:
            for deployment in ours:
                client.delete_deployment(deployment.id)
            for pool in pools:
                client.delete_work_pool(pool)
    return (*(f"deployment {deployment.name}" for deployment in ours), *(f"work pool {pool}" for pool in pools))


def _check_server() -> None:
    if get_current_settings().api.url is None:
        raise UsageError("no Prefect server is set; set PREFECT_API_URL, for example to http://127.0.0.1:4200/api.")


def _named(*pools: str) -> WorkPoolFilter:
    return WorkPoolFilter(name=WorkPoolFilterName(any_=[*pools]))


def _make_pool(client: SyncPrefectClient, name: str, kind: PoolType) -> None:
    """A pool that is there stays as it is, whatever its type."""
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=job_template(kind, name)))


def _make_queue(client: SyncPrefectClient, pool: str, name: str, priority: int, limit: int | None) -> None:
    try:
        queue = client.read_work_queue_by_name(name, work_pool_name=pool)
    except ObjectNotFound:
        client.create_work_queue(name, work_pool_name=pool, priority=priority, concurrency_limit=limit)
        return
    # One that prefect deploy has made comes last, and has no limit.
    client.update_work_queue(queue.id, priority=priority, concurrency_limit=limit)
