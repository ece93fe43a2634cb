"""What every torch network needs: the packages, a device, and errors in scenegen's words."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from scenegen.compute.runtime import Runtime, check_device
from scenegen.errors import LimitError, ResourceError, WeightsError
from scenegen.faults import is_out_of_memory

T = TypeVar("T")
R = TypeVar("R")

ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
"""Environment variables with the settings of torch's allocator, old name and new; every version reads the old one."""
NAMES_SHOWN = 6
COMPACT_THREADS, RELEASED_THREADS = 1, 4
"""Threads of one operation on the CPU. Their number affects the last bits: the division of a range among threads decides which
elements are left to scalar code, and with one thread torch convolves by another algorithm. So it is the same constant on every
machine. The compact networks are faster with one, and objects are made in parallel; the released ones would take too long."""
MOST_AT_ONCE = 4
"""Pictures that a compact network looks at at once: each takes memory."""


def growing_memory() -> None:
    """Lets blocks of a graphics card's memory grow, so that less of it lies idle between tensors of changing sizes.

    For a process that has not used CUDA yet. What the user has set stays.
    """
    if not any(name in os.environ for name in ALLOCATOR):
        os.environ[ALLOCATOR[0]] = "expandable_segments:True"


@contextlib.contextmanager
def full_packages() -> Iterator[None]:
    """Turns a failed import of an optional package into an error that names the fix.

    Raises:
        WeightsError: if a package of the `full` extra is missing or broken.
    """
    try:
        yield
    except (ImportError, RuntimeError) as error:  # a torchvision built for another torch raises RuntimeError
        raise WeightsError(
            f"a package of the `full` extra cannot be imported ({error}); run `pip install 'scenegen-3d[full]'`. "
            "torch and torchvision must come from the same index."
        ) from error


def torch_device(runtime: Runtime) -> Any:
    """The `torch.device` that `runtime.device` names; `auto` takes cuda, else mps, else the CPU.

    Raises:
        UsageError: if the name is none of `auto`, `cpu`, `cuda`, `cuda:N`, `mps`.
        ResourceError: if this machine does not have the device.
    """
    return named_device(runtime.device)


def named_device(name: str) -> Any:
    """As `torch_device`, for a name."""
    import torch

    check_device(name)
    if name == "auto":
        cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, _, index = name.partition(":")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= count:
        have = f"it has {count} of that kind" if count else "it has none"
        raise ResourceError(f"`device` is {name!r}, but torch sees no such device here ({have}); use --device auto.")
    return torch.device(name)


def card_gigabytes(device: Any) -> float:
    """Memory of a graphics card, 10^9 bytes."""
    import torch

    return float(torch.cuda.get_device_properties(device).total_memory / 1e9)


@contextlib.contextmanager
def device_memory(device: Any) -> Iterator[None]:
    """Turns running out of memory on `device` into a `LimitError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise LimitError(
            f"out of memory on {device}: {error}. Use a smaller model, a smaller read.max_side, or --device cpu."
        ) from error


@contextlib.contextmanager
def exact_sums() -> Iterator[None]:
    """Half-precision products on CUDA are summed in float32 until the block ends: no part of a sum is rounded before it is whole.

    Otherwise the kernel that a card picks for a size decides on which side of 0 a logit falls. Sums may be made in parts:
    cuBLAS, which torch takes by default, cannot be kept from it.
    """
    import torch

    matmul = torch.backends.cuda.matmul
    names = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
    before = {name: (getattr(matmul, name), getattr(matmul, f"{name}_split_k")) for name in names}
    for name in names:
        setattr(matmul, name, False)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(matmul, name, value)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Gives each operation of torch on the CPU `count` threads, in this thread of Python only. Also a decorator."""
    import torch

    # Asked first: a thread of Python adopts the process's number on first use, which would overwrite ours.
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(function: Callable[[T], R], items: Sequence[T], device: Any) -> list[R]:
    """`function` of every item, in their order: on the CPU as many at once as there are cores, each on `COMPACT_THREADS`."""
    cores = min(len(items), MOST_AT_ONCE, os.cpu_count() or 1) if device.type == "cpu" else 1
    with ThreadPoolExecutor(max(1, cores)) as threads:
        return list(threads.map(torch_threads(COMPACT_THREADS)(function), items))


def require_exact(path: Path, missing: Iterable[str], unexpected: Iterable[str], misshapen: Iterable[str]) -> None:
    """Refuses weights whose tensors are not exactly those of the network.

    Args:
        path: the weight file.
        missing: tensors of the network that the file lacks.
        unexpected: tensors of the file that the network does not have.
        misshapen: tensors of both, with different shapes.

    Raises:
        WeightsError: naming the tensors, unless there are none.
    """
    found = []
    for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen)):
        names = sorted(keys)
        if names:
            more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            found.append(f"{what}: {', '.join(names[:NAMES_SHOWN])}{more}")
    if found:
        raise WeightsError(
            f"{path} is damaged or belongs to another model ({'; '.join(found)}); check the model's name, or fetch "
            "or copy the file again."
        )
