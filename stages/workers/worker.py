"""Stages in a process of their own that keeps its weights loaded: one worker, and one such process, per device.

The process can be killed at any moment, and is killed when a job takes too long or needs too much memory, and when this
process ends. The store stays with the caller, so it never contains anything half-written.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from queue import LifoQueue
from typing import TypeVar, cast

from scenegen.compute.runtime import MAX_ECONOMY
from scenegen.config import Settings
from scenegen.errors import CrashError, LimitError, ResourceError, TransientError
from scenegen.faults import described, is_device_lost
from scenegen.messages.progress import tell_progress
from scenegen.records import Photo, Record, Source, artifacts
from scenegen.system.processes import KILLED, kill_group
from stages.stage import Stage, Work
from stages.workers.child import Busy, Done, GaveWay, Job, Message, Raised, Ready
from stages.workers.process import Died, died, log_here, log_levels, oom_kills

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)

CHILD = """
import json, sys
given = json.loads(sys.argv[1])
sys.path[:] = given.pop("path")
from stages.workers.child import serve
serve(**given)
"""
"""A fresh interpreter, as CUDA needs it. Unlike `multiprocessing`'s, it does not run the caller's main module again."""
STDERR = 2
GRACE_S = 5.0
"""How long a process may take to end after closing its connection."""


@dataclass(frozen=True)
class Child:
    """A running process, leader of its process group, and this side of the connection to it."""

    process: subprocess.Popen[bytes]
    connection: Connection


Reply = Done | Raised | Died
Answer = Reply | Ready | GaveWay


class DeviceWorker:
    """Runs stages on one device, one at a time, in a child process that starts with the first.

    The child holds the device's slot (`scenegen.compute.slot`) as long as it lives: until it is killed, or has nothing to do
    while another process waits for the slot. After a crash, or an error that leaves the device unusable in that process, the job
    is tried once more in a new child; out of memory, once more with each higher `Runtime.economy`. A child that the system
    has killed to free memory counts as out of memory.

    Its log records go to this process's loggers, in the thread that called `run`, with the attributes `image`, `stage`
    and `object_id`. Its standard output goes to standard error.

    Args:
        device: `cpu`, `cuda`, `cuda:N` or `mps`; it replaces the runtime's. Of several, each child takes the first that
            no other process uses.
        timeout_s: a job that takes longer is stopped and fails. Loading weights counts; waiting for the slot does not.
        max_jobs: after so many jobs the child is replaced, against memory that leaks or fragments.
    """

    def __init__(self, *device: str, timeout_s: float | None = None, max_jobs: int | None = None) -> None:
        self._devices = device
        self.device = ", ".join(device)
        """The device of the child; while there is no child, all that it may use."""
        self._timeout_s = timeout_s
        self._max_jobs = max_jobs
        self._child: Child | None = None
        self._jobs = 0
        self._oom_kills: int | None = None
        self._killed = False
        self._busy = threading.Lock()
        self._state = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Process id of the child, None if there is none."""
        child = self._child
        return None if child is None else child.process.pid

    def run(
        self,
        stage: Stage[R],
        inputs: tuple[Record | int, ...],
        config: Settings,
        work: Work,
        object_id: int | None = None,
    ) -> R:
        """What `stage.run(*inputs, config=config, work=work)` returns or raises. Callers wait for one another.

        An error that is neither scenegen's nor Python's becomes the nearest type of Python's. Every error has the child's
        traceback as a note.

        Raises:
            TypeError: if `stage.run` is not a function of a module, or returns another record than the stage's.
            LimitError: if the job took too long, or failed even with the least memory that it can use.
            CrashError: if its process died twice, or could no longer use the device.
            TransientError: if the device is lost.
            concurrent.futures.CancelledError: if the worker was killed.
        """
        for record in inputs:
            for artifact in artifacts(record):
                # The child has no mirror: files that are only there are fetched first.
                work.read(artifact)
        label = stage.name if object_id is None else f"{stage.name} {object_id}"
        image = next((value.name for value in inputs if isinstance(value, (Photo, Source))), None)
        context = {"image": image, "stage": stage.name, "object_id": object_id}
        root, folder = work.store.root.absolute(), work.folder.absolute()
        job = Job(stage.run, inputs, config, root, work.runtime, folder, stage.name, work.key)
        crashed = False
        with self._busy:
            reply = self._attempt(job, label, context)
            while not isinstance(reply, Done) and (again := _retry(reply, job, crashed)) is not None:
                crashed = crashed or again is job
                how = "" if again is job else f" with less memory (economy {again.runtime.economy})"
                logger.warning("%s: %s; trying once more%s", label, _cause(reply), how, extra=context)
                _empty(work.folder)
                job, reply = again, self._attempt(again, label, context)
        if isinstance(reply, Done):
            if not isinstance(reply.record, stage.record):
                found = type(reply.record).__name__
                raise TypeError(f"stage {stage.name} must return a {stage.record.__name__}, not a {found}.")
            return reply.record
        if isinstance(reply, Raised) and not _is_spent(reply):
            raise reply.error
        lost = isinstance(reply, Raised) and is_device_lost(reply.error)
        kind = LimitError if reply.out_of_memory else TransientError if lost else CrashError
        error = kind(f"{label}: {_cause(reply)} on {self.device}, {_economy(job)}. {_fix(reply)}")
        raise error from (reply.error if isinstance(reply, Raised) else None)

    def kill(self) -> None:
        """Ends the child, and all it has started, immediately. The current job and every later one are cancelled."""
        with self._state:
            self._killed = True
            if self._child is not None:
                _signal(self._child)
        with self._busy:
            self._stop()

    def _attempt(self, job: Job, label: str, context: Mapping[str, object]) -> Reply:
        """Does the job in the child, which is gone afterwards unless it can take another.

        Raises:
            TypeError: if the job cannot be sent.
            LimitError: after the time limit.
            concurrent.futures.CancelledError: after `kill`.
        """
        try:
            message = pickle.dumps(job)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"stage {job.stage} cannot run in a worker: {error}; its `run` must be a function of a module."
            ) from error
        lasts, self._oom_kills = False, oom_kills()
        try:
            answer = self._exchange(message, context)
            while isinstance(answer, GaveWay):
                self._stop()
                answer = self._exchange(message, context)
            reply = cast(Reply, answer)
            self._jobs += 1
            lasts = not _is_spent(reply) and self._jobs != self._max_jobs
            return reply
        except TimeoutError as error:
            raise LimitError(
                f"{label} was stopped: it took longer than {self._timeout_s:g} s on {self.device}. Raise the time limit, "
                "or make it smaller."
            ) from error
        finally:
            # Even after an interruption: a late answer must not be taken for that of the next job.
            if not lasts:
                self._stop()

    def _exchange(self, message: bytes, context: Mapping[str, object]) -> Answer:
        """Sends a job to the child, a new one if there is none, and returns its answer. Raises TimeoutError."""
        child = self._child
        if child is None:
            child = self._start()
            # No time limit: another process may have the slot for hours.
            greeting = self._receive(child, context, None)
            if not isinstance(greeting, Ready):
                return greeting
            self.device = greeting.device
        # If the child has ended, its last message is still to be read.
        with contextlib.suppress(ConnectionError):
            child.connection.send_bytes(message)
        return self._receive(child, context, self._timeout_s)

    def _start(self) -> Child:
        if sys.platform == "win32":
            raise ResourceError(
                "stages cannot run in processes of their own on Windows, which cannot pass them a connection; "
                "run without --isolate."
            )
        ours, theirs = Pipe()
        given = {"path": [str(entry) for entry in sys.path], "handle": theirs.fileno(), "devices": self._devices}
        command = [sys.executable, "-P", "-c", CHILD, json.dumps({**given, "levels": log_levels()})]
        with theirs, self._state:
            if self._killed:
                ours.close()
                raise self._cancelled()
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=STDERR, pass_fds=[theirs.fileno()], process_group=0
            )
            self._child, self._jobs = Child(process, ours), 0
            return self._child

    def _receive(self, child: Child, context: Mapping[str, object], timeout_s: float | None) -> Answer:
        """The child's next answer; until then its log records and its progress are passed on. Raises TimeoutError."""
        end = math.inf if timeout_s is None else time.monotonic() + timeout_s
        try:
            while (left := end - time.monotonic()) > 0 and child.connection.poll(None if left == math.inf else left):
                message: Message = child.connection.recv()
                if isinstance(message, logging.LogRecord):
                    log_here(message, context)
                elif isinstance(message, Busy):
                    tell_progress(message.detail)
                else:
                    return message
        except (EOFError, ConnectionError):
            return self._mourn(child)
        raise TimeoutError

    def _mourn(self, child: Child) -> Died:
        """Why `child` has closed its connection."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(GRACE_S)
        code = _end(child)
        if self._killed:
            raise self._cancelled()
        return died(code, self._oom_kills)

    def _cancelled(self) -> CancelledError:
        return CancelledError(f"the worker of {self.device} was killed")

    def _stop(self) -> None:
        with self._state:
            child, self._child = self._child, None
        if child is not None:
            _end(child)
            child.connection.close()
            if child.process.stdin is not None:
                child.process.stdin.close()


@contextlib.contextmanager
def device_workers(
    names: Sequence[str], timeout_s: float | None = None, max_jobs: int | None = None
) -> Iterator[LifoQueue[DeviceWorker]]:
    """A worker for each device of `names`, idle, until the block ends; then they are killed.

    Whoever takes a worker out of the queue has its device, and puts it back. The last one back is the first one out,
    since its weights are loaded already.
    """
    workers = [DeviceWorker(name, timeout_s=timeout_s, max_jobs=max_jobs) for name in names]
    idle: LifoQueue[DeviceWorker] = LifoQueue()
    for worker in reversed(workers):
        idle.put(worker)
    try:
        yield idle
    finally:
        for worker in workers:
            worker.kill()


def _retry(reply: Raised | Died, job: Job, crashed: bool) -> Job | None:
    """The job to try next, None if that would not help: it has `crashed` before, or already uses the least memory."""
    if reply.out_of_memory and job.runtime.economy < MAX_ECONOMY:
        return replace(job, runtime=replace(job.runtime, economy=job.runtime.economy + 1))
    return job if _is_spent(reply) and not reply.out_of_memory and not crashed else None


def _is_spent(reply: Reply) -> bool:
    """Whether the child that gave `reply` can do nothing more."""
    return isinstance(reply, Died) or (isinstance(reply, Raised) and (reply.out_of_memory or reply.device_failed))


def _signal(child: Child) -> None:
    """Kills the group of `child`, the processes it has started included."""
    kill_group(child.process.pid)


def _end(child: Child) -> int:
    """Kills `child` unless it has ended. Returns its code."""
    _signal(child)
    try:
        return child.process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        logger.warning("process %d cannot be killed, because its driver hangs; leaving it behind", child.process.pid)
        return KILLED


def _empty(folder: Path) -> None:
    """Removes the content of `folder`."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _cause(reply: Raised | Died) -> str:
    if isinstance(reply, Died):
        return str(reply)
    return f"{'out of memory' if reply.out_of_memory else 'the device failed'} ({described(reply.error)})"


def _economy(job: Job) -> str:
    level = job.runtime.economy
    return f"even with less memory (economy {level})" if level else "twice"


def _fix(reply: Raised | Died) -> str:
    if reply.out_of_memory:
        return "Use a smaller model or fewer tokens, free the device's memory, or use --device cpu."
    return "Run with -v to see what came before, or use --device cpu."
