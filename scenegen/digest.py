"""sha256 of files: read once a process, and of large ones once a machine, unless the file changes.

What a digest was of is told by the file's inode, size and times. Its change time cannot be set by a program, so that only
damage below the file system goes unseen; what must see that too reads the file with `sha256_file`.
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
"""Size from which on a digest is remembered on the machine: below, hashing takes less than a tenth of a second."""
SLOW_BYTES = 1 << 30
"""Size from which on the log says that a file is being read."""
SETTLED_NS = 100_000_000
"""A file changed less than this ago could change again without its times showing it; its digest is not remembered."""

Identity = tuple[int, int, int, int, int]
"""Device, inode, size, modification and change time."""

_lock = threading.Lock()
_known: dict[Path, tuple[Identity, str]] = {}


def sha256_file(path: Path) -> str:
    """sha256 (hex) of a file, read now.

    Raises:
        OSError: where it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_once(path: Path) -> str:
    """sha256 (hex) of a file, from memory where it has not changed since it was last read.

    Raises:
        OSError: where it cannot be read.
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
        logger.info("%s is read once, to know that it is whole", path)
    digest = sha256_file(path)
    if identity(path) == before and time.time_ns() - before[4] >= SETTLED_NS:
        remember(path, digest)
    return digest


def remember(path: Path, digest: str) -> None:
    """Notes the digest of a file as it is now, where it is already known.

    Raises:
        OSError: where there is none.
    """
    path, now = path.absolute(), identity(path)
    with _lock:
        _known[path] = (now, digest)
    if now[2] >= LARGE_BYTES:
        _write_record(path, now, digest)


def identity(path: Path) -> Identity:
    """What changes whenever the file does.

    Raises:
        OSError: where there is none.
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
        logger.debug("the digest of %s is not remembered: %s", path, error)
