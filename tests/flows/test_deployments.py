"""prefect.yaml, the parameters and the set-up agree with the code. No server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint
from prefect.states import Completed, Failed
from prefect.utilities.callables import parameter_schema
from pydantic import ValidationError

from flows.batch import batch_scenes
from flows.parameters import FanOut, Making, PhotoLimits, check_places, without_secrets
from flows.photos import photos_to_scenes
from flows.retries import AGAIN, may_pass
from flows.scene import image_to_scene, views_to_scene
from flows.setup import HEARTBEAT, HEARTBEAT_S, POOLS, RESTART, automations, set_up
from scenegen.config import MAX_SEED, preset_names
from scenegen.errors import InputError, ResourceError, TransientError, UsageError

PROJECT = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())
DEPLOYMENTS = {entry["name"]: entry for entry in PROJECT["deployments"]}


def test_the_deployments_asked_for_are_there() -> None:
    assert {"image-to-scene", "views-to-scene", "batch-scenes", "nightly-batch"} <= set(DEPLOYMENTS)
    assert len(DEPLOYMENTS) == len(PROJECT["deployments"])
    # A batch names the deployment after its pool.
    for pool in ("cpu", "gpu"):
        assert FanOut(pool=pool).pool == pool
        assert DEPLOYMENTS[pool]["entrypoint"] == "scenegen.cli.deployed.photos_to_scenes"
        assert DEPLOYMENTS[pool]["work_pool"]["name"] == pool


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_every_deployment_fits_its_flow(name: str) -> None:
    entry = DEPLOYMENTS[name]
    flow = load_flow_from_entrypoint(entry["entrypoint"], use_placeholder_flow=False)
    assert entry["work_pool"]["name"] in POOLS
    environment = entry["work_pool"]["job_variables"]["env"]
    assert int(environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]) == HEARTBEAT_S
    for schedule in entry.get("schedules", ()):
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    # A crashed run is started again by the server, but those of a batch by the batch.
    assert (RESTART in entry["tags"]) == (flow.name != photos_to_scenes.name)
    given = entry.get("parameters", {})
    if "schedules" in entry:
        # Nobody is there to fill in what is missing.
        assert set(parameter_schema(flow.fn).required) <= set(given)
    needed = {
        "source": "/photos",
        "out": "/scenes",
        "image": "/photo.jpg",
        "photos": [{"image": "/photo.jpg", "name": "photo"}],
        "views": [{"image": "/left.jpg"}, {"image": "/right.jpg", "depth": "/right.npy"}],
    }
    schema = parameter_schema(flow.fn)
    values = {name: needed[name] for name in schema.properties if name == "out" or name in schema.required}
    assert flow.validate_parameters({**values, **given})["out"] == given.get("out", "/scenes")


@pytest.mark.parametrize(
    "flow", [image_to_scene, views_to_scene, batch_scenes, photos_to_scenes], ids=lambda flow: flow.name
)
def test_the_form_shows_every_parameter_with_its_limits(flow: Any) -> None:
    schema = parameter_schema(flow.fn)
    assert all(field["description"] for field in schema.properties.values())
    making = schema.definitions["Making"]["properties"]
    assert making["preset"]["enum"] == preset_names()
    assert making["seed"]["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": MAX_SEED}
    assert (making["device"]["default"], making["offline"]["type"]) == ("auto", "boolean")
    assert all("title" in field for field in making.values())
    if flow is batch_scenes:
        assert schema.required == ["source", "out"]
        assert schema.properties["which"]["enum"] == ["all", "failed", "missing"]
        pools = schema.definitions["FanOut"]["properties"]["pool"]["anyOf"]
        assert pools == [{"enum": ["cpu", "gpu"], "type": "string"}, {"type": "null"}]
    if flow is photos_to_scenes:
        assert set(schema.definitions["Item"]["properties"]) == {"image", "others", "name", "version"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"making": {"preset": "pixal3d", "sed": 1}}, "sed"),
        ({"making": {"device": "gpu"}}, "device"),
        ({"fan_out": {"chunk": 0}}, "chunk"),
        ({"fan_out": {"pool": "tpu"}}, "pool"),
        ({"work": {"photo_timeout_s": 0}}, "photo_timeout_s"),
        ({"which": "new"}, "which"),
    ],
)
def test_bad_parameters_are_refused_before_anything_runs(values: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        batch_scenes.validate_parameters({"source": "/in", "out": "/out", **values})


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hunter2@bucket/photos",
        "sftp://me:hunter2@host/photos",
        "https://bucket.example/a.jpg?X-Amz-Signature=hunter2",
        "https://blob.example/a.jpg?sv=2024&SIG=hunter2",
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="into the worker's environment") as caught:
        without_secrets(url)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(Exception, match="into the worker's environment"):
        batch_scenes.validate_parameters({"source": url, "out": "/out"})


@pytest.mark.parametrize("place", ["/a:b@c/d", "s3://bucket/a", "sftp://me@host/a", "https://host/a.jpg?size=2", "x"])
def test_other_places_are_taken(place: str) -> None:
    assert without_secrets(place) == place


def test_a_listed_url_with_a_secret_is_refused(tmp_path: Path) -> None:
    listing = tmp_path / "photos.txt"
    listing.write_text("https://host/a.jpg\nhttps://me:hunter2@host/b.jpg\n")
    with pytest.raises(UsageError, match="lists b: the https:// URL contains a password") as caught:
        batch_scenes.fn(str(listing), str(tmp_path / "out"))
    assert "hunter2" not in str(caught.value)


def test_places_of_a_deployment_are_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    check_places(False, source="photos", out="s3://bucket/out")
    with pytest.raises(UsageError, match="`out` is s3://bucket/out, which needs the network"):
        check_places(True, source="photos", out="s3://bucket/out")
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "some")
    check_places(False, source="/photos", out="s3://bucket/out", cache=None, depth="file:///depth.npy")
    with pytest.raises(UsageError, match="`source` is photos; in a deployment it must be an absolute path or a URL"):
        check_places(False, source="photos", out="s3://bucket/out")


def test_only_what_may_pass_is_tried_again() -> None:
    assert AGAIN["retry_condition_fn"] is may_pass
    for error, again in (
        (TransientError("the store does not answer"), True),
        (ResourceError("the disk is full"), False),
        (InputError("no picture"), False),
        (ValueError("a bug"), False),
    ):
        assert may_pass(None, None, Failed(data=error)) is again  # type: ignore[arg-type]
    assert may_pass(None, None, Completed(data=1)) is False  # type: ignore[arg-type]


def test_silence_is_a_crash_and_a_crash_a_new_start() -> None:
    silent, crashed = automations(90)
    assert silent.trigger.after == {HEARTBEAT}
    assert silent.trigger.expect == {
        HEARTBEAT,
        *(f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Cancelled", "Crashed")),
    }
    assert silent.trigger.within.total_seconds() == 90
    assert silent.actions[0].state == "CRASHED"
    assert crashed.trigger.after == {"prefect.flow-run.Crashed"}
    assert crashed.trigger.within.total_seconds() == 60
    assert crashed.trigger.match_related.model_dump() == {
        "prefect.resource.role": "tag",
        "prefect.resource.id": f"prefect.tag.{RESTART}",
    }
    assert crashed.actions[0].state == "SCHEDULED"
    for gpus, silence in ((0, 90), (1, HEARTBEAT_S), (1, float("inf")), (1, float("nan"))):
        with pytest.raises(UsageError, match="must be at least 1"):
            set_up(gpus, silence)


def test_settings_reach_the_configuration() -> None:
    making = Making(preset="training-free", seed=5, settings={"read": {"max_side": 512}}, device="cpu", offline=True)
    config = making.config()
    assert (config.seed, config.read.max_side) == (5, 512)
    assert (making.runtime().device, making.runtime().offline) == ("cpu", True)
    with pytest.raises(UsageError, match="max_sid"):
        Making(settings={"read": {"max_sid": 512}}).config()
    with pytest.raises(ValidationError, match="photos_at_once"):
        PhotoLimits(photos_at_once=0)
