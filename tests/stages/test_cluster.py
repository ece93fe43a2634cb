"""A Ray cluster: a real one, of several nodes on this machine, each with a cache folder of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from standins import GATE, LEDGER, with_weights
from test_batch_command import SMALL, picture
from test_faults import with_standins
from worker_stages import ADD, HALVED, Task

from scenegen.cli import commands
from scenegen.compute.residency import Demand
from scenegen.compute.runtime import MAX_ECONOMY, Runtime
from scenegen.compute.waiting import own_time, waiting
from scenegen.config import Config
from scenegen.errors import InputError, ResourceError, TransientError, UsageError, WeightsError
from scenegen.export.manifest import read_manifest
from scenegen.inputs.sources import list_photos
from scenegen.store.folder import RemoteFolder
from scenegen.store.store import Store
from stages.batch import plan, run_items
from stages.cluster import cards, luggage
from stages.cluster.calls import NoCardError, OverError, call, within
from stages.cluster.cards import LITTLE, share_of_card
from stages.cluster.joining import ENVIRONMENT, join_cluster
from stages.cluster.luggage import Luggage, check_machine, check_version
from stages.cluster.objects import cluster_submit
from stages.cluster.photos import run_on_cluster
from stages.layers import Submit, local_submit

PATIENCE_S = 600.0


@dataclass
class Nodes:
    """The machines of the cluster, by name."""

    cluster: Any
    folder: Path
    by_name: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, **has: Any) -> None:
        """Unless it is there."""
        own = {"XDG_CACHE_HOME": str(self.folder / name), "SCENEGEN_LOCKS": str(self.folder / name / "locks")}
        if name not in self.by_name:
            self.by_name[name] = self.cluster.add_node(env_vars=own, **has)

    def lose(self, name: str) -> None:
        """As if its power went: Ray's workers, and what they have started, would go on for a while without their raylet."""
        self.cluster.remove_node(self.by_name[name], allow_graceful=False)
        for pid in [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]:
            if self.of(pid) == name:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        del self.by_name[name]

    def of(self, pid: int) -> str | None:
        """Where a process runs; None if it has ended."""
        try:
            environment = Path(f"/proc/{pid}/environ").read_text()
        except OSError:
            return None
        return next((name for name in self.by_name if f"XDG_CACHE_HOME={self.folder / name}\0" in environment), None)


