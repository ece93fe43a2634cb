"""Leases: if several workers want the same result, on one machine or many, one computes it and the others wait.

A lease is a small file or object that names its owner, who rewrites it with every beat. Correctness does not depend on
it: results are committed as a whole, and if a lease is lost or taken from a living owner, the work is only done twice.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from scenegen.errors import ScenegenError
from scenegen.store.folder import Folder
from scenegen.system.processes import is_running
from scenegen.untrusted.documents import parse_json

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class LeaseTimes:
    """Times of a lease in seconds."""

    beat_s: float = 10.0
    """How often an owner shows that it is alive."""
    expiry_s: float = 60.0
    """After how long without a beat a lease is taken over."""
    poll_s: float = 0.25
    """How often a waiter looks again."""
    unsigned_s: float = 2.0
    """After how long a lease that names no owner is taken over: writing one takes less."""


@contextlib.contextmanager
def lease(folder: Folder, name: str, times: LeaseTimes, landed: Callable[[], T | None]) -> Iterator[T | None]:
    """Waits for the lease `name`, or for another owner's result.

    A waiter gives up on an owner that it has not seen beat for `expiry_s` by its own clock, since the clocks of machines
    differ. It gives up at once if the owner was a process of this machine that has ended, even if its number is in use again.

    Args:
        folder: where leases are kept.
        name: name of the lease.
        times: how it beats and expires.
        landed: returns the result, or None while there is none.

    Yields:
        The result of another owner; or None, in which case the lease is held while the block runs.
    """
    token = uuid.uuid4().hex
    seen: bytes | None = None
    since = time.monotonic()
    while not folder.create(name, _content(token, 0)):
        result = landed()
        if result is not None:
            yield result
            return
        content = folder.read(name)
        if content != seen:
            seen, since = content, time.monotonic()
        if content is not None and (is_gone(content) or time.monotonic() - since > _patience(content, times)):
            # Checked again, since another waiter may have taken it over already.
            if folder.read(name) == content:
                logger.warning("the worker on %s has died; taking its work over", name)
                folder.remove(name)
            continue
        time.sleep(times.poll_s)
    with _beating(folder, name, token, times):
        # The last owner may have finished between the last look and the lease.
        yield landed()


@contextlib.contextmanager
def held(folder: Folder, name: str, times: LeaseTimes) -> Iterator[None]:
    """Holds the lease `name`, which nobody else wants, while the block runs."""
    token = uuid.uuid4().hex
    folder.create(name, _content(token, 0))
    with _beating(folder, name, token, times):
        yield


@contextlib.contextmanager
def _beating(folder: Folder, name: str, token: str, times: LeaseTimes) -> Iterator[None]:
    """Keeps the lease `name` alive while the block runs, then releases it."""
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(folder, name, token, times.beat_s, stop), daemon=True)
    beating.start()
    try:
        yield
    finally:
        stop.set()
        beating.join()
        try:
            if _owner(folder.read(name)).get("token") == token:
                folder.remove(name)
        except (OSError, ScenegenError) as error:
            logger.warning("could not release the lease %s, so it has to expire: %s", name, error)


def _patience(content: bytes, times: LeaseTimes) -> float:
    """Seconds without a beat after which a lease is taken over."""
    return times.expiry_s if "token" in _owner(content) else min(times.unsigned_s, times.expiry_s)


def _beat(folder: Folder, name: str, token: str, beat_s: float, stop: threading.Event) -> None:
    count = 0
    while not stop.wait(beat_s):
        count += 1
        try:
            if _owner(folder.read(name)).get("token") != token:
                logger.warning(
                    "another worker has taken over the lease %s; this one goes on, so the work may be done twice", name
                )
                return
            folder.write(name, _content(token, count))
        except (OSError, ScenegenError) as error:
            logger.warning("could not renew the lease %s: %s", name, error)


def _content(token: str, beat: int) -> bytes:
    pid = os.getpid()
    owner = {"host": socket.gethostname(), "pid": pid, "started": _started(pid), "token": token, "beat": beat}
    return json.dumps(owner, sort_keys=True).encode()


def _owner(content: bytes | None) -> dict[str, object]:
    """The content of a lease; empty if it is gone, half-written or not a lease."""
    try:
        values = parse_json(content or b"{}")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def is_gone(content: bytes) -> bool:
    """Whether the owner of a lease was a process of this machine that has ended.

    A restarted container has the same name and the same process ids as before: the time at which the process started tells
    whether it is the same.
    """
    owner = _owner(content)
    pid = owner.get("pid")
    if owner.get("host") != socket.gethostname() or not isinstance(pid, int) or pid <= 0:
        return False
    if not is_running(pid):
        return True
    started = _started(pid)
    return None not in (started, owner.get("started")) and started != owner.get("started")


def _started(pid: int) -> str | None:
    """When a process of this machine started, in ticks since the named boot; None if that is not known."""
    try:
        # The name of the program, in parentheses, may contain anything.
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, IndexError):
        return None
    return f"{boot} {ticks}"
