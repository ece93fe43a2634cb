"""Ports: the kinds of back-ends, and the look-up of the installed ones."""

from __future__ import annotations

import functools
import logging
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic

from pydantic import BaseModel
from pydantic_core import PydanticCustomError

import scenegen
from scenegen.errors import UsageError, one_line
from scenegen.messages.spelling import did_you_mean
from scenegen.registry.backend import (
    B,
    CameraEstimator,
    Chosen,
    Completer,
    DepthEstimator,
    Exporter,
    Matcher,
    ObjectGenerator,
    Segmenter,
)

logger = logging.getLogger(__name__)

OWN = "scenegen-3d"
"""The distribution that this package is part of."""
UNUSABLE = "unusable_backend"
"""Type of pydantic's error for settings of a back-end that is not there or cannot be imported."""


@dataclass(frozen=True)
class Offer:
    """A back-end that a distribution declares. It is not imported yet."""

    entry: EntryPoint
    provider: str
    """As `Backend.provider`."""

    @property
    def name(self) -> str:
        """What a configuration calls it."""
        return self.entry.name


@dataclass(frozen=True)
class Port(Generic[B]):
    """One kind of back-end."""

    group: str
    """Group of the entry points."""
    noun: str
    """What messages call its back-ends."""
    record: type[B]

    def offers(self) -> Mapping[str, Sequence[Offer]]:
        """The installed back-ends, by name in alphabetical order; several if distributions use the same name.

        Example:
            >>> {"embedded", "regions", "sam"} <= set(SEGMENTERS.offers())
            True
        """
        return _offers().get(self.group, {})

    def backend(self, name: str) -> B:
        """The back-end called `name`, imported.

        Raises:
            UsageError: if there is none or more than one, or it cannot be imported or is no back-end.

        Example:
            >>> SEGMENTERS.backend("sam").packages
            ('segment-anything>=1',)
        """
        offers = self.offers().get(name, ())
        if not offers:
            known = ", ".join(self.offers()) or "none; install scenegen again"
            hint = did_you_mean(name, self.offers())
            raise UsageError(f"no {self.noun} is called {one_line(repr(name), 80)}.{hint} Installed: {known}.")
        if len(offers) > 1:
            raise UsageError(
                f"the {self.noun} {name} comes from {' and '.join(offer.provider for offer in offers)}; uninstall all but one."
            )
        return _loaded(self, offers[0])

    def usable(self) -> Iterator[B]:
        """Every back-end that can be imported; the log says why the others cannot.

        Example:
            >>> any("metres" in backend.gives for backend in DEPTH_ESTIMATORS.usable())
            True
        """
        for name in self.offers():
            try:
                yield self.backend(name)
            except UsageError as error:
                logger.warning("%s", error)

    def of(self, settings: Any) -> B:
        """The back-end whose settings these are.

        Example:
            >>> from scenegen.config import GroundConfig
            >>> DEPTH_ESTIMATORS.of(GroundConfig()).gives
            ('depth',)
        """
        return self.backend(settings.method)

    def chosen(self, settings: Any) -> Chosen[B]:
        """The back-end whose settings these are, with them.

        Example:
            >>> from scenegen.config import GroundConfig
            >>> DEPTH_ESTIMATORS.chosen(GroundConfig()).settings.method
            'ground'
        """
        return Chosen(self.of(settings), settings)

    def settings(self, value: Any) -> Any:
        """The settings that `value` stands for: settings, a mapping with a `method`, or a method alone. For pydantic.

        Raises:
            ValueError: if it names no back-end that can be used.
            pydantic.ValidationError: from the back-end's own model.

        Example:
            >>> DEPTH_ESTIMATORS.settings("ground") == DEPTH_ESTIMATORS.settings({"method": "ground", "pitch_deg": 25})
            True
        """
        if isinstance(value, str):
            value = {"method": value}
        name = value.get("method") if isinstance(value, Mapping) else getattr(value, "method", None)
        if not isinstance(name, str):
            raise PydanticCustomError(
                "method", "it must name its `method`, one of: {known}", {"known": ", ".join(self.offers())}
            )
        try:
            config: type[BaseModel] = self.backend(name).config
        except UsageError as error:
            raise PydanticCustomError(UNUSABLE, "{problem}", {"problem": str(error).rstrip(".")}) from error
        return config.model_validate(value)


