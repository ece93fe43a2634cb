"""A batch spread over a pool: how many runs, which photos again, what is waited for. A stand-in plays the server."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled, Completed, Crashed, Pending, Running, Scheduled

from flows import fan_out as module
from flows import runs as server_runs
from flows.fan_out import made_on_workers, make_on_workers
from flows.parameters import FanOut, Making, PhotoLimits
from scenegen.config import load_config
from scenegen.errors import UsageError
from scenegen.inputs.sources import Item
from stages.batch import Job, Row

NOWHERE = httpx.Request("GET", "http://127.0.0.1/api")
JOB = Job(out="/scenes", config=load_config(), weights={})


def row(item: Item, state: Any, error: str = "") -> Row:
    return Row(image=item.image, name=item.name, state=state, error=error, config_sha256="c")


@dataclass
class Server:
    """Runs that end when they are looked at for the second time, as `end` says."""

    end: Callable[[FlowRun, list[Item]], State[Any]]
    rows: dict[str, Row]
    runs: dict[uuid.UUID, FlowRun] = field(default_factory=dict)
    keys: dict[str, uuid.UUID] = field(default_factory=dict)
    most: int = 0
    stated: dict[str, Any] = field(default_factory=dict)
    """Parameters that the deployment sets."""
    errors: list[Exception] = field(default_factory=list)
    """Raised by the next requests."""
    set_states: list[tuple[uuid.UUID, StateType]] = field(default_factory=list)

    def run_deployment(
        self, name: str, parameters: Any, flow_run_name: str, timeout: float, tags: list[str], idempotency_key: str
    ) -> FlowRun:
        assert (name, timeout) == ("photos-to-scenes/some", 0)
        if self.errors:
            raise self.errors.pop()
        if idempotency_key not in self.keys:
            run = FlowRun(
                flow_id=uuid.uuid4(),
                name=flow_run_name,
                parameters=parameters,
                tags=tags,
                state=Scheduled(),
                work_pool_name="theirs",
            )
            self.runs[run.id] = run
            self.keys[idempotency_key] = run.id
        live = [run for run in self.runs.values() if not run.state.is_final()]  # type: ignore[union-attr]
        self.most = max(self.most, len(live))
        return self.runs[self.keys[idempotency_key]]

    def read_deployment_by_name(self, name: str) -> Any:
        if name != "photos-to-scenes/some":
            raise ObjectNotFound(http_exc=Exception())
        return SimpleNamespace(parameters=self.stated)

    def read_flow_runs(self, flow_run_filter: Any, limit: int, offset: int = 0) -> list[FlowRun]:
        if flow_run_filter.id is None:
            tag = flow_run_filter.tags.all_[0]
            return [run for run in self.runs.values() if tag in run.tags and not run.state.is_final()][offset:]  # type: ignore[union-attr]
        found = [self.runs[run_id].model_copy() for run_id in flow_run_filter.id.any_]
        for run in found:
            if run.state is not None and run.state.is_scheduled():
                self.runs[run.id].state = Running()
            elif run.state is not None and run.state.is_running():
                photos = [Item.model_validate(photo) for photo in run.parameters["photos"]]
                self.runs[run.id].state = self.end(run, photos)
        return found

    def read_flow_run(self, run_id: uuid.UUID) -> FlowRun:
        return self.runs[run_id]

    def set_flow_run_state(self, run_id: uuid.UUID, state: State[Any]) -> None:
        self.set_states.append((run_id, state.type))
        self.runs[run_id].state = state

    def works(self, run: FlowRun, photos: list[Item]) -> State[Any]:
        for photo in photos:
            self.rows[photo.name] = row(photo, "complete")
        return Completed()

    @property
    def batches(self) -> list[list[str]]:
        return [[photo["name"] for photo in run.parameters["photos"]] for run in self.runs.values()]


ITEMS = [Item(image=f"/photos/{number}.jpg", name=str(number)) for number in range(10)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server(lambda run, photos: server.works(run, photos), {item.name: row(item, "missing") for item in ITEMS})

    monkeypatch.setattr(module, "patient_client", lambda: contextlib.nullcontext(server))
    monkeypatch.setattr(module, "run_deployment", server.run_deployment)
    monkeypatch.setattr(module, "standing", lambda items, job: tuple(server.rows[item.name] for item in items))
    monkeypatch.setattr(module, "POLL_S", 0)
    monkeypatch.setattr(server_runs, "POLL_S", 0)
    monkeypatch.setattr(module, "keep", lambda row, job: server.rows.update({row.name: row}))
    return server


def run(todo: list[Item], making: Making = Making(), deployment: str = "some", **options: Any) -> dict[str, Row]:
    shown: dict[str, Row] = {}
    fan_out = FanOut(deployment=deployment, **{"in_flight": 1, **options})
    making = made_on_workers(making, fan_out)
    make_on_workers(
        todo, JOB, "/scenes", making, PhotoLimits(), fan_out, lambda rows: shown.update({row.name: row for row in rows})
    )
    return shown


@pytest.mark.parametrize(("chunk", "in_flight", "runs"), [(1, 3, 10), (4, 2, 3), (500, 1, 1), (500, 4, 4)])
def test_every_photo_is_in_one_run_and_few_runs_are_in_flight(
    server: Server, chunk: int, in_flight: int, runs: int
) -> None:
    shown = run(ITEMS, chunk=chunk, in_flight=in_flight)
    assert sorted(shown) == sorted(item.name for item in ITEMS)
    assert {row.state for row in shown.values()} == {"complete"}
    assert (len(server.runs), server.most) == (runs, min(in_flight, runs))
    assert sorted(name for names in server.batches for name in names) == sorted(item.name for item in ITEMS)


def test_a_run_that_crashed_leaves_the_rest_to_another(server: Server) -> None:
    def end(run: FlowRun, photos: list[Item]) -> State[Any]:
        if len(server.runs) == 1:
            server.rows["0"] = row(photos[0], "complete")
            server.rows["1"] = row(photos[1], "failed", "no picture")
            return Crashed(message="signal 9")
        return server.works(run, photos)

    server.end = end
    shown = run(ITEMS[:4], chunk=4)
    assert server.batches == [["0", "1", "2", "3"], ["2", "3"]]
    assert [shown[str(number)].state for number in range(4)] == ["complete", "failed", "complete", "complete"]


def test_a_run_that_crashes_each_time_is_given_up(server: Server) -> None:
    server.end = lambda run, photos: Crashed(message="signal 9")
    shown = run(ITEMS[:2], chunk=2, tries=3)
    assert server.batches == [["0", "1"]] * 3
    assert {row.state for row in shown.values()} == {"failed"}
    assert "ended as Crashed: signal 9 (try 3)" in server.rows["1"].error


def test_a_photo_that_fails_anew_is_shown_and_not_run_again(server: Server) -> None:
    server.rows["0"] = row(ITEMS[0], "failed", "yesterday")

    def end(run: FlowRun, photos: list[Item]) -> State[Any]:
        server.rows["0"] = row(photos[0], "failed", "yesterday")  # the same words
        return Completed()

    server.end = end
    assert run(ITEMS[:1])["0"].error == "yesterday"
    assert len(server.runs) == 1


def test_runs_of_an_earlier_start_are_waited_for(server: Server) -> None:
    """The batch's own process was killed after it had asked for two runs."""
    server.end = lambda run, photos: (_ for _ in ()).throw(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(ITEMS, chunk=4, in_flight=2)
    assert server.set_states == []  # it was not cancelled
    server.end = server.works
    shown = run(ITEMS, chunk=4, in_flight=2)
    assert len(server.runs) == 4
    assert sorted(shown) == sorted(item.name for item in ITEMS)
    # Photos that stand as they did ask by the same key, and a run that has ended is not taken for theirs.
    before = len(server.keys)
    server.rows.update({item.name: row(item, "missing") for item in ITEMS})
    run(ITEMS, chunk=4, in_flight=2)
    assert len(server.keys) == before + 3  # those have ended: a new try has a new key
    assert all(key.rsplit("-", 1)[1] in ("1", "2") for key in server.keys)


def test_a_cancelled_run_is_not_doubled_and_a_cancelled_batch_cancels_its_runs(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.end = lambda run, photos: Cancelled()
    assert run(ITEMS[:2]) == {}
    assert len(server.runs) == 1
    monkeypatch.setattr(module, "is_cancelled", lambda client: True)
    server.end = lambda run, photos: (_ for _ in ()).throw(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(ITEMS[2:4], in_flight=2)
    assert [kind for _, kind in server.set_states] == [StateType.CANCELLING] * 2


def test_a_run_that_no_process_begins_counts_as_crashed(server: Server) -> None:
    old = datetime.now(UTC) - timedelta(seconds=700)
    server.end = lambda run, photos: Pending(timestamp=old) if len(server.runs) == 1 else server.works(run, photos)
    shown = run(ITEMS[:2])
    assert [kind for _, kind in server.set_states] == [StateType.CRASHED]
    assert (len(server.runs), {row.state for row in shown.values()}) == (2, {"complete"})


def test_a_pool_without_a_worker_is_named(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    old = Scheduled(timestamp=datetime.now(UTC) - timedelta(seconds=90))
    tries = iter([old, old])
    server.end = lambda run, photos: next(tries, None) or server.works(run, photos)
    run(ITEMS[:1])
    assert [record.message for record in caplog.records if "no worker" in record.message] != []
    assert caplog.text.count("prefect worker start --pool theirs") == 1


def test_a_server_that_is_down_is_waited_for(server: Server) -> None:
    server.errors = [httpx.ConnectError("refused")] * 5
    assert len(run(ITEMS)) == len(ITEMS)


def test_every_request_waits_for_a_server_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = PrefectHTTPStatusError("no database", request=NOWHERE, response=httpx.Response(500, request=NOWHERE))
    answers: list[Any] = [httpx.ConnectError("refused"), httpx.ReadError("gone"), refused, "answer"]

    def request(method: str, path: str) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = SimpleNamespace(request=request)
    monkeypatch.setattr(server_runs, "get_client", lambda sync_client: contextlib.nullcontext(client))
    monkeypatch.setattr(server_runs, "POLL_S", 0)
    with server_runs.patient_client() as patient:
        assert patient.request("GET", "/hello") == "answer"  # type: ignore[comparison-overlap]
    assert client.request is request


def test_a_missing_deployment_is_named(server: Server) -> None:
    with pytest.raises(UsageError, match="no deployment photos-to-scenes/other; create it with prefect deploy --all"):
        run(ITEMS, deployment="other")


def test_what_the_batch_leaves_open_its_deployment_says(server: Server) -> None:
    server.stated = {"out": "/elsewhere", "making": {"require_card": True, "preset": "training-free", "seed": 1}}
    run(ITEMS[:3], Making(seed=7))
    (made,) = server.runs.values()
    assert made.parameters["making"] == {"require_card": True, "preset": "training-free", "seed": 7}
    assert (made.parameters["out"], made.name) == ("/scenes", "0 and 2 more")
