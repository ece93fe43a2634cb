"""`python -m scenegen`."""

from __future__ import annotations

import logging
import os
import signal
import sys

from scenegen.cli import main as run
from scenegen.errors import EXIT_INTERRUPTED


def main() -> int:
    """The console script: the command line on `sys.argv`. Returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = run()
    if code == EXIT_INTERRUPTED:
        # The interpreter's own exit would wait for the threads of the stages that still run.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
