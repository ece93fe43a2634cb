"""`python -m scenegen`."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from types import FrameType

from scenegen.cli.commands import INTERRUPTED
from scenegen.cli.commands import main as run
from scenegen.cli.siblings import leave_current_folder
from scenegen.errors import EXIT_INTERRUPTED
from scenegen.system.processes import kill_descendants

logger = logging.getLogger(__name__)

GRACE_S = 5.0
"""How long an interrupted run may take to end on its own."""
GARBAGE = 20_000, 20, 20
"""Thresholds of Python's garbage collector. At its own ones it looks through all that was imported again and again: a second."""


def main() -> int:
    """The console script: the command line on `sys.argv`. Returns the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    gc.set_threshold(*GARBAGE)
    leave_current_folder()
    code = run()
    if code == EXIT_INTERRUPTED:
        _end()
    gc.freeze()  # at exit Python would look through all that torch has brought once more: half a second
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Interrupts the run, and ends it if a library waits for its threads first, as Prefect does."""
    watchdog = threading.Timer(GRACE_S, _give_up)
    watchdog.daemon = True
    watchdog.start()
    raise KeyboardInterrupt


def _give_up() -> None:
    logger.error(INTERRUPTED)
    _end()


def _end() -> None:
    """Ends the process now: the interpreter's own exit would wait for stages that still run in threads."""
    kill_descendants()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
