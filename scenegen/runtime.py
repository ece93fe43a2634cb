"""Where a computation runs. Never part of a result's key."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from platformdirs import user_cache_path


@dataclass(frozen=True)
class Runtime:
    """The device and the reach of a run."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    offline: bool = False
    models: Path = field(default_factory=lambda: user_cache_path("scenegen") / "models")
    """Folder of fetched weights."""
