"""What goes to another machine, and what that machine must have itself."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from scenegen import __version__
from scenegen.compute.runtime import Runtime
from scenegen.config import Settings
from scenegen.errors import WeightsError
from scenegen.registry import Chosen
from scenegen.store.store import Store
from scenegen.weights_registry.needed import require
from stages.layers import R
from stages.stage import Stage


def cache_folder() -> Path:
    """The user's cache folder on this machine."""
    return user_cache_path("scenegen")


@dataclass(frozen=True)
class Luggage:
    """Store and runtime on their way to another machine, whose cache folder may be elsewhere."""

    store: Store
    runtime: Runtime
    cache: Path = field(default_factory=cache_folder)
    """The sender's."""

    def here(self) -> tuple[Store, Runtime]:
        """The same on this machine. Of a store in a bucket only the copies are in the cache."""
        store = self.store if self.store.mirror is None else self.store.at(self._here(self.store.root))
        return store, replace(self.runtime, models=self._here(self.runtime.models))

    def _here(self, folder: Path) -> Path:
        inside = folder.is_relative_to(self.cache)
        return cache_folder() / folder.relative_to(self.cache) if inside else folder


def check_version(sent: str) -> None:
    """Fails if this machine has another version of scenegen than the one that asks.

    Raises:
        WeightsError: naming both.
    """
    if sent != __version__:
        raise WeightsError(
            f"the machine {socket.gethostname()} of the cluster has scenegen {__version__}, but {sent} asks; install the same."
        )


def check_machine(stage: Stage[R], config: Settings, runtime: Runtime, expected: Mapping[str, str]) -> None:
    """Fails if this machine lacks weights or packages of a stage, or has other weights than expected.

    Raises:
        WeightsError: naming the machine, and the fix.
    """
    try:
        _require(stage.backends(config), runtime)
    except WeightsError as error:
        raise WeightsError(
            f"the machine {socket.gethostname()} of the cluster cannot run {stage.name}: {error}"
        ) from error
    if dict(stage.weights(config)) != dict(expected):
        raise WeightsError(
            f"the machine {socket.gethostname()} of the cluster has other weights for {stage.name} "
            f"({dict(stage.weights(config))}) than the one that asks ({dict(expected)}); fetch the same."
        )


def _require(backends: Sequence[Chosen[Any]], runtime: Runtime) -> None:
    """Looks once for each set of models and packages, as long as this process lives: hashing weights takes a while."""
    for chosen in backends:
        wanted = chosen.backend.name, tuple(chosen.needs()), runtime.models
        if wanted not in _present:
            require(chosen, runtime)
            _present.add(wanted)


_present: set[tuple[str, tuple[str, ...], Path]] = set()
