"""Children that are killed, die, hang or leave children of their own: every task ends exactly once."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from processes import has_ended

from scenegen.messages.progress import log_photo, logged_stage
from stages.workers.pool import Ended, run_in_children


def double(task: int) -> int:
    return 2 * task


def follow(task: tuple[str, str]) -> str:
    """Does what the task says; leaves its process's id in a file."""
    order, file = task
    path = Path(file)
    tries = len(path.read_text().split()) if path.exists() else 0
    with path.open("a") as log:
        log.write(f"{os.getpid()}\n")
    if order == "die" or (order == "die once" and tries == 0):
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "exit":
        sys.exit(3)
    if order == "hang":
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(900)"])
        path.with_suffix(".sleeper").write_text(str(sleeper.pid))
        time.sleep(900)
    return order


def pid_alone(task: int) -> int:
    return os.getpid()


def talk(task: str) -> str:
    log_photo(task)
    with logged_stage("generate 3"):
        logging.getLogger("stages.stub").info("for %s", "the ears")
        logging.getLogger("stages.stub").debug("for nobody")
    return task


def run(tasks: list[Any], work: Any, **options: Any) -> list[Ended[Any, Any]]:
    return list(run_in_children(tasks, work, **{"workers": 2, "timeout_s": 60, **options}))


def test_every_task_ends_once() -> None:
    ended = run(list(range(20)), double)
    assert sorted((end.task, end.result) for end in ended) == [(i, 2 * i) for i in range(20)]
    assert run([], double) == []


def test_a_child_works_on_one_task_after_another() -> None:
    assert len({end.result for end in run(list(range(6)), pid_alone, workers=1)}) == 1


def test_tasks_are_taken_as_children_are_free_whatever_the_caller_does_meanwhile() -> None:
    taken: list[int] = []

    def tasks() -> Any:
        for i in range(9):
            taken.append(i)
            yield i

    with closing(run_in_children(tasks(), double, workers=1, timeout_s=60)) as ends:
        next(ends)
        assert len(taken) == 2


def test_children_that_die_hang_or_leave(tmp_path: Path) -> None:
    """One of each kind, among good ones: nobody loses the others."""
    orders = ["die", "good", "die once", "hang", "exit", "fine"]
    tasks = [(order, str(tmp_path / str(i))) for i, order in enumerate(orders)]
    (first,) = run([3], double)
    timeout_s = round(2 + 8 * first.seconds)  # of a child that does its work, however busy the machine
    ended = {end.task[0]: end for end in run(tasks, follow, timeout_s=timeout_s)}
    assert sorted(ended) == sorted(orders)
    for order in ("good", "fine", "die once"):
        assert (ended[order].result, ended[order].reason) == (order, "")
    assert "died 2 times (SIGKILL)" in ended["die"].reason
    assert "died 2 times (exit code 3)" in ended["exit"].reason
    assert f"longer than {timeout_s} s" in ended["hang"].reason
    tries = [len((tmp_path / str(i)).read_text().split()) for i in range(6)]
    assert tries == [2, 1, 2, 1, 2, 1]
    hung = [int((tmp_path / "3").read_text()), int((tmp_path / "3.sleeper").read_text())]
    assert all(has_ended(pid) for pid in hung)


@pytest.mark.parametrize(
    ("kills", "said"), [((3, 3), ""), ((3, 4), "; memory ran out"), (None, "; perhaps memory ran out")]
)
def test_memory_is_told_from_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: tuple[int, int] | None, said: str
) -> None:
    """By the system's count of processes that it has killed for memory, before and after."""
    counts = iter(kills or ())
    for module in ("stages.workers.worker", "scenegen.system.processes"):
        monkeypatch.setattr(f"{module}.oom_kills", lambda: next(counts, None))
    (end,) = run([("die", str(tmp_path / "0"))], follow, retries=0)
    assert end.reason == f"its process died 1 times (SIGKILL){said}"


def test_closing_kills_the_children_and_theirs(tmp_path: Path) -> None:
    tasks = [("good", str(tmp_path / "0")), ("hang", str(tmp_path / "1"))]
    with closing(run_in_children(tasks, follow, workers=2, timeout_s=60)) as ends:
        assert next(ends).result == "good"
        sleeper = tmp_path / "1.sleeper"
        while not (sleeper.exists() and sleeper.read_text()):
            time.sleep(0.02)
    pids = [int((tmp_path / name).read_text()) for name in ("0", "1", "1.sleeper")]
    assert all(has_ended(pid) for pid in pids)


def test_an_idle_child_that_was_killed_is_replaced() -> None:
    with closing(run_in_children(iter(range(3)), pid_alone, workers=1, timeout_s=60)) as ends:
        first = next(ends).result
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert has_ended(first)
        assert [end.reason for end in ends] == ["", ""]


@pytest.mark.parametrize("busy", [False, True])
def test_children_end_when_their_parent_is_killed(tmp_path: Path, busy: bool) -> None:
    code = f"""
import test_pool, time
from stages.workers.pool import run_in_children
if __name__ == '__main__':
    tasks = [("good", {str(tmp_path / "0")!r})] + [("hang", {str(tmp_path / "1")!r})] * {busy}
    ends = run_in_children(tasks, test_pool.follow, workers=1, timeout_s=60)
    assert next(ends).result == "good"
    print("begun", flush=True)
    for end in ends:
        pass
    time.sleep(900)
"""
    script = tmp_path / "parent.py"
    script.write_text(code)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=env)
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == "begun\n"
        names = ["1", "1.sleeper"] if busy else ["0"]
        while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in names):
            time.sleep(0.02)
        parent.kill()
        parent.wait()
    assert all(has_ended(int((tmp_path / name).read_text())) for name in names)


def test_what_a_child_logs_comes_here(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "stages"):
        assert [end.result for end in run(["bowl", "vase"], talk, workers=1)] == ["bowl", "vase"]
    records = [record for record in caplog.records if record.name == "stages.stub"]
    assert [record.getMessage() for record in records] == ["for the ears"] * 2
    about = [(vars(record)["image"], vars(record)["stage"], vars(record)["object_id"]) for record in records]
    assert about == [("bowl", "generate", 3), ("vase", "generate", 3)]
    assert vars(records[0])["place"] == "[bowl: generate 3] "


@pytest.mark.parametrize("workers", [1, 3])
def test_more_workers_than_tasks(workers: int) -> None:
    assert [end.result for end in run([4], double, workers=workers)] == [8]
