"""Averages over scenes, and tables of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from rich.table import Table

from scenegen.evaluate.metrics import bootstrap
from scenegen.evaluate.record import Evaluation, SceneEntry, Statistic
from scenegen.records import Record

NOT_MEASURED = {"id", "category", "matched", "pixels", "count"}


@dataclass(frozen=True)
class Column:
    """One metric in the tables."""

    metric: str
    heading: str | None = None
    """Heading in the table of scenes; None leaves the metric out of it."""
    statistic: Literal["mean", "median"] = "mean"
    """How the table of scenes averages over a scene's objects."""


COLUMNS = (
    Column("object.silhouette_iou", "silhouette", "median"),
    Column("object.silhouette_iou_amodal", "amodal", "median"),
    Column("object.raw.whole.chamfer_mean", "Chamfer"),
    Column("object.raw.whole.f_5", "F 5 %"),
    Column("object.raw.hidden.chamfer_mean", "hidden Chamfer"),
    Column("object.raw.hidden.f_5", "hidden F 5 %"),
    Column("object.aligned.whole.chamfer_mean", "aligned Chamfer"),
    Column("object.aligned.whole.f_5", "aligned F 5 %"),
    Column("object.aligned.hidden.chamfer_mean"),
    Column("object.aligned.hidden.f_5"),
    Column("object.own.whole.chamfer_mean"),
    Column("object.own.whole.f_5"),
    Column("object.own.hidden.f_5"),
    Column("object.raw.normal_error_deg"),
    Column("object.raw.box_iou"),
    Column("object.aligned.normal_error_deg"),
    Column("object.raw.depth_extent_error"),
    Column("scene.raw.whole.chamfer_mean"),
    Column("scene.raw.whole.f_5"),
    Column("scene.raw.box_iou", "box IoU"),
    Column("scene.aligned.whole.chamfer_mean", "scene aligned Chamfer"),
    Column("scene.aligned.whole.f_5", "scene aligned F 5 %"),
    Column("scene.aligned.hidden.f_5"),
    Column("scene.aligned.box_iou", "aligned box IoU"),
    Column("scene.penetration.share"),
    Column("scene.settle.made", "stays"),
    Column("scene.settle.true", "true stays"),
    Column("scene.settle.of_true"),
    Column("scene.settle.held"),
    Column("scene.settle.penetration_m"),
    Column("perception.mask_precision", "mask P"),
    Column("perception.mask_recall", "mask R"),
    Column("perception.mask_iou"),
    Column("perception.depth.abs_rel", "AbsRel"),
    Column("perception.depth.delta_1", "delta"),
    Column("perception.fov_error_deg"),
)


def values_of(entry: SceneEntry) -> Iterator[tuple[str, int | None, float]]:
    """Every number of an entry: dotted name of the metric, id of the true object (None: the whole scene), value."""
    for name, value in _numbers("perception", entry.perception):
        yield name, None, value
    if entry.scene is not None:
        for item in entry.scene.objects:
            for name, value in _numbers("object", item):
                yield name, item.id, value
        for name, value in _numbers("scene", entry.scene):
            yield name, None, value


def summarise(entries: Sequence[SceneEntry], resamples: int, seed: int) -> dict[str, Statistic]:
    """Every numeric metric by its dotted name, over the objects or scenes that have it."""
    groups: dict[str, list[list[float]]] = {}
    for entry in entries:
        of_scene: dict[str, list[float]] = {}
        for name, _, value in values_of(entry):
            of_scene.setdefault(name, []).append(value)
        for name, values in of_scene.items():
            groups.setdefault(name, []).append(values)
    return {name: _statistic(groups[name], resamples, seed) for name in sorted(groups)}


def scene_table(evaluation: Evaluation) -> Table:
    """One row for each scene."""
    shown = [column for column in COLUMNS if column.heading and column.metric in evaluation.summary]
    headings = ("scene", "objects", *(column.heading or "" for column in shown), "seconds", "MB")
    made = Table(*headings, box=None, pad_edge=False)
    timings = {timing.name: timing for timing in evaluation.timings}
    for entry in evaluation.scenes:
        one, timing = summarise([entry], 1, 0), timings.get(entry.name)
        seconds = "-" if timing is None else f"{timing.seconds:.1f}"
        peak = "-" if timing is None or timing.peak_memory_mb is None else f"{timing.peak_memory_mb:.0f}"
        cells = [_number(one, column) for column in shown]
        made.add_row(entry.name, _count(entry), *cells, seconds, peak, style="red" if entry.error else None)
    return made


def summary_table(evaluation: Evaluation) -> Table:
    """One row for each metric: mean and median with their intervals; objects count alike, whatever their scene."""
    made = Table("metric", "of", "mean", "95 %", "median", "95 %", box=None, pad_edge=False)
    for column in COLUMNS:
        if column.metric in evaluation.summary:
            found = evaluation.summary[column.metric]
            made.add_row(
                column.metric,
                str(found.count),
                number_text(found.mean),
                interval_text(found.mean_interval),
                number_text(found.median),
                interval_text(found.median_interval),
            )
    return made


def number_text(value: float) -> str:
    """A number for display: three decimals, or one digit if these would be 0."""
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.0005 else f"{value:.0e}"


def interval_text(interval: tuple[float, float] | None) -> str:
    """An interval for display."""
    return "-" if interval is None else f"{number_text(interval[0])} to {number_text(interval[1])}"


def _count(entry: SceneEntry) -> str:
    """Made objects of true ones; found ones for a photo."""
    if entry.scene is not None:
        return f"{entry.scene.made} of {len(entry.scene.objects)}"
    if entry.perception is None:
        return "-"
    labelled = "?" if entry.perception.labelled is None else str(entry.perception.labelled)
    return f"{entry.perception.found} of {labelled}"


def _numbers(prefix: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Record):
        for name in type(value).model_fields:
            if name not in NOT_MEASURED:
                yield from _numbers(f"{prefix}.{name}", getattr(value, name))
    elif isinstance(value, int | float):
        yield prefix, float(value)


def _statistic(groups: Sequence[Sequence[float]], resamples: int, seed: int) -> Statistic:
    values = np.concatenate([np.asarray(group) for group in groups])
    intervals = bootstrap(groups, resamples, seed)
    return Statistic(
        count=len(values),
        mean=float(values.mean()),
        mean_interval=None if intervals is None else intervals[0],
        median=float(np.median(values)),
        median_interval=None if intervals is None else intervals[1],
    )


def _number(summary: Mapping[str, Statistic], column: Column) -> str:
    return number_text(getattr(summary[column.metric], column.statistic)) if column.metric in summary else "-"
