"""What the doctor finds, and that it finds what is made to be broken."""

from __future__ import annotations

import base64
import http.server
import json
import socket
import subprocess
import sys
import threading
import tomllib
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from scenegen.cli import doctor
from scenegen.compute.runtime import Runtime
from scenegen.registry import PORTS
from scenegen.store.folder import RemoteFolder
from scenegen.weights_registry import MODELS

ROOT = Path(__file__).parents[2]


def test_floors_are_those_of_the_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]

    def floors(requirements: list[str]) -> dict[str, str]:
        split = [requirement.split(",")[0].split(">=") for requirement in requirements if ">=" in requirement]
        return dict(split)

    assert floors(project["dependencies"]) == doctor.REQUIRED
    extras = project["optional-dependencies"]
    assert floors(extras["prefect"])["prefect"] == doctor.PREFECT
    for backend in (backend for port in PORTS for backend in port.usable()):
        assert floors([*backend.packages]).items() <= floors(extras.get(backend.extra, [])).items()


@pytest.mark.parametrize(
    ("text", "numbers"), [("2.13.0+cpu", (2, 13, 0)), ("13", (13,)), ("4.4.0.post1", (4, 4, 0)), ("dev", ())]
)
def test_release(text: str, numbers: tuple[int, ...]) -> None:
    assert doctor.release(text) == numbers


def versions(monkeypatch: pytest.MonkeyPatch, **found: str) -> None:
    def version(name: str) -> str:
        if name not in found:
            raise doctor.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(doctor, "version", version)


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, pillow="12.3.0", torch="2.13.0+cpu", prefect="3.8.8", fastapi="0.151.0")
    old = doctor.check_version("pillow", "13")
    assert (old.state, old.fix) == ("fail", "pip install 'pillow>=13'")
    assert doctor.check_version("torch", "2.10", extra="full").state == "ok"
    assert doctor.check_version("numpy", "1.26").state == "fail"
    assert doctor.check_version("transformers", "5.3", extra="full").state == "ok"
    assert doctor.check_fastapi().state == "fail"
    versions(monkeypatch, prefect="3.8.8", fastapi="0.150.0")
    assert doctor.check_fastapi().state == "ok"
    versions(monkeypatch, fastapi="0.165.0")
    assert doctor.check_fastapi().state == "ok"  # nobody needs it


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of their own processes: lacking needs a library, crashing dies, sleepy hangs."""
    (tmp_path / "lacking.py").write_text("raise OSError('libusb-1.0.so.0: cannot open shared object file')")
    (tmp_path / "crashing.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    (tmp_path / "sleepy.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_imports(broken: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_import("json").state == "ok"
    crashed = doctor.check_import("crashing")
    assert (crashed.state, crashed.detail) == ("fail", "the import ended with SIGSEGV")
    assert "No module named 'nowhere'" in doctor.check_import("nowhere").detail
    lacking = doctor.check_import("lacking")
    assert lacking.state == "fail"
    assert "libusb-1.0.so.0" in lacking.detail
    monkeypatch.setattr(doctor, "IMPORT_TIMEOUT_S", 0.5)
    assert "longer than" in doctor.check_import("sleepy").detail


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(10**12, 0, 10**12))
    assert doctor.check_disk(tmp_path / "not" / "there").state == "ok"
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(10**12, 10**12, 10**8))
    assert doctor.check_disk(tmp_path).state == "warn"


def test_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_writing(tmp_path / "not" / "there").state == "ok"

    def refuse(*args: Any) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("write_bytes", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, refuse)
            check = doctor.check_writing(tmp_path)
        assert check.state == "fail"
        assert "Permission denied" in check.detail
    assert list(tmp_path.iterdir()) == []


def test_models(tmp_path: Path) -> None:
    runtime = Runtime(models=tmp_path)
    (check,) = doctor.check_models(runtime)
    assert (check.state, check.detail[:12]) == ("ok", "none fetched")
    name = next(iter(MODELS))
    (tmp_path / name).mkdir()
    (tmp_path / name / "verified.json").write_text("{}")
    damaged = next(iter(doctor.check_models(runtime)))
    assert (damaged.state, damaged.fix) == ("warn", f"scenegen models fetch {name}")


POOL = {"name": "gpu", "type": "process", "is_paused": False, "status": "READY"}


class Server(http.server.BaseHTTPRequestHandler):
    """As much of Prefect's API as is asked for."""

    answers: ClassVar[dict[str, Any]] = {}
    password = ""

    def do_GET(self) -> None:
        given = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        answer = self.answers.get(self.path.removeprefix("/api/"))
        self.send_response(401 if given != self.password else 404 if answer is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *args: Any) -> None:
        pass


