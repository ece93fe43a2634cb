"""The networks that this process has loaded: each is built once, however many threads ask, and stays for the next photo."""

from __future__ import annotations

import gc
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from scenegen.faults import is_out_of_memory

logger = logging.getLogger(__name__)

N = TypeVar("N")

KEPT = 4
"""Most networks that are kept: an image takes one of each kind. The least recently used one goes first."""

_lock = threading.Lock()
_loaded: OrderedDict[Hashable, Any] = OrderedDict()


def loaded(key: Hashable, load: Callable[[], N]) -> N:
    """The network known by `key`, from `load` if it is not loaded yet.

    Args:
        key: everything that determines the network: its kind, the digest of its weights, its device.
        load: makes the network. If there is too little memory for it beside the others, they are forgotten and it is made
            again. If it raises, it is not kept.
    """
    with _lock:
        if key not in _loaded:
            _loaded[key] = _made(load)
        _loaded.move_to_end(key)
        while len(_loaded) > KEPT:
            _loaded.popitem(last=False)
        return _loaded[key]


def _made(load: Callable[[], N]) -> N:
    try:
        return load()
    except (RuntimeError, MemoryError) as error:
        if not _loaded or not is_out_of_memory(error):
            raise
        logger.info("no memory is left for another network: the %d that are loaded go first", len(_loaded))
    _loaded.clear()
    gc.collect()
    return load()


def is_loaded(key: Hashable) -> bool:
    """Whether the network known by `key` is here."""
    with _lock:
        return key in _loaded


def release(*kept: Hashable) -> None:
    """Forgets all networks but those known by `kept`; their memory is freed once nobody uses them."""
    with _lock:
        for key in set(_loaded) - set(kept):
            del _loaded[key]


def make_room(device: str, gigabytes: float, *kept: Hashable) -> None:
    """Forgets all networks but those known by `kept`, unless so much of a graphics card is free beside them, in 10^9 bytes."""
    if not device.startswith("cuda"):
        return
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    if free < gigabytes * 1e9:
        release(*kept)
        gc.collect()
        torch.cuda.empty_cache()
