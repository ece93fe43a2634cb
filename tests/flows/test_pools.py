"""What the worker of a Docker or Kubernetes pool makes of the deployments: their own code, without an engine or a cluster."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.pools import ENTRYPOINT, LOCKS, USER, job_template
from scenegen.compute.runtime import CPU_POOL, GPU_POOL, POOLS

ROOT = Path(__file__).parents[2]
PROJECT = yaml.safe_load((ROOT / "prefect.yaml").read_text())
CONTAINERFILE = (ROOT / "Containerfile").read_text()
RUN = FlowRun(id=UUID(int=1), flow_id=UUID(int=2), name="table, object 3")
KINDS = ("docker", "kubernetes")


def placeholders(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set().union(*map(placeholders, value.values()))
    if isinstance(value, list):
        return set().union(*map(placeholders, value))
    return set(re.findall(r"{{ (\w+) }}", value)) if isinstance(value, str) else set()


def configured(kind: str, pool: str, server: str) -> Any:
    """What the worker starts a run with."""
    module = pytest.importorskip(
        f"prefect_{kind}.worker", reason=f"the worker's package prefect-{kind} is not installed"
    )
    of = {"docker": "DockerWorkerJobConfiguration", "kubernetes": "KubernetesWorkerJobConfiguration"}
    entry = next(entry for entry in PROJECT["deployments"] if entry["work_pool"]["name"] == pool)
    values = entry["work_pool"]["job_variables"]
    with temporary_settings({PREFECT_API_URL: server}):
        made = asyncio.run(getattr(module, of[kind]).from_template_and_values(job_template(kind, pool), values))
        made.prepare_for_flow_run(RUN, flow=SimpleNamespace(name="image-to-scene", id=RUN.flow_id, labels={}))
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pool", POOLS)
def test_every_placeholder_is_a_variable(kind: Any, pool: str) -> None:
    template = job_template(kind, pool)
    named = set(template["variables"]["properties"])
    assert placeholders(template["job_configuration"]) == named
    # What prefect.yaml and the worker set.
    assert named >= {"env", "command", "name", "labels", "image"}
    assert job_template("process", pool) == {}


@pytest.mark.parametrize("pool", POOLS)
def test_a_container_of_the_image_runs_the_flow(pool: str) -> None:
    made = configured("docker", pool, "http://10.0.0.1:4200/api")
    assert made.command == "prefect flow-run execute"
    assert made.container_create_kwargs["entrypoint"] == ENTRYPOINT
    assert made.env["PREFECT_API_URL"] == "http://10.0.0.1:4200/api"
    assert made.env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert made.env["PREFECT__FLOW_RUN_ID"] == str(RUN.id)
    assert made.image == {CPU_POOL: "scenegen:latest", GPU_POOL: "scenegen:cuda"}[pool]
    assert ("device_requests" in made.container_create_kwargs) == (pool == GPU_POOL)
    assert (f"{LOCKS}:{LOCKS}" in made.volumes) == (pool == GPU_POOL)
    docker = pytest.importorskip("docker")
    # The client takes it so.
    taken = {name: value for name, value in made.container_create_kwargs.items() if name in ("device_requests", "init")}
    docker.types.HostConfig(version="1.44", **taken)
    assert docker.types.Healthcheck(**made.container_create_kwargs["healthcheck"])["Test"] == ["NONE"]


@pytest.mark.parametrize("pool", POOLS)
def test_a_job_of_the_cluster_runs_the_flow(pool: str) -> None:
    made = configured("kubernetes", pool, "https://prefect.example/api")
    client = pytest.importorskip("kubernetes_asyncio.client")
    pod = made.job_manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (container["command"], container["args"]) == (ENTRYPOINT, ["prefect", "flow-run", "execute"])
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    assert env["PREFECT_API_URL"] == "https://prefect.example/api"
    assert env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert container["resources"]["limits"].get("nvidia.com/gpu") == (1 if pool == GPU_POOL else None)
    assert pod["securityContext"]["runAsUser"] == USER
    assert container["envFrom"] == [{"secretRef": {"name": "scenegen", "optional": True}}]
    # Every name is one of the API's.
    for found, kind in (
        (pod, client.V1PodSpec),
        (container, client.V1Container),
        (made.job_manifest["spec"], client.V1JobSpec),
    ):
        assert set(found) - {"parallelism", "completions"} <= set(kind.attribute_map.values())


def test_the_image_is_what_the_pools_take_it_for() -> None:
    assert f"useradd --uid {USER} " in CONTAINERFILE
    assert f"USER {USER}:{USER}" in CONTAINERFILE
    assert 'ENTRYPOINT ["scenegen"]' in CONTAINERFILE
    assert "VOLUME /data" in CONTAINERFILE
    assert re.search(r"ENV PATH=/opt/scenegen/bin:\$PATH", CONTAINERFILE)
