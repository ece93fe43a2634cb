"""What a machine lacks to run scenegen, and how to fix it."""

from __future__ import annotations

import base64
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scenegen.compute.runtime import POOLS, Runtime
from scenegen.errors import ScenegenError, UsageError
from scenegen.messages.progress import STYLES
from scenegen.messages.redaction import redacted, redacted_url
from scenegen.registry import OWN, PORTS
from scenegen.store.folder import RemoteFolder, is_url, local_path
from scenegen.store.store import flush
from scenegen.system.memory import total_memory
from scenegen.system.processes import ending
from scenegen.weights_registry import list_models

if TYPE_CHECKING:
    from rich.table import Table

MIN_PYTHON = (3, 11)
MIN_MEMORY_GB = 4
MIN_DISK_GB = 2
IMPORT_TIMEOUT_S = 60
REQUIRED = {
    "cyclopts": "4.8",
    "embreex": "2.17.7",
    "fast-simplification": "0.2",
    "jaxtyping": "0.3",
    "manifold3d": "3.1",
    "networkx": "3.2",
    "numpy": "1.26",
    "OpenEXR": "3.3",
    "opencv-python-headless": "4.9",
    "pillow": "13",  # earlier ones decode hostile pictures unsafely
    "platformdirs": "4",
    "pydantic": "2.10.1",
    "pyyaml": "6",
    "rich": "13",
    "safetensors": "0.5",
    "scikit-image": "0.24",
    "scipy": "1.12",
    "threadpoolctl": "3.5",
    "torch": "2.10",
    "trimesh": "4.5",
    "usd-core": "25.11",
    "xatlas": "0.0.9",
}
"""Packages and the lowest version that works."""
SET_UP = "create what the deployments need: scenegen prefect-setup"
PREFECT_TIMEOUT_S = 2
PREFECT = "3.8.3"
"""The lowest version of Prefect that works."""
NATIVE = ("pxr.Usd", "embreex", "xatlas", "manifold3d", "fast_simplification", "cv2", "OpenEXR", "torch")
"""Modules with compiled parts, which can be installed and still fail to import."""


@dataclass(frozen=True)
class Check:
    """One thing that was checked."""

    name: str
    state: Literal["ok", "warn", "fail"]
    """`warn`: scenegen works, but something is missing. `fail`: it does not work."""
    detail: str
    fix: str = ""


def examine(out: str, runtime: Runtime) -> list[Check]:
    """Runs every check, for scenes written to the folder or URL `out`. It changes nothing and raises nothing."""
    checks = [
        check_python(),
        *(check_version(name, floor) for name, floor in REQUIRED.items()),
        check_version("prefect", PREFECT, extra="prefect"),
        check_fastapi(),
        *check_backends(),
        *(check_import(module) for module in NATIVE),
        check_machine(),
        check_limits(),
        *(check_bucket(out) if is_url(out) else (check_disk(local_path(out)), check_writing(local_path(out)))),
        *check_models(runtime),
        check_cuda(),
        *check_prefect(os.environ.get("PREFECT_API_URL")),
        check_node(),
    ]
    return [replace(check, detail=redacted(check.detail)) for check in checks]


def table(checks: list[Check]) -> Table:
    """`checks` for a terminal."""
    from rich.table import Table

    styles = {"ok": STYLES["done"], "warn": STYLES["running"], "fail": STYLES["failed"]}
    shown = Table(box=None, show_header=False)
    for check in checks:
        shown.add_row(check.state, check.name, check.detail + (f"\n-> {check.fix}" if check.fix else ""))
        shown.rows[-1].style = styles[check.state]
    return shown


def release(text: str) -> tuple[int, ...]:
    """The numbers that a version begins with: 2.13.0+cpu -> (2, 13, 0)."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def check_python() -> Check:
    """The interpreter."""
    found = platform.python_version()
    if sys.version_info >= MIN_PYTHON:
        return Check("python", "ok", found)
    return Check("python", "fail", found, f"use Python {'.'.join(map(str, MIN_PYTHON))} or later")


def check_version(name: str, floor: str, extra: str = "") -> Check:
    """Whether package `name` is installed and not older than `floor`; a package of an `extra` may be missing."""
    try:
        found = version(name)
    except PackageNotFoundError:
        if not extra:
            return Check(name, "fail", "not installed", f"pip install '{name}>={floor}'")
        return Check(name, "ok", f"not installed; only the `{extra}` extra needs it")
    if release(found) >= release(floor):
        return Check(name, "ok", found)
    return Check(name, "fail", f"{found} is older than {floor}", f"pip install '{name}>={floor}'")


def check_backends() -> Iterator[Check]:
    """The back-ends, and the packages that they need: those of scenegen together, those of other packages one by one."""
    packages: dict[str, tuple[str, str]] = {}
    for port in PORTS:
        own, others = [], []
        for name, offers in port.offers().items():
            try:
                backend = port.backend(name)
            except UsageError as error:
                fix = f"pip install --force-reinstall {offers[0].provider.partition(' ')[0] or OWN}"
                others.append(Check(f"{port.noun} {name}", "warn", str(error), fix))
                continue
            for requirement in backend.packages:
                package, _, floor = requirement.partition(">=")
                packages[package] = (floor, backend.extra)
            if backend.provider:
                others.append(Check(f"{port.noun} {name}", "ok", f"from {backend.provider}"))
            else:
                own.append(name)
        yield Check(
            f"{port.noun}s", "ok" if own else "fail", ", ".join(own) or "none", "" if own else "install scenegen again"
        )
        yield from others
    for package, (floor, extra) in packages.items():
        yield check_version(package, floor, extra)


def check_fastapi() -> Check:
    """Prefect 3.8's server does not import with fastapi 0.151 or later."""
    try:
        version("prefect")
        found = version("fastapi")
    except PackageNotFoundError:
        return Check("fastapi", "ok", "not needed without Prefect")
    if release(found) < (0, 151):
        return Check("fastapi", "ok", found)
    return Check("fastapi", "fail", f"{found} breaks Prefect's server", "pip install 'fastapi<0.151'")


