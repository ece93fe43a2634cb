"""A PostgreSQL of the test's own: on a loopback port, in a temporary folder, as a user other than root."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from free_port import free_port

PATIENCE_S = 120.0
WITHOUT_ROOT: dict[str, str] = {"user": "nobody"} if os.getuid() == 0 else {}
"""PostgreSQL refuses to run as root."""


def programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`, which Debian does not put on the path."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=None)


@dataclass
class Postgres:
    """A cluster with one database and no password; nobody but this machine reaches it."""

    folder: Path
    port: int

    @classmethod
    def new(cls) -> Postgres:
        """A new one, which runs."""
        port = free_port()
        # Not among pytest's folders, which only its own user may enter.
        folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if WITHOUT_ROOT:
            shutil.chown(folder, **WITHOUT_ROOT)
        database = cls(folder, port)
        database._call("initdb", "--auth=trust", "--username=prefect", "--encoding=UTF8", "--no-locale", "--no-sync")
        database.start()
        database._call("createdb", "--host=127.0.0.1", f"--port={port}", "--username=prefect", "prefect")
        return database

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://prefect@127.0.0.1:{self.port}/prefect"

    def start(self) -> None:
        """Returns when it answers. Processes of a killed one may be in the way for a moment."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._call("pg_ctl", "start", "--wait", f"--log={self.folder / 'log'}", f"--options={options}")
                return
            except subprocess.CalledProcessError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    def kill(self) -> None:
        """All its processes, without asking them."""
        main = int((self.folder / "postmaster.pid").read_text().split()[0])
        for pid in [main, *_children(main)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def ask(self, query: str) -> str:
        """One value."""
        words = ("--host=127.0.0.1", f"--port={self.port}", "--username=prefect", "--tuples-only", "--no-align")
        return self._call("psql", *words, f"--command={query}", "prefect").strip()

    def stop(self) -> None:
        """Stops it and removes its folder."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._call("pg_ctl", "stop", "--mode=immediate")
        shutil.rmtree(self.folder)

    def _call(self, program: str, *words: str) -> str:
        folder = programs()
        assert folder is not None
        # Its output goes to a file: what it leaves running would keep a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            subprocess.run(
                [folder / program, *words],
                env={"PATH": os.environ["PATH"], "PGDATA": str(self.folder)},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=True,
                **WITHOUT_ROOT,  # type: ignore[call-overload]
            )
            output.seek(0)
            return output.read()


def _children(parent: int) -> list[int]:
    """Processes that this one has started."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            # The name of the program, in brackets, may contain anything.
            if folder.name.isdecimal() and int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(folder.name))
    return found
