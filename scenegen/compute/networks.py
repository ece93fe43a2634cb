"""The networks that this process has loaded: each is built once, however many threads ask, and stays for the next photo."""

from __future__ import annotations

import gc
import logging
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

from scenegen.compute.residency import Demand, Residency
from scenegen.faults import is_out_of_memory

logger = logging.getLogger(__name__)

N = TypeVar("N")

KEPT = 8
"""Most networks that are kept. A photo takes at most seven: those that segment it, measure its depth and its camera, the two of
an image editor, a generator and a matcher. The least recently used one goes first."""

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
    _forget(_loaded)
    return load()


def release(*kept: Hashable) -> None:
    """Forgets all networks but those known by `kept`; their memory is freed once nobody uses them."""
    forget(lambda key: key not in kept)


def forget(chosen: Callable[[Hashable], bool]) -> None:
    """Forgets the networks whose keys are `chosen`, as `release` does."""
    with _lock:
        _forget(filter(chosen, _loaded))


def _forget(keys: Iterable[Hashable]) -> None:
    found = list(keys)
    for key in found:
        del _loaded[key]
    if found:
        gc.collect()
        _empty_cache()


def _empty_cache() -> None:
    """Gives back what torch keeps of a card's memory for later use, which counts as taken."""
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()


def make_room(device: str, demand: Demand, residency: Residency, key: Hashable, *kept: Hashable) -> None:
    """Forgets all networks but those known by `key` and `kept`, unless a graphics card has room for what is in `demand`.

    Args:
        device: nothing is done for one that is no graphics card.
        demand: of the networks that are known by `key`, and of their guest.
        residency: how they stay on the card.
        key: what they are known by, whether they are loaded or not.
        kept: known by what else is wanted.
    """
    if not device.startswith("cuda"):
        return
    import torch

    with _lock:
        here = key in _loaded

    def fits() -> bool:
        free, card = torch.cuda.mem_get_info(device)
        return free >= 1e9 * demand.to_come(residency, card / 1e9, here)

    if not fits():
        _empty_cache()
        if not fits():
            release(key, *kept)