def check_import(module: str) -> Check:
    """Whether `module` imports. It is tried in a separate process, since a broken one may crash."""
    error = import_error(module)
    if error is None:
        return Check(f"import {module}", "ok", "imports")
    return Check(
        f"import {module}", "fail", error, f"install it again: pip install --force-reinstall {module.split('.')[0]}"
    )


def import_error(module: str) -> str | None:
    """The last line of the error from importing `module` in a fresh process, or None."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", f"import {module}"], capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return f"takes longer than {IMPORT_TIMEOUT_S} s to import"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"the import ended with {ending(done.returncode)}"


def check_machine() -> Check:
    """Cores and memory."""
    cores = os.cpu_count() or 1
    memory = total_memory()
    if memory is None:
        return Check("machine", "ok", f"{cores} cores, memory unknown")
    gigabytes = memory / 1e9
    detail = f"{cores} cores, {gigabytes:.1f} GB"
    if gigabytes >= MIN_MEMORY_GB:
        return Check("machine", "ok", detail)
    return Check("machine", "warn", detail, "use --jobs 1 and a smaller read.max_side")


def check_limits() -> Check:
    """Whether this system can limit the memory and the time of the process that decodes the user's files."""
    code = "import sys; sys.path.append(sys.argv[1]); from scenegen.system.limits import limit_process; "
    code += f"print(*limit_process({IMPORT_TIMEOUT_S}, 2**36), sep=' and ')"
    command = [sys.executable, "-P", "-c", code, str(Path(__file__).parents[2])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S, check=True)
    except subprocess.SubprocessError as error:
        return Check("limits", "warn", f"cannot start a process to try them: {error}", "run scenegen doctor again")
    if missing := done.stdout.strip():
        return Check("limits", "warn", f"this system cannot limit {missing} of the decoder", "use only files you trust")
    return Check("limits", "ok", "memory and CPU time of the decoder are limited")


def check_disk(out: Path) -> Check:
    """Free space where scenes are written."""
    gigabytes = shutil.disk_usage(_existing(out)).free / 1e9
    if gigabytes >= MIN_DISK_GB:
        return Check("disk", "ok", f"{gigabytes:.1f} GB free for {out}")
    return Check(
        "disk", "warn", f"{gigabytes:.1f} GB free for {out}", "free some space or choose another folder with -o"
    )


def check_writing(out: Path) -> Check:
    """Whether a file can be written, flushed and renamed where scenes are written."""
    folder = _existing(out)
    path = folder / f".scenegen-doctor-{uuid.uuid4().hex[:8]}"
    renamed = path.with_suffix(".renamed")
    try:
        path.write_bytes(b"scenegen")
        flush(path)
        path.rename(renamed)
        flush(folder)
    except OSError as error:
        return Check("writing", "fail", f"{folder}: {error.strerror}", "choose another folder with -o")
    finally:
        for leftover in (path, renamed):
            if leftover.exists():
                leftover.unlink()
    return Check("writing", "ok", f"{folder}: write, flush and rename work")


def check_bucket(url: str) -> Iterator[Check]:
    """Whether objects can be written, read, created only once, and removed where scenes are written."""
    folder, name = RemoteFolder(url), f".scenegen/doctor-{uuid.uuid4().hex[:8]}"
    try:
        folder.create(name, b"scenegen")
        once = not folder.create(name, b"again")
        same = folder.read(name) == b"scenegen"
        folder.remove(name)
    except ScenegenError as error:
        yield Check("store", "fail", str(error), "see AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and the bucket's policy")
        return
    if same and once:
        yield Check("store", "ok", f"{redacted_url(url)}: write, read, create once and remove work")
    else:
        yield Check(
            "store",
            "warn",
            f"{redacted_url(url)} lets a second writer overwrite the first",
            "use one worker per bucket, or a store with conditional writes (If-None-Match): leases do not hold there",
        )


