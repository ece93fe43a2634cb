"""Aggregates over scenes, and the table that shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from scenegen.evaluate.metrics import bootstrap
from scenegen.evaluate.record import Evaluation, SceneEntry, Statistic
from scenegen.records import Record

NOT_MEASURED = {"id", "category", "matched", "pixels", "count"}

COLUMNS = (
    ("silhouette", "object.silhouette_iou", "median"),
    ("amodal", "object.silhouette_iou_amodal", "median"),
    ("Chamfer", "object.raw.whole.chamfer_mean", "mean"),
    ("F 5 %", "object.raw.whole.f_5", "mean"),
    ("hidden Ch.", "object.raw.hidden.chamfer_mean", "mean"),
    ("hidden F 5 %", "object.raw.hidden.f_5", "mean"),
    ("aligned F 5 %", "object.aligned.whole.f_5", "mean"),
    ("box IoU", "object.raw.box_iou", "mean"),
    ("mask P", "perception.mask_precision", "mean"),
    ("mask R", "perception.mask_recall", "mean"),
    ("AbsRel", "perception.depth.abs_rel", "mean"),
    ("delta", "perception.depth.delta_1", "mean"),
)
"""Heading, metric and statistic."""


def summarise(entries: Sequence[SceneEntry], resamples: int, seed: int) -> dict[str, Statistic]:
    """Every numeric metric by its dotted name, over the objects or scenes that have it."""
    groups: dict[str, list[list[float]]] = {}
    for entry in entries:
        of_scene: dict[str, list[float]] = {}
        for name, value in _named_values(entry):
            of_scene.setdefault(name, []).append(value)
        for name, values in of_scene.items():
            groups.setdefault(name, []).append(values)
    return {name: _statistic(groups[name], resamples, seed) for name in sorted(groups)}


def table(evaluation: Evaluation) -> Table:
    """One row for each scene, and the aggregate; objects count alike in it."""
    shown = [column for column in COLUMNS if column[1] in evaluation.summary]
    made = Table("scene", *(heading for heading, _, _ in shown), "seconds", box=None, pad_edge=False)
    seconds = {timing.name: timing.seconds for timing in evaluation.timings}
    for entry in evaluation.scenes:
        one = summarise([entry], 1, 0)
        made.add_row(entry.name, *_cells(one, shown), f"{seconds[entry.name]:.1f}")
    heading = f"all {len(evaluation.scenes)}"
    made.add_row(heading, *_cells(evaluation.summary, shown), f"{sum(seconds.values()):.1f}", style="bold")
    return made


def _named_values(entry: SceneEntry) -> Iterator[tuple[str, float]]:
    yield from _numbers("perception", entry.perception)
    if entry.scene is not None:
        for item in entry.scene.objects:
            yield from _numbers("object", item)
        yield from _numbers("scene", entry.scene)


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


def _cells(summary: Mapping[str, Statistic], shown: Sequence[tuple[str, str, str]]) -> list[str]:
    return [f"{getattr(summary[metric], which):.3f}" if metric in summary else "-" for _, metric, which in shown]
