"""A whole deployment on this machine: server, worker and what they start, in folders and on a port of their own."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import yaml
from free_port import free_port
from postgres_under_test import Postgres

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PATIENCE_S = 900.0
"""For anything to happen: many times what it takes on an idle machine."""
HURRY = "SCENEGEN_TEST_HURRY"
"""Environment variable: with it, what is waited for by the minute is waited for by the second."""
USER = "admin:a-password"
POOL = "scenegen-cpu"


@dataclass
class Deployment:
    """The processes are told by their environment, so those that have lost their parents are found too."""

    folder: Path
    port: int = 0
    extra: dict[str, str] = field(default_factory=dict)
    database: Postgres | None = None
    """Without one, SQLite."""
    server: subprocess.Popen[bytes] | None = None
    worker: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.port = free_port()
        for name in ("home", "photos", "scenes", "run", "logs", "tmp"):
            (self.folder / name).mkdir()
        self.marker = str(self.folder / "home")
        if self.database is not None:
            self.extra["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = self.database.url

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        path = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "flows" / "deployed")]
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join(path),
            "PREFECT_HOME": self.marker,
            "PREFECT_API_URL": self.api,
            "PREFECT_API_AUTH_STRING": USER,
            "PREFECT_SERVER_API_AUTH_STRING": USER,
            "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
            "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
            "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DO_NOT_TRACK": "1",
            "SCENEGEN_LOCKS": str(self.folder / "run"),
            "TMPDIR": str(self.folder / "tmp"),
            "OMP_NUM_THREADS": "1",
            **self.extra,
        }

    def run(self, *words: str) -> str:
        """What a command of the documentation says."""
        done = subprocess.run(
            [sys.executable, *words],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / "logs" / name).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *words],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_server(self) -> None:
        self.server = self.start(
            "server", "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)
        )
        until(lambda: self.ask("GET", "/health"), "the server answers")

    def kill_server(self) -> None:
        """All its processes, without asking them."""
        assert self.server is not None
        os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()

    def serves(self, pid: int) -> bool:
        """Whether a process is one of the server's."""
        assert self.server is not None
        try:
            return os.getpgid(pid) == self.server.pid
        except ProcessLookupError:
            return False

    def start_worker(self) -> None:
        self.worker = self.start("worker", "-m", "prefect", "worker", "start", "--pool", POOL)

    @contextlib.contextmanager
    def worker_kept_alive(self) -> Iterator[None]:
        """Starts the worker again whenever it has ended, as the system's service manager does."""
        done = threading.Event()

        def keep() -> None:
            while not done.wait(0.2):
                if self.worker is not None and self.worker.poll() is not None:
                    self.start_worker()

        keeper = threading.Thread(target=keep)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()

    def ask(self, method: str, path: str, body: Any = None, user: str | None = USER, csrf: bool = True) -> Any:
        """The API's answer, None where there is none for `BUSY_S`.

        Raises:
            urllib.error.HTTPError: with the status.
        """
        headers = {"Content-Type": "application/json"}
        if user is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        if method != "GET" and csrf:
            token = self.ask("GET", f"/csrf-token?client={CLIENT}", user=user)
            headers |= {"Prefect-Csrf-Token": token["token"], "Prefect-Csrf-Client": CLIENT}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.api + path, data, headers, method=method)
        end = time.monotonic() + BUSY_S
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > end:
                    raise
            except OSError:
                if time.monotonic() > end:
                    return None
            time.sleep(1)

    def set_schedule(self, deployment: str, on: bool) -> None:
        """Starts or stops the schedule of a deployment, given as flow/name."""
        found = self.ask("GET", f"/deployments/name/{deployment}")
        self.ask("PATCH", f"/deployments/{found['id']}", {"paused": not on})

    def runs(self, flow: str) -> list[dict[str, Any]]:
        found = self.ask("POST", "/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_ASC"})
        return found or []

    def processes(self) -> dict[int, str]:
        """Command lines of all processes of this deployment, by id."""
        found = {}
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdecimal() and f"PREFECT_HOME={self.marker}\0" in f"{_environ(folder)}\0":
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        return found

    def processes_of(self, run_id: str) -> list[int]:
        """Those that work for a flow run, its children's included."""
        mark = f"PREFECT__FLOW_RUN_ID={run_id}\0"
        return [pid for pid in self.processes() if mark in f"{_environ(Path(f'/proc/{pid}'))}\0"]

    def stop(self) -> None:
        """Kills whatever is left."""
        for _ in range(50):
            left = self.processes()
            for pid in left:
                kill(pid)
            for process in (self.server, self.worker):
                if process is not None:
                    process.poll()
            if not left:
                break
            time.sleep(0.1)
        if self.database is not None:
            self.database.stop()

    def logs(self) -> str:
        """The end of what server and worker have said, for whoever looks into a failure."""
        texts = [f"--- {path.name}\n{path.read_text()[-6000:]}" for path in sorted((self.folder / "logs").iterdir())]
        return "\n".join(texts)


@contextlib.contextmanager
def deployed(site: Deployment, nightly_s: float, janitor_s: float, **fan_out: Any) -> Iterator[Deployment]:
    """Server, set-up, deployments and worker, by the commands of docs/deployment.md, until the block ends.

    Args:
        site: what is to run.
        nightly_s: seconds between two runs of the nightly batch.
        janitor_s: and of the janitor.
        fan_out: how the nightly batch is spread over workers.
    """
    project = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    entries = {entry["name"]: entry for entry in project["deployments"]}
    entries["nightly-batch"]["parameters"] = {
        "source": str(site.folder / "photos"),
        "out": str(site.folder / "scenes"),
        "fan_out": {"deployment": "photos-to-scenes", **fan_out},
    }
    entries["nightly-batch"]["schedules"] = [{"interval": nightly_s}]
    entries["janitor"]["schedules"] = [{"interval": janitor_s}]
    file = site.folder / "prefect.yaml"
    file.write_text(yaml.safe_dump(project))
    try:
        site.start_server()
        site.run("-m", "scenegen", "prefect-setup")
        site.run("-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file))
        site.start_worker()
        yield site
    except BaseException as error:
        error.add_note(site.logs())
        raise
    finally:
        site.stop()


BUSY_S = 120
"""How long a server is asked again that does not answer, or whose database is locked; Prefect's own client does so too."""
CLIENT = "0f6b7c3e-6f6e-4f3c-9e0e-0e6c0a6b1d2a"


def until(look: Callable[[], T | None], what: str, patience_s: float = PATIENCE_S) -> T:
    """The first answer of `look` that is something."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.25)
    raise AssertionError(f"waited {patience_s:g} s in vain until {what}")


def kill(pid: int) -> bool:
    """Kills a process without asking it. Returns whether it was there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _environ(folder: Path) -> str:
    try:
        return (folder / "environ").read_text(errors="replace")
    except OSError:
        return ""
