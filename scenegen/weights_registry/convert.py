"""Converts pickled checkpoints to safetensors. A pickle is read only once, after its digest was checked."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

from scenegen.errors import WeightsError
from scenegen.weights_registry.local import check_digest
from scenegen.weights_registry.place import put, writing

SOURCE = "source_sha256"
"""Metadata of a converted file: which checkpoint it was made from."""


def as_safetensors(checkpoint: Path, sha256: str) -> Path:
    """The tensors of `checkpoint` as a safetensors file next to it, which is written unless it is there and intact.

    Args:
        checkpoint: a `.pth` with named tensors and nothing else.
        sha256: its digest; other content is not unpickled.

    Returns:
        The safetensors file, with the same names, shapes and types.

    Raises:
        WeightsError: if the checkpoint cannot be read, has another digest, or holds anything but tensors.
        ResourceError: if the folder cannot be written.
    """
    target = checkpoint.with_suffix(".safetensors")
    if not _made_from(target, sha256):
        import torch
        from safetensors.torch import save

        check_digest(checkpoint, sha256)
        try:
            stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            raise WeightsError(
                f"{checkpoint} is not a checkpoint of plain tensors ({error}); fetch it again."
            ) from error
        if not isinstance(stored, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in stored.values()):
            raise WeightsError(f"{checkpoint} holds more than named tensors; give a plain state dict.")
        # Tensors may share memory in a pickle, but not in a safetensors file.
        tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in stored.items()}
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        with writing(part):
            part.write_bytes(save(tensors, {SOURCE: sha256}))
        put(part, target)
    return target


def _made_from(path: Path, sha256: str) -> bool:
    """Whether `path` is an intact safetensors file, converted from the checkpoint with that digest."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            return bool((file.metadata() or {}).get(SOURCE) == sha256)
    except (OSError, SafetensorError):
        return False
