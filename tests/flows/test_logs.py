"""What goes to Prefect's server holds no secrets."""

from __future__ import annotations

import logging

from flows.logs import About


def test_lines_are_redacted() -> None:
    record = logging.LogRecord("stages", logging.INFO, "", 0, "GET https://me:hush@host/a?sig=hush", (), None)
    record.image = "table"
    assert About().format(record) == "image=table | GET https://***@host/a?..."
