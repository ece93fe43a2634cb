"""Which deployments on the server are scenegen's: nothing acts on those of others, or on their runs."""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags, WorkPoolFilter
from prefect.client.schemas.responses import DeploymentResponse

from scenegen.compute.runtime import TAG

ENTRYPOINTS = "scenegen.cli.deployed."
"""Where their flows are, as in prefect.yaml. Others may use the tag too."""


def our_deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """Those with scenegen's tag that run scenegen's flows."""
    tagged = read_deployments(client, DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG])))
    return [deployment for deployment in tagged if (deployment.entrypoint or "").startswith(ENTRYPOINTS)]


def read_deployments(
    client: SyncPrefectClient, chosen: DeploymentFilter | None = None, pools: WorkPoolFilter | None = None
) -> list[DeploymentResponse]:
    """All deployments that the filters let through, however many."""
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(deployment_filter=chosen, work_pool_filter=pools, offset=len(found)):
        found += page
    return found
