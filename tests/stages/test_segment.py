"""Which source of objects wins, and what the record says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scenegen.compute.runtime import Runtime
from scenegen.config import EmbeddedSegmentConfig, RegionsConfig, SamConfig, SegmentConfig
from scenegen.errors import UsageError
from scenegen.ids import UNKNOWN, shows_object
from scenegen.perception import Names, Segmentation, embedded
from scenegen.perception.prompts import Prompt
from scenegen.records import Artifact, Instances, Photo
from scenegen.store.png import read_png, write_png
from scenegen.store.store import Store
from scenegen.weights import perception_weights
from stages.segment import SEGMENT
from stages.stage import execute

HEIGHT, WIDTH = 120, 160


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def stored(store: Store, name: str, picture: np.ndarray) -> Artifact:
    path = store.root.parent / name
    write_png(path, picture)
    store.root.mkdir(exist_ok=True)
    return store.ingest(path)


def photo(
    store: Store,
    image: np.ndarray | None = None,
    alpha: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    mask_labels: tuple[str, ...] = (),
    enlarged: int = 1,
) -> Photo:
    plain = np.full((HEIGHT, WIDTH, 3), 170, dtype=np.uint8)
    return Photo(
        name="photo",
        image=stored(store, "image.png", plain if image is None else image),
        alpha=None if alpha is None else stored(store, "alpha.png", alpha),
        masks=None if masks is None else stored(store, "masks.png", masks),
        mask_labels=mask_labels,
        depth=None,
        width=WIDTH,
        height=HEIGHT,
        original_width=WIDTH * enlarged,
        original_height=HEIGHT * enlarged,
        focal_35mm=None,
    )


def run(store: Store, given: Photo, config: SegmentConfig) -> tuple[Instances, np.ndarray]:
    record = execute(SEGMENT, (given,), config, store, Runtime()).record
    ids = read_png(store.path(record.masks))
    assert ids.dtype == np.uint16
    assert ids.shape == (HEIGHT, WIDTH)
    assert sum(item.area for item in record.items) == np.count_nonzero(shows_object(ids))
    return record, ids


def test_user_masks_keep_their_ids_and_win_over_alpha(store: Store) -> None:
    masks = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
    masks[20:60, 30:70] = 7
    masks[70:80, 100:107] = 300
    alpha = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
    record, ids = run(store, photo(store, alpha=alpha, masks=masks), RegionsConfig())
    assert record.backend == "user masks"
    assert [(item.id, item.box, item.area, item.score) for item in record.items] == [
        (7, (30, 20, 70, 60), 1600, 1.0),
        (300, (100, 70, 107, 80), 70, 1.0),
    ]
    assert (ids == masks).all()
    assert record.warnings == ()


def test_small_user_objects_are_named(store: Store) -> None:
    masks = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
    masks[20:60, 30:70] = 2
    masks[70:77, 100:109] = 5
    record, ids = run(store, photo(store, masks=masks), RegionsConfig())
    assert [item.id for item in record.items] == [2]
    assert record.warnings == ("dropped 1 object(s) smaller than 64 pixels (ids 5 of the given masks).",)
    np.testing.assert_array_equal(ids == UNKNOWN, masks == 5)


def test_what_the_user_has_drawn_keeps_its_fragments_and_holes(store: Store) -> None:
    masks = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
    masks[20:60, 30:70] = 2
    masks[40:42, 40:42] = 0
    masks[80:82, 100:104] = 2  # below 1 % of the object
    _, ids = run(store, photo(store, masks=masks), RegionsConfig())
    np.testing.assert_array_equal(ids, masks)
    alpha = np.where(masks == 2, 255, 0).astype(np.uint8)
    _, ids = run(store, photo(store, alpha=alpha), RegionsConfig())
    np.testing.assert_array_equal(ids == 1, (masks > 0) & (np.arange(HEIGHT)[:, None] < 80))
    assert (ids[80:82, 100:104] == UNKNOWN).all()  # an object of its own, too small to be made
    assert (ids[alpha == 0] == UNKNOWN).all()  # nothing is seen there, so nothing is told about it


def test_a_segmenters_stray_fragments_are_unknown(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    found = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
    found[20:60, 30:70] = 1
    found[80:82, 100:104] = 1
    made = Segmentation(found, scores=(0.9,), labels=("cup",), label_confidences=(None,), backend="sam", licence="L")
    monkeypatch.setattr("scenegen.perception.sam.segment_sam", lambda *_: made)
    monkeypatch.setattr("scenegen.perception.sam.sam_weights", lambda config: {"sam": "1"})
    record, ids = run(store, photo(store), SamConfig())
    assert [item.area for item in record.items] == [1600]
    np.testing.assert_array_equal(ids == UNKNOWN, (found == 1) & (np.arange(HEIGHT)[:, None] > 70))


def test_alpha_wins_over_the_segmenter(store: Store) -> None:
    alpha = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    alpha[10:40, 10:40] = 255
    alpha[50:110, 60:140] = 180
    alpha[2:4, 150:152] = 255
    record, ids = run(store, photo(store, alpha=alpha), SamConfig())
    assert record.backend == "alpha channel"
    assert [item.box for item in record.items] == [(60, 50, 140, 110), (10, 10, 40, 40)]
    assert [item.id for item in record.items] == [1, 2]
    assert "note: dropped 1 object(s) smaller than 38 pixels." in record.warnings
    assert (ids[50:110, 60:140] == 1).all()


def test_regions_find_a_ball_on_a_plain_ground(store: Store) -> None:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    ball = (rows - 60) ** 2 + (columns - 80) ** 2 < 30**2
    image = np.full((HEIGHT, WIDTH, 3), 170, dtype=np.uint8)
    image[ball] = (180, 40, 30)
    record, ids = run(store, photo(store, image=image), RegionsConfig())
    assert record.backend.startswith("regions")
    assert [item.label for item in record.items] == ["object"]
    assert np.count_nonzero((ids == 1) != ball) < 0.1 * np.count_nonzero(ball)


def test_no_object_is_a_warning_not_an_error(store: Store) -> None:
    record, ids = run(store, photo(store), RegionsConfig())
    assert record.items == ()
    assert not ids.any()
    assert len(record.warnings) == 1
    assert "--masks" in record.warnings[0]


def test_scores_and_labels_follow_their_objects_through_cleaning(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
    ids[10:12, 10:12] = 1
    ids[20:60, 30:70] = 2
    ids[70:110, 30:70] = 3

    def segmenter(image: np.ndarray, config: SamConfig, runtime: Runtime, prompts: tuple[Prompt, ...]) -> Segmentation:
        assert image.shape == (HEIGHT, WIDTH, 3)
        assert prompts == ()
        return Segmentation(
            ids,
            scores=(0.1, 0.7, 0.9),
            labels=("crumb", "cup", "pan"),
            label_confidences=(0.6, 0.8, None),
            guesses=((), (("cup", 0.8),), (("pan", 0.3),)),
            backend="sam",
            licence="L",
            warnings=("slow",),
        )

    monkeypatch.setattr("scenegen.perception.sam.segment_sam", segmenter)
    monkeypatch.setattr("scenegen.perception.sam.sam_weights", lambda config: {"sam": "1"})
    record, _ = run(store, photo(store), SamConfig())
    assert [(item.id, item.label, item.label_confidence, item.score) for item in record.items] == [
        (1, "cup", 0.8, 0.7),
        (2, "pan", None, 0.9),
    ]
    assert [item.guesses for item in record.items] == [(("cup", 0.8),), (("pan", 0.3),)]
    assert record.warnings == ("slow", "note: dropped 1 object(s) smaller than 38 pixels.")
    assert (record.backend, record.licence) == ("sam", "L")


def test_the_key_names_the_weights(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setattr("scenegen.perception.sam.sam_weights", lambda config: {"sam": "one"})
    before = SEGMENT.key((photo(store),), SamConfig())
    monkeypatch.setattr("scenegen.perception.sam.sam_weights", lambda config: {"sam": "two"})
    assert SEGMENT.key((photo(store),), SamConfig()) != before
    assert SEGMENT.weights(RegionsConfig()) == {}


def test_the_embedded_network_finds_boxes_on_a_floor(store: Store) -> None:
    """Drawn by hand: a shaded box and a ball with their shadows, on a ground that meets a wall."""
    image = np.full((HEIGHT, WIDTH, 3), (150, 120, 90), dtype=np.uint8)
    image[:40] = (200, 205, 210)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    image[(rows - 95) ** 2 / 60 + (columns - 50) ** 2 / 600 < 1] = (100, 80, 60)
    image[50:96, 30:70] = (170, 40, 40)
    image[50:60, 30:70] = (220, 70, 70)
    box = np.zeros((HEIGHT, WIDTH), bool)
    box[50:96, 30:70] = True
    ball = (rows - 80) ** 2 + (columns - 115) ** 2 < 20**2
    image[(rows - 100) ** 2 / 40 + (columns - 118) ** 2 / 500 < 1] = (100, 80, 60)
    shade = np.clip(200 - 2.5 * np.hypot(rows - 70, columns - 108), 60, 255)
    image[ball] = (np.stack([0.3 * shade, 0.5 * shade, shade], axis=-1))[ball]
    record, ids = run(store, photo(store, image=image), EmbeddedSegmentConfig())
    assert record.backend == embedded.NAME
    assert "Apache-2.0" in record.licence
    for true in (box, ball):
        ious = [np.count_nonzero((ids == i.id) & true) / np.count_nonzero((ids == i.id) | true) for i in record.items]
        assert max(ious) > 0.7
    assert SEGMENT.weights(EmbeddedSegmentConfig()) == perception_weights()


def boxes_of_floor() -> np.ndarray:
    """A red and a blue box on a plain ground."""
    image = np.full((HEIGHT, WIDTH, 3), (150, 140, 130), dtype=np.uint8)
    image[40:90, 20:60] = (180, 40, 40)
    image[50:90, 100:140] = (40, 40, 180)
    return image


def test_prompts_are_pixels_of_the_photo_as_given_and_nothing_else_is_made(store: Store) -> None:
    alpha = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
    alpha[0] = 0
    given = photo(store, image=boxes_of_floor(), alpha=alpha, enlarged=4)
    config = EmbeddedSegmentConfig(boxes=[(380, 190, 570, 370)], points=[[(160, 260), (470, 280, 0)]])
    record, ids = run(store, given, config)
    assert record.backend == embedded.NAME
    assert [item.id for item in record.items] == [1, 2]
    for number, true in ((1, np.s_[50:90, 100:140]), (2, np.s_[40:90, 20:60])):
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[true] = True
        assert np.count_nonzero((ids == number) & mask) > 0.6 * np.count_nonzero((ids == number) | mask)


def test_prompts_reach_sam_at_working_size(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def segmenter(image: np.ndarray, config: SamConfig, runtime: Runtime, prompts: tuple[Prompt, ...]) -> Segmentation:
        assert prompts == (Prompt(box=(10, 20, 30, 40)), Prompt(inside=((50, 60),), outside=((70, 80),)))
        ids = np.zeros((HEIGHT, WIDTH), np.uint16)
        ids[20:28, 10:18] = 1  # as small as what the user has drawn may be
        ids[60:67, 50:57] = 2
        return Segmentation(ids, (0.9, 0.9), ("object",) * 2, (None,) * 2, backend="sam", licence="L")

    monkeypatch.setattr("scenegen.perception.sam.segment_sam", segmenter)
    monkeypatch.setattr("scenegen.perception.sam.sam_weights", lambda config: {"sam": "1"})
    config = SamConfig(boxes=[(20, 40, 60, 80)], points=[[(100, 120), (140, 160, 0)]])
    record, _ = run(store, photo(store, enlarged=2), config)
    assert [item.area for item in record.items] == [64]
    assert record.warnings == ("dropped 1 object(s) smaller than 64 pixels.",)


def test_prompts_outside_the_photo_or_beside_masks_are_refused(store: Store) -> None:
    config = EmbeddedSegmentConfig(points=[(WIDTH + 1, 5)])
    with pytest.raises(UsageError, match=f"outside the photo of {WIDTH}x{HEIGHT} pixels"):
        run(store, photo(store), config)
    with pytest.raises(UsageError, match="give either those or masks"):
        run(store, photo(store, masks=np.ones((HEIGHT, WIDTH), np.uint16), enlarged=2), config)


def test_named_masks_keep_their_names_and_the_network_names_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
    for number in (1, 2, 4):
        masks[20:60, 30 * number : 30 * number + 20] = number
    given = photo(store, masks=masks, mask_labels=("coffee mug", "", ""))
    record, _ = run(store, given, RegionsConfig())
    assert [(item.label, item.label_confidence) for item in record.items] == [
        ("coffee mug", None),
        ("object", None),
        ("object", None),
    ]
    assert record.backend == "user masks"
    asked: list[list[int]] = []

    def name(image: np.ndarray, ids: np.ndarray, numbers: list[int], *_: object) -> Names:
        asked.append(numbers)
        guesses = {2: (("bowl", 0.75), ("cup", 0.2)), 4: (("cup", 0.3),)}
        return Names({2: ("bowl", 0.75), 4: ("object", None)}, guesses, embedded.NAME, embedded.LICENCE)

    monkeypatch.setattr("scenegen.perception.prompted.name_objects", name)
    record, _ = run(store, given, EmbeddedSegmentConfig())
    assert asked == [[2, 4]]
    assert [(item.id, item.label, item.label_confidence) for item in record.items] == [
        (1, "coffee mug", None),
        (2, "bowl", 0.75),
        (4, "object", None),
    ]
    assert [item.guesses for item in record.items] == [(), (("bowl", 0.75), ("cup", 0.2)), (("cup", 0.3),)]
    assert record.backend == f"user masks, named by the {embedded.NAME}"
    assert "Apache-2.0" in record.licence
