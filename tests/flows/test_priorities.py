"""What a worker is given next, by a real server: an artist's photo before the rest of the night's."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Scheduled

from flows import setup
from flows.scene import image_to_scene
from scenegen.compute.runtime import CPU_POOL, GPU_POOL, POOLS

pytestmark = pytest.mark.slow  # starts a server
PROJECT = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())
QUEUES = {entry["name"]: entry["work_pool"]["work_queue_name"] for entry in PROJECT["deployments"]}


def ask(client: SyncPrefectClient, pool: str, name: str) -> str:
    """A run in the queue of a deployment. Returns its name."""
    made = client.create_deployment(
        client.create_flow(image_to_scene), name, work_pool_name=pool, work_queue_name=QUEUES[name]
    )
    return client.create_flow_run_from_deployment(made, state=Scheduled()).name


@pytest.mark.parametrize("pool", POOLS)
def test_an_artist_s_photo_overtakes_the_night(server: None, pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "_check_server", lambda: None)
    more = "-gpu" if pool == GPU_POOL else ""
    with get_client(sync_client=True) as client:
        setup.set_up()
        night = [ask(client, pool, f"photos-to-scenes{more}") for _ in range(3)]
        batch = [ask(client, CPU_POOL, "nightly-batch")] if pool == CPU_POOL else []
        artist = ask(client, pool, f"image-to-scene{more}")
        janitor = [ask(client, CPU_POOL, "janitor")] if pool == CPU_POOL else []

        # A worker begins them in this order, as long as it has room.
        order = [given.flow_run.name for given in client.get_scheduled_flow_runs_for_work_pool(pool)]
    first = [*janitor, artist, *batch]
    assert order[: len(first)] == first
    assert sorted(order[len(first) :]) == sorted(night)
