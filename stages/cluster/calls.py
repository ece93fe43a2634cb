"""One call on the cluster: asked for, begun somewhere, answered or lost."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from scenegen.compute.waiting import telling_waits, waiting
from scenegen.errors import CrashError, LimitError, ResourceError
from stages.workers.child import Done, Raised, raised

logger = logging.getLogger(__name__)

RETRIES = 1
"""How often Ray repeats a call whose machine or process has died."""
LATE_S = 10.0
"""Seconds after which the log says that a call has not begun."""
FIRST_LOOK_S, LOOK_S = 0.05, 1.0
GRACE_S = 10.0
"""Seconds in which a call whose time is over must end; then its process does."""


class NoCardError(ResourceError):
    """A call needs a graphics card, and the cluster has none."""


@dataclass(frozen=True)
class Call:
    """A call that has been asked for."""

    label: str
    cards: float
    join_s: float
    """Seconds that a cluster without graphics cards has to get one, if the call needs one."""
    reference: Any
    key: bytes
    """The cluster knows it once the call has begun."""
    asked: float = field(default_factory=time.monotonic)

    def result(self) -> Done | Raised:
        """Waits. What the call has returned or raised.

        Raises:
            CrashError: if its machine or process was lost, again and again.
            NoCardError: if it needs a graphics card, and the cluster has none and got none.
        """
        import ray

        try:
            self._until_answered()
            answer: Done | Raised = ray.get(self.reference)
            return answer
        except ray.exceptions.OutOfMemoryError as error:
            return Raised(error, out_of_memory=True)
        except ray.exceptions.RayError as error:
            raise CrashError(f"{self.label}: the cluster lost it {RETRIES + 1} times ({error}); run again.") from error
        finally:
            ray.experimental.internal_kv._internal_kv_del(self.key)

    def _until_answered(self) -> None:
        import ray

        self._until_begun(self.asked)
        while not ray.wait([self.reference], timeout=LOOK_S if self.cards else None)[0]:
            if self._lacks_card():
                # The machine on which it began is lost, and Ray's repetition waits for another one.
                ray.experimental.internal_kv._internal_kv_del(self.key)
                self._until_begun(time.monotonic())

    def _lacks_card(self) -> bool:
        return self.cards > 0 and cards_now() == 0

    def _until_begun(self, since: float) -> None:
        """The time until then, from `since` on, is nobody's own."""
        import ray

        look_s, told = FIRST_LOOK_S, ""
        with waiting():
            while not ray.wait([self.reference], timeout=look_s)[0]:
                if ray.experimental.internal_kv._internal_kv_exists(self.key):
                    return
                passed, lacking = time.monotonic() - since, self._lacks_card()
                if lacking and passed >= self.join_s:
                    ray.cancel(self.reference)
                    raise NoCardError(
                        f"{self.label} needs a graphics card, but the cluster has got none in {self.join_s:g} s; add a machine "
                        "that has one, or use --device auto."
                    )
                why = (
                    "a graphics card: the cluster has none yet, and is asked for one"
                    if lacking
                    else f"a free {'graphics card' if self.cards else 'core'} of the cluster"
                )
                if why != told and (lacking or passed > LATE_S):
                    # A warning is seen from every machine; Ray passes nothing less on.
                    logger.warning("%s waits for %s", self.label, why)
                    told = why
                look_s = min(2 * look_s, LOOK_S)


def call(
    label: str,
    work: Callable[..., Any],
    *arguments: Any,
    cores: float = 1,
    cards: float = 0,
    join_s: float = 0,
    limit_s: float | None = None,
) -> Call:
    """Asks the cluster that this process has joined for `work(*arguments)`. Returns at once.

    Args:
        label: what it is, for people to read.
        work: a function of a module.
        arguments: what it is given.
        cores: how many it takes.
        cards: how many graphics cards, or what part of one.
        join_s: seconds that a cluster without cards has to get one.
        limit_s: seconds it may take, without its waits.
    """
    key = f"scenegen-{uuid.uuid4().hex}".encode()
    # Said in `options`, since a function that is declared with a card gets a new process for each call.
    remote = _remote().options(num_cpus=cores, num_gpus=cards)
    return Call(label, cards, join_s, remote.remote(key, work, arguments, limit_s), key)


def cards_now() -> float:
    """Graphics cards of the cluster's machines."""
    import ray

    return float(ray.cluster_resources().get("GPU", 0))


@functools.cache
def _remote() -> Any:
    import ray

    return ray.remote(max_retries=RETRIES)(answer)


def answer(key: bytes, work: Callable[..., Any], arguments: tuple[Any, ...], limit_s: float | None) -> Done | Raised:
    """On the cluster: does it. Its error has a form that can be sent."""
    import ray

    ray.experimental.internal_kv._internal_kv_put(key, b"begun")
    try:
        with contextlib.nullcontext() if limit_s is None else within(limit_s):
            return Done(work(*arguments))
    except OverError:
        return Raised(LimitError(f"took longer than {limit_s:g} s and was stopped"))
    except Exception as error:  # noqa: BLE001 (it is the caller's to judge)
        return raised(error)


class OverError(BaseException):
    """The time is over. Nothing in between may take it for a failure of its own."""


@contextlib.contextmanager
def within(limit_s: float) -> Iterator[None]:
    """Ends the block by `OverError` when it has taken that long, waits not counted. In the main thread only: Ray's calls are."""
    changed, ended, waits = threading.Condition(), False, False

    def tell(now: bool) -> None:
        nonlocal waits
        with changed:
            waits = now
            changed.notify()

    def watch() -> None:
        left = limit_s
        with changed:
            while left > 0 and not ended:
                begun, counts = time.monotonic(), not waits
                changed.wait(left if counts else None)
                left -= (time.monotonic() - begun) * counts
            if ended:
                return
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            if not changed.wait_for(lambda: ended, GRACE_S):
                os._exit(1)

    def stop(*_: object) -> None:
        raise OverError

    before = signal.signal(signal.SIGUSR1, stop)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with telling_waits(tell):
            yield
    finally:
        with changed:
            ended = True
            changed.notify()
        watcher.join()
        signal.signal(signal.SIGUSR1, before)
