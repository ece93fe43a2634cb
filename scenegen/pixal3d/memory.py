"""How much memory the networks may work in, in addition to their weights, inputs and results."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from scenegen.errors import UsageError

MIB = 2**20


@dataclass(frozen=True)
class WorkingMemory:
    """Bounds in bytes. They change numbers only by rounding.

    Raises:
        UsageError: for a bound that is not above 0.
    """

    rows: int
    """Memory for the voxels in work at a time: gathered neighbours and hidden layers of the sparse decoders, and the scores of
    the up-sampler."""
    scores: int | None
    """Attention scores of the flows at a time; None for a device whose kernel never stores them."""
    products: int
    """What the blocks of a flow make of the photo, if it fits, kept for all steps of a stage; 0 for next to nothing. It saves
    3 to 7 % of the operations."""

    def __post_init__(self) -> None:
        for name, value in (("rows", self.rows), ("scores", self.scores)):
            if value is not None and value < 1:
                raise UsageError(f"`{name}` is {value} bytes; it must be above 0.")
        if self.products < 0:
            raise UsageError(f"`products` is {self.products} bytes; it must be 0 or more.")

    @classmethod
    def of(cls, device: torch.device) -> WorkingMemory:
        """What suits a device: a CPU's cache; on a GPU enough for few, large products.

        On `mps`, attention over more than about 18,000 tokens at once is known to come out wrong: it goes in parts.
        """
        return {
            "cpu": cls(32 * MIB, None, 1024 * MIB),
            "cuda": cls(512 * MIB, None, 2048 * MIB),
            "mps": cls(128 * MIB, 1024 * MIB, 0),
        }[device.type]
