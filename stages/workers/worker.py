"""A worker does one job after another in a child process, which keeps what a job has loaded and can be killed at any moment.

It is killed when a job takes too long, or has used up its memory or its device, and when this process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import pickle
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import cast

from scenegen.compute.waiting import own_time, waiting
from scenegen.messages.progress import OWN_LOGGERS, tell_progress
from scenegen.system.processes import KILLED, Died, child_lifeline, died, kill_group, oom_kills
from stages.workers.child import Busy, Call, Done, GaveWay, Message, Raised, Ready, Waits

logger = logging.getLogger(__name__)

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

Reply = Done | Raised | Died
Answer = Reply | Ready | GaveWay


@dataclass(frozen=True)
class Child:
    """A running process, leader of its process group, and this side of the connection to it."""

    process: subprocess.Popen[bytes]
    connection: Connection
    held: contextlib.ExitStack
    """What it lives with."""


class Worker:
    """Does jobs, one at a time, in a child process that starts with the first.

    The child holds the slot of a device (`scenegen.compute.slot`) as long as it lives: until it is killed, or has nothing to
    do while another process waits for the slot.

    Its log records go to this process's loggers, in the thread that called `attempt`. Its standard output goes to standard
    error.

    Args:
        devices: `cpu`, `cuda`, `cuda:N` or `mps`: of several, each child takes the first that no other process uses. Without
            any, it needs no slot.
        timeout_s: a job that takes longer is stopped. Its imports and weights count; waiting for a slot does not,
            be it the child's or that of a child of the job's own.
        shared: whether the slot may be shared, as `device_slot` says.
        max_jobs: after so many jobs the child is replaced, against memory that leaks or fragments.
    """

    def __init__(
        self, *devices: str, timeout_s: float | None = None, max_jobs: int | None = None, shared: bool = False
    ) -> None:
        self._devices, self._shared = devices, shared
        self.device = ", ".join(devices)
        """The device of the child; while there is no child, all that it may use."""
        self.timeout_s = timeout_s
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

    def attempt(self, job: Call, about: Mapping[str, object]) -> Reply:
        """Does a job in the child, which is gone afterwards unless it can do another. Callers wait for one another.

        Args:
            job: it and what it returns must be picklable.
            about: attributes for the log records that come of it.

        Raises:
            TypeError: if the job cannot be sent.
            TimeoutError: after the time limit.
            concurrent.futures.CancelledError: after `kill`.
        """
        try:
            message = pickle.dumps(job)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"this cannot run in a process of its own: {error}; what runs must be a function of a module."
            ) from error
        with self._busy:
            lasts, self._oom_kills = False, oom_kills()
            try:
                answer = self._exchange(message, about)
                while isinstance(answer, GaveWay):
                    self._stop()
                    answer = self._exchange(message, about)
                reply = cast(Reply, answer)
                self._jobs += 1
                lasts = not is_spent(reply) and self._jobs != self._max_jobs
                return reply
            finally:
                # Even after an interruption: a late answer must not be taken for that of the next job.
                if not lasts:
                    self._stop()

    def kill(self) -> None:
        """Ends the child, and all it has started, immediately. The current job and every later one are cancelled."""
        with self._state:
            self._killed = True
            if self._child is not None:
                kill_group(self._child.process.pid)
        with self._busy:
            self._stop()

    def _exchange(self, message: bytes, about: Mapping[str, object]) -> Answer:
        """Sends a job to the child, a new one if there is none, and returns its answer. Raises TimeoutError."""
        child = self._child
        if child is None:
            child = self._start()
            # No time limit: nothing has begun.
            greeting = self._receive(child, about, None)
            if not isinstance(greeting, Ready):
                return greeting
            self.device = ", ".join(greeting.place)
        # If the child has ended, its last message is still to be read.
        with contextlib.suppress(ConnectionError):
            child.connection.send_bytes(message)
        return self._receive(child, about, self.timeout_s)

    def _start(self) -> Child:
        levels = {name: logging.getLogger(name).getEffectiveLevel() for name in ("root", *OWN_LOGGERS)}
        with contextlib.ExitStack() as held, self._state:
            if self._killed:
                raise self._cancelled()
            ours, theirs = (held.enter_context(end) for end in Pipe())
            lifeline, options = held.enter_context(child_lifeline(theirs))
            given = {
                "path": [str(entry) for entry in sys.path],
                "handle": theirs.fileno(),
                "lifeline": lifeline,
                "devices": self._devices,
                "shared": self._shared,
                "levels": levels,
            }
            command = [sys.executable, "-P", "-c", CHILD, json.dumps(given)]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=STDERR, **options)
            # Otherwise its end would not be noticed here.
            theirs.close()
            self._child, self._jobs = Child(process, ours, held.pop_all()), 0
            return self._child

    def _receive(self, child: Child, about: Mapping[str, object], timeout_s: float | None) -> Answer:
        """The child's next answer; until then its log records, its progress and its waits are passed on. Raises TimeoutError."""
        waits, limit_s = False, math.inf if timeout_s is None else timeout_s
        with own_time() as clock, contextlib.ExitStack() as wait:
            try:
                # Another process may have the slot for hours, so a child that waits has no limit.
                while (left := math.inf if waits else limit_s - clock.seconds) > 0 and child.connection.poll(
                    None if left == math.inf else left
                ):
                    message: Message = child.connection.recv()
                    if isinstance(message, logging.LogRecord):
                        message.__dict__.update(about)
                        receiver = logging.getLogger(message.name)
                        if receiver.isEnabledFor(message.levelno):
                            receiver.handle(message)
                    elif isinstance(message, Busy):
                        tell_progress(message.detail)
                    elif isinstance(message, Waits):
                        waits = message.now
                        if waits:
                            wait.enter_context(waiting())
                        else:
                            wait.close()
                        tell_progress("waiting for a device" if waits else "has a device")
                    else:
                        return message
            except (EOFError, ConnectionError):
                return self._death(child)
        raise TimeoutError

    def _death(self, child: Child) -> Died:
        """Why `child` has closed its connection."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(GRACE_S)
        code = _end(child)
        if self._killed:
            raise self._cancelled()
        return died(code, self._oom_kills)

    def _cancelled(self) -> CancelledError:
        return CancelledError("the worker was killed")

    def _stop(self) -> None:
        with self._state:
            child, self._child = self._child, None
        if child is not None:
            _end(child)
            child.held.close()


def is_spent(reply: Reply) -> bool:
    """Whether the child that gave `reply` can do nothing more."""
    return isinstance(reply, Died) or (isinstance(reply, Raised) and (reply.out_of_memory or reply.device_failed))


def _end(child: Child) -> int:
    """Kills `child` unless it has ended, and the processes it has started. Returns its code."""
    kill_group(child.process.pid)
    try:
        return child.process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        logger.warning("process %d cannot be killed, because its driver hangs; leaving it behind", child.process.pid)
        return KILLED
