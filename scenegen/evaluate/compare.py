"""Two evaluations of the same pictures, object by object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError
from rich.table import Table

from scenegen.errors import InputError, one_line
from scenegen.evaluate.metrics import interval, resampled
from scenegen.evaluate.record import SCHEMA_VERSION, EvaluateSettings, SceneEntry
from scenegen.evaluate.summary import COLUMNS, interval_text, number_text, values_of
from scenegen.records import Record
from scenegen.untrusted.documents import read_json


class Measured(Record):
    """The part of an evaluation's file that a comparison needs; the rest may come from another version of scenegen."""

    true_masks: bool
    true_depth: bool
    true_cameras: bool = False
    settings: EvaluateSettings
    resamples: int
    scenes: tuple[SceneEntry, ...]


class Difference(Record):
    """One metric over the objects, or scenes, for which both evaluations have it."""

    count: int
    first: float
    """Mean."""
    second: float
    """Mean."""
    difference: float
    """Mean of second - first."""
    difference_interval: tuple[float, float] | None
    """Percentile bootstrap, 95 %, whole scenes drawn with replacement; None if all values come from one scene."""
    relative: float | None
    """second / first - 1 of the means; None if the first is 0."""
    relative_interval: tuple[float, float] | None


class Comparison(Record):
    """Second minus first, by dotted name of the metric."""

    scenes: tuple[str, ...]
    """Scenes that both have."""
    left_out: tuple[str, ...]
    """Scenes that only one has."""
    notes: tuple[str, ...]
    """What differs apart from the results."""
    differences: dict[str, Difference]


def read_measured(path: Path) -> Measured:
    """An evaluation's file.

    Raises:
        InputError: if it is not one, or has another schema.
    """
    try:
        values = read_json(path)
        version = values["schema_version"]
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{path} has schema version {version}, but this scenegen reads {SCHEMA_VERSION}; evaluate again."
            )
        return TypeAdapter(Measured).validate_python({name: values[name] for name in Measured.model_fields})
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise InputError(
            f"{path} was not written by `scenegen evaluate --json` ({one_line(str(error))}); give a file that was."
        ) from error


def compare(first: Measured, second: Measured) -> Comparison:
    """Paired differences between two evaluations.

    Raises:
        InputError: if they have no scene in common, or different objects in a scene.
    """
    ours = {entry.name: entry for entry in first.scenes}
    theirs = {entry.name: entry for entry in second.scenes}
    names = [name for name in ours if name in theirs]
    if not names:
        raise InputError(
            f"the evaluations have no scene in common: {_listed(ours)} and {_listed(theirs)}; compare two of the same scenes."
        )
    pairs: dict[str, list[list[tuple[float, float]]]] = {}
    for name in names:
        _check_same_objects(ours[name], theirs[name])
        other = {(metric, item): value for metric, item, value in values_of(theirs[name])}
        of_scene: dict[str, list[tuple[float, float]]] = {}
        for metric, item, value in values_of(ours[name]):
            if (metric, item) in other:
                of_scene.setdefault(metric, []).append((value, other[metric, item]))
        for metric, values in of_scene.items():
            pairs.setdefault(metric, []).append(values)
    return Comparison(
        scenes=tuple(names),
        left_out=tuple(sorted(ours.keys() ^ theirs.keys())),
        notes=_notes(first, second),
        differences={
            metric: paired_difference(pairs[metric], first.resamples, first.settings.seed) for metric in sorted(pairs)
        },
    )


def comparison_table(comparison: Comparison) -> Table:
    """One row for each metric in the tables."""
    headings = ("metric", "of", "first", "second", "difference", "95 %", "relative", "95 %")
    made = Table(*headings, box=None, pad_edge=False)
    for metric in (column.metric for column in COLUMNS if column.metric in comparison.differences):
        found = comparison.differences[metric]
        made.add_row(
            metric,
            str(found.count),
            number_text(found.first),
            number_text(found.second),
            f"{found.difference:+.3f}",
            interval_text(found.difference_interval),
            "-" if found.relative is None else f"{100 * found.relative:+.1f} %",
            _percent(found.relative_interval),
        )
    return made


def paired_difference(groups: Sequence[Sequence[tuple[float, float]]], resamples: int, seed: int) -> Difference:
    """The difference over pairs (first, second). Pairs of one group are not independent and are drawn together."""
    counts = np.array([len(group) for group in groups])
    sums = np.array([np.sum(group, axis=0) for group in groups])
    first, second = (sums.sum(axis=0) / counts.sum()).tolist()
    difference_interval = relative_interval = None
    if len(groups) > 1:
        times = resampled(len(groups), resamples, seed)
        totals = times @ sums
        difference_interval = interval((totals[:, 1] - totals[:, 0]) / (times @ counts))
        if (totals[:, 0] > 0).all():
            relative_interval = interval(totals[:, 1] / totals[:, 0] - 1)
    return Difference(
        count=int(counts.sum()),
        first=first,
        second=second,
        difference=second - first,
        difference_interval=difference_interval,
        relative=second / first - 1 if first > 0 else None,
        relative_interval=relative_interval,
    )


def _check_same_objects(first: SceneEntry, second: SceneEntry) -> None:
    if first.scene is None or second.scene is None:
        return
    ours, theirs = ({item.id: item.unit_m for item in entry.scene.objects} for entry in (first, second) if entry.scene)
    if ours != theirs:
        raise InputError(
            f"the evaluations have different objects in {first.name}, so their data differ; use the same scenes."
        )


def _notes(first: Measured, second: Measured) -> tuple[str, ...]:
    ours, theirs = (
        {
            "true masks": one.true_masks,
            "true depth": one.true_depth,
            "true cameras": one.true_cameras,
            "photos": sorted({entry.photos for entry in one.scenes}),
            **one.settings.model_dump(),
        }
        for one in (first, second)
    )
    return tuple(f"{name}: {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name])


def _percent(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f} %"


def _listed(names: object) -> str:
    return ", ".join(names) if isinstance(names, dict) and names else "none"
