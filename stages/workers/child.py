"""The process that a worker starts: it takes one job after another from its parent and answers each.

It lives as long as its parent wants, so what a job keeps in memory (above all, the weights) is there for the next one.
Messages between the two processes are pickled: records, settings and errors, never arrays.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import pickle
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import NoneType
from typing import Any

from scenegen.compute.card_peak import job_peak
from scenegen.compute.slot import device_slot
from scenegen.compute.torch_env import growing_memory
from scenegen.compute.waiting import telling_waits
from scenegen.errors import ScenegenError
from scenegen.faults import described, is_device_failure, is_out_of_memory
from scenegen.messages.progress import progress_to, say_place
from scenegen.system.processes import end_with, received

IDLE_S = 2.0
"""After so long without a job, the slot goes to whoever wants it. Otherwise two runs on several cards could wait forever, each
for a card that the other one holds."""
OOM_SCORE, OOM_FIRST = Path("/proc/self/oom_score_adj"), "500"
"""If Linux runs out of memory, it kills this process and not its parent, which can try again."""


Call = Callable[..., Any]
"""A job: what a child is to call, with the name of its device if it has one."""


@dataclass(frozen=True)
class Ready:
    """The child waits for jobs."""

    place: tuple[str, ...]
    """The device that it has, if it needs one."""


@dataclass(frozen=True)
class Done:
    """What the job has returned."""

    result: Any
    card_peak: int = 0
    """Bytes of the graphics card that its tensors have taken at most; 0 elsewhere."""


@dataclass(frozen=True)
class Raised:
    """The job's error."""

    error: Exception
    out_of_memory: bool = False
    device_failed: bool = False
    """Whether this process must not use its device again."""


@dataclass(frozen=True)
class GaveWay:
    """The child was idle, left its device to another process, and ends. A job sent in the meantime was not begun."""


@dataclass(frozen=True)
class Busy:
    """What the job is doing."""

    detail: str


@dataclass(frozen=True)
class Waits:
    """Whether the child, and all that works for it, waits for its turn (`scenegen.compute.waiting`)."""

    now: bool


Message = Ready | Done | Raised | GaveWay | Busy | Waits | logging.LogRecord


def serve(handle: int, lifeline: int, devices: Sequence[str], shared: bool, levels: Mapping[str, int]) -> None:
    """Works until its parent ends, or ends it, or until it is idle while another process waits for its device.

    Args:
        handle: of this side of the connection.
        lifeline: from the parent's `child_lifeline`.
        devices: a slot of one of them is held as long as the process lives; none are needed if there are none.
        shared: whether others that share may have a slot of the same device.
        levels: level of each logger that the parent has set one for.
    """
    end_with(lifeline)
    with contextlib.suppress(OSError):
        OOM_SCORE.write_text(OOM_FIRST, encoding="ascii")
    connection, sending = received(handle), threading.Lock()

    def send(message: Message) -> None:
        with sending:
            connection.send(message)

    forward_logs(send, levels)
    growing_memory()
    try:
        with contextlib.ExitStack() as held:
            held.enter_context(telling_waits(lambda now: send(Waits(now))))
            slot = held.enter_context(device_slot(*devices, shared=shared)) if devices else None
            held.enter_context(progress_to(lambda detail: send(Busy(detail))))
            place = () if slot is None else (slot.device,)
            send(Ready(place))
            while slot is None or connection.poll(IDLE_S) or not slot.wanted():
                if slot is None or connection.poll():
                    send(answer(connection.recv_bytes(), *place))
            send(GaveWay())
            # The slot is free only when the process has gone, and with it what it has on the device.
            os._exit(0)
    except EOFError:
        return
    except ScenegenError as error:
        send(Raised(portable(error)))


def answer(message: bytes, *place: str) -> Done | Raised:
    """Does the job in `message`."""
    try:
        job: Call = pickle.loads(message)
        with job_peak(*place) as peak:
            result = job(*place)
        return Done(result, peak.bytes)
    except Exception as error:  # noqa: BLE001 (it is the parent's to judge)
        return raised(error)


def raised(error: Exception) -> Raised:
    """`error` in a form that can be sent, and what kind it is."""
    return Raised(portable(error), is_out_of_memory(error), is_device_failure(error))


def portable(error: Exception) -> Exception:
    """`error` in a form that the parent can read without importing what raised it, with its traceback as a note.

    Errors of scenegen and of Python keep their type. Any other becomes the nearest type of Python's that it derives
    from, with its own name in the message.
    """
    text = described(error)
    known = ("builtins", ScenegenError.__module__)
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ in known)
    arguments: tuple[Any, ...] = (text,)
    if kind is type(error):
        # Unlike `args`, it includes the file name of an OSError.
        arguments = error.__reduce__()[1]  # type: ignore[assignment]
        if not all(isinstance(value, (str, bytes, int, float, NoneType)) for value in arguments):
            arguments = (str(error),)
    try:
        copy: Exception = kind(*arguments)
    except TypeError:
        copy = RuntimeError(text)
    copy.add_note("".join(traceback.format_exception(error)))
    return copy


def forward_logs(send: Callable[[logging.LogRecord], None], levels: Mapping[str, int]) -> None:
    """Sends log records to `send` only, with what they are about already filled in."""

    class Forward(logging.handlers.QueueHandler):
        def enqueue(self, record: logging.LogRecord) -> None:
            send(record)

    handler = Forward(SimpleQueue())
    handler.addFilter(say_place)
    logging.getLogger().addHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
