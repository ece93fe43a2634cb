"""One edit of the objects, as a stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scenegen.compute.runtime import Runtime
from scenegen.config import EmbeddedSegmentConfig, RegionsConfig, Sam3Config, SegmentConfig
from scenegen.errors import UsageError
from scenegen.ids import BACKGROUND, UNKNOWN
from scenegen.perception.masks import NOTHING_FOUND
from scenegen.records import (
    Artifact,
    FillEdit,
    Instance,
    Instances,
    LockEdit,
    MaskEdit,
    MergeEdit,
    PaintEdit,
    Photo,
    PromptEdit,
    RemoveEdit,
    RenameEdit,
    SplitEdit,
)
from scenegen.store.png import read_png, write_png
from scenegen.store.store import Store
from stages.edit import EDIT, promptable
from stages.stage import Outcome, execute

HEIGHT, WIDTH = 96, 128
TWICE = 2
"""The photo as given is so much larger than at working size."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "store").mkdir()
    return Store(tmp_path / "store")


def stored(store: Store, name: str, picture: np.ndarray) -> Artifact:
    write_png(store.root.parent / name, picture)
    return store.ingest(store.root.parent / name)


def photo(store: Store) -> Photo:
    """A red box on grey, at 40..90, 30..70."""
    image = np.full((HEIGHT, WIDTH, 3), 40, dtype=np.uint8)
    image[30:70, 40:90] = (200, 60, 50)
    return Photo(
        name="photo",
        image=stored(store, "image.png", image),
        alpha=None,
        masks=None,
        depth=None,
        width=WIDTH,
        height=HEIGHT,
        original_width=TWICE * WIDTH,
        original_height=TWICE * HEIGHT,
        focal_35mm=None,
    )


