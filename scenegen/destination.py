"""Whether results can be written where they shall go, found out before any work."""

from __future__ import annotations

import contextlib
import errno
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from scenegen.errors import UsageError
from scenegen.store import disk_errors

DEEPEST = 512
"""Bytes that the longest path below an output folder may take, with room to spare."""
MAX_PATH, MAX_PART = 4096, 255
MAY_PASS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""What says that the disk refuses, rather than that there can be no such folder."""


def check_path(folder: Path, argument: str = "out") -> None:
    """Refuses the path of an output folder that USD or the file system cannot have. Nothing is touched.

    Raises:
        UsageError: for one with a backslash, a control character, bytes that are no text, or too long.
    """
    path = str(folder.absolute())
    problem = _problem(path)
    if problem:
        raise UsageError(f"`{argument}` {path!r} {problem}; choose another folder.")


def check_folder(folder: Path, argument: str = "out") -> None:
    """Makes `folder`, and writes a file in it for a moment.

    Raises:
        UsageError: as `check_path`; for one below a file, or in a file system that takes no folders, such as /proc.
        ResourceError: if the disk is full, read-only or not ours.
    """
    check_path(folder, argument)
    with _usable(folder, argument):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def check_file(file: Path, argument: str) -> None:
    """Makes the folder of `file`, and sees that it is no folder itself. Raises as `check_folder` does."""
    if file.is_dir():
        raise UsageError(f"`{argument}` {file} is a folder; give a file.")
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
    """What is wrong with the path of an output folder; USD takes a backslash for a slash."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "holds bytes that are not UTF-8"
    if "\\" in path or any(unicodedata.category(char) == "Cc" for char in path) or ":SDF_FORMAT_ARGS:" in path:
        return "holds a backslash or a control character, which USD cannot have in a path"
    if size > MAX_PATH - DEEPEST or any(len(part.encode()) > MAX_PART for part in path.split("/")):
        return f"is too long: {MAX_PATH - DEEPEST} bytes are allowed, {MAX_PART} in each part"
    return ""
