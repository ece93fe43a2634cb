"""The devices a run may use."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from scenegen.compute.runtime import Runtime
from scenegen.errors import ResourceError, UsageError

logger = logging.getLogger(__name__)

DRIVERS = tuple(Path(path) for path in ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd"))
"""Files that drivers of graphics cards create on Linux: NVIDIA's, Jetson's, WSL's, AMD's."""
QUERY = "import torch; print(torch.cuda.device_count(), int(torch.backends.mps.is_available()))"
QUERY_TIMEOUT_S = 60


def devices(runtime: Runtime) -> list[str]:
    """Names of the devices that `runtime.device` stands for, one worker each: every CUDA device for `auto`, else mps,
    else the CPU. A named device is not checked.

    torch is asked in a separate process, and only if there is a driver: it takes seconds to import, and a process that
    has asked for CUDA keeps some memory on every card.
    """
    if runtime.device == "cuda":
        return ["cuda:0"]
    if runtime.device != "auto":
        return [runtime.device]
    if find_spec("torch") is None or (sys.platform == "linux" and not any(path.exists() for path in DRIVERS)):
        return ["cpu"]
    cards, has_mps = _ask_torch()
    return [f"cuda:{index}" for index in range(cards)] or ["mps" if has_mps else "cpu"]


def require_device(runtime: Runtime) -> None:
    """Fails for a named device that this machine does not have. torch is asked only if there is a driver.

    Raises:
        ResourceError: if the device is missing; the message names it.
    """
    kind, _, index = runtime.device.partition(":")
    if kind not in ("cuda", "mps"):
        return
    if not _may_have(kind):
        raise ResourceError(f"`device` is {runtime.device!r}, but this machine has none; use --device auto.")
    cards, has_mps = _ask_torch()
    count = cards if kind == "cuda" else int(has_mps)
    if int(index or 0) >= count:
        raise ResourceError(
            f"`device` is {runtime.device!r}, but torch sees {count or 'none'} here; use --device auto."
        )


def _may_have(kind: str) -> bool:
    """Whether torch is worth asking for devices of a kind."""
    if kind == "mps":
        return sys.platform == "darwin"
    return sys.platform not in ("linux", "darwin") or any(path.exists() for path in DRIVERS)


def process_devices(
    runtime: Runtime, weights: Mapping[str, Mapping[str, str]], isolate: bool, at_once: int
) -> tuple[str, ...]:
    """The devices on which a run's stages get a process of their own, one for each object made at once; none if
    threads of this process make them, as on the CPU, and always on Windows.

    A graphics card has one process: it keeps the weights, can be killed, and gives all its memory back then.

    Args:
        runtime: where to compute.
        weights: weights in use, by what uses them; without any, graphics cards are not used.
        isolate: whether to use processes on the CPU too.
        at_once: objects made at once there.

    Raises:
        UsageError: for `isolate` on Windows.
    """
    if sys.platform == "win32":
        if isolate:
            raise UsageError("`--isolate` needs Linux or macOS; this is Windows. Run without it.")
        return ()
    names = devices(runtime) if any(weights.values()) else ["cpu"]
    if names != ["cpu"]:
        return tuple(names)
    return ("cpu",) * at_once if isolate else ()


def _ask_torch() -> tuple[int, bool]:
    """How many CUDA devices torch sees, and whether it sees mps."""
    # -P keeps modules of the user's folder out.
    command = [sys.executable, "-P", "-c", QUERY]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_TIMEOUT_S, check=True)
        cards, has_mps = done.stdout.split()
        return int(cards), has_mps == "1"
    except (subprocess.SubprocessError, ValueError) as error:
        logger.warning("torch cannot list the devices of this machine (%s); using the CPU", error)
        return 0, False
