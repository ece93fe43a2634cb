"""The photos that folders and glob patterns name, and the files that are left out, with the reason."""

from __future__ import annotations

import fnmatch
import glob
import logging
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from scenegen.errors import UsageError
from scenegen.untrusted.formats import PICTURE_SUFFIXES

logger = logging.getLogger(__name__)

NO_PICTURE = f"not named like a picture (looked for {', '.join(sorted(PICTURE_SUFFIXES))})"
NO_FILE = "not a regular file"


@dataclass(frozen=True)
class Skipped:
    """A file that is left out, or a folder that cannot be read."""

    place: str
    """Its path or URL."""
    reason: str
    failed: bool = False
    """Whether photos may be missing because of it."""


@dataclass(frozen=True)
class Found:
    """What the arguments of a command name."""

    photos: tuple[Path, ...]
    skipped: tuple[Skipped, ...]


def find_photos(words: Sequence[str]) -> Found:
    """The photos that files, folders (their pictures, not those of sub-folders) and glob patterns name.

    Each photo comes once, in the order given; folders and patterns are sorted. A missing file stays in the list, so that
    it fails without stopping the others. A folder that cannot be read is among what is skipped.

    Raises:
        UsageError: if a folder holds no picture or a pattern matches nothing.
    """
    photos: list[Path] = []
    skipped: list[Skipped] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            found, left = pictures(path)
            if not found and not any(item.failed for item in left):
                raise UsageError(
                    f"`IMAGE` {word} holds no picture; looked for files ending in {', '.join(sorted(PICTURE_SUFFIXES))}."
                )
        elif not path.exists() and glob.has_magic(word):
            found, left = _matches(path)
            if not found and not any(item.failed for item in left):
                raise UsageError(f"`IMAGE` {word} matches no file; check the pattern.")
        else:
            found, left = [path], []
        photos += found
        skipped += left
    return Found(
        tuple({photo.absolute(): photo for photo in photos}.values()),
        tuple({item.place: item for item in skipped}.values()),
    )


def pictures(folder: Path) -> tuple[list[Path], list[Skipped]]:
    """The pictures in a folder, sorted, and its other files."""
    found: list[Path] = []
    skipped: list[Skipped] = []
    for entry in _entries(folder, skipped):
        path = folder / entry.name
        if path.suffix.lower() not in PICTURE_SUFFIXES:
            if not path.is_dir():
                skipped.append(Skipped(str(path), NO_PICTURE))
        elif path.is_file():
            found.append(path)
        elif not path.is_dir():
            skipped.append(Skipped(str(path), NO_FILE))
    return found, skipped


def log_skipped(skipped: Sequence[Skipped]) -> None:
    """Logs what is skipped: unreadable folders one by one, files grouped by folder and reason."""
    for item in skipped:
        if item.failed:
            logger.error("%s %s", item.place, item.reason)
    left = sorted((item.reason, os.path.split(item.place)) for item in skipped if not item.failed)
    for (reason, folder), group in groupby(left, key=lambda item: (item[0], item[1][0])):
        names = [name for _, (_, name) in group]
        logger.warning("%s: %d skipped, %s: %s", folder or ".", len(names), reason, ", ".join(names))


def _matches(pattern: Path) -> tuple[list[Path], list[Skipped]]:
    """The files that a glob pattern matches, sorted. `**` enters every folder once, even if links lead back to it."""
    found: set[Path] = set()
    skipped: list[Skipped] = []
    seen: set[tuple[int, int, int]] = set()
    ahead = deque([(Path(pattern.anchor), pattern.parts[1:] if pattern.anchor else pattern.parts)])
    linked: deque[tuple[Path, tuple[str, ...]]] = deque()
    while ahead or linked:
        # Links come last, so that a folder is listed under its own name if it has one.
        path, parts = (ahead or linked).popleft()
        if not parts:
            found.add(path)
            continue
        head, rest = parts[0], parts[1:]
        if head == "**":
            if _met_before(path, len(rest), seen):
                continue
            ahead.append((path, rest or ("*",)))
        elif not glob.has_magic(head):
            if os.path.lexists(path / head):
                ahead.append((path / head, rest))
            continue
        for entry in _entries(path, skipped):
            hidden = entry.name.startswith(".")
            if head == "**":
                if not hidden and _is_dir(entry):
                    (linked if entry.is_symlink() else ahead).append((path / entry.name, parts))
            elif fnmatch.fnmatchcase(entry.name, head) and (not hidden or head.startswith(".")):
                ahead.append((path / entry.name, rest))
    files = sorted(path for path in found if path.is_file())
    skipped += [Skipped(str(path), NO_FILE) for path in sorted(found) if not path.is_file() and not path.is_dir()]
    return files, skipped


def _met_before(folder: Path, parts: int, seen: set[tuple[int, int, int]]) -> bool:
    try:
        status = folder.stat()
    except OSError:
        return False  # listing it reports the error
    key = (status.st_dev, status.st_ino, parts)
    if key in seen:
        return True
    seen.add(key)
    return False


def _entries(folder: Path, skipped: list[Skipped]) -> list[os.DirEntry[str]]:
    """The entries of a folder, sorted; none if it cannot be read, which is added to `skipped`."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except NotADirectoryError:
        return []
    except OSError as error:
        skipped.append(Skipped(str(folder), f"cannot be read: {error.strerror or error}.", failed=True))
        return []


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
