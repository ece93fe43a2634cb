"""What stays in memory between uses: every network, one at a time, or one block of one at a time.

The arithmetic is the same in all three: results are equal bit for bit.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from torch import Tensor, nn

from scenegen.pixal3d.dino import VITL16, Dinov3
from scenegen.pixal3d.features import FeatureExtractor
from scenegen.pixal3d.flow import FlowTransformer
from scenegen.pixal3d.naf import NafUpsampler
from scenegen.pixal3d.weights import NAF_RELEASED, Precision, build_network, image_config, load_weights, tensor_file

Residency = Literal["resident", "staged", "streamed"]
"""`resident`: every network stays on the device. `staged`: one at a time, read from its file when it is used. `streamed`: of
the flow transformers, one block at a time, while the next one is copied."""

Networks = Callable[[str], AbstractContextManager[Any]]
"""Gives the network of a name in `pipeline.json`, ready on its device, for as long as it is used."""


def open_networks(
    stems: Mapping[str, Path], device: torch.device, residency: Residency, precision: Precision
) -> Networks:
    """The networks whose files are `stems` with their suffixes. Each is checked against its file at once.

    Raises:
        WeightsError: if a file is missing or damaged, or its tensors are not exactly those of the network.
    """
    networks = {name: build_network(stem, precision) for name, stem in stems.items()}
    if residency == "resident":
        for name, stem in stems.items():
            load_weights(networks[name], tensor_file(stem), device)
        return lambda name: contextlib.nullcontext(networks[name])

    @contextlib.contextmanager
    def read(name: str) -> Iterator[nn.Module]:
        network, path = build_network(stems[name], precision), tensor_file(stems[name])
        try:
            if residency == "streamed" and isinstance(network, FlowTransformer):
                yield stream_blocks(network, "blocks", path, device)
            else:
                yield load_weights(network, path, device)
        finally:
            network.to("meta")  # frees it even if a traceback still holds the network

    return read


def open_extractor(dino: Path, naf: Path, device: torch.device, residency: Residency) -> FeatureExtractor:
    """The image networks.

    Unless everything is `resident`, the layers of DINOv3 are read while they run: it sees each picture at two sizes, and is not
    needed after that. NAF is small and stays.

    Args:
        dino: DINOv3's weights, with its `config.json` beside them if its sizes are not the released ones.
        naf: NAF's weights, likewise.
        device: where to compute.
        residency: residency of DINOv3.

    Raises:
        WeightsError: if a file is missing or damaged, or its tensors are not exactly those of the network.
    """
    # Both networks hold tables that are not weights, so they are created. The layers hold none, and need not exist twice.
    image_network = Dinov3(image_config(dino, VITL16))
    image_network.layer.to("meta")
    if residency == "resident":
        load_weights(image_network, dino, device)
    else:
        stream_blocks(image_network, "layer", dino, device)
    image_network.rope_embeddings.to(device)
    upsampler = NafUpsampler(**image_config(naf, NAF_RELEASED))
    return FeatureExtractor(image_network, load_weights(upsampler, naf, device).to(device))


def stream_blocks(network: nn.Module, name: str, path: Path, device: torch.device) -> nn.Module:
    """Fills `network` except for its list of blocks; from now on each block has its weights only while it runs.

    Args:
        network: a network on the meta device, with blocks of one size that run in order.
        name: name of the list of blocks.
        path: the safetensors file of the network.
        device: where it runs.

    Returns:
        The network, in evaluation mode, without gradients.

    Raises:
        WeightsError: if the file is missing or damaged, or its tensors are not exactly those of the network.
    """
    load_weights(network, path, device, without=name)
    blocks = list(network.get_submodule(name))
    running = contextlib.ExitStack()
    feed: list[BlockFeed] = []

    def start(*_: object) -> None:
        file = running.enter_context(safe_open(path, "pt"))
        feed[:] = [
            running.enter_context(block_feed(blocks[0], lambda i, key: file.get_tensor(f"{name}.{i}.{key}"), device))
        ]

    def fill(index: int) -> None:
        blocks[index].load_state_dict(feed[0].take(index), assign=True)

    def empty(index: int) -> None:
        feed[0].give_back(index + 1 if index + 1 < len(blocks) else None)
        blocks[index].to("meta")

    def end(*_: object) -> None:
        feed.clear()
        running.close()

    network.register_forward_pre_hook(start)
    network.register_forward_hook(end, always_call=True)
    for index, block in enumerate(blocks):
        block.register_forward_pre_hook(lambda *_, index=index: fill(index))
        block.register_forward_hook(lambda *_, index=index: empty(index), always_call=True)
    return network


ReadTensor = Callable[[int, str], Tensor]
"""Reads a tensor of a block as it is stored, by the block's index and the name within it."""


