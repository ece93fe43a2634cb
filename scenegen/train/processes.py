"""Processes that produce items without end, and hand them over as they come."""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.queues import Queue
from typing import Generic, TypeVar

import cv2

from scenegen.errors import ResourceError

PATIENCE = 5.0
"""Seconds after which either side checks whether the other is still there."""

T = TypeVar("T")


class Stream(Generic[T]):
    """The items that the processes have made, as they come."""

    def __init__(self, made: Queue[T], processes: Sequence[multiprocessing.process.BaseProcess]) -> None:
        self._made = made
        self._processes = processes

    def get(self, wait: bool) -> T | None:
        """The next one, or None if none is ready. If there are no processes, none ever is.

        Args:
            wait: for up to `PATIENCE` seconds.

        Raises:
            ResourceError: if all processes have ended.
        """
        if not self._processes:
            return None
        try:
            return self._made.get(timeout=PATIENCE) if wait else self._made.get_nowait()
        except queue.Empty:
            if not any(process.is_alive() for process in self._processes):
                codes = sorted({str(process.exitcode) for process in self._processes})
                raise ResourceError(
                    f"the processes that render have ended (exit codes {', '.join(codes)}), for the reason above. "
                    "The usual reason is a lack of memory: use fewer `workers`."
                ) from None
            return None

    def ready(self, most: int) -> Iterator[T]:
        """Up to `most` of the items that are ready, without waiting.

        Raises:
            ResourceError: if all processes have ended.
        """
        for _ in range(most):
            made = self.get(wait=False)
            if made is None:
                return
            yield made


@contextmanager
def stream(
    make: Callable[..., Iterable[T]], arguments: Sequence[tuple[object, ...]], waiting: int
) -> Iterator[Stream[T]]:
    """One process for each of `arguments`, until the block ends.

    Args:
        make: a function of a module, which each process calls with its arguments; what it yields is handed over.
        arguments: the arguments of each process.
        waiting: largest number of items made ahead, over all processes.
    """
    context = multiprocessing.get_context("spawn")
    made: Queue[T] = context.Queue(waiting)
    processes = [
        context.Process(target=_work, args=(make, each, made), daemon=True, name=f"render {number}")
        for number, each in enumerate(arguments)
    ]
    try:
        for process in processes:
            process.start()
        yield Stream(made, processes)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
        for process in processes:
            if process.pid is not None:
                process.join(PATIENCE)
        made.close()
        made.cancel_join_thread()


def _work(make: Callable[..., Iterable[T]], arguments: tuple[object, ...], made: Queue[T]) -> None:
    cv2.setNumThreads(1)
    for each in make(*arguments):
        while True:
            try:
                made.put(each, timeout=PATIENCE)
                break
            except queue.Full:
                parent = multiprocessing.parent_process()
                if parent is not None and not parent.is_alive():
                    return
