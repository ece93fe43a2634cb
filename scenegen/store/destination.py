"""Checks, before any work, that results can be written where they are to go."""

from __future__ import annotations

import contextlib
import errno
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from scenegen.errors import UsageError
from scenegen.store.store import disk_errors

DEEPEST = 512
"""Bytes that the longest path below an output folder may take, with room to spare."""
MAX_PATH, MAX_PART = 4096, 255
MAY_PASS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""Errors of a disk that refuses, rather than of a folder that cannot exist."""


def check_path(folder: Path, argument: str = "out") -> None:
    """Refuses a path that USD or the file system cannot handle. Nothing is touched.

    Raises:
        UsageError: if it has a backslash, a control character or bytes that are not UTF-8, or is too long.
    """
    path = str(folder.absolute())
    problem = _problem(path)
    if problem:
        raise UsageError(f"`{argument}` {path!r} {problem}; choose another folder.")


def check_folder(folder: Path, argument: str = "out") -> None:
    """Makes `folder`, and writes a file in it that is removed at once.

    Raises:
        UsageError: as `check_path`; also if it lies below a file, or in a file system without folders, such as /proc.
        ResourceError: if the disk is full or may not be written.
    """
    check_path(folder, argument)
    with _usable(folder, argument):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def check_file(file: Path, argument: str) -> None:
    """Makes the folder of `file`, and checks that `file` is not itself a folder. Raises as `check_folder` does."""
    if file.is_dir():
        raise UsageError(f"`{argument}` {file} is a folder; give the name of a file.")
    with _usable(file.parent, argument):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass


@contextlib.contextmanager
def _usable(folder: Path, argument: str) -> Iterator[None]:
    with disk_errors(folder):
        try:
            yield
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in MAY_PASS:
                raise
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"`{argument}` {folder} cannot be created: {reason}; choose another folder.") from error


def _problem(path: str) -> str:
    """What is wrong with the path of an output folder. USD reads a backslash as a slash."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "holds bytes that are not UTF-8"
    if "\\" in path or any(unicodedata.category(char) == "Cc" for char in path) or ":SDF_FORMAT_ARGS:" in path:
        return "holds a backslash or a control character, which USD does not allow in a path"
    if size > MAX_PATH - DEEPEST or any(len(part.encode()) > MAX_PART for part in path.split("/")):
        return f"is too long; at most {MAX_PATH - DEEPEST} bytes are allowed, and {MAX_PART} in each part"
    return ""
