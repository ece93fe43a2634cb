"""prefect.yaml, the parameters and the set-up agree with the code. No server."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.schemas.schedules import CronSchedule
from prefect.events import AutomationCore
from prefect.flows import load_flow_from_entrypoint
from prefect.states import Completed, Failed
from prefect.utilities.callables import parameter_schema
from pydantic import ValidationError

from flows import parameters
from flows.batch import batch_scenes
from flows.janitor import RESTART, janitor
from flows.parameters import SECRET_FREE, Making, PhotoLimits, check_places, without_secrets
from flows.photos import photos_to_scenes
from flows.retries import AGAIN, may_pass
from flows.scene import image_to_scene, regenerate_object, views_to_scene
from flows.setup import POOLS, QUEUES
from flows.times import HEARTBEAT_S
from scenegen.compute import devices
from scenegen.compute.runtime import TAG
from scenegen.config import MAX_SEED, preset_names
from scenegen.errors import InputError, ResourceError, TransientError, UsageError

PROJECT = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())
PAGE = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text()
DEPLOYMENTS = {entry["name"]: entry for entry in PROJECT["deployments"]}


def test_the_deployments_asked_for_are_there() -> None:
    both = {"image-to-scene", "views-to-scene", "regenerate-object", "photos-to-scenes"}
    assert {*both, *(f"{name}-gpu" for name in both), "batch-scenes", "nightly-batch", "janitor"} == set(DEPLOYMENTS)
    assert len(DEPLOYMENTS) == len(PROJECT["deployments"])
    for name in both:
        assert DEPLOYMENTS[name]["entrypoint"] == DEPLOYMENTS[f"{name}-gpu"]["entrypoint"]
        assert DEPLOYMENTS[f"{name}-gpu"]["parameters"]["making"] == {"require_card": True}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_every_deployment_fits_its_flow(name: str) -> None:
    entry = DEPLOYMENTS[name]
    flow = load_flow_from_entrypoint(entry["entrypoint"], use_placeholder_flow=False)
    assert entry["work_pool"]["name"] in POOLS
    assert entry["work_pool"]["work_queue_name"] in dict(QUEUES)
    environment = entry["work_pool"]["job_variables"]["env"]
    assert int(environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]) == HEARTBEAT_S
    for schedule in entry.get("schedules", ()):
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    # A crashed run is started again by the janitor, but those of a batch by the batch, and the janitor by its schedule.
    assert (RESTART in entry["tags"]) == (flow.name not in (photos_to_scenes.name, janitor.name))
    assert not any(key in entry for key in ("concurrency_limit", "work_queue_name"))
    stated = entry.get("parameters", {})
    if "schedules" in entry:
        # Nobody is there to fill in what is missing.
        assert set(parameter_schema(flow.fn).required) <= set(stated)
    needed = {
        "source": "/photos",
        **({} if "out" in stated else {"out": "/scenes"}),
        "image": "/photo.jpg",
        "photos": [{"image": "/photo.jpg", "name": "photo"}],
        "views": [{"image": "/left.jpg"}, {"image": "/right.jpg", "depth": "/right.npy"}],
        "folder": "/scenes/photo",
        "object_id": 3,
    }
    schema = parameter_schema(flow.fn)
    values = {
        name: needed[name]
        for name in schema.properties
        if name in needed and (name == "out" or name in schema.required)
    }
    assert (
        flow.validate_parameters({**values, **stated}).items()
        >= {name: value for name, value in {**values, **stated}.items() if isinstance(value, str)}.items()
    )


@pytest.mark.parametrize(
    "flow",
    [image_to_scene, views_to_scene, regenerate_object, batch_scenes, photos_to_scenes],
    ids=lambda flow: flow.name,
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
    if flow is photos_to_scenes:
        assert set(schema.definitions["Item"]["properties"]) == {"image", "others", "beside", "name", "version"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"making": {"preset": "pixal3d", "sed": 1}}, "sed"),
        ({"making": {"device": "gpu"}}, "device"),
        ({"fan_out": {"chunk": 0}}, "chunk"),
        ({"fan_out": {"deployment": ""}}, "deployment"),
        ({"failed_share": 1.5}, "failed_share"),
        ({"work": {"photo_timeout_s": 0}}, "photo_timeout_s"),
        ({"which": "new"}, "which"),
    ],
)
def test_bad_parameters_are_refused_before_anything_runs(values: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        batch_scenes.validate_parameters({"source": "/in", "out": "/out", **values})


def patterns(schema: Any) -> list[str]:
    """Of everything in a schema that is a place."""
    if isinstance(schema, dict):
        own = [schema["pattern"]] if schema.get("type") == "string" and "://" in schema.get("pattern", "") else []
        return own + [pattern for value in schema.values() for pattern in patterns(value)]
    return [pattern for value in schema for pattern in patterns(value)] if isinstance(schema, list) else []


@pytest.mark.parametrize(
    ("flow", "places"),
    [(image_to_scene, 6), (views_to_scene, 6), (regenerate_object, 1), (batch_scenes, 6), (photos_to_scenes, 1)],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_server_knows_what_a_place_may_be(flow: Any, places: int) -> None:
    found = patterns(parameter_schema(flow.fn).model_dump())
    assert found == [SECRET_FREE] * places


@given(
    st.from_regex(
        r"(s3|https|sftp)://[a-z:@.]{0,8}(/[a-z:@=&?]{0,6}){0,2}(\?|&)?(sig|token|size|my_key|access_key_id)?=?x?",
        fullmatch=True,
    )
)
def test_the_server_refuses_nothing_that_the_flow_takes(place: str) -> None:
    if not re.match(SECRET_FREE, place):
        with pytest.raises(ValueError, match="into the worker's environment"):
            without_secrets(place)


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
    assert not re.match(SECRET_FREE, url)
    with pytest.raises(Exception, match="into the worker's environment"):
        batch_scenes.validate_parameters({"source": url, "out": "/out"})


@pytest.mark.parametrize("place", ["/a:b@c/d", "s3://bucket/a", "sftp://me@host/a", "https://host/a.jpg?size=2", "x"])
def test_other_places_are_taken(place: str) -> None:
    assert without_secrets(place) == place
    assert re.match(SECRET_FREE, place)


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


def test_a_machine_without_the_card_that_is_required_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Making(require_card=True)
    monkeypatch.setattr(parameters, "devices", lambda runtime: ["cpu"])
    with pytest.raises(ResourceError, match="a graphics card is required, but torch sees none on this machine"):
        card.devices({})
    monkeypatch.setattr(parameters, "devices", lambda runtime: ["cuda:0", "cuda:1"])
    monkeypatch.setattr(parameters, "process_devices", lambda *given: ("cuda:0", "cuda:1"))
    assert card.devices({}) == ("cuda:0", "cuda:1")
    monkeypatch.setattr(devices, "DRIVERS", ())
    with pytest.raises(ResourceError, match="`device` is 'cuda'"):
        Making(device="cuda").devices({})


def test_settings_reach_the_configuration() -> None:
    making = Making(preset="training-free", seed=5, settings={"read": {"max_side": 512}}, device="cpu", offline=True)
    config = making.config()
    assert (config.seed, config.read.max_side) == (5, 512)
    assert (making.runtime().device, making.runtime().offline) == ("cpu", True)
    with pytest.raises(UsageError, match="max_sid"):
        Making(settings={"read": {"max_sid": 512}}).config()
    with pytest.raises(ValidationError, match="photos_at_once"):
        PhotoLimits(photos_at_once=0)


def blocks(language: str) -> list[str]:
    """The code blocks of docs/deployment.md."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_names_what_is_there() -> None:
    assert set(re.findall(r"--pool (\S+)", PAGE)) - {"scenegen-%i"} == set(POOLS)
    assert set(re.findall(r"deployment run \S+/(\S+)", PAGE)) <= set(DEPLOYMENTS)
    (nightly,) = (yaml.safe_load(text)["nightly"] for text in blocks("yaml") if "nightly" in text)
    batch_scenes.validate_parameters(nightly)
    assert nightly["fan_out"]["deployment"] in DEPLOYMENTS
    for name in DEPLOYMENTS:
        assert f"`{name}`" in PAGE


def test_the_notification_of_the_page_is_an_automation_about_scenegen_alone() -> None:
    (text,) = (text for text in blocks("yaml") if "send-notification" in text)
    automation = AutomationCore.model_validate(yaml.safe_load(text))
    assert automation.trigger.match_related.model_dump() == {
        "prefect.resource.role": "tag",
        "prefect.resource.id": f"prefect.tag.{TAG}",
    }


def test_services_of_the_page_end_all_their_processes() -> None:
    server, worker = (configparser.ConfigParser(interpolation=None) for _ in range(2))
    for unit, text in zip((server, worker), blocks("ini"), strict=True):
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(text)
        assert unit["Service"]["Restart"] == "always"
        assert unit["Install"]["WantedBy"] == "multi-user.target"
    assert server["Service"]["ExecStart"].endswith("prefect server start --host 127.0.0.1 --port 4200")
    assert worker["Service"]["KillMode"] == "control-group"
