from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from scenegen.errors import InputError
from scenegen.evaluate.compare import Measured, compare, comparison_table, read_measured
from scenegen.evaluate.record import (
    EvaluateSettings,
    ObjectScores,
    Penetration,
    PrecisionRecall,
    SceneEntry,
    SceneScores,
    SceneShape,
    ShapeScores,
    SurfaceScores,
)
from scenegen.evaluate.summary import summarise

NO_EDGES = PrecisionRecall(precision=None, recall=None, count=0)


def entry(name: str, chamfers: dict[int, float | None], unit: float = 1.0) -> SceneEntry:
    """One scene with an object for each Chamfer distance, None where it was not made; its F-score falls with it."""
    objects = []
    for number, chamfer in chamfers.items():
        made = chamfer is not None
        whole = SurfaceScores(chamfer_mean=chamfer, f_5=1 - (chamfer or 1.0))
        objects.append(
            ObjectScores(
                id=number,
                category="thing",
                matched=number if made else None,
                unit_m=unit,
                hidden_share=0.5,
                mask_iou=1.0 if made else 0.0,
                silhouette_iou=1.0 if made else 0.0,
                silhouette_iou_amodal=None,
                raw=ShapeScores(whole=whole),
                aligned=ShapeScores(),
                own=ShapeScores(),
            )
        )
    scene = SceneScores(
        objects=tuple(objects),
        made=len(objects),
        unit_m=3.0,
        raw=SceneShape(),
        aligned=SceneShape(),
        alignment=None,
        penetration=Penetration(volume_m3=0, share=0, left_out=()),
        supports=NO_EDGES,
        supports_between_objects=NO_EDGES,
    )
    return SceneEntry(name=name, layout="scene", perception=None, scene=scene)


def measured(*entries: SceneEntry, samples: int = 100) -> Measured:
    settings = EvaluateSettings(samples=samples)
    return Measured(true_masks=True, true_depth=True, settings=settings, resamples=200, scenes=entries)


CHAMFER, F = "object.raw.whole.chamfer_mean", "object.raw.whole.f_5"


def test_differences_are_paired_by_object() -> None:
    first = measured(entry("a", {1: 0.4, 2: 0.2}), entry("b", {1: 0.6}))
    second = measured(entry("b", {1: 0.3}), entry("a", {2: 0.1, 1: 0.2}))
    found = compare(first, second).differences[CHAMFER]
    assert (found.count, found.first, found.second) == (3, pytest.approx(0.4), pytest.approx(0.2))
    assert found.difference == pytest.approx(-0.2)
    # Halved everywhere: no resample says otherwise, but the absolute difference varies over scenes.
    assert found.relative == pytest.approx(-0.5)
    assert found.relative_interval == pytest.approx((-0.5, -0.5))
    assert found.difference_interval == pytest.approx((-0.3, -0.15))


def test_an_object_that_one_lacks_is_compared_where_both_have_a_value() -> None:
    found = compare(measured(entry("a", {1: 0.4, 2: 0.2})), measured(entry("a", {1: 0.4, 2: None}))).differences
    assert found[CHAMFER].count == 1
    assert found[F].count == 2
    assert found[F].difference == pytest.approx((0 - 0.8) / 2)
    assert (found[F].difference_interval, found[F].relative_interval) == (None, None)


def test_what_differs_besides_the_results_is_said() -> None:
    found = compare(measured(entry("a", {1: 0.4}), entry("b", {1: 0.4})), measured(entry("a", {1: 0.4}), samples=50))
    assert (found.scenes, found.left_out, found.notes) == (("a",), ("b",), ("samples: 100 and 50",))


def test_other_data_are_refused() -> None:
    one = measured(entry("a", {1: 0.4}))
    with pytest.raises(InputError, match="no scene in common"):
        compare(one, measured(entry("b", {1: 0.4})))
    with pytest.raises(InputError, match="different objects"):
        compare(one, measured(entry("a", {1: 0.4}, unit=2.0)))


def test_the_table_shows_the_relative_difference() -> None:
    found = compare(
        measured(entry("a", {1: 0.4}), entry("b", {1: 0.2})), measured(entry("a", {1: 0.3}), entry("b", {1: 0.15}))
    )
    text = io.StringIO()
    Console(file=text, width=200).print(comparison_table(found))
    (line,) = [line for line in text.getvalue().splitlines() if line.startswith(CHAMFER)]
    assert line.split() == [
        CHAMFER,
        "2",
        "0.300",
        "0.225",
        "-0.075",
        "-0.100",
        "to",
        "-0.050",
        *["-25.0", "%", "-25.0", "to", "-25.0", "%"],
    ]


def test_only_files_of_an_evaluation_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text, message in (
        ("{", "was not written by"),
        ("{}", "was not written by"),
        ('{"schema_version": 99}', "schema version 99"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_measured(path)
    one = measured(entry("a", {1: 0.4}))
    values = one.model_dump(mode="json") | {"schema_version": 1, "config": {"from": "another version"}}
    path.write_text(json.dumps(values))
    assert read_measured(path) == one


def test_means_are_over_objects_whatever_their_scene() -> None:
    found = summarise([entry("a", {1: 0.1, 2: 0.2, 3: None}), entry("b", {1: 0.6})], 100, 0)
    assert (found[CHAMFER].count, found[CHAMFER].mean) == (3, pytest.approx(0.3))
    assert (found[F].count, found[F].mean) == (4, pytest.approx((0.9 + 0.8 + 0 + 0.4) / 4))
    assert found[F].mean_interval == pytest.approx((0.4, 1.7 / 3))
