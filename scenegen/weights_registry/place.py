"""Puts complete files in place: they are written under another name, flushed, then renamed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from scenegen.errors import ResourceError
from scenegen.store.store import flush


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an operating system's refusal to write `path` into a `ResourceError`."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"cannot write {error.filename or path}: {error.strerror or error}; free some space there, or choose "
            "another folder for the models."
        ) from error


def put(part: Path, target: Path) -> None:
    """Renames `part` to `target`, so that half of it is never seen, even after a power cut."""
    with writing(target):
        flush(part)
        part.replace(target)
        flush(target.parent)
