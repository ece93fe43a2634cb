"""One object's fault costs one object, wherever it is raised and whatever it is; the machine's fault ends the photo."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from injected import NAMES, OF_ALL, OF_ONE, WHERE, check_failures, inject, one_object_each
from standins import OBJECTS, STAGES

from scenegen.cli import commands
from scenegen.compute.runtime import Runtime
from scenegen.config import Config
from scenegen.errors import CrashError, LimitError, ObjectError, ResourceError, UsageError
from scenegen.export.manifest import read_manifest
from scenegen.faults import about_object, described, ends_photo, is_device_failure, shared_limit
from scenegen.inputs.sources import Item, list_photos
from stages import graph
from stages.batch import Job, Row, plan, run_item, run_items


@pytest.fixture(autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("SCENEGEN_LOCKS", str(tmp_path_factory.mktemp("runtime")))


@pytest.mark.parametrize("isolate", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_each_fault_costs_its_object(
    bench: Any,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    isolate: bool,
) -> None:
    one_object_each(monkeypatch, bench)
    words = [str(photo), "-o", str(tmp_path / "out"), "--jobs", "1", *["--isolate"] * isolate]
    assert commands.main(words) == 6
    check_failures(read_manifest(tmp_path / "out" / "photo"))
    told = [record for record in caplog.records if record.name == "stages.graph" and "is left out" in record.message]
    assert len(told) == 2 * len(NAMES)
    for record in told:
        known = "InputError" in record.message or "CrashError" in record.message or "LimitError" in record.message
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        assert known or "in raise_injected" in trace
    # Nothing of it stays: without the faults the same command makes the whole scene.
    monkeypatch.delenv(WHERE)
    assert commands.main(words) == 0
    assert len(read_manifest(tmp_path / "out" / "photo").objects) == bench.objects


def with_standins(item: Item, job: Job) -> Row:
    """`run_item` in a child process, where the stand-ins are not."""
    for stage in STAGES:
        setattr(graph, stage.name.upper(), stage)
    return run_item(item, job)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [(), ("cpu",)])
def test_each_fault_costs_its_object_in_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...]
) -> None:
    inject(monkeypatch, {"generate 1": "opencv", "generate 2": "cuda", "compose 3": "assertion"})
    monkeypatch.setenv(OBJECTS, "4")
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_text(f"picture {name}")
    job = plan(str(tmp_path / "out"), Config(), Runtime()).model_copy(update={"devices": devices})
    rows = [*run_items(list_photos(str(tmp_path)).items, job, 1, 120, with_standins)]
    assert [(row.state, row.objects, row.failed_objects, row.exit_code) for row in rows] == [("partial", 1, 3, 6)] * 2
    assert "compose 3: AssertionError: never" in rows[0].error


@pytest.mark.parametrize("place", ["generate 2", "compose 2"])
@pytest.mark.parametrize("name", OF_ALL)
def test_what_all_objects_share_ends_the_photo(
    bench: Any, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    inject(monkeypatch, {place: name})
    code = {"disk": 5, "resource": 5, "network": 5, "weights": 4, "usage": 2}.get(name, 1)
    assert commands.main([str(photo), "-o", str(tmp_path / "out")]) == code
    assert not (tmp_path / "out" / "photo").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(9)])
def test_who_ends_the_process_is_no_fault(bench: Any, photo: Path, tmp_path: Path, error: BaseException) -> None:
    bench.errors["generate 2"] = error
    try:
        code = commands.main([str(photo), "-o", str(tmp_path / "out"), "--jobs", "1"])
    except SystemExit as ended:
        code = ended.code
    assert code == (130 if isinstance(error, KeyboardInterrupt) else 9)
    assert not (tmp_path / "out" / "photo").exists()


@pytest.mark.parametrize(
    "error", [LimitError("too much"), CrashError("died"), MemoryError(), RuntimeError("CUDA out of memory. Tried")]
)
def test_a_machine_too_small_for_every_object_ends_the_photo(
    bench: Any, photo: Path, tmp_path: Path, error: Exception
) -> None:
    bench.errors = {"generate 1": error, "generate 2": error}
    assert commands.main([str(photo), "-o", str(tmp_path / "out")]) == 6
    bench.errors["generate 3"] = error
    assert commands.main([str(photo), "-o", str(tmp_path / "other")]) == 5
    assert not (tmp_path / "other" / "photo").exists()
    bench.errors["generate 1"] = ValueError("no surface")
    assert commands.main([str(photo), "-o", str(tmp_path / "third")]) == 6


def test_whose_fault_it_is() -> None:
    for name, fault in OF_ONE.items():
        error = fault()
        assert isinstance(error, Exception)
        assert not ends_photo(error), name
        with pytest.raises(ObjectError) as raised, about_object(7):
            raise error
        assert (raised.value.object_id, raised.value.__cause__) == (7, error)
    with pytest.raises(UsageError), about_object(7):
        raise UsageError("x")
    with pytest.raises(KeyboardInterrupt), about_object(7):
        raise KeyboardInterrupt
    assert is_device_failure(RuntimeError("CUDA error: device-side assert triggered"))
    assert not is_device_failure(RuntimeError("shapes differ"))
    assert shared_limit([MemoryError(), ValueError()]) is None
    assert isinstance(shared_limit([MemoryError()]), ResourceError)


def test_an_error_is_described_in_one_line() -> None:
    assert described(OF_ONE["opencv"]()).startswith("cv2.error: OpenCV(")
    assert described(ValueError("a\n  b")) == "ValueError: a b"
    assert described(np.linalg.LinAlgError("Singular matrix")) == "numpy.LinAlgError: Singular matrix"
    assert len(described(RuntimeError("frame " * 1000))) <= 500
