"""Sends scenegen's log to Prefect: every line of a run and of its children, with the image, stage and object it is about."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator

from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging.handlers import APILogHandler, PrefectConsoleHandler

from scenegen.messages.progress import OWN_LOGGERS, say_place
from scenegen.messages.redaction import RedactingFormatter

FIELDS = (("image", "image"), ("stage", "stage"), ("object", "object_id"))


class About(RedactingFormatter):
    """Lines as `image=table stage=generate object=3 | took 2.1 s`, since the server keeps only a line's text and run."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        known = [(name, getattr(record, attribute, None)) for name, attribute in FIELDS]
        about = " ".join(f"{name}={value}" for name, value in known if value is not None)
        return f"{about} | {super().format(record)}" if about else super().format(record)


@contextlib.contextmanager
def logging_to_prefect() -> Iterator[None]:
    """Log lines of scenegen's own loggers go to the server, under the flow run, until the block ends; nothing happens
    if there is no run. Threads of the flow count too."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        yield
        return
    run_id = context.flow_run.id
    if context.flow_run.deployment_id is not None:
        outlive_console()

    def of_run(record: logging.LogRecord) -> bool:
        record.flow_run_id = run_id
        task = TaskRunContext.get()
        if task is not None and task.task_run.flow_run_id == run_id:
            record.task_run_id = task.task_run.id
        return True

    handler = APILogHandler()
    handler.addFilter(say_place)
    handler.addFilter(of_run)
    handler.setFormatter(About())
    before = {name: logging.getLogger(name).level for name in OWN_LOGGERS}
    for name, level in before.items():
        own = logging.getLogger(name)
        own.addHandler(handler)
        if level == logging.NOTSET:
            own.setLevel(logging.INFO)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).removeHandler(handler)
            logging.getLogger(name).setLevel(level)
        handler.flush()


def outlive_console() -> None:
    """Lets this process go on when nobody reads its console any more, as after the death of its worker. rich would end it at its
    next line, even at the one before it tells the server that it has crashed."""
    named = logging.Logger.manager.loggerDict.values()
    loggers = [logging.getLogger(), *(logger for logger in named if isinstance(logger, logging.Logger))]
    for logger in loggers:
        for handler in logger.handlers:
            if isinstance(handler, PrefectConsoleHandler):
                console = handler.console
                console.on_broken_pipe = functools.partial(setattr, console, "quiet", True)  # type: ignore[method-assign]
