"""Which card `cuda:N` is: its number depends on who asks, its UUID does not."""

from __future__ import annotations

import ctypes
import sys
import uuid

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def card_uuid(index: int) -> str | None:
    """UUID of card `index` of this process, or of its part of a card, as nvidia-smi -L shows it behind `GPU-` or `MIG-`.

    Only the driver is asked, which takes no memory on the card.

    Returns:
        None without NVIDIA's driver, or if this process sees no such card.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return None
    device, found = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    ask = getattr(driver, "cuDeviceGetUuid_v2", None) or driver.cuDeviceGetUuid
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), index) or ask(found, device):
        return None
    return str(uuid.UUID(bytes=bytes(found)))
