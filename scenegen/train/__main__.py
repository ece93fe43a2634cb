"""`python -m scenegen.train`: trains the embedded networks. Each command is imported when it is called."""

from __future__ import annotations

import logging
import sys

from cyclopts import App

from scenegen.errors import ScenegenError

logger = logging.getLogger(__name__)

app = App(name="python -m scenegen.train", help="Trains the networks whose weights are part of the package.")
app.command("scenegen.train.perception:train", name="perception")
app.command("scenegen.train.generator:train", name="generator")
app.command("scenegen.train.scenes:make_scenes", name="scenes")
app.command("scenegen.train.meshes:pack_meshes", name="pack-meshes")
app.command("scenegen.train.pack:pack_pictures", name="pack-pictures")


def main() -> int:
    """Runs the command line on `sys.argv`. Returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        app()
    except ScenegenError as error:
        logger.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
