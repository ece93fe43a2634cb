"""Warnings and notes of stages, and the one rule for who sees which.

A **warning** is for the user: something about this photo or command makes the scene fall short of what was asked for,
and the text says what to do about it. It is logged as a warning in every run, even if nothing is computed again.

A **note** is background: what a method assumes about every photo, what replaced what, how a mesh was made. Nobody
needs to act on it. It is logged with `-v` only, and is in the manifest and in the report.

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
    """A remark on one object as a remark on its scene; a note stays a note."""
    text = f"object {object_id}: {remark.removeprefix(NOTE)}"
    return note(text) if is_note(remark) else text


def level(remark: str) -> int:
    """The level at which a remark is logged."""
    return logging.DEBUG if is_note(remark) else logging.WARNING