SEGMENTERS: Port[Segmenter[Any]] = Port("scenegen.segmenters", "segmenter", Segmenter)
DEPTH_ESTIMATORS: Port[DepthEstimator[Any]] = Port("scenegen.depth_estimators", "depth estimator", DepthEstimator)
CAMERA_ESTIMATORS: Port[CameraEstimator[Any]] = Port("scenegen.camera_estimators", "camera estimator", CameraEstimator)
COMPLETERS: Port[Completer[Any]] = Port("scenegen.completers", "completer", Completer)
OBJECT_GENERATORS: Port[ObjectGenerator[Any]] = Port("scenegen.generators", "generator", ObjectGenerator)
MATCHERS: Port[Matcher[Any]] = Port("scenegen.matchers", "matcher", Matcher)
EXPORTERS: Port[Exporter[Any]] = Port("scenegen.exporters", "exporter", Exporter)
PORTS: tuple[Port[Any], ...] = (
    SEGMENTERS,
    DEPTH_ESTIMATORS,
    CAMERA_ESTIMATORS,
    COMPLETERS,
    OBJECT_GENERATORS,
    MATCHERS,
    EXPORTERS,
)


@functools.cache
def _offers() -> Mapping[str, Mapping[str, Sequence[Offer]]]:
    """All offers, by group and name."""
    found: dict[str, dict[str, list[Offer]]] = defaultdict(lambda: defaultdict(list))
    for port in PORTS:
        named = found[port.group]
        for offer in (*_own(port.group), *_of_others(port.group)):
            first = named[offer.name][0] if named[offer.name] else None
            if first is None or first.provider:
                named[offer.name].append(offer)
            else:
                logger.warning("%s also has the %s %s; using scenegen's own", offer.provider, port.noun, offer.name)
    return {group: {name: tuple(named[name]) for name in sorted(named)} for group, named in found.items()}


def _own(group: str) -> Iterator[Offer]:
    """This package's offers: from its metadata or, if it is not installed, from its source."""
    checkout = _checkout()
    if checkout is None:
        found = [entry for entry in entry_points(group=group) if entry.dist is not None and entry.dist.name == OWN]
    else:
        found = [EntryPoint(name, value, group) for name, value in checkout.get(group, {}).items()]
    return (Offer(entry, "") for entry in found)


def _of_others(group: str) -> Iterator[Offer]:
    for entry in entry_points(group=group):
        if entry.dist is not None and entry.dist.name != OWN:
            yield Offer(entry, f"{entry.dist.name} {entry.dist.version}")


@functools.cache
def _checkout() -> Mapping[str, Mapping[str, str]] | None:
    """Entry points of the source that this package is imported from; None if it is installed."""
    path = Path(scenegen.__file__).resolve().parents[1] / "pyproject.toml"
    if not path.is_file():
        return None
    project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    groups: Mapping[str, Mapping[str, str]] | None = project.get("entry-points", {})
    return groups if project.get("name") == OWN else None


@functools.cache
def _loaded(port: Port[B], offer: Offer) -> B:
    whose = f"the {port.noun} {offer.name}{offer.provider and f' of {offer.provider}'}"
    try:
        found = offer.entry.load()
    except Exception as error:  # importing another package can raise anything
        raise UsageError(
            f"{whose} cannot be imported: {type(error).__name__}: {one_line(str(error), 200)}. Install it again, or remove it."
        ) from error
    if not isinstance(found, port.record):
        raise UsageError(
            f"{whose} is {offer.entry.value}, a {type(found).__name__}; it must be a {port.record.__name__}."
        )
    if found.name != offer.name:
        raise UsageError(f"{whose} has settings whose `method` is {found.name!r}; it must be {offer.name!r}.")
    return replace(found, provider=offer.provider)
