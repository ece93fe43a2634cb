"""sha256 of files. Unless it changes, a file is read once per process, and a large one once per machine.

A file is recognised by its inode, size and times. A program cannot set the change time, so only damage below the file
system goes unseen. Code that must notice that too reads the file with `sha256_file`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from pathlib import Path

from platformdirs import user_cache_path

logger = logging.getLogger(__name__)

LARGE_BYTES = 64 << 20
"""Size from which a digest is remembered on the machine: smaller files are hashed in less than a tenth of a second."""
SLOW_BYTES = 1 << 30
"""Size from which the log says that a file is being read."""
SETTLED_NS = 100_000_000
"""A file changed less than this ago could change again without its times showing it; its digest is not remembered."""

Identity = tuple[int, int, int, int, int]
"""Device, inode, size, modification and change time."""

_lock = threading.Lock()
_known: dict[Path, tuple[Identity, str]] = {}


def sha256_file(path: Path) -> str:
    """sha256 (hex) of a file, read now.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_once(path: Path) -> str:
    """sha256 (hex) of a file, from memory if it has not changed since it was last read.

    Raises:
        OSError: if it cannot be read.
    """
    path = path.absolute()
    before = identity(path)
    with _lock:
        known = _known.get(path)
    if known is not None and known[0] == before:
        return known[1]
    recalled = _recall(path, before) if before[2] >= LARGE_BYTES else None
    if recalled is not None:
        with _lock:
            _known[path] = (before, recalled)
        return recalled
    if before[2] >= SLOW_BYTES:
        logger.info("reading %s once, to check that it is intact", path)
    digest = sha256_file(path)
    if identity(path) == before and time.time_ns() - before[4] >= SETTLED_NS:
        remember(path, digest)
    return digest


def remember(path: Path, digest: str) -> None:
    """Remembers a digest that is already known, for a file as it is now.

    Raises:
        OSError: if there is no such file.
    """
    path, now = path.absolute(), identity(path)
    with _lock:
        _known[path] = (now, digest)
    if now[2] >= LARGE_BYTES:
        _write_record(path, now, digest)


def identity(path: Path) -> Identity:
    """What changes whenever the file does.

    Raises:
        OSError: if there is no such file.
    """
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _record(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    return user_cache_path("scenegen") / "digests" / f"{name}.json"


def _recall(path: Path, now: Identity) -> str | None:
    """The digest that an earlier process found of the file as it is `now`."""
    try:
        known = json.loads(_record(path).read_text(encoding="utf-8"))
        return str(known["sha256"]) if known["identity"] == list(now) else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _write_record(path: Path, now: Identity, digest: str) -> None:
    record = _record(path)
    part = record.with_name(f"{record.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"path": str(path), "identity": now, "sha256": digest}), encoding="utf-8")
        part.replace(record)
    except OSError as error:
        logger.debug("the digest of %s could not be remembered: %s", path, error)
