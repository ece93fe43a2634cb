"""The weights that are part of the package, and their digests. Every start needs these, so nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scenegen.weights.record import recorded_digest

PERCEPTION = Path(__file__).with_name("perception.safetensors")
GENERATOR = Path(__file__).with_name("generator.safetensors")


def perception_weights() -> Mapping[str, str]:
    """What the perception network's results depend on: the sha256 of its weights.

    Raises:
        WeightsError: if the file cannot be read or is not the one that belongs to the package.
    """
    return {"perception": recorded_digest(PERCEPTION)}


def generator_weights() -> Mapping[str, str]:
    """What the embedded generator's results depend on: the sha256 of its weights.

    Raises:
        WeightsError: if the file cannot be read or is not the one that belongs to the package.
    """
    return {"embedded generator": recorded_digest(GENERATOR)}
