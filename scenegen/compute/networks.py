"""The networks that this process has loaded: each is built once, however many threads ask, and stays for the next photo."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

N = TypeVar("N")

KEPT = 4
"""Most networks that are kept: an image takes one of each kind. The least recently used one goes first."""

_lock = threading.Lock()
_loaded: OrderedDict[Hashable, Any] = OrderedDict()


def loaded(key: Hashable, load: Callable[[], N]) -> N:
    """The network known by `key`, from `load` if it is not loaded yet.

    Args:
        key: everything that determines the network: its kind, the digest of its weights, its device.
        load: makes the network. If it raises, nothing is kept.
    """
    with _lock:
        if key not in _loaded:
            _loaded[key] = load()
        _loaded.move_to_end(key)
        while len(_loaded) > KEPT:
            _loaded.popitem(last=False)
        return _loaded[key]


def release() -> None:
    """Forgets all networks; their memory is freed once nobody uses them."""
    with _lock:
        _loaded.clear()
