"""Checks, before any work and without torch, that the weights and packages that the settings ask for are here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scenegen.compute.runtime import Runtime
from scenegen.errors import WeightsError
from scenegen.registry import (
    CAMERA_ESTIMATORS,
    COMPLETERS,
    DEPTH_ESTIMATORS,
    EXPORTERS,
    MATCHERS,
    OBJECT_GENERATORS,
    SEGMENTERS,
    Chosen,
)
from scenegen.weights_registry.local import locate_all

if TYPE_CHECKING:
    from scenegen.config import Config


def require_models(
    config: Config,
    runtime: Runtime,
    segments: bool,
    measures: bool,
    generates: bool = True,
    several: bool = False,
    finds_cameras: bool = False,
) -> None:
    """Fails if weights or packages for a scene are missing; the message names all missing weights.

    Args:
        config: the configuration.
        runtime: where weights are kept.
        segments: whether masks must be found, which a photo with an alpha channel or given masks does not need.
        measures: whether depth must be estimated.
        generates: whether objects are made on this machine.
        several: whether they are made from several photos.
        finds_cameras: whether it must be found where the cameras of these stand.

    Raises:
        WeightsError: if any are missing; the message names the fix.
    """
    require_settings(config)
    if finds_cameras:
        require_pycolmap()
    needed: list[str] = []
    for chosen in _chosen(config, segments, measures, generates, several):
        _require_packages(chosen)
        needed += chosen.needs()
    locate_all(tuple(dict.fromkeys(needed)), runtime)


def require(chosen: Chosen[Any], runtime: Runtime) -> None:
    """Fails if weights or packages for one back-end are missing.

    Raises:
        WeightsError: if any are missing; the message names the fix.
    """
    _require_packages(chosen)
    locate_all(tuple(chosen.needs()), runtime)


def require_settings(config: Config) -> None:
    """Fails if settings that belong to no back-end ask for a package that is missing.

    Raises:
        WeightsError: if it is; the message names the fix.

    Examples:
        >>> from scenegen.config import load_config
        >>> require_settings(load_config("embedded"))
    """
    if config.export.settle or (config.compose.settle and config.compose.contact):
        require_mujoco()


def require_mujoco() -> None:
    """Fails if nothing can simulate gravity.

    Raises:
        WeightsError: if MuJoCo is not installed.
    """
    if find_spec("mujoco") is None:
        raise WeightsError(
            "whether a scene stays is simulated by MuJoCo, which is not installed: pip install 'scenegen-3d[physics]'"
        )


def require_pycolmap() -> None:
    """Fails if nothing can find cameras.

    Raises:
        WeightsError: if `pycolmap` is not installed.
    """
    if find_spec("pycolmap") is None:
        raise WeightsError(
            "cameras are found by pycolmap, which is not installed: pip install 'scenegen-3d[views]', or give them with --camera"
        )


def models_needed(config: Config) -> tuple[str, ...]:
    """Names of all models that scenes of a configuration need, each once.

    Examples:
        >>> from scenegen.config import load_config
        >>> models_needed(load_config("embedded"))
        ()
    """
    return tuple(dict.fromkeys(name for chosen in _chosen(config, True, True, True) for name in chosen.needs()))


def unless_given(names: Sequence[str], checkpoint: Path | None) -> Sequence[str]:
    """Names of registered models, unless the user has weights of their own at `checkpoint`.

    Raises:
        WeightsError: if nothing is there.
    """
    if checkpoint is None:
        return names
    if not checkpoint.exists():
        raise WeightsError(f"`checkpoint` is {checkpoint}, which does not exist; give the path of the weights.")
    return ()


def _chosen(
    config: Config, segments: bool, measures: bool, generates: bool, several: bool = False
) -> Iterator[Chosen[Any]]:
    if segments:
        yield SEGMENTERS.chosen(config.segment)
    if measures:
        yield DEPTH_ESTIMATORS.chosen(config.depth)
    yield CAMERA_ESTIMATORS.chosen(config.camera.estimator)
    yield COMPLETERS.chosen(config.complete)
    if generates:
        generator = OBJECT_GENERATORS.chosen(config.generate)
        yield generator
        if several and generator.backend.several is not None:
            yield Chosen(generator.backend.several, generator.settings)
    if several:
        yield MATCHERS.chosen(config.views.match)
    for settings in config.export.formats:
        yield EXPORTERS.chosen(settings)


def _require_packages(chosen: Chosen[Any]) -> None:
    for requirement in chosen.backend.packages:
        name = requirement.partition(">=")[0]
        try:
            version(name)
        except PackageNotFoundError as error:
            bringing = f"scenegen-3d[{chosen.backend.extra}]" if chosen.backend.extra else requirement
            raise WeightsError(f"the package {name} is missing; run `pip install '{bringing}'`.") from error
