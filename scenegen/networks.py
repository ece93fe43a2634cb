"""The networks that this process has loaded: each is built once, however many threads ask, and stays for the next photo."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

N = TypeVar("N")

KEPT = 4
"""Networks that stay: an image takes one of each kind. The one that was not used for the longest goes first."""

_lock = threading.Lock()
_loaded: OrderedDict[Hashable, Any] = OrderedDict()


def loaded(key: Hashable, load: Callable[[], N]) -> N:
    """The network known by `key`, from `load` where it is not there yet.

    Args:
        key: all that decides the network: its kind, the digest of its weights, its device.
        load: what it raises is raised, and nothing is kept.
    """
    with _lock:
        if key not in _loaded:
            _loaded[key] = load()
        _loaded.move_to_end(key)
        while len(_loaded) > KEPT:
            _loaded.popitem(last=False)
        return _loaded[key]


def release() -> None:
    """Forgets them all; their memory is given back once nobody uses them."""
    with _lock:
        _loaded.clear()
