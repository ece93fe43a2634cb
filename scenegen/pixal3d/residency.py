"""What stays on the device between uses: every network, one at a time, or of the flow transformers one block at a time.

The arithmetic is the same in all three: results are equal bit for bit. `HostWeights` says what a graphics card copies from;
elsewhere networks are read from their files.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from scenegen.compute.residency import Residency
from scenegen.pixal3d.dino import VITL16, Dinov3
from scenegen.pixal3d.features import FeatureExtractor
from scenegen.pixal3d.flow import FlowTransformer
from scenegen.pixal3d.host import HostWeights
from scenegen.pixal3d.naf import NafUpsampler
from scenegen.pixal3d.weights import (
    NAF_RELEASED,
    Precision,
    build_network,
    fill,
    image_config,
    load_weights,
    tensor_file,
)

BLOCKS = "blocks"
"""Name of the list of blocks of a flow transformer."""

Networks = Callable[[str], AbstractContextManager[Any]]
"""Gives the network of a name in `pipeline.json`, ready on its device, for as long as it is used."""

ReadTensor = Callable[[int, str], Tensor]
"""Reads a tensor of a block, by the block's index and the name within it."""


def open_networks(
    stems: Mapping[str, Path],
    device: torch.device,
    residency: Residency,
    precision: Precision,
    compiled: bool = False,
) -> Networks:
    """The networks whose files are `stems` with their suffixes. Each is checked against its file at once. If `compiled`, torch
    compiles the blocks of the flow transformers when they first run.

    Raises:
        WeightsError: if a file is missing or damaged, or its tensors are not exactly those of the network.
    """

    def built(stem: Path) -> nn.Module:
        network = build_network(stem, precision)
        if compiled and isinstance(network, FlowTransformer):
            network.compile_blocks()
        return network

    networks = {name: built(stem) for name, stem in stems.items()}
    if residency == "resident":
        for name, stem in stems.items():
            load_weights(networks[name], tensor_file(stem), device)
        return lambda name: contextlib.nullcontext(networks[name])
    host = HostWeights(stems, precision) if device.type == "cuda" else None

    @contextlib.contextmanager
    def use(name: str) -> Iterator[nn.Module]:
        network, path = built(stems[name]), tensor_file(stems[name])
        streamed = residency == "streamed" and isinstance(network, FlowTransformer)
        kept_out = BLOCKS if streamed else ""
        with contextlib.ExitStack() as held:
            held.callback(network.to, "meta")  # frees it even if a traceback still holds the network
            if host is None:
                load_weights(network, path, device, without=kept_out)
                tensor: Callable[[str], Tensor] = held.enter_context(safe_open(path, "pt")).get_tensor
            else:
                tensor = host.take(name).__getitem__
                fill(network, tensor, device, without=kept_out)
            if streamed:
                read = partial(_block_tensor, tensor, BLOCKS)
                held.enter_context(streaming(network.get_submodule(BLOCKS), read, device))
            yield network

    return use


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
        load_weights(image_network, dino, device, without="layer")
        stream_each_pass(image_network, "layer", dino, device)
    image_network.rope_embeddings.to(device)
    upsampler = NafUpsampler(**image_config(naf, NAF_RELEASED))
    return FeatureExtractor(image_network, load_weights(upsampler, naf, device).to(device))


def stream_each_pass(network: nn.Module, name: str, path: Path, device: torch.device) -> None:
    """From now on each of a network's blocks has its weights, read from a file, only while it runs.

    Args:
        network: filled except for its blocks, which are of one size and run in order.
        name: name of the list of blocks.
        path: the safetensors file of the network, checked against it.
        device: where it runs.
    """
    running = contextlib.ExitStack()

    def start(*_: object) -> None:
        read = partial(_block_tensor, running.enter_context(safe_open(path, "pt")).get_tensor, name)
        running.enter_context(streaming(network.get_submodule(name), read, device))

    network.register_forward_pre_hook(start)
    network.register_forward_hook(lambda *_: running.close(), always_call=True)


@contextlib.contextmanager
def streaming(blocks: Any, read: ReadTensor, device: torch.device) -> Iterator[None]:
    """Until it ends, each of `blocks` has its weights only while it runs. They may run in order any number of times.

    Args:
        blocks: a list of modules of one size, on the meta device.
        read: reads a tensor of a block.
        device: where they run.
    """
    with contextlib.ExitStack() as held:
        feed = held.enter_context(block_feed(blocks[0], read, device))

        def fill_block(index: int) -> None:
            blocks[index].load_state_dict(feed.take(index), assign=True)
            blocks[index].eval().requires_grad_(False)

        def empty_block(index: int) -> None:
            feed.give_back((index + 1) % len(blocks))
            blocks[index].to("meta")

        for index, block in enumerate(blocks):
            before = block.register_forward_pre_hook(lambda *_, index=index: fill_block(index), prepend=True)
            after = block.register_forward_hook(lambda *_, index=index: empty_block(index), always_call=True)
            held.callback(before.remove)
            held.callback(after.remove)
        yield


def _block_tensor(tensor: Callable[[str], Tensor], name: str, index: int, key: str) -> Tensor:
    return tensor(f"{name}.{index}.{key}")


@dataclass(frozen=True, eq=False)
class _Slot:
    """Room for the weights of one block, on the device."""

    tensors: Mapping[str, Tensor]
    copied: Any = field(compare=False)
    """Event: the weights have arrived on the device."""
    used: Any = field(compare=False)
    """Event: the block that used the weights has finished."""


class BlockFeed:
    """Weights of blocks that run one after the other: while one runs, the next is copied, and converted if need be.

    Two slots hold them. On CUDA the copy is on a stream of its own, and events order the two streams; from pinned memory it
    takes no time of this thread. Elsewhere the same calls do nothing, because everything happens in turn.
    """

    def __init__(self, slots: tuple[_Slot, _Slot], read: ReadTensor, streams: Any, copying: Any) -> None:
        """See `block_feed`.

        Args:
            slots: both slots.
            read: reads a tensor of a block.
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

    def give_back(self, following: int) -> None:
        """Says that the block has been started, and copies the `following` one in the meantime."""
        if self._current is not None:
            self._current.used.record(self._streams.current_stream())
            self._current = None
        self._next = (following, self._fetch(following))

    def _fetch(self, index: int) -> _Slot:
        slot = self._slots[0]
        self._slots.rotate()
        with self._streams.stream(self._copying):
            self._copying.wait_event(slot.used)
            for name, tensor in slot.tensors.items():
                tensor.copy_(self._read(index, name), non_blocking=True)
            slot.copied.record(self._copying)
        return slot


@contextlib.contextmanager
def block_feed(like: nn.Module, read: ReadTensor, device: torch.device) -> Iterator[BlockFeed]:
    """A feed for blocks of the form of `like`; its memory is freed at the end."""
    on_cuda = device.type == "cuda"
    streams = torch.cuda if on_cuda else torch.cpu

    def slot() -> _Slot:
        tensors = {name: torch.empty_like(tensor, device=device) for name, tensor in like.state_dict().items()}
        return _Slot(tensors, streams.Event(), streams.Event())

    with torch.cuda.device(device) if on_cuda else contextlib.nullcontext():
        copying = streams.Stream()
        feed = BlockFeed((slot(), slot()), read, streams, copying)
        # The allocator hands out memory that queued work may still use, and takes it back while copies may still write.
        copying.wait_stream(streams.current_stream())
        try:
            yield feed
        finally:
            streams.current_stream().wait_stream(copying)
