"""Makes sure that `stages`, `flows` and `studio`, packages with common names, are scenegen's and not the user's own."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from scenegen.errors import UsageError

BESIDE = Path(__file__).resolve().parents[2]


def leave_current_folder() -> None:
    """Removes the current folder, which `python -m` puts first, from the path of this process and those it will start.

    It stays if scenegen itself lies in it, as in a checkout.
    """
    if not sys.flags.safe_path and sys.path and Path(sys.path[0]).resolve() == Path.cwd() != BESIDE:
        del sys.path[0]


def check_sibling(name: str) -> None:
    """Checks that the package `name` is scenegen's.

    Raises:
        UsageError: if Python finds another one first, or none.
    """
    spec = find_spec(name)
    places = [] if spec is None else [*(spec.submodule_search_locations or ()), spec.origin]
    found = Path(places[0]).resolve() if places and places[0] else None
    if found != BESIDE / name:
        raise UsageError(
            f"the package `{name}` would be imported from {found} instead of {BESIDE / name}, scenegen's own. Rename the "
            "former, remove its folder from PYTHONPATH, or run from another folder."
        )
