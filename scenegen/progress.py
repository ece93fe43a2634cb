"""How a run shows itself: a live table on a terminal, log lines elsewhere. Standard output stays free for results."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

logger = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "found", "failed"]
STYLES: dict[State, str] = {"waiting": "dim", "running": "yellow", "done": "green", "found": "cyan", "failed": "red"}
OWN_LOGGERS = ("scenegen", "stages", "flows")


@dataclass(frozen=True)
class Event:
    """A stage has changed its state."""

    stage: str
    object_id: int | None
    state: State
    """`found`: the store already had the result."""
    seconds: float = 0.0

    @property
    def label(self) -> str:
        """The stage, and the object where it works on one."""
        return self.stage if self.object_id is None else f"{self.stage} {self.object_id}"


Watch = Callable[[Event], None]


def log_event(event: Event) -> None:
    """Watches by log lines."""
    if event.state == "done":
        logger.info("%s: %.1f s", event.label, event.seconds)
    elif event.state == "found":
        logger.info("%s: in the store already", event.label)
    elif event.state == "failed":
        logger.info("%s: failed", event.label)
    else:
        logger.debug("%s: %s", event.label, event.state)


@functools.cache
def console() -> Console:
    """The terminal behind standard error."""
    from rich.console import Console

    return Console(stderr=True)


@contextlib.contextmanager
def watching(title: str) -> Iterator[Watch]:
    """A watch for one photo: live where standard error is a terminal and log lines are wanted, else `log_event`."""
    if not console().is_terminal or not logger.isEnabledFor(logging.INFO):
        yield log_event
        return
    from rich.live import Live

    board = _Board(title)
    with Live(console=console(), get_renderable=board.table, refresh_per_second=4, transient=True):
        yield board.show


class _Board:
    """The last state of every stage of one photo."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._rows: dict[str, tuple[Event, float]] = {}
        self._lock = threading.Lock()

    def show(self, event: Event) -> None:
        with self._lock:
            self._rows[event.label] = (event, time.monotonic())

    def table(self) -> Table:
        from rich.table import Table

        table = Table(title=self._title, title_justify="left", box=None, show_header=False)
        with self._lock:
            rows = list(self._rows.values())
        for event, since in rows:
            seconds = time.monotonic() - since if event.state == "running" else event.seconds
            clock = f"{seconds:.1f} s" if event.state in ("running", "done") else ""
            table.add_row(event.label, event.state, clock, style=STYLES[event.state])
        return table


@contextlib.contextmanager
def transfers() -> Iterator[Callable[[str, int, int | None], None]]:
    """Bars of the files on their way, told by name, bytes so far and bytes in all; nothing shows off a terminal."""
    from rich.progress import DownloadColumn, Progress, TaskID, TransferSpeedColumn

    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(), disable=not console().is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=done, total=total)

        yield advance


@contextlib.contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Log lines go to standard error, through the terminal's console where there is one, until the block ends."""
    if console().is_terminal:
        from rich.logging import RichHandler

        handler: logging.Handler = RichHandler(console=console(), show_path=False, show_time=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    set_verbosity(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)


def set_verbosity(level: int) -> None:
    """The level of scenegen's own log lines; those of other packages show from WARNING, or with DEBUG from INFO."""
    logging.getLogger().setLevel(logging.INFO if level == logging.DEBUG else max(level, logging.WARNING))
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
