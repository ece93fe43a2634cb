"""A worker does what `execute` does, in a process that may die in any way."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import Empty, LifoQueue
from types import SimpleNamespace
from typing import Any

import pytest
import worker_stages
from processes import GIVE_UP_S, content, has_ended
from standins import with_weights
from worker_stages import ADD, HALVED, WRONG, Number, Sum, Task

from scenegen.compute.runtime import MAX_ECONOMY, Runtime
from scenegen.compute.slot import device_slot
from scenegen.compute.waiting import own_time
from scenegen.errors import CrashError, InputError, LimitError, ResourceError, ScenegenError, TransientError
from scenegen.faults import is_out_of_memory
from scenegen.messages.progress import log_event, progress_to
from scenegen.records import Artifact, Photo, Record
from scenegen.store.store import Store
from scenegen.system.processes import oom_kills
from stages.batch import workers_on
from stages.layers import Watching, finishing_for, local_submit, on_devices, run_on
from stages.stage import Layers, Outcome, Stage, Work, execute
from stages.workers import child
from stages.workers.device import device_workers, finishing_workers, run_stage
from stages.workers.worker import Worker


@pytest.fixture(autouse=True)
def slots(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENEGEN_LOCKS", str(tmp_path_factory.mktemp("runtime")))
    monkeypatch.setenv("SCENEGEN_CPU_SLOTS", "4")


@pytest.fixture(scope="module")
def shared() -> Iterator[Worker]:
    """One worker for the tests that leave it as it was, or must be able to."""
    worker = Worker("cpu")
    yield worker
    worker.kill()


def run(
    worker: Worker,
    root: Path,
    *inputs: Record | int,
    stage: Stage[Any] = ADD,
    economy: int = 0,
    **task: Any,
) -> Any:
    """The record of `stage` with `Task(**task)`, made by `worker`."""

    layers = Layers(process=functools.partial(run_stage, worker))
    return execute(stage, inputs, Task(**task), Store(root), Runtime(economy=economy), layers, object_id=3).record


def the_system_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process that is killed from now on was killed by Linux, for its memory."""
    kills = itertools.count()
    for module in ("scenegen.system.processes", "stages.workers.worker"):
        monkeypatch.setattr(f"{module}.oom_kills", lambda: next(kills))


def test_linux_tells_whom_it_kills_for_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, expected in (("nr_free_pages 7\noom_kill 3\n", 3), ("oom_killer 3\n", None), (None, None)):
        monkeypatch.setattr("scenegen.system.processes.VMSTAT", tmp_path / "vmstat")
        (tmp_path / "vmstat").unlink(missing_ok=True)
        if text is not None:
            (tmp_path / "vmstat").write_text(text)
        assert oom_kills() == expected


def test_a_worker_gives_what_execute_gives(shared: Worker, tmp_path: Path) -> None:
    here = execute(ADD, (Number(value=2), 3), Task(factor=7), Store(tmp_path / "here"), Runtime())
    there = run(shared, tmp_path / "there", Number(value=2), 3, factor=7)
    assert there.total == here.record.total == 35
    assert there.file == here.record.file
    assert (tmp_path / "there" / there.file.path).read_text() == "35"
    assert (there.device, there.pid) == ("cpu", shared.pid)
    assert there.pid != here.record.pid == os.getpid()


def test_what_a_stage_has_loaded_stays_until_max_jobs(tmp_path: Path) -> None:
    worker = Worker("cpu", max_jobs=2)
    results = [run(worker, tmp_path, number) for number in range(3)]
    worker.kill()
    assert [result.loads for result in results] == [1, 2, 1]
    assert results[0].pid == results[1].pid != results[2].pid


@pytest.mark.parametrize(
    ("trick", "message"),
    [
        ("leave", "process ended with exit code 3 on cpu, twice"),
        ("abort", "process was killed by SIGTERM on cpu, twice"),
        ("killed", "process was killed by SIGKILL on cpu, twice"),
        ("out of memory", r"process was killed by SIGKILL on cpu, even with less memory \(economy 2\)"),
        ("memory", r"out of memory \(MemoryError: all gone\) on cpu, even with less memory \(economy 2\)"),
        ("device_fails", r"the device failed \(RuntimeError: CUDA error: an illegal.*\) on cpu, twice"),
        ("device_is_lost", r"the device failed \(RuntimeError: CUDA error: CUDA-capable.*\) on cpu, twice"),
    ],
)
def test_what_fails_again_is_an_error(
    tmp_path: Path, trick: str, message: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trick == "out of memory":
        the_system_kills(monkeypatch)
        trick = "killed"
    worker = Worker("cpu")
    with pytest.raises(ResourceError, match=message) as failed:
        run(worker, tmp_path, 1, do=trick)
    assert type(failed.value) is (
        LimitError if "memory" in message else TransientError if trick == "device_is_lost" else CrashError
    )
    assert caplog.text.count("trying once more") == (MAX_ECONOMY if "economy" in message else 1)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name == "half.txt"]
    assert worker.pid is None
    worker.kill()