def stuck_runs(monkeypatch: pytest.MonkeyPatch, stuck: Any) -> None:
    """`stuck` answers for Prefect, which need not be installed here."""
    monkeypatch.setitem(sys.modules, "flows.setup", SimpleNamespace(stuck=stuck))


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a server where everything is as it should be."""
    stuck_runs(monkeypatch, lambda: ())
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    monkeypatch.setattr(Server, "password", "")
    monkeypatch.setattr(
        Server,
        "answers",
        {
            "admin/version": "3.8.3",
            "work_pools/scenegen-cpu": POOL,
            "work_pools/scenegen-gpu": POOL,
        },
    )
    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    server.server_close()


def test_a_prefect_server_as_it_should_be(prefect: str) -> None:
    for url in (prefect, f"{prefect}/"):
        checks = list(doctor.check_prefect(url))
        assert [check.state for check in checks] == ["ok"] * 4
        assert "version 3.8.3" in checks[0].detail
    (check,) = doctor.check_prefect(None)
    assert check.state == "ok"


@pytest.mark.parametrize(
    ("path", "answer", "state", "fix"),
    [
        (
            "work_pools/scenegen-gpu",
            {**POOL, "status": "NOT_READY"},
            "warn",
            "prefect worker start --pool scenegen-gpu",
        ),
        ("work_pools/scenegen-cpu", {**POOL, "is_paused": True}, "warn", "prefect work-pool resume scenegen-cpu"),
        ("work_pools/scenegen-cpu", None, "warn", "scenegen prefect-setup"),
        ("work_pools/scenegen-cpu", [], "warn", "again"),
        ("admin/version", None, "fail", "end PREFECT_API_URL in /api"),
    ],
)
def test_what_a_prefect_server_lacks_and_the_fix(prefect: str, path: str, answer: Any, state: str, fix: str) -> None:
    Server.answers[path] = answer
    (check,) = [check for check in doctor.check_prefect(prefect) if check.state != "ok"]
    assert check.state == state
    assert fix in check.fix


def test_a_prefect_server_with_a_password(prefect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "password", "admin:secret")
    (check,) = doctor.check_prefect(prefect)
    assert (check.state, "PREFECT_API_AUTH_STRING" in check.fix) == ("fail", True)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:secret")
    checks = list(doctor.check_prefect(prefect))
    assert [check.state for check in checks] == ["ok"] * 4
    assert "secret" not in str(checks)


def test_runs_whose_process_is_gone(prefect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck_runs(monkeypatch, lambda: ("table", "shelf"))
    (check,) = [check for check in doctor.check_prefect(prefect) if check.state != "ok"]
    assert (check.state, check.detail) == ("warn", "no sign of life from table, shelf")
    assert "scenegen prefect-setup ends them" in check.fix
    stuck_runs(monkeypatch, lambda: 1 / 0)
    (check,) = [check for check in doctor.check_prefect(prefect) if check.state != "ok"]
    assert check.detail == "cannot be checked: division by zero"


def test_no_prefect_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/api", "no url", f"http://user:secret@127.0.0.1:{port}/api"):
        (check,) = doctor.check_prefect(url)
        assert (check.state, "prefect server start" in check.fix) == ("fail", True)
        assert "secret" not in check.detail


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that accepts and says nothing costs a while, not for ever."""
    monkeypatch.setattr(doctor, "PREFECT_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (check,) = doctor.check_prefect(f"http://127.0.0.1:{silent.getsockname()[1]}/api")
    assert check.state == "fail"


def test_a_bucket(bucket_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = doctor.check_bucket(f"{bucket_url}/out")
    assert (check.state, check.fix) == ("ok", "")
    (check,) = doctor.check_bucket("s3://there-is-no-such-bucket/out")
    assert (check.state, "there-is-no-such-bucket" in check.detail, bool(check.fix)) == ("fail", True, True)
    monkeypatch.setattr(RemoteFolder, "create", lambda self, name, content: self.write(name, content) or True)
    (check,) = doctor.check_bucket(bucket_url)
    assert (check.state, "one worker" in check.fix) == ("warn", True)


@pytest.mark.slow
def test_examine_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    checks = doctor.examine(str(tmp_path), Runtime(models=tmp_path))
    assert {check.name for check in checks} >= {
        "python",
        "pillow",
        "disk",
        "writing",
        "models",
        "cuda",
    }
    assert all(check.fix for check in checks if check.state != "ok")
    assert list(tmp_path.iterdir()) == []


def test_doctor_needs_no_heavy_import() -> None:
    code = "import sys, scenegen.cli.doctor; print({'numpy', 'cv2', 'torch', 'pxr'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout.strip() == "set()"
