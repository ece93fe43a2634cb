"""Objects on a Ray cluster: a real one, on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from standins import with_weights
from test_batch_command import SMALL, picture
from worker_stages import ADD, HALVED, Task

from scenegen.cli import commands
from scenegen.compute.runtime import MAX_ECONOMY, Runtime
from scenegen.errors import InputError, ResourceError, TransientError, WeightsError
from scenegen.export.manifest import read_manifest
from scenegen.store.folder import RemoteFolder
from scenegen.store.store import Store
from stages.cluster import LOCAL, cluster_submit, join_cluster
from stages.layers import Submit, local_submit


@pytest.fixture(scope="module")
def ray(s3_server: str) -> Iterator[Any]:
    """Workers import what the tests import, and find the same buckets."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")
        patch.setenv("RAY_OVERRIDE_RESOURCES", '{"GPU": 1}')  # a card by name
        join_cluster(LOCAL)
        join_cluster(LOCAL)  # joined already
        yield ray
        ray.shutdown()


def submitting(store: Store, economy: int = 0) -> Submit:
    runtime = Runtime(device="cpu", economy=economy)
    return cluster_submit(local_submit(store, runtime, ThreadPoolExecutor(1)), store, runtime)


def total(submit: Submit, *inputs: int, **task: Any) -> Any:
    return submit(ADD, *inputs, config=Task(**task), object_id=3).result().record


@pytest.mark.slow
def test_objects_go_to_the_cluster_and_the_rest_stays(ray: Any, tmp_path: Path) -> None:
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
def test_a_bucket_between_machines_without_a_common_disk(ray: Any, bucket_url: str, tmp_path: Path) -> None:
    record = total(submitting(Store(tmp_path / "one", RemoteFolder(bucket_url))), 5)
    other = Store(tmp_path / "two", RemoteFolder(bucket_url))
    assert other.path(record.file).read_text() == "5"


@pytest.mark.slow
def test_only_the_first_half_of_a_stage_takes_the_card(ray: Any, bucket_url: str, tmp_path: Path) -> None:
    """Where it began is in `economy`. The halves share a store, but no folder."""
    stage = replace(HALVED, backends=with_weights("revision"))
    submit = submitting(Store(tmp_path / "one", RemoteFolder(bucket_url)))
    pending = [submit(stage, number, config=Task(factor=3), object_id=number) for number in (1, 2)]
    records = [each.result().record for each in pending]
    whole = submit(stage, 7, config=Task(), object_id=7).result().record
    assert [record.total for record in records] == [3, 6]
    assert whole.total == 7
    assert not {record.economy for record in records} & {record.pid for record in records}
    with pytest.raises(InputError, match="`photo` is no picture"):
        submit(stage, 1, config=Task(factor=3, do="refuse"), object_id=1).result()
    assert "half.txt" in {path.name for path in (tmp_path / "one").rglob("*")}
    with pytest.raises(ResourceError, match=f"economy {MAX_ECONOMY}"):
        submit(stage, 1, config=Task(factor=3, do="memory"), object_id=1).result()


@pytest.mark.slow
def test_what_goes_wrong_on_the_cluster(ray: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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


@pytest.mark.slow
def test_a_scene(ray: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(picture(60))
    words = [str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--ray", LOCAL, "--device", "cpu", *SMALL]
    assert commands.main(words) == 0
    captured = capsys.readouterr()
    assert "2 objects" in captured.out
    assert captured.err.count("on the cluster") == 2
    manifest = read_manifest(tmp_path / "out" / "a")
    assert sorted(entry.object for entry in manifest.stages if entry.stage == "generate") == [1, 2]


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WeightsError, match=r"scenegen-3d\[ray\]"):
        join_cluster(LOCAL)
