"""Lists, checks and prunes a local store.

Everything in a store can be computed again, except for what the user gave. So a scene loses nothing when its results are
removed: its folder has copies of everything that is published. Only its next run takes longer.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scenegen.records import artifacts
from scenegen.store.digest import sha256_file
from scenegen.store.entry import ENTRY, DamagedError, parse_entry
from scenegen.store.store import EDITS, INPUTS, MANIFEST, PRUNING, UNPUSHED, Store
from scenegen.untrusted.documents import read_json

logger = logging.getLogger(__name__)

CLOCK_MARGIN_S = 3600.0
"""How far the clocks of machines that share a store may differ."""


@dataclass(frozen=True)
class Stored:
    """An entry, or a file that the user gave."""

    stage: str
    """`input` for files that the user gave."""
    path: Path
    """Folder of the entry, or the file."""
    bytes: int
    used: float
    """When a run last looked for it, in seconds since the epoch."""
    needed: bool
    """Whether a published scene was made from it, or the mirror still lacks it."""


def list_stored(store: Store) -> tuple[Stored, ...]:
    """Everything in a local store, by stage."""
    needed = _needed(store)
    found = []
    for path in sorted(store.root.glob("*/??/*")):
        stage, _, name = path.relative_to(store.root).parts
        if re.fullmatch(r"[0-9a-f]{64}(\.[a-z0-9]+)?", name):
            with contextlib.suppress(OSError):  # removed in the meantime
                used = (path / ENTRY if (path / ENTRY).is_file() else path).stat().st_mtime
                found.append(Stored(stage, path, _size(path), used, path.relative_to(store.root).as_posix() in needed))
    return tuple(found)


def remove_damaged(store: Store) -> tuple[Stored, ...]:
    """Reads everything in a local store and removes what has changed since it was written. Returns what it removed."""
    return tuple(item for item in list_stored(store) if not _is_sound(store, item))


def prune(store: Store, max_bytes: int | None = None, dry_run: bool = False) -> tuple[Stored, ...]:
    """Removes what no published scene was made from; then the least recently used results, down to a size.

    What a running job may have found is kept, and so are the files that users gave for published scenes.

    Args:
        store: a local store.
        max_bytes: largest size of the whole store; None for no limit.
        dry_run: removes nothing.

    Returns:
        What was, or would be, removed.

    Raises:
        ResourceError: if the disk cannot be written.
    """
    with store.staging() as trash, store.lock(PRUNING):
        since = store.running_since()
        goes = expendable(list_stored(store), max_bytes, math.inf if since is None else since - CLOCK_MARGIN_S)
        if not dry_run:
            goes = tuple(item for number, item in enumerate(goes) if _move(item, trash / str(number)))
    return goes


def expendable(stored: Sequence[Stored], max_bytes: int | None, before: float) -> tuple[Stored, ...]:
    """What `prune` removes, of what was last used before the time `before`."""
    idle = [item for item in stored if item.used < before]
    goes = [item for item in idle if not item.needed]
    left = sum(item.bytes for item in stored) - sum(item.bytes for item in goes)
    for item in sorted(idle, key=lambda item: item.used):
        if max_bytes is None or left <= max_bytes:
            break
        if item.needed and item.stage != INPUTS:
            goes.append(item)
            left -= item.bytes
    return tuple(goes)


def _move(item: Stored, target: Path) -> bool:
    """Moves something out of the store, unless it has been used in the meantime."""
    entry = ENTRY if item.path.is_dir() else ""
    with contextlib.suppress(OSError):
        item.path.rename(target)
        if (target / entry if entry else target).stat().st_mtime == item.used:
            return True
        target.rename(item.path)
    return False


def _is_sound(store: Store, item: Stored) -> bool:
    """Whether something is as it was written; if not, it is removed."""
    key = item.path.name.partition(".")[0]
    try:
        if item.stage == INPUTS:
            if sha256_file(item.path) != key:
                raise DamagedError("it has changed since it was written")
        else:
            entry = parse_entry((item.path / ENTRY).read_bytes(), item.stage, key)
            for name, file in entry.files.items():
                if sha256_file(item.path / name) != file.sha256:
                    raise DamagedError(f"{name} has changed since it was written")
    except (DamagedError, OSError) as error:
        logger.warning("%s is damaged (%s); removed", item.path, error)
        with store.staging() as trash, contextlib.suppress(FileNotFoundError):
            item.path.rename(trash / "damaged")
        return False
    return True


def _needed(store: Store) -> set[str]:
    """Paths, relative to the store's root, of what published scenes were made from, of the files that lists of edits name, and
    of what has not reached the mirror."""
    keys = {(stage, key) for stage, _, key in (path.name.rpartition("-") for path in (store.root / UNPUSHED).glob("*"))}
    found: set[str] = set()
    for path in store.root.parent.glob(f"*/{MANIFEST}"):
        try:
            manifest = read_json(path)
            keys |= {(str(entry["stage"]), str(entry["key"])) for entry in manifest["stages"]}
            found |= {artifact.path for artifact in artifacts(manifest["source"])}
        except (OSError, ValueError, LookupError, TypeError) as error:
            logger.warning("%s cannot be read (%s): what its scene was made from counts as not needed", path, error)
    for path in store.root.parent.glob(f"*/{EDITS}"):
        try:
            found |= {artifact.path for artifact in artifacts(read_json(path))}
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read (%s): what it names counts as not needed", path, error)
    return found | store.reached(keys)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in _files(path))


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for parent, _, names in os.walk(path):
            yield from (Path(parent, name) for name in names)
    else:
        yield path
