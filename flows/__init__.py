"""Prefect: the stages as tasks. The only package that imports Prefect."""

from __future__ import annotations

import os

# Prefect reads these on import. A temporary server on an empty home takes over a minute to start the first time, and
# neither server nor client may report to anyone: nothing uses the network unasked. The user's own settings take precedence.
for name, value in {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}.items():
    os.environ.setdefault(name, value)
