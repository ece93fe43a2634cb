"""Small stages that a worker's child process can import."""

from __future__ import annotations

import functools
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from scenegen.compute.runtime import Runtime
from scenegen.config import Settings
from scenegen.errors import InputError, ResourceError
from scenegen.messages.progress import tell_progress
from scenegen.records import Artifact, Photo, Record
from scenegen.store.store import Store
from stages.layers import on_devices
from stages.stage import Halves, Layers, Stage, Work, execute

logger = logging.getLogger("stages.stub")


class Number(Record):
    value: int


class Word(Record):
    word: str


class Sum(Record):
    """A result, and where it was made."""

    total: int
    pid: int
    file: Artifact
    device: str
    economy: int
    loads: int


class Task(Settings):
    factor: int = 1
    do: str = ""
    """What to do besides adding up."""
    path: Path | None = None


@functools.lru_cache
def weights() -> list[int]:
    """Loaded once per process."""
    return [0]


def add(*inputs: Number | int, config: Task, work: Work) -> Sum:
    assert not list(work.folder.iterdir())
    work.write("deep/half.txt").write_text("half")
    if config.do:
        TRICKS[config.do](config, work)
    total = config.factor * sum(item if isinstance(item, int) else item.value for item in inputs)
    work.write("deep/half.txt").write_text(f"{total}")
    weights()[0] += 1
    return Sum(
        total=total,
        pid=os.getpid(),
        file=work.artifact("deep/half.txt"),
        device=work.runtime.device,
        economy=work.runtime.economy,
        loads=weights()[0],
    )


def other(*inputs: Number | int, config: Task, work: Work) -> Word:
    return Word(word="not a sum")


def look(photo: Photo, *, config: Task, work: Work) -> Sum:
    talk(config, work)
    return add(config=config, work=work)


def leave(config: Task, work: Work) -> None:
    os._exit(3)


def killed(config: Task, work: Work) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def abort(config: Task, work: Work) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def leave_once(config: Task, work: Work) -> None:
    assert config.path is not None
    if not config.path.exists():
        config.path.touch()
        os._exit(3)


def killed_at_full_size(config: Task, work: Work) -> None:
    if work.runtime.economy == 0:
        killed(config, work)


def memory(config: Task, work: Work) -> None:
    raise MemoryError("all gone")


def memory_at_full_size(config: Task, work: Work) -> None:
    if work.runtime.economy == 0:
        try:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
        except RuntimeError as error:
            raise ResourceError("in our own words") from error


def device_fails(config: Task, work: Work) -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def device_fails_once(config: Task, work: Work) -> None:
    assert config.path is not None
    if not config.path.exists():
        config.path.touch()
        device_fails(config, work)


def meet(config: Task, work: Work) -> None:
    """Waits until two processes have come here."""
    assert config.path is not None
    (config.path / f"{os.getpid()}.here").touch()
    while len(list(config.path.glob("*.here"))) < 2:
        time.sleep(0.01)


def device_is_lost(config: Task, work: Work) -> None:
    raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable")


def refuse(config: Task, work: Work) -> None:
    raise InputError("`photo` is no picture; give a JPEG.")


def lose_file(config: Task, work: Work) -> None:
    (work.folder / "nothing").read_text()


def foreign(config: Task, work: Work) -> None:
    class ForeignError(ValueError):
        pass

    raise ForeignError("of a library")


def hang(config: Task, work: Work) -> None:
    """Holds the interpreter's lock for ever, with a process of its own beside it."""
    assert config.path is not None
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    new = config.path.with_suffix(".new")
    new.write_text(f"{os.getpid()} {grandchild.pid}")
    new.rename(config.path)
    logger.warning("hanging")
    re.match(r"(a+)+$", "a" * 64 + "b")


def talk(config: Task, work: Work) -> None:
    logger.info("for %s", "the ears")
    logger.debug("for nobody")
    tell_progress("half way")
    sys.stdout.write("for the terminal\n")
    sys.stdout.flush()


def doze(config: Task, work: Work) -> None:
    time.sleep(0.01)


TRICKS = {
    trick.__name__: trick
    for trick in (
        leave,
        killed,
        abort,
        leave_once,
        killed_at_full_size,
        memory,
        memory_at_full_size,
        device_fails,
        device_fails_once,
        meet,
        device_is_lost,
        refuse,
        lose_file,
        foreign,
        hang,
        talk,
        doze,
    )
}


class BegunSum(Record):
    total: int
    pid: int


def begin_sum(*inputs: Number | int, config: Task, work: Work) -> Sum | BegunSum:
    done = add(*inputs, config=config, work=work)
    if config.factor == 1:
        return done
    work.write("begun.txt").write_text("begun")
    return BegunSum(total=done.total, pid=done.pid)


def finish_sum(begun: BegunSum, *, config: Task, work: Work) -> Sum:
    """Dies at its first try if it is given a path."""
    if config.path is not None and not config.path.exists():
        config.path.touch()
        work.write("torn.txt").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    assert {path.name for path in work.folder.iterdir()} == {"deep", "begun.txt"}
    (work.folder / "begun.txt").unlink()
    return Sum(
        total=begun.total,
        pid=os.getpid(),
        file=work.artifact("deep/half.txt"),
        device=work.runtime.device,
        economy=begun.pid,
        loads=weights()[0],
    )


ADD = Stage("add", Sum, add)
HALVED = Stage("halved", Sum, add, halves=Halves(begin_sum, finish_sum))
WRONG = Stage("wrong", Sum, other)  # type: ignore[arg-type]


def add_on_cpu(root: Path, do: str = "") -> int:
    """A job like a photo: its stage runs in a child of its own."""
    with on_devices(["cpu"]) as process:
        layers = Layers(process=process)
        return execute(ADD, (1,), Task(do=do), Store(root), Runtime(), layers, object_id=1).record.total
