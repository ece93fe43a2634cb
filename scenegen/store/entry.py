"""The description of a stored entry, and the checks that it has not changed since it was written."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from scenegen.records import digest_json
from scenegen.untrusted.documents import parse_json

ENTRY = "entry.json"


class DamagedError(Exception):
    """An entry has changed since it was written; the message says how."""


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or name in (".", ENTRY):
        raise ValueError("a file lies outside the entry")
    return name


class EntryFile(BaseModel):
    """One file of an entry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    bytes: int


class Entry(BaseModel):
    """A stage's result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    key: str
    seconds: float
    """Wall time of the execution, without waiting for a worker or a device."""
    card_peak_bytes: int = 0
    """Of a graphics card's memory, the most that its tensors took; 0 if it ran on none."""
    record: dict[str, Any]
    """The stage's record as JSON values."""
    files: dict[Annotated[str, AfterValidator(_inside)], EntryFile]
    """The files by name, relative to the entry's folder, with forward slashes."""
    provisional: bool = False
    """As `Record.provisional`."""

    def text(self) -> str:
        """The entry as text, with a digest of itself."""
        values = self.model_dump(mode="json")
        return json.dumps({"entry": values, "sha256": digest_json(values)}, indent=1, sort_keys=True)


def parse_entry(text: str | bytes, stage: str, key: str) -> Entry:
    """The entry that `text`, made by `Entry.text`, describes.

    Raises:
        DamagedError: if it has changed since it was written, or belongs to another stage or key.
    """
    try:
        values = parse_json(text)
        if digest_json(values["entry"]) != values["sha256"]:
            raise DamagedError(f"{ENTRY} does not match its digest")
        entry = Entry.model_validate(values["entry"])
    except (ValueError, LookupError, TypeError, RecursionError, ValidationError) as error:
        raise DamagedError(f"{ENTRY} cannot be read") from error
    if (entry.stage, entry.key) != (stage, key):
        raise DamagedError(f"{ENTRY} belongs to {entry.stage} {entry.key[:12]}")
    return entry
