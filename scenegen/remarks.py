"""What stages remark on a scene, and who is told: the one rule.

A **warning** is for whoever gave the photo: something about this photo or command makes the scene less than was asked for,
and the text says what to do about it. It is logged as a warning in every run, also where nothing is computed anew.

A **note** is for the curious: what a method assumes on every photo, what stood in for what, how a mesh was made. Nobody
needs to act on it. It is logged with `-v` only, and stands in the manifest and in the report.

Both are texts in a record's `warnings`; a note begins with `NOTE`.
"""

from __future__ import annotations

import logging

NOTE = "note: "


def note(text: str) -> str:
    """`text` as a note."""
    return f"{NOTE}{text}"


def is_note(remark: str) -> bool:
    """Whether a remark is a note rather than a warning."""
    return remark.startswith(NOTE)


def of_object(object_id: int, remark: str) -> str:
    """A remark on one object as a remark on its scene; a note stays one."""
    text = f"object {object_id}: {remark.removeprefix(NOTE)}"
    return note(text) if is_note(remark) else text


def level(remark: str) -> int:
    """The level a remark is logged at."""
    return logging.DEBUG if is_note(remark) else logging.WARNING
