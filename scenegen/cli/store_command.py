"""`scenegen store`: lists, checks and prunes the stored results of an output folder."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cyclopts import App

from scenegen.errors import EXIT_DONE, InputError, ResourceError, UsageError
from scenegen.messages.progress import set_verbosity
from scenegen.store.folder import RemoteFolder, is_url, local_path
from scenegen.store.store import STORE, Store

if TYPE_CHECKING:
    from scenegen.store.prune import Stored

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}

app = App(name="store", help="The stored results of an output folder: list, verify, prune.")


@app.command(name="list")
def list_(out: str = "out", /) -> int:
    """Print size and age of what is stored, by stage.

    Args:
        out: Folder or URL that scenes were written to.
    """
    if is_url(out):
        return _list_remote(out)
    from scenegen.store.prune import list_stored

    now, rows = time.time(), []
    stored = list_stored(_open(out, "list"))
    for stage in sorted({item.stage for item in stored}):
        items = [item for item in stored if item.stage == stage]
        unneeded = [item for item in items if not item.needed]
        ages = sorted(now - item.used for item in items)
        rows.append((stage, len(items), _bytes(items), len(unneeded), _bytes(unneeded), _age(ages[0]), _age(ages[-1])))
    unneeded = [item for item in stored if not item.needed]
    rows.append(("all", len(stored), _bytes(stored), len(unneeded), _bytes(unneeded), "", ""))
    heads = ("stage", "results", "size", "unneeded", "size", "last used", "longest unused")
    _show(heads, rows)
    return EXIT_DONE


@app.command
def verify(out: str = "out", /) -> int:
    """Read all stored results and remove damaged ones, so that they are computed again.

    Args:
        out: Folder that scenes were written to.
    """
    from scenegen.store.prune import list_stored, remove_damaged

    store = _open(out, "verify")
    total, damaged = len(list_stored(store)), remove_damaged(store)
    gone = "; the others were removed" if damaged else ""
    _say(f"{out}: {total - len(damaged)} of {total} stored results are intact{gone}")
    return ResourceError.exit_code if damaged else EXIT_DONE


@app.command
def prune(out: str = "out", /, *, max_size: str | None = None, dry_run: bool = False) -> int:
    """Remove stored results that no scene in OUT was made from. Running jobs keep what they use.

    Args:
        out: Folder that scenes were written to.
        max_size: Also remove the least recently used results until the store is no larger, for example 500M or 20G. Scenes
            stay; the next run of one whose results are gone makes it again.
        dry_run: Only print what would be removed.
    """
    from scenegen.store.prune import list_stored
    from scenegen.store.prune import prune as remove

    limit = None if max_size is None else parse_size(max_size)
    store = _open(out, "prune")
    total, gone = len(list_stored(store)), remove(store, limit, dry_run)
    did = "would remove" if dry_run else "removed"
    _say(f"{out}: {did} {len(gone)} of {total} stored results, {_text(_bytes(gone))}")
    return EXIT_DONE


def parse_size(text: str) -> int:
    """The number of bytes that a text such as 500M or 1.5 GB means.

    Raises:
        UsageError: for any other text.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,3})?)\s*([kmgt]?)b?", text.strip().lower())
    if found is None:
        raise UsageError(f"`max_size` is {text!r}; give a number of bytes, or one with k, M, G or T, such as 20G.")
    return round(float(found[1]) * UNITS[found[2]])


def _open(out: str, command: str) -> Store:
    """The local store of `out`.

    Raises:
        UsageError: for a URL.
        InputError: if there is none.
    """
    set_verbosity(logging.INFO)
    if is_url(out):
        raise UsageError(
            f"`scenegen store {command}` needs a local folder, but OUT is a URL. Let a lifecycle rule of the bucket remove old "
            f"objects below {STORE}; what is missing is computed again."
        )
    root = local_path(out) / STORE
    if not root.is_dir():
        raise InputError(f"{out} has no store ({STORE}); use -o to give the folder that scenes were written to.")
    store = Store(root)
    store.sweep()
    return store


def _list_remote(out: str) -> int:
    """Lists sizes only: object stores do not record when something was last used."""
    sizes: dict[str, list[int]] = {}
    for name, size in RemoteFolder(out).sizes(STORE).items():
        parts = name.split("/")
        if len(parts) > 2:
            sizes.setdefault(parts[0], []).append(size)
    rows = [(stage, len(found), sum(found)) for stage, found in sorted(sizes.items())]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    _show(("stage", "objects", "size"), rows)
    return EXIT_DONE


def _show(heads: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(heads[0], box=None)
    for head in heads[1:]:
        table.add_column(head, justify="right")
    sizes = {place for place, head in enumerate(heads) if head == "size"}
    for row in rows:
        table.add_row(*(_text(cell) if place in sizes else str(cell) for place, cell in enumerate(row)))
    Console().print(table)


def _bytes(items: Sequence[Stored]) -> int:
    return sum(item.bytes for item in items)


def _text(size: object) -> str:
    return f"{int(str(size)) / 1e6:,.1f} MB"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