def check_models(runtime: Runtime) -> Iterator[Check]:
    """Which weights have been fetched, and which of them are damaged."""
    rows = list_models(runtime)
    for row in rows:
        if row.state == "damaged":
            yield Check(f"model {row.model.name}", "warn", row.detail, f"scenegen models fetch {row.model.name}")
    present = [row.model.name for row in rows if row.state == "present"]
    yield Check("models", "ok", ", ".join(present) or "none fetched; the embedded weights come with the package")


def check_cuda() -> Check:
    """The graphics card, as torch sees it."""
    try:
        version("torch")
    except PackageNotFoundError:
        return Check("cuda", "ok", "not checked without torch")
    code = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return Check(
            "cuda", "warn", f"torch did not answer in {IMPORT_TIMEOUT_S} s", "check the driver; use --device cpu"
        )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["torch cannot be imported"]
        return Check("cuda", "warn", lines[-1], "install torch again: pip install --force-reinstall torch")
    return Check("cuda", "ok", done.stdout.strip() or "none; the CPU is used")


def check_prefect(url: str | None) -> Iterator[Check]:
    """The Prefect server that runs would report to, and what scenegen's deployments need there."""
    if not url:
        yield Check("prefect server", "ok", "PREFECT_API_URL is not set; runs need no server")
        return
    server = check_prefect_server(url)
    yield server
    if server.state == "ok":
        yield from (check_pool(url, pool) for pool in POOLS)
        yield check_runs()


def check_prefect_server(url: str) -> Check:
    """Whether the server answers and accepts the credentials."""
    try:
        # Unlike /health, it asks for the password.
        answer = _ask_prefect(url, "admin/version")
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            fix = "set PREFECT_API_AUTH_STRING to the server's user:password (or set PREFECT_API_KEY)"
            return Check("prefect server", "fail", f"{redacted_url(url)} refuses the credentials ({error.code})", fix)
        fix = "end PREFECT_API_URL in /api, for example http://127.0.0.1:4200/api"
        return Check("prefect server", "fail", f"{redacted_url(url)}: {error}", fix)
    except (OSError, ValueError) as error:
        fix = "start it (prefect server start), or unset PREFECT_API_URL"
        return Check("prefect server", "fail", f"{redacted_url(url)}: {getattr(error, 'reason', error)}", fix)
    return Check("prefect server", "ok", f"{redacted_url(url)}, version {answer}")


def check_pool(url: str, name: str) -> Check:
    """A work pool, and whether a worker polls it."""
    title = f"work pool {name}"
    try:
        pool = _ask_prefect(url, f"work_pools/{name}")
        if pool.get("is_paused"):
            return Check(title, "warn", "is paused", f"prefect work-pool resume {name}")
        if pool.get("status") != "READY":
            return Check(title, "warn", "has no running worker", f"prefect worker start --pool {name}")
    except urllib.error.HTTPError as error:
        return Check(title, "warn", f"does not exist ({error.code})", SET_UP)
    except (OSError, ValueError, AttributeError) as error:
        return Check(title, "warn", f"cannot be checked: {error}", "run scenegen doctor again")
    return Check(title, "ok", f"type {pool.get('type')}, with a running worker")


def check_runs() -> Check:
    """Whether there are runs whose process is gone: they keep a place in their work queue until somebody ends them."""
    title = "prefect runs"
    try:
        from flows.setup import stuck
    except ImportError:
        return Check(title, "warn", "cannot be checked without Prefect", "pip install 'scenegen-3d[prefect]'")
    try:
        names = stuck()
    except Exception as error:  # noqa: BLE001 (whatever Prefect's client raises; it is shown)
        return Check(title, "warn", f"cannot be checked: {redacted(str(error))}", "run scenegen doctor again")
    if names:
        fix = "scenegen prefect-setup ends them; the deployment `janitor` does so every two minutes while a worker runs"
        return Check(title, "warn", f"no sign of life from {', '.join(names)}", fix)
    return Check(title, "ok", "all that are running are alive")


def _ask_prefect(url: str, path: str) -> Any:
    """The answer of Prefect's API. Its own client takes seconds to import.

    Raises:
        OSError: if it does not answer, or refuses (`urllib.error.HTTPError`).
        ValueError: if `url` is not a URL, or the answer is not JSON.
    """
    request = urllib.request.Request(f"{url.rstrip('/')}/{path}")
    if login := os.environ.get("PREFECT_API_AUTH_STRING"):
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    elif key := os.environ.get("PREFECT_API_KEY"):
        request.add_header("Authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=PREFECT_TIMEOUT_S) as answer:
        return json.load(answer)


def check_node() -> Check:
    """Node runs the Khronos validator in the tests; scenes do not need it."""
    node = shutil.which("node")
    return Check("node", "ok", node or "not installed; only the glTF validator of the tests needs it")


def _existing(path: Path) -> Path:
    """`path`, or the nearest of its parents that is a folder."""
    path = path.absolute()
    return next(parent for parent in (path, *path.parents) if parent.is_dir())