def found(store: Store) -> Instances:
    """Three objects side by side."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint16)
    items = []
    for number in (1, 2, 3):
        left = 40 * (number - 1)
        ids[10:40, left : left + 30] = number
        box = (left, 10, left + 30, 40)
        items.append(Instance(id=number, label="cup", label_confidence=0.6, score=0.5, box=box, area=900))
    masks = stored(store, "ids.png", ids)
    return Instances(masks=masks, items=tuple(items), backend="regions", licence="none: no weights", warnings=("x",))


def edited(
    store: Store, change: MaskEdit, instances: Instances | None = None, config: SegmentConfig | None = None
) -> tuple[Instances, np.ndarray]:
    given = (photo(store), instances or found(store), change)
    outcome: Outcome[Instances] = execute(EDIT, given, config or RegionsConfig(), store, Runtime())
    ids = read_png(store.path(outcome.record.masks))
    assert [(item.id, item.area) for item in outcome.record.items] == [
        (number, np.count_nonzero(ids == number)) for number in np.unique(ids).tolist() if number not in (0, UNKNOWN)
    ]
    return outcome.record, ids


def test_merged_objects_are_one_that_goes_by_the_first(store: Store) -> None:
    record, ids = edited(store, MergeEdit(objects=(3, 1)))
    assert [(item.id, item.box) for item in record.items] == [(2, (40, 10, 70, 40)), (3, (0, 10, 110, 40))]
    assert record.backend == "regions, edited by hand"
    assert record.warnings == ("x",)
    assert (ids[10:40, :30] == 3).all()


@pytest.mark.parametrize(("shows", "becomes"), [("background", BACKGROUND), ("unknown", UNKNOWN)])
def test_a_removed_object_is_background_or_unknown(store: Store, shows: str, becomes: int) -> None:
    record, ids = edited(store, RemoveEdit.model_validate({"object": 2, "shows": shows}))
    assert [item.id for item in record.items] == [1, 3]
    assert (ids[10:40, 40:70] == becomes).all()


def test_a_line_splits_in_pixels_of_the_photo_as_given(store: Store) -> None:
    record, ids = edited(store, SplitEdit(object=1, part=7, start=(TWICE * 10, TWICE * 90), end=(TWICE * 10, 0)))
    assert [(item.id, item.area, item.label) for item in record.items if item.id in (1, 7)] == [
        (1, 600, "cup"),
        (7, 300, "cup"),
    ]
    assert (ids[10:40, :10] == 7).all()


def test_a_locked_object_keeps_its_outline_and_cannot_be_edited(store: Store) -> None:
    held, _ = edited(store, LockEdit(object=2, locked=True))
    assert [item.locked for item in held.items] == [False, True, False]
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    record, ids = edited(store, PaintEdit(object=9, mask=stored(store, "mask.png", mask)), held)
    assert [item.id for item in record.items] == [2, 9]
    assert (ids[10:40, 40:70] == 2).all()
    for change in (MergeEdit(objects=(1, 2)), RenameEdit(object=2, label="mug"), RemoveEdit(object=2, shows="unknown")):
        with pytest.raises(UsageError, match="object 2 is locked"):
            edited(store, change, held)
    free, _ = edited(store, LockEdit(object=2, locked=False), held)
    assert not any(item.locked for item in free.items)


def test_holes_are_filled_and_none_says_so(store: Store) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[50:90, 20:60] = 255
    mask[60:65, 30:35] = mask[70:75, 40:45] = 0
    holed, _ = edited(store, PaintEdit(object=5, mask=stored(store, "mask.png", mask)))
    one, ids = edited(store, FillEdit(object=5, at=(TWICE * 32, TWICE * 62)), holed)
    assert (ids[62, 32], ids[72, 42]) == (5, 0)
    assert one.items[-1].area == 40 * 40 - 25
    whole, _ = edited(store, FillEdit(object=5), one)
    assert whole.items[-1].area == 40 * 40
    for at in (None, (0.0, 0.0)):
        with pytest.raises(UsageError, match="has no hole"):
            edited(store, FillEdit(object=5, at=at), whole)


def test_a_new_name_is_certain(store: Store) -> None:
    record, _ = edited(store, RenameEdit(object=2, label="old mug"))
    assert [(item.label, item.label_confidence) for item in record.items] == [
        ("cup", 0.6),
        ("old mug", None),
        ("cup", 0.6),
    ]


def test_a_painted_object_covers_others_and_what_is_hardly_left_of_them_goes(store: Store) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:40, 0:69] = 255
    record, ids = edited(store, PaintEdit(object=1, mask=stored(store, "mask.png", mask)))
    assert [item.id for item in record.items] == [1, 3]
    assert (ids[10:40, 69] == UNKNOWN).all()
    assert "object 2" in record.warnings[-1]


def test_the_first_object_ends_the_warning_that_there_is_none(store: Store) -> None:
    none = stored(store, "none.png", np.zeros((HEIGHT, WIDTH), np.uint16))
    empty = Instances(masks=none, items=(), backend="regions", licence="none: no weights", warnings=(NOTHING_FOUND,))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[20:40, 20:40] = 255
    record, _ = edited(store, PaintEdit(object=5, mask=stored(store, "mask.png", mask)), empty)
    assert [(item.id, item.label) for item in record.items] == [(5, "object")]
    assert record.warnings == ()
    again, _ = edited(store, RemoveEdit(object=5, shows="unknown"), record)
    assert again.warnings == (NOTHING_FOUND,)


def test_a_click_makes_an_object_also_where_the_segmenter_takes_none(store: Store) -> None:
    place = (TWICE * 65.0, TWICE * 50.0)
    record, ids = edited(store, PromptEdit(object=9, inside=(place,)))
    assert ids[50, 65] == 9
    assert "embedded perception network" in record.backend
    assert "Apache-2.0" in record.licence
    assert promptable(RegionsConfig()) == EmbeddedSegmentConfig()
    assert promptable(Sam3Config()) == Sam3Config()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (MergeEdit(objects=(1, 8)), "object 8, which is not there; objects: 1, 2, 3"),
        (RenameEdit(object=8, label="mug"), "object 8, which is not there"),
        (SplitEdit(object=1, part=2, start=(0, 0), end=(9, 9)), "object 2, which is there already"),
        (SplitEdit(object=1, part=7, start=(0, 0), end=(0, 9)), "fewer than 64 pixels of object"),
        (PromptEdit(object=9), "neither a click inside"),
        (PromptEdit(object=9, inside=((300, 10),)), "outside the photo of 256x192"),
    ],
)
def test_what_cannot_be_done_is_refused(store: Store, change: MaskEdit, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        edited(store, change)