def test_a_crash_is_tried_once_more_in_an_empty_folder(shared: Worker, tmp_path: Path) -> None:
    result = run(shared, tmp_path / "store", 1, do="leave_once", path=tmp_path / "mark")
    assert (result.total, result.economy, result.loads) == (1, 0, 1)


def test_a_process_whose_device_has_failed_is_replaced(shared: Worker, tmp_path: Path) -> None:
    pid = run(shared, tmp_path / "store", 1).pid
    result = run(shared, tmp_path / "store", 1, do="device_fails_once", path=tmp_path / "mark")
    assert (result.total, result.loads) == (1, 1)
    assert result.pid != pid


@pytest.mark.parametrize("trick", ["killed_at_full_size", "memory_at_full_size"])
def test_out_of_memory_is_tried_once_more_with_less(
    shared: Worker,
    tmp_path: Path,
    trick: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    the_system_kills(monkeypatch)
    result = run(shared, tmp_path, 1, do=trick)
    assert (result.total, result.economy, result.loads) == (1, 1, 1)
    (warning,) = [record for record in caplog.records if "trying once more" in record.message]
    assert "with less memory (economy 1)" in warning.message
    assert run(shared, tmp_path, 2).economy == 0


def test_nothing_is_tried_again_where_no_memory_can_be_saved(shared: Worker, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=f"economy {MAX_ECONOMY}"):
        run(shared, tmp_path, 1, do="memory", economy=MAX_ECONOMY)


def test_errors_keep_their_type_and_leave_the_child(shared: Worker, tmp_path: Path) -> None:
    pid = run(shared, tmp_path, 1).pid
    with pytest.raises(InputError) as refused:
        run(shared, tmp_path, 1, do="refuse")
    assert str(refused.value) == "`photo` is no picture; give a JPEG."
    assert "in refuse" in refused.value.__notes__[0]
    with pytest.raises(FileNotFoundError) as lost:
        run(shared, tmp_path, 1, do="lose_file")
    assert Path(lost.value.filename).name == "nothing"
    with pytest.raises(ValueError, match=r"^worker_stages.ForeignError: of a library\n"):
        run(shared, tmp_path, 1, do="foreign")
    assert run(shared, tmp_path, 2).pid == pid


def test_a_job_that_takes_too_long_is_stopped_with_all_it_started(tmp_path: Path) -> None:
    begun, other = time.monotonic(), Worker("cpu")
    run(other, tmp_path / "store", 3)
    other.kill()
    timeout_s = round(2 + 3 * (time.monotonic() - begun))  # of a job that does not hang, however busy the machine
    worker = Worker("cpu", timeout_s=timeout_s)
    with pytest.raises(ResourceError, match=rf"add 3 was stopped: it took longer than {timeout_s} s"):
        run(worker, tmp_path / "store", 1, do="hang", path=tmp_path / "pids")
    assert all(has_ended(int(pid)) for pid in content(tmp_path / "pids").split())
    assert run(worker, tmp_path / "store", 2).total == 2
    worker.kill()


def test_kill_cancels_the_job_at_hand_and_later_ones(tmp_path: Path) -> None:
    worker = Worker("cpu")
    with ThreadPoolExecutor(1) as executor:
        job = executor.submit(run, worker, tmp_path / "store", 1, do="hang", path=tmp_path / "pids")
        pids = content(tmp_path / "pids").split()
        worker.kill()
        with pytest.raises(CancelledError):
            job.result()
    assert all(has_ended(int(pid)) for pid in pids)
    with pytest.raises(CancelledError):
        run(worker, tmp_path / "store", 2)


def test_an_interrupted_job_ends_the_child(shared: Worker, tmp_path: Path) -> None:
    class Interrupt(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise KeyboardInterrupt

    handler = Interrupt()
    worker_stages.logger.addHandler(handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(shared, tmp_path / "store", 1, do="hang", path=tmp_path / "pids")
    finally:
        worker_stages.logger.removeHandler(handler)
    assert all(has_ended(int(pid)) for pid in content(tmp_path / "pids").split())
    assert run(shared, tmp_path / "store", 5).total == 5


PARENT = """
import signal
import sys
from pathlib import Path
from test_worker import run
from stages.workers.worker import Worker
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
run(Worker("cpu"), Path(sys.argv[1]), 1, do="hang", path=Path(sys.argv[2]))
"""


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_child_ends_with_its_parent(tmp_path: Path, way: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "store"), str(tmp_path / "pids")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )
    try:
        pids = content(tmp_path / "pids").split()
        parent.send_signal(way)
        parent.wait(GIVE_UP_S)
    finally:
        parent.kill()
    assert all(has_ended(int(pid)) for pid in pids)


def test_a_parent_that_ended_early_is_noticed() -> None:
    code = "from scenegen.system.processes import end_with; import time; end_with(0); time.sleep(600)"
    process = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, process_group=0, timeout=GIVE_UP_S, check=False
    )
    assert process.returncode == -signal.SIGKILL


def test_logs_come_with_their_context_and_standard_output_stays_free(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "stages")
    caplog.set_level(logging.INFO)
    worker, told = Worker("cpu"), list[str]()
    with progress_to(told.append):
        run_stage(worker, Stage("look", Sum, worker_stages.look), (PHOTO,), Task(), work(tmp_path), 3)
    worker.kill()
    assert told == ["half way"]
    (record,) = [record for record in caplog.records if record.name == "stages.stub"]
    assert (record.getMessage(), record.levelname) == ("for the ears", "INFO")
    assert [getattr(record, name) for name in ("image", "stage", "object_id")] == ["table", "look", 3]
    assert capfd.readouterr() == ("", "for the terminal\n")


def test_an_idle_child_gives_way_and_the_next_job_gets_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCENEGEN_CPU_SLOTS", "1")
    worker = Worker("cpu")
    first = run(worker, tmp_path, 1).pid
    with device_slot("cpu"):
        assert has_ended(first)
        with ThreadPoolExecutor(2) as executor:
            second = executor.submit(run, worker, tmp_path, 2)
            while worker.pid in (first, None):
                time.sleep(0.02)
            assert not second.done()
            worker.kill()
    with pytest.raises(CancelledError):
        second.result()


def test_of_several_devices_the_free_one_is_taken(tmp_path: Path) -> None:
    """The names are those of cards; nothing here asks for the cards themselves."""
    one, two = Worker("cuda:0", "cuda:1"), Worker("cuda:0", "cuda:1")
    with device_slot("cuda:0"):
        assert run(one, tmp_path, 1).device == "cuda:1"
    assert run(two, tmp_path, 2).device == "cuda:0"
    assert run(one, tmp_path, 3).device == "cuda:1"
    one.kill()
    two.kill()


def test_twoworkers_on_one_slot_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENEGEN_CPU_SLOTS", "1")
    one, two = Worker("cpu"), Worker("cpu")
    assert [run(worker, tmp_path, number).total for number, worker in enumerate((one, two, one))] == [0, 1, 2]
    one.kill()
    two.kill()


def test_the_child_imports_nothing_heavy() -> None:
    code = "import sys, stages.workers.device; print([name for name in ('torch', 'cv2', 'pxr', 'scipy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"


def test_only_what_can_be_sent_is_taken(shared: Worker, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="what runs must be a function of a module"):
        run(shared, tmp_path, 1, stage=Stage("add", Sum, lambda *_, config, work: None))
    with pytest.raises(TypeError, match="stage wrong must return a Sum, not a Word"):
        run(shared, tmp_path, 1, stage=WRONG)


def test_inputs_are_brought_here_first(shared: Worker, tmp_path: Path) -> None:
    asked = []

    class Mirrored(Store):
        def path(self, artifact: Artifact) -> Path:
            asked.append(artifact)
            return super().path(artifact)

    job = work(tmp_path)
    run_stage(shared, Stage("look", Sum, worker_stages.look), (PHOTO,), Task(), replace(job, store=Mirrored(tmp_path)))
    assert asked == [PHOTO.image]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("out of memory"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    told = ResourceError("in other words")
    told.__cause__ = error
    assert is_out_of_memory(error) is is_out_of_memory(told) is expected


def test_an_error_that_cannot_be_rebuilt_still_crosses() -> None:
    class OddError(UnicodeError):
        pass

    class OddlyMadeError(ScenegenError):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(f"{one} and {two}")

    unicode = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    assert str(child.portable(unicode)) == str(unicode)
    assert type(child.portable(OddError("x"))) is UnicodeError
    assert str(child.portable(KeyError(("a", "b")))) == repr(str(KeyError(("a", "b"))))
    crossed = child.portable(OddlyMadeError("one", "two"))
    assert (type(crossed), str(crossed)) == (ScenegenError, "test_worker.OddlyMadeError: one and two")


def test_stages_of_the_graph_run_on_idle_workers(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with device_workers(["cpu", "cpu"]) as idle, ThreadPoolExecutor(2) as executor:
        submit = local_submit(store, Runtime(), executor, Layers(process=run_on(idle)))
        here = submit(ADD, 1, config=Task())
        there = [submit(ADD, number, config=Task(do="doze"), object_id=number) for number in range(6)]
        outcomes: list[Outcome[Sum]] = [pending.result() for pending in there]
        again = submit(ADD, 5, config=Task(do="doze"), object_id=5).result()
        assert idle.qsize() == 2
    assert here.result().record.pid == os.getpid()
    assert [outcome.record.total for outcome in outcomes] == list(range(6))
    assert os.getpid() not in {outcome.record.pid for outcome in outcomes}
    assert again.cached
    assert again.record == outcomes[5].record


def test_the_second_half_of_a_stage_leaves_the_device_to_the_next_object(tmp_path: Path) -> None:
    """Where it began is in `economy`: the same process for all; none of them is finished there."""
    with (
        device_workers(["cpu"]) as idle,
        finishing_workers(2) as finishers,
        ThreadPoolExecutor(3) as executor,
    ):
        layers = Layers(process=run_on(idle, finishers=finishers))
        submit = local_submit(Store(tmp_path / "store"), Runtime(), executor, layers)
        task = Task(factor=3, path=tmp_path / "tried")
        pending = [submit(HALVED, number, config=task, object_id=number) for number in range(4)]
        records = [each.result().record for each in pending]
        whole = submit(HALVED, 7, config=Task(), object_id=7).result().record
    assert [record.total for record in records] == [0, 3, 6, 9]
    begun = {record.economy for record in records}
    assert begun == {whole.pid}
    assert not begun & {record.pid for record in records}
    assert (tmp_path / "tried").exists()


@pytest.fixture
def skip(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clocks of this process forward by so many seconds."""
    skipped = 0.0

    def by(seconds: float) -> None:
        nonlocal skipped
        skipped += seconds

    now = time.monotonic
    monkeypatch.setattr("scenegen.compute.waiting.time", SimpleNamespace(monotonic=lambda: now() + skipped))
    return by


def test_waiting_for_a_worker_is_not_the_stages_time(
    shared: Worker, tmp_path: Path, skip: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    class Busy(LifoQueue[Worker]):
        def get(self, block: bool = True, timeout: float | None = None) -> Worker:
            if not block:
                raise Empty
            skip(1e6)
            return shared

    caplog.set_level(logging.INFO, "scenegen")
    layers = Layers((Watching(log_event).running,), run_on(Busy()))
    outcome = execute(ADD, (1,), Task(), Store(tmp_path), Runtime(), layers, object_id=3)
    assert outcome.seconds < 1e6
    assert re.search(r"add 3: [\d.]+ s, after 1\d{6}\.\d s of waiting", caplog.text)


def test_waiting_for_a_device_is_not_against_the_limit_of_the_job_behind_it(
    tmp_path: Path, skip: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo's process waits for that of a device, which waits for its slot."""
    monkeypatch.setenv("SCENEGEN_CPU_SLOTS", "1")
    photo, told = Worker(timeout_s=1e5), list[str]()
    with contextlib.ExitStack() as slot, own_time() as clock:
        slot.enter_context(device_slot("cpu"))

        def watch(detail: str) -> None:
            told.append(detail)
            if detail == "waiting for a device":
                skip(1e6)
                slot.close()

        with progress_to(watch):
            reply = photo.attempt(functools.partial(worker_stages.add_on_cpu, tmp_path), {})
        assert isinstance(reply, child.Done)
        assert reply.result == 1
        assert clock.seconds < 1e5 < 1e6 <= clock.waited_s
        assert (told[0], told[-1]) == ("waiting for a device", "has a device")
        with pytest.raises(TimeoutError), progress_to(lambda _: skip(1e5)):
            photo.attempt(functools.partial(worker_stages.add_on_cpu, tmp_path, "talk"), {})
    photo.kill()


def test_the_children_of_a_batch_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    cards = workers_on(("cuda:0", "cuda:1"))
    assert cards.finishers is not None
    assert (cards.idle.qsize(), cards.finishers.qsize(), cards.at_once) == (1, 2, 3)
    isolated = workers_on(("cpu", "cpu"))
    assert (isolated.idle.qsize(), isolated.finishers, isolated.at_once) == (1, None, 1)


def test_cards_have_finishing_workers_and_the_cpu_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert [finishing_for(names) for names in (["cpu", "cpu"], ["cuda:0"], ["cuda:0", "cuda:1"])] == [0, 3, 6]
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert finishing_for(["cuda:0", "cuda:1"]) == 1


def test_a_predicate_chooses_the_stages(tmp_path: Path) -> None:
    with device_workers(["cpu"]) as idle, ThreadPoolExecutor(1) as executor:
        process = run_on(idle, lambda stage, config, item: config == Task(factor=2))
        submit = local_submit(Store(tmp_path), Runtime(), executor, Layers(process=process))
        pids = [submit(ADD, 1, config=Task(factor=factor)).result().record.pid for factor in (1, 2)]
    assert pids[0] == os.getpid() != pids[1]


def test_only_stages_with_weights_go_to_a_card(tmp_path: Path) -> None:
    """The card is a name here: nothing asks for it."""
    net = replace(ADD, name="net", backends=with_weights("revision"))
    with on_devices(["cuda:0"]) as process, ThreadPoolExecutor(1) as executor:
        submit = local_submit(Store(tmp_path), Runtime(), executor, Layers(process=process))
        plain = submit(ADD, 1, config=Task(), object_id=1).result().record
        whole, item = (submit(net, 1, config=Task(), object_id=number).result().record for number in (None, 1))
    assert (plain.pid, plain.device) == (os.getpid(), "auto")
    assert whole == item
    assert (whole.device, whole.loads) == ("cuda:0", 1)
    assert whole.pid != os.getpid()
    assert has_ended(whole.pid)
    with on_devices([]) as process:
        assert process is None


def test_two_cards_take_objects_in_parallel(tmp_path: Path) -> None:
    """Each of two objects ends only once the other has begun, so neither could end if they came one after the other.

    The cards are names here: nothing asks for them.
    """
    cards = ("cuda:0", "cuda:1")
    net = replace(ADD, name="net", backends=with_weights("revision"))
    with on_devices(cards, timeout_s=GIVE_UP_S) as process, ThreadPoolExecutor(2) as executor:
        submit = local_submit(Store(tmp_path / "store"), Runtime(), executor, Layers(process=process))
        task = Task(do="meet", path=tmp_path)
        pending = [submit(net, number, config=task, object_id=number) for number in (1, 2)]
        records = [each.result().record for each in pending]
        later = [submit(net, number, config=Task(), object_id=number).result().record for number in (3, 4)]
    assert [record.total for record in (*records, *later)] == [1, 2, 3, 4]
    assert {record.device for record in records} == set(cards)
    assert len({record.pid for record in records}) == 2
    # Each card keeps its process, and what that has loaded.
    assert {record.pid for record in later} <= {record.pid for record in records}


def test_who_submits_more_than_the_limit_waits(tmp_path: Path) -> None:
    go, running, submitted = threading.Event(), threading.Event(), []

    def wait(number: int, *, config: Task, work: Any) -> Number:
        running.set()
        assert go.wait(GIVE_UP_S)
        if number == 1:
            raise InputError("no")
        return Number(value=number)

    with ThreadPoolExecutor(1) as executor, ThreadPoolExecutor(1) as submitter:
        submit = local_submit(Store(tmp_path), Runtime(), executor, limit=2)

        def submit_all() -> list[Any]:
            for number in range(5):
                submitted.append(submit(Stage("wait", Number, wait), number, config=Task(), object_id=number))
            return submitted

        everything = submitter.submit(submit_all)
        assert running.wait(GIVE_UP_S)
        time.sleep(0.1)  # enough for all five, were there no limit
        before = len(submitted)
        go.set()
        pending = everything.result(GIVE_UP_S)
        values = [item.result().record.value for item in pending if item is not pending[1]]
        with pytest.raises(InputError):
            pending[1].result()
    assert before == 2
    assert values == [0, 2, 3, 4]


FILE = Artifact(path="input/aa/aa.png", sha256="aa", bytes=0)
PHOTO = Photo(
    name="table",
    image=FILE,
    alpha=None,
    masks=None,
    depth=None,
    width=8,
    height=6,
    original_width=8,
    original_height=6,
    focal_35mm=None,
)


def work(root: Path) -> Work:
    """Work in a new folder of the store at `root`."""
    folder = root / "folder"
    folder.mkdir()
    return Work(Store(root), Runtime(), folder, "look", "0" * 64)
