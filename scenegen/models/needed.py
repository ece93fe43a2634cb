"""Which fetched weights a configuration needs, and whether they are here: without torch, before any work."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from scenegen.config import Config, DepthAnythingConfig, Pixal3DConfig, SamConfig
from scenegen.errors import WeightsError
from scenegen.models.local import locate_all
from scenegen.models.pixal3d import PARTS
from scenegen.models.registry import depth_anything_name, sam_name
from scenegen.runtime import Runtime


def require_models(config: Config, runtime: Runtime, segments: bool, measures: bool, generates: bool = True) -> None:
    """Fails where weights or packages for a scene are missing; the message names all that are.

    Args:
        config: the configuration.
        runtime: where weights lie.
        segments: whether masks must be found; a photo with an alpha channel or given masks needs none.
        measures: whether depth must be estimated.
        generates: whether objects are made on this machine.

    Raises:
        WeightsError: naming the fix.
    """
    needed: list[str] = []
    if segments and isinstance(config.segment, SamConfig):
        _require("segment_anything")
        needed += _fetched([sam_name(config.segment.model)], config.segment.checkpoint)
    if measures and isinstance(config.depth, DepthAnythingConfig):
        _require("transformers")
        name = depth_anything_name(config.depth.variant, config.depth.size)
        needed += _fetched([name], config.depth.checkpoint)
    if generates and isinstance(config.generate, Pixal3DConfig):
        needed += _fetched([*PARTS], config.generate.checkpoint)
    locate_all(needed, runtime)


def _fetched(names: list[str], checkpoint: Path | None) -> list[str]:
    """The registered weights, unless the user has some of their own."""
    if checkpoint is None:
        return names
    if not checkpoint.exists():
        raise WeightsError(f"`checkpoint` is {checkpoint}, where nothing is; give the path of weights.")
    return []


def _require(package: str) -> None:
    if find_spec(package) is None:
        raise WeightsError(f"the package {package} is missing; run `pip install 'scenegen-3d[full]'`.")
