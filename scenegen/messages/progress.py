"""Shows how a run is going: a live table on a terminal, log lines elsewhere. Standard output stays free for results."""

from __future__ import annotations

import contextlib
import datetime
import functools
import io
import json
import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from scenegen.messages.redaction import RedactingFormatter, redacted

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.table import Table

logger = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "found", "failed"]
STYLES: dict[State, str] = {"waiting": "dim", "running": "yellow", "done": "green", "found": "cyan", "failed": "red"}
BAR_WIDTH = 30
OWN_LOGGERS = ("scenegen", "stages", "flows")

_photo: ContextVar[str] = ContextVar("photo", default="")
_stage: ContextVar[str] = ContextVar("stage", default="")
_tell: ContextVar[Callable[[str], None]] = ContextVar("tell", default=logger.debug)


@dataclass(frozen=True)
class Event:
    """A stage has changed its state."""

    stage: str
    object_id: int | None
    state: State
    """`found`: the store already had the result."""
    seconds: float = 0.0
    """Of a stage that is done, without waiting for a worker or a device."""
    detail: str = ""
    """What a running stage is doing; how long one that is done has waited, unless that is next to nothing."""

    @property
    def label(self) -> str:
        """The stage, and the object if it works on one."""
        return self.stage if self.object_id is None else f"{self.stage} {self.object_id}"


Watch = Callable[[Event], None]


def log_event(event: Event) -> None:
    """Logs an event as a line."""
    if event.state == "done":
        logger.info("%s: %.1f s%s", event.label, event.seconds, event.detail and f", {event.detail}")
    elif event.state == "found":
        logger.info("%s: already in the store", event.label)
    elif event.state == "failed":
        logger.info("%s: failed", event.label)
    else:
        logger.debug("%s: %s", event.label, event.detail or event.state)


@functools.cache
def console() -> Console:
    """The terminal behind standard error."""
    from rich.console import Console

    # Names and paths are not markup.
    return Console(stderr=True, markup=False, emoji=False)


@contextlib.contextmanager
def watching(title: str) -> Iterator[Watch]:
    """A watch for one photo: a live table if standard error is a terminal and log lines are wanted, else `log_event`."""
    if not console().is_terminal or logs_are_json() or not logger.isEnabledFor(logging.INFO):
        yield log_event
    else:
        with _live_table(title) as watch:
            yield watch


@contextlib.contextmanager
def showing(title: str, wanted: bool | None) -> Iterator[Watch]:
    """A watch for one photo whose scene a Python program makes, rather than the command line.

    Args:
        title: title of the table.
        wanted: True shows a table in a notebook or on a terminal, and lines on standard error elsewhere. None shows the table
            in a notebook only. If nothing is shown, events go to `log_event`.
    """
    if wanted is not False and console().is_jupyter:
        yield _notebook_table(title)
    elif not wanted:
        yield log_event
    elif console().is_terminal:
        with _live_table(title) as watch:
            yield watch
    else:
        yield _print_end


@contextlib.contextmanager
def _live_table(title: str) -> Iterator[Watch]:
    from rich.live import Live

    board = _Board(title)
    with Live(console=console(), get_renderable=board.shown, refresh_per_second=4, transient=True):
        yield board.show


def _print_end(event: Event) -> None:
    if event.state in ("done", "found", "failed"):
        console().print(f"{event.label}: {f'{event.seconds:.1f} s' if event.state == 'done' else event.state}")


def _notebook_table(title: str) -> Watch:
    """Watches by a table under the cell, redrawn in place."""
    from IPython.display import display
    from rich.console import Console

    board, lock = _Board(title), threading.Lock()
    cell = display({"text/plain": title}, raw=True, display_id=True)

    def show(event: Event) -> None:
        with lock:
            board.show(event)
            page = Console(file=io.StringIO(), record=True, width=100, force_jupyter=False, markup=False, emoji=False)
            page.print(board.shown())
            html = page.export_html(inline_styles=True, code_format="<pre>{code}</pre>", clear=False)
            cell.update({"text/plain": page.export_text(), "text/html": html}, raw=True)

    return show


class _Board:
    """The last state of every stage of one photo, and how many of its objects are done."""

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._title = title
        self._clock = clock
        self._rows: dict[str, tuple[Event, float]] = {}
        self._lock = threading.Lock()
        self._started: float | None = None
        self._computed = 0

    def show(self, event: Event) -> None:
        with self._lock:
            last, since = self._rows.get(event.label, (event, 0.0))
            begun = last.state != event.state or last is event
            self._rows[event.label] = (event, self._clock() if begun else since)
            if event.object_id is None or not begun:
                return
            if event.state == "running" and self._started is None:
                self._started = self._clock()
            self._computed += event.state in ("done", "failed")

    def shown(self) -> Group:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        title, table = Text(self._title, style="italic"), Table(box=None, show_header=False)
        with self._lock:
            rows = list(self._rows.values())
            started, computed = self._started, self._computed
        for event, since in rows:
            seconds = self._clock() - since if event.state == "running" else event.seconds
            clock = f"{seconds:.1f} s" if event.state in ("running", "done") else ""
            cells = map(Text, (event.label, event.state, clock, event.detail))
            table.add_row(*cells, style=STYLES[event.state])
        states = [event.state for event, _ in rows if event.object_id is not None]
        if not states:
            return Group(title, table)
        ended = sum(state in ("done", "found", "failed") for state in states)
        spent = 0.0 if started is None else self._clock() - started
        return Group(title, table, _bar(ended, len(states), time_left(spent, computed, len(states) - ended)))


