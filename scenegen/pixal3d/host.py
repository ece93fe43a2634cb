"""The machine's memory as the place that a graphics card copies networks from."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, nn

from scenegen.pixal3d.settings import USES
from scenegen.pixal3d.weights import Precision, build_network, tensor_file, tensors_of
from scenegen.system.memory import total_memory

logger = logging.getLogger(__name__)

KEPT_SHARE = 0.5
"""All networks are kept in the machine's memory if they fill no more than this share of it."""


class HostWeights:
    """Weights in pinned memory, in the types that the networks have them in, so that a device only copies.

    While a network is in use, another thread reads and converts the one that is used next. If the machine's memory holds all,
    each file is read once; otherwise only the network in use and the next one are kept.

    Args:
        stems: files of the networks, without suffix, by name.
        precision: of the networks' blocks.
        pinned: whether the memory is pinned, as a graphics card needs it.
        room: bytes that all networks may fill to be kept; by default `KEPT_SHARE` of the machine's memory.
    """

    def __init__(
        self, stems: Mapping[str, Path], precision: Precision, pinned: bool = True, room: int | None = None
    ) -> None:
        self._stems = stems
        self._precision: Precision = precision
        self._pinned = pinned
        room = int(KEPT_SHARE * (total_memory() or 0)) if room is None else room
        needed = sum(size_of(build_network(stem, precision)) for stem in stems.values())
        self.keeps_all = needed <= room
        """Whether every network stays."""
        self._uses = [name for name in USES if name in stems]
        self._place = 0
        self._reader = ThreadPoolExecutor(1, "weights")
        self._read: dict[str, Future[Mapping[str, Tensor]]] = {}
        self._lock = threading.Lock()
        kept = "kept" if self.keeps_all else "read again for each object, because the machine has less than twice that"
        logger.info("networks: %.1f GiB in the machine's memory, %s", needed / 2**30, kept)

    def take(self, name: str) -> Mapping[str, Tensor]:
        """The weights of a network, by tensor.

        Raises:
            WeightsError: if its file cannot be read.
        """
        with self._lock:
            here = self._start(name)
            order = self._uses[self._place :] + self._uses[: self._place]
            self._place = (self._place + order.index(name) + 1) % len(self._uses)
            following = self._uses[self._place]
            self._start(following)
            if not self.keeps_all:
                self._read = {each: self._read[each] for each in {name, following}}
        return here.result()

    def _start(self, name: str) -> Future[Mapping[str, Tensor]]:
        """Reading of a network, begun now or earlier; one that has failed is begun again."""
        known = self._read.get(name)
        if known is None or (known.done() and known.exception() is not None):
            self._read[name] = self._reader.submit(self._load, name)
        return self._read[name]

    def _load(self, name: str) -> Mapping[str, Tensor]:
        stem = self._stems[name]
        network = build_network(stem, self._precision)
        with tensors_of(tensor_file(stem)) as tensor:
            return {
                key: torch.empty_like(own, device="cpu", pin_memory=self._pinned).copy_(tensor(key))
                for key, own in network.state_dict().items()
            }


def size_of(network: nn.Module) -> int:
    """Bytes of its weights."""
    return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
