"""The stage that completes partly hidden objects: what is seen stays, whole objects are left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scenegen.camera import intrinsics_from_fov, matrix4
from scenegen.completion import PartView, WholeView
from scenegen.compute.runtime import Runtime
from scenegen.config import CompleteSettings, OutlineConfig
from scenegen.errors import InputError, LimitError
from scenegen.perception.masks import boxes_and_areas
from scenegen.records import Artifact, Completions, Depth, Instance, Instances, Metres, Photo, SeenView, Views
from scenegen.store.png import read_png, write_png
from scenegen.store.store import Store
from stages.complete import COMPLETE
from stages.graph import shown_once
from stages.stage import execute

HEIGHT, WIDTH = 90, 120
CONFIG = CompleteSettings(complete=OutlineConfig(), seed=3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def stored(store: Store, name: str, write: Callable[[Path], None]) -> Artifact:
    path = store.root.parent / name
    write(path)
    store.root.mkdir(exist_ok=True)
    return store.ingest(path)


def photographed(store: Store, *boxes: tuple[int, int, int, int, float]) -> tuple[Photo, Instances, Depth]:
    """A photo of boxes (x0, y0, x1, y1, depth), the last on top."""
    ids, z = np.zeros((HEIGHT, WIDTH), np.uint16), np.full((HEIGHT, WIDTH), 5.0, np.float32)
    image = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    for number, (x0, y0, x1, y1, distance) in enumerate(boxes, start=1):
        ids[y0:y1, x0:x1], z[y0:y1, x0:x1], image[y0:y1, x0:x1] = number, distance, 60 * number
    photo = Photo(
        name="a",
        image=stored(store, "image.png", lambda path: write_png(path, image)),
        alpha=None,
        masks=None,
        depth=None,
        width=WIDTH,
        height=HEIGHT,
        original_width=WIDTH,
        original_height=HEIGHT,
        focal_35mm=None,
    )
    items = tuple(
        Instance(id=number, label="object", score=1, box=box, area=area) for number, box, area in boxes_and_areas(ids)
    )
    masks = stored(store, "ids.png", lambda path: write_png(path, ids))
    instances = Instances(masks=masks, items=items, backend="b", licence="l")
    depth = Depth(
        depth=stored(store, "z.npy", lambda path: np.save(path, z)),
        intrinsics=intrinsics_from_fov(WIDTH, HEIGHT, 50.0),
        intrinsics_source="fov",
        metres=Metres(source="measured", factor=1.1),
        uncertainty=0.1,
        relief_error=0.1,
        backend="b",
        licence="l",
    )
    return photo, instances, depth


def completed(store: Store, *boxes: tuple[int, int, int, int, float]) -> Completions:
    """The stage's record for such a photo."""
    return execute(COMPLETE, photographed(store, *boxes), CONFIG, store, Runtime(device="cpu")).record


def test_of_several_photos_each_completes_what_no_other_shows(store: Store) -> None:
    """Object 1 is in both photos, 2 in the first, 3 in the second."""
    seen = []
    for number in (2, 3):
        photo, instances, depth = photographed(store, (30, 20, 70, 60, 2.0), (50, 30, 62, 70, 1.5))
        items = tuple(item.model_copy(update={"id": number if item.id == 2 else 1}) for item in instances.items)
        seen.append(
            SeenView(
                photo=photo,
                instances=instances.model_copy(update={"items": items}),
                depth=depth,
                main_from_camera=matrix4(np.eye(4)),
            )
        )
    views = Views(scene="s", items=tuple(seen), made_from=((1, 0), (2, 0), (3, 1)))
    assert [[item.id for item in only.items] for _, only, _ in shown_once(views)] == [[2], [3]]
    assert [(photo, depth) for photo, _, depth in shown_once(views)] == [(view.photo, view.depth) for view in seen]
    alone = views.model_copy(update={"alone": (1,)})
    assert [[item.id for item in only.items] for _, only, _ in shown_once(alone)] == [[1, 2], [3]]


def test_completions_of_several_photos_are_one_record(store: Store) -> None:
    boxes = (30, 20, 70, 60, 2.0), (50, 30, 62, 70, 1.5)
    one = completed(store, *boxes)
    both = Completions.of_all([Completions(warnings=("none",)), one])
    assert (both.items, both.backend, both.warnings) == (one.items, one.backend, ("none", *one.warnings))


def test_a_box_behind_a_box_is_completed_and_the_one_before_is_left_alone(store: Store) -> None:
    record = completed(store, (30, 20, 70, 60, 2.0), (50, 30, 62, 70, 1.5))
    (item,) = record.items
    assert (item.id, item.pad) == (1, 0)
    assert 0.1 < item.hidden_outline < 0.6
    mask, picture = read_png(store.path(item.mask)) > 0, read_png(store.path(item.picture))
    whole = np.zeros_like(mask)
    whole[20:60, 30:70] = True
    assert (mask & whole).sum() / (mask | whole).sum() > 0.97
    assert (picture[20:60, 30:50] == 60).all()  # what is seen stays
    assert np.abs(picture[45, 56].astype(int) - 60).max() < 8  # what was hidden shows the object, not what hid it
    assert item.growth == pytest.approx(whole.sum() / (whole.sum() - 12 * 30), abs=0.05)
    assert (record.backend, record.licence) == ("outline", "none: no weights")


def test_an_object_that_the_border_cuts_may_go_on_beyond_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    views: list[PartView] = []

    def everything(view: PartView) -> WholeView:
        views.append(view)
        return WholeView(np.full_like(view.image, 200), np.ones_like(view.seen), "all", "l")

    monkeypatch.setattr("scenegen.completion.outline.complete_outline", everything)
    record = completed(store, (0, 20, 30, 60, 2.0))
    (item,) = record.items
    assert item.pad == 30
    mask = read_png(store.path(item.mask)) > 0
    assert mask.shape == (HEIGHT + 60, WIDTH + 60)
    assert mask[70, 25]  # left of the photo
    assert not mask[:, 61:].any()  # where the photo shows something else
    assert views[0].may_hide.any()
    picture = read_png(store.path(item.picture))
    assert (picture[70, 20] == 200).all()
    assert (picture[70, 45] == 60).all()


def test_whole_objects_are_left_alone(store: Store) -> None:
    record = completed(store, (10, 20, 40, 60, 2.0), (60, 20, 90, 60, 1.0))
    assert record.items == ()
    assert record.warnings == ()


def test_an_object_that_cannot_be_completed_stays_as_it_is_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(view: PartView) -> WholeView:
        raise InputError("no idea")

    monkeypatch.setattr("scenegen.completion.outline.complete_outline", refuse)
    record = completed(store, (30, 20, 70, 60, 2.0), (50, 30, 62, 70, 1.5))
    assert record.items == ()
    assert record.warnings == ("object 1: it is partly hidden and could not be completed: InputError: no idea",)


def test_want_of_memory_ends_the_photo(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(view: PartView) -> WholeView:
        raise LimitError("out of memory on cuda")

    monkeypatch.setattr("scenegen.completion.outline.complete_outline", full)
    with pytest.raises(LimitError):
        completed(store, (30, 20, 70, 60, 2.0), (50, 30, 62, 70, 1.5))