def _bar(done: int, total: int, left: str) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    line = Table.grid(padding=(0, 1))
    line.add_row(f" {done} of {total} objects", ProgressBar(total, done, width=BAR_WIDTH), left)
    return line


def time_left(spent: float, done: int, rest: int) -> str:
    """How long `rest` more will take if `done` took `spent` seconds; empty if that is unknown."""
    if not done or not rest:
        return ""
    return f"about {datetime.timedelta(seconds=round(spent / done * rest))} left"


class BatchProgress:
    """How far a batch of `total` photos is, and how long the rest will take."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._clock = clock
        self._start = clock()
        self._counts: Counter[str] = Counter()

    def step(self, state: str) -> str:
        """Counts one more photo, which ended in `state`. Returns the line to show."""
        self._counts[state] += 1
        done = self._counts.total()
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self._counts.items()))
        left = time_left(self._clock() - self._start, done, self._total - done)
        return f"{done} of {self._total}: {counts}{left and f'; {left}'}"


@contextlib.contextmanager
def transfers() -> Iterator[Callable[[str, int, int | None], None]]:
    """Bars of the files being fetched, updated by name, bytes so far and total bytes; shown only on a terminal."""
    from rich.progress import DownloadColumn, Progress, TaskID, TransferSpeedColumn

    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(), disable=not console().is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=done, total=total)

        yield advance


def log_photo(name: str) -> None:
    """From now on, log lines of this thread name the photo `name`, or none if it is empty."""
    _photo.set(name)


@contextlib.contextmanager
def logged_stage(label: str) -> Iterator[None]:
    """Until the block ends, log lines of this thread name the stage `label` if they name a photo."""
    token = _stage.set(label)
    try:
        yield
    finally:
        _stage.reset(token)


@contextlib.contextmanager
def progress_to(tell: Callable[[str], None]) -> Iterator[None]:
    """Until the block ends, `tell_progress` in this thread calls `tell`."""
    token = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(token)


def tell_progress(detail: str) -> None:
    """Tells whoever watches what a long stage is doing; if nobody does, it goes to the debug log."""
    _tell.get()(detail)


def say_place(record: logging.LogRecord) -> bool:
    """A log filter that adds to a record what it is about: `image`, `stage` and `object_id` as far as they are known,
    and all of them as its `place` if several photos are worked on. What another process has added stays."""
    photo, (stage, _, item) = _photo.get(), _stage.get().partition(" ")
    known = {"image": photo or None, "stage": stage or None, "object_id": int(item) if item else None}
    for name, value in known.items():
        setattr(record, name, getattr(record, name, None) or value)
    record.place = getattr(record, "place", "") or (f"[{photo}{stage and f': {_stage.get()}'}] " if photo else "")
    return True


class JsonLines(RedactingFormatter):
    """One JSON object per line, for programs: time (UTC), level, logger, run, image, stage, object, message, traceback.

    Args:
        run: id of the command that writes the log.
    """

    def __init__(self, run: str) -> None:
        super().__init__()
        self._run = run

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        values = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "run": self._run,
            "image": getattr(record, "image", None),
            "stage": getattr(record, "stage", None),
            "object": getattr(record, "object_id", None),
            "message": redacted(record.getMessage()),
        }
        if record.exc_info:
            values["traceback"] = redacted(self.formatException(record.exc_info))
        return json.dumps(values)


def log_to_stderr() -> None:
    """Sends log lines to standard error, through the terminal's console if there is one."""
    if console().is_terminal:
        from rich.logging import RichHandler

        handler: logging.Handler = RichHandler(console=console(), show_path=False, show_time=False)
        handler.setFormatter(RedactingFormatter("%(place)s%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(RedactingFormatter("%(levelname)s: %(place)s%(message)s"))
    _log_by(handler)


def log_json_to_stderr() -> None:
    """Sends log lines to standard error as JSON, each with the same new run id."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(uuid.uuid4().hex[:12]))
    _log_by(handler)


@contextlib.contextmanager
def logging_to_stderr() -> Iterator[None]:
    """`log_to_stderr`, until the block ends."""
    log_to_stderr()
    set_verbosity(logging.INFO)
    try:
        yield
    finally:
        _log_by(None)


def _log_by(handler: logging.Handler | None) -> None:
    """Replaces the handlers that write this process's log lines."""
    root = logging.getLogger()
    for old in [old for old in root.handlers if say_place in old.filters]:
        root.removeHandler(old)
    if handler is not None:
        handler.addFilter(say_place)
        root.addHandler(handler)


def logs_are_json() -> bool:
    """Whether log lines are written for programs, as JSON."""
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)


def set_verbosity(level: int) -> None:
    """Sets the level of scenegen's own log lines; those of other packages show from WARNING, or from INFO at DEBUG."""
    logging.getLogger().setLevel(logging.INFO if level == logging.DEBUG else max(level, logging.WARNING))
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
