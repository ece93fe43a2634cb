"""What goes to Prefect's server holds no secrets, and a lost console ends nothing."""

from __future__ import annotations

import io
import logging

from prefect.logging.handlers import PrefectConsoleHandler

from flows.logs import About, outlive_console


def test_lines_are_redacted() -> None:
    record = logging.LogRecord("stages", logging.INFO, "", 0, "GET https://me:hush@host/a?sig=hush", (), None)
    record.image = "table"
    assert About().format(record) == "image=table | GET https://***@host/a?..."


class Gone(io.StringIO):
    """A pipe that nobody reads."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_run_outlives_its_console() -> None:
    """Its console is a pipe to the worker."""
    handler = PrefectConsoleHandler(Gone())
    logger = logging.getLogger("flows.test_logs")
    logger.addHandler(handler)
    try:
        outlive_console()
        logger.warning("nobody hears this")
        logger.warning("nor this")
    finally:
        logger.removeHandler(handler)
    assert handler.console.quiet
