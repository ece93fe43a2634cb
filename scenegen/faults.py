"""Whose fault an error is: that of one object, which is then left out of the scene, or of something all objects share.

All objects share the command, the weights, the disk, the network and the device. An error that says that one of them failed
(`UsageError`, `WeightsError`, `ResourceError`) ends the photo, and so does the end of a cancelled worker.

Every other `Exception` is the fault of the object it was raised for. So is a job that ran out of memory or time or whose
process died (`LimitError`, `CrashError`), unless it happens to every object: then the machine is too small for all.

`KeyboardInterrupt` and `SystemExit` are not an `Exception`, so they pass through.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError

from scenegen.errors import (
    CrashError,
    LimitError,
    ObjectError,
    ResourceError,
    ScenegenError,
    UsageError,
    WeightsError,
    one_line,
)
from scenegen.store.store import disk_refusal

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
DEVICE_FAILED = ("cuda error", "cuda driver error", "cublas_status_", "cudnn_status_", "cudnn error", "hip error")
"""After such an error a process must not use the device again: CUDA repeats it for whatever comes next."""
DEVICE_LOST = (
    "no cuda gpus are available",
    "no cuda-capable device",
    "busy or unavailable",
    "uncorrectable ecc error",
    "gpu is lost",
    "cuda unknown error",
    "cuda error: initialization error",
)
"""Errors for which the device itself is at fault, not what it was asked to do."""


def ends_photo(error: Exception) -> bool:
    """Whether `error`, raised for one object, says that something all objects share has failed."""
    if isinstance(error, LimitError | CrashError):
        return False
    shared = isinstance(error, UsageError | WeightsError | ResourceError | CancelledError)
    return shared or is_device_lost(error) or disk_refusal(error) is not None


def shared_limit(errors: Sequence[Exception]) -> ResourceError | None:
    """The error that ends the photo if all `errors`, one for each object, are a lack of memory or time or a crash; otherwise
    None."""
    if not all(isinstance(error, LimitError | CrashError) or is_out_of_memory(error) for error in errors):
        return None
    first = errors[0]
    return (
        first if isinstance(first, ResourceError) else LimitError(f"every object ran out of memory: {described(first)}")
    )


@contextlib.contextmanager
def about_object(object_id: int) -> Iterator[None]:
    """Blames object `object_id` for what the block raises, unless it ends the photo.

    Raises:
        ObjectError: from whatever was raised.
    """
    try:
        yield
    except ObjectError:
        raise
    except Exception as error:
        if ends_photo(error):
            raise
        raise ObjectError(object_id) from error


def described(error: BaseException) -> str:
    """The type and the message of an error, in one line: native libraries put their whole stack into a message."""
    kind = type(error)
    known = kind.__module__ in ("builtins", ScenegenError.__module__)
    name = kind.__name__ if known else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
    return one_line(f"{name}: {error}" if str(error) else name)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether `error`, or its cause, means that the machine or the device has no memory left."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        # torch.OutOfMemoryError is a RuntimeError; on the CPU torch raises a plain one.
        if _says(error, OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False


def is_device_failure(error: BaseException) -> bool:
    """Whether the process that `error` was raised in can no longer use its device."""
    return _says(error, DEVICE_FAILED) or is_device_lost(error)


def is_device_lost(error: BaseException) -> bool:
    """Whether `error` means that the device does not work, whoever uses it."""
    return _says(error, DEVICE_LOST)


def _says(error: BaseException, texts: Sequence[str]) -> bool:
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in texts)