@dataclass(frozen=True, eq=False)
class _Slot:
    """Room for the weights of one block."""

    tensors: Mapping[str, Tensor]
    """Tensors on the device."""
    host: Mapping[str, Tensor]
    """Pinned memory that the device copies from, or `tensors` themselves if there is none."""
    copied: Any = field(compare=False)
    """Event: the weights have arrived on the device."""
    used: Any = field(compare=False)
    """Event: the block that used the weights has finished."""


class BlockFeed:
    """Weights of blocks that run one after the other: while one runs, the next is read, converted and copied.

    Two slots hold them. On CUDA the copy goes from pinned memory on a stream of its own, and events order the two streams;
    elsewhere the same calls do nothing, because everything happens in turn.
    """

    def __init__(self, slots: tuple[_Slot, _Slot], read: ReadTensor, streams: Any, copying: Any) -> None:
        """See `block_feed`.

        Args:
            slots: both slots.
            read: reads a tensor from the file.
            streams: `torch.cuda`, or `torch.cpu`, whose streams and events do nothing.
            copying: the stream that copies.
        """
        self._slots = deque(slots)
        self._read = read
        self._streams = streams
        self._copying = copying
        self._next: tuple[int, _Slot] | None = None
        self._current: _Slot | None = None

    def take(self, index: int) -> Mapping[str, Tensor]:
        """The weights of block `index`, on the device; valid until `give_back`."""
        if self._next is None or self._next[0] != index:
            self._next = (index, self._fetch(index))
        self._current, self._next = self._next[1], None
        self._streams.current_stream().wait_event(self._current.copied)
        return self._current.tensors

    def give_back(self, following: int | None) -> None:
        """Says that the block has been started, and reads the `following` one in the meantime."""
        if self._current is not None:
            self._current.used.record(self._streams.current_stream())
            self._current = None
        if following is not None:
            self._next = (following, self._fetch(following))

    def _fetch(self, index: int) -> _Slot:
        slot = self._slots[0]
        self._slots.rotate()
        slot.copied.synchronize()  # else the earlier copy might still read the pinned memory
        for name, tensor in slot.host.items():
            tensor.copy_(self._read(index, name))
        with self._streams.stream(self._copying):
            self._copying.wait_event(slot.used)
            for name, tensor in slot.tensors.items():
                if tensor is not slot.host[name]:
                    tensor.copy_(slot.host[name], non_blocking=True)
            slot.copied.record(self._copying)
        return slot


@contextlib.contextmanager
def block_feed(like: nn.Module, read: ReadTensor, device: torch.device) -> Iterator[BlockFeed]:
    """A feed for blocks of the form of `like`; its memory is freed at the end."""
    on_cuda = device.type == "cuda"
    streams = torch.cuda if on_cuda else torch.cpu

    def slot() -> _Slot:
        tensors = {name: torch.empty_like(tensor, device=device) for name, tensor in like.state_dict().items()}
        if device.type == "cpu":
            host = tensors
        else:
            host = {
                name: torch.empty_like(tensor, device="cpu", pin_memory=on_cuda) for name, tensor in tensors.items()
            }
        return _Slot(tensors, host, streams.Event(), streams.Event())

    with torch.cuda.device(device) if on_cuda else contextlib.nullcontext():
        copying = streams.Stream()
        feed = BlockFeed((slot(), slot()), read, streams, copying)
        # The allocator hands out memory that queued work may still use, and takes it back while copies may still write.
        copying.wait_stream(streams.current_stream())
        try:
            yield feed
        finally:
            streams.current_stream().wait_stream(copying)