@pytest.fixture(scope="module")
def nodes(s3_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A head that does no work, and one machine. Workers import what the tests import, and find the same buckets."""
    ray = pytest.importorskip("ray", reason="a cluster needs Ray: pip install 'scenegen-3d[ray]'")
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("cluster")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_health_check_period_ms", "1000")
        patch.setenv("RAY_raylet_start_wait_time_s", f"{PATIENCE_S:g}")
        patch.setenv("XDG_CACHE_HOME", str(folder / "head"))
        patch.setenv(LEDGER, str(folder / "ledger"))
        patch.setenv(GATE, str(folder / "gate"))
        environment = folder / "env.yaml"
        environment.write_text("env_vars: {SCENEGEN_TEST_GIVEN: to all}")
        patch.setenv(ENVIRONMENT, str(environment))
        nodes = Nodes(Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}), folder)
        nodes.add("one", num_cpus=2)
        join_cluster(nodes.cluster.address)
        join_cluster(nodes.cluster.address)  # joined already
        yield nodes
        ray.shutdown()
        nodes.cluster.shutdown()


def until(look: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited in vain until {what}")


def submitting(store: Store, economy: int = 0, device: str = "auto") -> Submit:
    runtime = Runtime(device=device, economy=economy)
    return cluster_submit(local_submit(store, runtime, ThreadPoolExecutor(1)), store, runtime)


ADD_ON_CARD = replace(ADD, backends=with_weights("revision"))


def total(submit: Submit, *inputs: int, **task: Any) -> Any:
    return submit(ADD, *inputs, config=Task(**task), object_id=3).result().record


@pytest.mark.slow
def test_objects_go_to_the_cluster_and_the_rest_stays(nodes: Nodes, tmp_path: Path) -> None:
    submit = submitting(Store(tmp_path))
    here = submit(ADD, 1, config=Task()).result().record
    there = [submit(ADD, number, config=Task(factor=2), object_id=number) for number in range(4)]
    outcomes = [pending.result() for pending in there]
    assert here.pid == os.getpid()
    assert [outcome.record.total for outcome in outcomes] == [0, 2, 4, 6]
    assert os.getpid() not in {outcome.record.pid for outcome in outcomes}
    assert submit(ADD, 3, config=Task(factor=2), object_id=3).result().cached
    assert (tmp_path / outcomes[3].record.file.path).read_text() == "6"


@pytest.mark.slow
def test_a_bucket_between_machines_without_a_common_disk(nodes: Nodes, bucket_url: str, tmp_path: Path) -> None:
    """A store in the cache folder here is in the cache folder there."""
    mirror, place = RemoteFolder(bucket_url), Path("scenegen") / "batch" / tmp_path.name
    record = total(submitting(Store(nodes.folder / "head" / place, mirror)), 5)
    assert (nodes.folder / "one" / place / record.file.path).read_text() == "5"
    assert not (nodes.folder / "head" / place / record.file.path).exists()
    assert Store(tmp_path, mirror).path(record.file).read_text() == "5"


HALVED_ON_CARD = replace(HALVED, backends=with_weights("revision"))


@pytest.mark.slow
def test_cards_that_have_gone_are_not_waited_for(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With `auto`: there was one when the stage was asked for."""
    submit = submitting(Store(tmp_path))
    monkeypatch.setattr(cards, "cards_now", lambda: 1.0)
    whole = submit(ADD_ON_CARD, 1, config=Task(factor=2), object_id=1)
    halved = submit(HALVED_ON_CARD, 2, config=Task(factor=2), object_id=2)
    assert whole.result().record.total == 2
    assert "add 1: the cluster has no graphics card any more; using a core" in caplog.text
    record = halved.result().record
    assert (record.total, record.economy) == (4, 0)


@pytest.mark.slow
def test_a_machine_with_a_card_is_waited_for(
    nodes: Nodes, bucket_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And only the first half of a stage takes it; where that was is in `economy`."""
    stage, store = HALVED_ON_CARD, Store(tmp_path / "one", RemoteFolder(bucket_url))
    begun = time.monotonic()
    pending = submitting(store, device="cuda:1")(ADD_ON_CARD, 1, config=Task(factor=2), object_id=1)
    made = ThreadPoolExecutor(1).submit(pending.result)
    until(lambda: "add 1 waits for a graphics card: the cluster has none yet" in caplog.text, "the log says so")
    nodes.add("two", num_cpus=2, num_gpus=1)
    outcome = made.result()
    assert (outcome.record.total, outcome.record.device) == (2, "cuda:0")
    # With `auto`, cards are used that have come in the meantime. The machine's own look for them finds none.
    submit = submitting(store)
    records = [submit(stage, number, config=Task(factor=3), object_id=number) for number in (1, 2)]
    records = [each.result().record for each in records]
    assert [record.total for record in records] == [3, 6]
    assert not {record.economy for record in records} & {record.pid for record in records}
    assert submit(stage, 7, config=Task(), object_id=7).result().record.total == 7
    assert submit(ADD_ON_CARD, 1, config=Task(), object_id=None).result().record.pid != os.getpid()
    with pytest.raises(InputError, match="`photo` is no picture"):
        submit(stage, 1, config=Task(factor=3, do="refuse"), object_id=1).result()
    with pytest.raises(ResourceError, match=f"economy {MAX_ECONOMY}"):
        submit(stage, 1, config=Task(factor=3, do="memory"), object_id=1).result()
    assert time.monotonic() - begun > outcome.seconds


@pytest.mark.slow
def test_photos_go_to_the_cluster_and_outlive_a_machine(
    nodes: Nodes, bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, gate, ledger = RemoteFolder(bucket_url), nodes.folder / "gate", nodes.folder / "ledger"
    for name in ("a", "b", "c"):
        bucket.write(f"photos/{name}.jpg", f"picture {name}".encode())
    job = plan(bucket.address("out"), Config(), Runtime()).model_copy(update={"cluster": nodes.cluster.address})
    items = list_photos(bucket.address("photos")).items
    nodes.add("two", num_cpus=2, num_gpus=1)
    gate.write_text("c")
    ledger.unlink(missing_ok=True)
    lost = []

    def lose_one() -> None:
        """The machine on which the last photo's first object is being made, once the other photos are done."""

        def where() -> str | None:
            lines = [line.split("\t") for line in ledger.read_text().splitlines()] if ledger.exists() else []
            # Published, not only ended: what has ended but is not in the bucket yet would be lost as well.
            if any(bucket.read(f"out/{name}/manifest.json") is None for name in "ab"):
                return None
            ended = {key for _, what, _, key, _ in lines if what == "end"}
            return next(
                (nodes.of(int(pid)) for _, _, stage, key, pid in lines if stage == "generate 1" and key not in ended),
                None,
            )

        lost.append(until(where, "an object of the last photo is being made"))
        nodes.lose(lost[0])
        gate.unlink()

    loser = threading.Thread(target=lose_one)
    loser.start()
    rows = [*run_items(items, job, None, PATIENCE_S, with_standins)]
    loser.join()
    assert sorted((row.name, row.state, row.objects) for row in rows) == [(name, "complete", 3) for name in "abc"]
    assert lost[0] not in nodes.by_name
    lines = [line.split("\t") for line in ledger.read_text().splitlines()]
    begun = [(stage, key) for _, what, stage, key, _ in lines if what == "start"]
    again = {stage for stage, key in begun if begun.count((stage, key)) > 1}
    # Only what the lost machine had in hand: whatever was finished was in the bucket.
    assert again
    assert all(stage.startswith("generate") for stage in again)


@pytest.mark.slow
def test_what_goes_wrong_on_the_cluster(nodes: Nodes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    submit = submitting(Store(tmp_path / "store"))
    with pytest.raises(InputError, match="`photo` is no picture"):
        total(submit, 1, do="refuse")
    assert total(submit, 1, do="leave_once", path=tmp_path / "mark").total == 1
    with pytest.raises(TransientError, match="add 3: the cluster lost it 2 times"):
        total(submit, 1, do="leave")
    assert total(submit, 1, do="memory_at_full_size").economy == 1
    assert "trying once more at economy 1" in caplog.text
    with pytest.raises(ResourceError, match=f"economy {MAX_ECONOMY}"):
        total(submitting(Store(tmp_path / "store"), MAX_ECONOMY), 1, do="memory")


def work(task: str) -> str:
    """What the next test asks the cluster for."""
    if task == "dies":
        os._exit(3)
    if task == "fails":
        raise InputError("no picture")
    time.sleep(PATIENCE_S if task == "hangs" else 0)
    return f"{task} {os.environ['SCENEGEN_TEST_GIVEN']}"


@pytest.mark.slow
def test_what_becomes_of_tasks_on_the_cluster(nodes: Nodes) -> None:
    tasks = ["dies", "fails", "hangs", "works"]
    ends = {end.task: end for end in run_on_cluster(nodes.cluster.address, tasks, work, 4, timeout_s=5.0)}
    assert {name: end.result for name, end in ends.items()} == {**dict.fromkeys(tasks), "works": "works to all"}
    assert "the cluster lost it 2 times" in ends["dies"].reason
    assert "no picture" in ends["fails"].reason
    assert ends["hangs"].reason == "took longer than 5 s and was stopped"


@pytest.mark.slow
def test_a_scene(nodes: Nodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(picture(60))
    words = [
        str(tmp_path / "a.png"),
        "-o",
        str(tmp_path / "out"),
        "--ray",
        nodes.cluster.address,
        "--device",
        "cpu",
        *SMALL,
    ]
    assert commands.main(words) == 0
    captured = capsys.readouterr()
    assert "2 objects" in captured.out
    assert captured.err.count("on the cluster") == 2
    manifest = read_manifest(tmp_path / "out" / "a")
    assert sorted(entry.object for entry in manifest.stages if entry.stage == "generate") == [1, 2]


@pytest.mark.slow
def test_a_card_that_is_lost_with_its_machine(nodes: Nodes) -> None:
    from ray.experimental.internal_kv import _internal_kv_exists

    nodes.add("two", num_cpus=2, num_gpus=1)
    begun = call("held", work, "hangs", cores=0, cards=LITTLE)
    until(lambda: _internal_kv_exists(begun.key), "it has begun")
    nodes.lose("two")
    with pytest.raises(NoCardError, match="held needs a graphics card"):
        begun.result()


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WeightsError, match=r"scenegen-3d\[ray\]"):
        join_cluster("auto")


@pytest.mark.parametrize(
    ("text", "message"), [("- a list", "must be a YAML mapping"), ("{", "cannot be read"), (None, "cannot be read")]
)
def test_a_runtime_environment_that_is_none(
    text: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray").shutdown()
    path = tmp_path / "env.yaml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv(ENVIRONMENT, str(path))
    with pytest.raises(UsageError, match=message):
        join_cluster("127.0.0.1:1")


def test_how_much_of_a_card_a_stage_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    (little,) = with_weights("revision")(Task())
    large = replace(little, backend=replace(little.backend, on_card=lambda config: Demand((3.0,), 1.0)))
    there = 0.0
    monkeypatch.setattr(cards, "cards_now", lambda: there)

    def share(device: str, *backends: Any) -> float:
        return share_of_card(replace(ADD, backends=lambda config: backends), Task(), Runtime(device=device))

    assert [share(device, little) for device in ("cpu", "mps", "auto", "cuda")] == [0, 0, 0, LITTLE]
    there = 2.0
    assert [share(device, little, large) for device in ("cpu", "mps", "auto", "cuda")] == [0, 0, 1, 1]
    assert share("auto", little) == LITTLE
    assert share("cuda") == 0


def test_a_machine_of_the_cluster_must_have_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = replace(ADD, backends=with_weights("here"))
    check_machine(stage, Task(), Runtime(), {"net": "here"})
    with pytest.raises(WeightsError, match=r"has other weights for add .*'here'.*'there'.*; fetch the same"):
        check_machine(stage, Task(), Runtime(), {"net": "there"})
    with pytest.raises(WeightsError, match=r"but 0\.0 asks; install the same"):
        check_version("0.0")

    def lacks(*_: Any) -> None:
        raise WeightsError("the weights `sam` are absent. Run `scenegen models fetch sam` once.")

    monkeypatch.setattr(luggage, "require", lacks)
    monkeypatch.setattr(luggage, "_present", set())
    with pytest.raises(WeightsError, match=r"of the cluster cannot run add: .*models fetch sam"):
        check_machine(stage, Task(), Runtime(), {"net": "here"})


def test_folders_in_the_cache_are_in_the_other_machine_s_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, mirror = tmp_path / "there", RemoteFolder("memory://bucket")
    monkeypatch.setattr(luggage, "cache_folder", lambda: tmp_path / "here")
    store, runtime = Luggage(Store(there / "s", mirror), Runtime(models=there / "models"), there).here()
    assert (store.root, store.mirror, runtime.models) == (tmp_path / "here" / "s", mirror, tmp_path / "here" / "models")
    # A shared disk is where it is, and so is a folder that the user has named.
    assert Luggage(Store(there / "s"), Runtime(), there).here()[0].root == there / "s"
    assert Luggage(Store(tmp_path / "scratch", mirror), Runtime(), there).here()[0].root == tmp_path / "scratch"


def test_time_is_over_but_waiting_is_free() -> None:
    """Nothing in between takes it for a failure of its own."""
    before = signal.getsignal(signal.SIGUSR1)
    with within(PATIENCE_S):
        pass
    with within(3.0), own_time(), waiting():
        time.sleep(3.5)
    with pytest.raises(OverError), within(0.2), own_time(), contextlib.suppress(Exception):
        time.sleep(PATIENCE_S)
    assert signal.getsignal(signal.SIGUSR1) is before
