"""Objects of several photos are told to be the same, or not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from scenegen.ids import UNKNOWN, object_ids
from scenegen.views.alignment import aligned
from scenegen.views.features import SeenFrom, find_matches, tie_points
from scenegen.views.matching import Masks, best_views, same_objects
from tests.views.photographed import Photographed, looking, photograph

ANGLES = (0, 30, 75, 180)


@cache
def photos() -> tuple[Photographed, ...]:
    return tuple(photograph([looking(angle) for angle in ANGLES], size=(240, 180)))


def masks(
    index: int, shuffled: bool = True, error: float = 1.0, uncertainty: float = 0.01, drawn: bool = False
) -> Masks:
    """The true masks of a photo, its ids turned by its number."""
    photo = photos()[index]
    ids = np.where(photo.ids > 0, (photo.ids - 1 + index * shuffled) % 3 + 1, 0).astype(np.uint16)
    z = error * photo.depth.astype(np.float64)
    return Masks(photo.image, ids, z, uncertainty, photo.camera, photo.world_from_camera, drawn)


def expected(index: int) -> dict[int, int]:
    """From the shuffled id to that in the first photo."""
    return {(true - 1 + index) % 3 + 1: true for true in object_ids(photos()[index].ids)}


def test_objects_are_found_again_from_all_sides() -> None:
    found = same_objects([masks(index) for index in range(4)], [])
    assert found == {index: expected(index) for index in range(4)}


@pytest.mark.parametrize("error", [0.93, 1.08])
def test_a_depth_that_is_off_within_its_uncertainty_does_no_harm(error: float) -> None:
    views = [masks(0), masks(1, error=error, uncertainty=0.06), masks(2, uncertainty=0.06)]
    assert same_objects(views, []) == {index: expected(index) for index in range(3)}


@pytest.mark.parametrize("off", [0.45, 2.3])
def test_a_cut_out_whose_depth_is_off_as_a_whole_is_matched_with_an_opaque_photo(off: float) -> None:
    """What an estimator sees of a cut-out says little of its distance, and its background has no features."""
    for index in (2, 3):
        cut = masks(index, error=off, uncertainty=0.2)
        background = cut.ids == 0
        cut = replace(cut, ids=np.where(background, UNKNOWN, cut.ids).astype(np.uint16), image=cut.image.copy())
        cut.image[background] = 128
        assert same_objects([masks(0, uncertainty=0.2), cut], [])[1] == expected(index)


def test_an_object_that_the_other_photo_lacks_finds_none_at_any_distance() -> None:
    first, second = masks(0, uncertainty=0.2), masks(2, uncertainty=0.2)
    first.ids[first.ids != 2] = 0
    second.ids[second.ids != next(own for own, name in expected(2).items() if name == 3)] = 0
    assert len(set(same_objects([first, second], [])[1].values()) & {2}) == 0


def test_shared_points_tell_where_the_depth_is_wrong() -> None:
    large = photograph([looking(angle) for angle in (0, 15)])
    seen = [SeenFrom(photo.image, photo.camera, photo.world_from_camera) for photo in large]
    views = [
        Masks(
            photo.image, photo.ids, 1.4 * photo.depth.astype(float), 0.05, photo.camera, photo.world_from_camera, False
        )
        for photo in large
    ]
    ties = [tie_points(each, seen) for each in find_matches([photo.image for photo in large])]
    assert same_objects(views, ties)[1] == {1: 1, 2: 2, 3: 3}


def test_an_object_that_only_one_photo_shows_gets_an_id_of_its_own() -> None:
    views = [masks(0), masks(1, shuffled=False)]
    views[0].ids[views[0].ids == 3] = 0
    assert same_objects(views, []) == {0: {1: 1, 2: 2}, 1: {1: 1, 2: 2, 3: 3}}
    views[0].ids[views[0].ids == 1] = 9
    assert same_objects(views, []) == {0: {9: 9, 2: 2}, 1: {1: 9, 2: 2, 3: 10}}


def test_drawn_ids_mean_the_same_in_all_photos() -> None:
    views = [masks(index, drawn=True) for index in range(3)]
    assert same_objects(views, []) == {index: {1: 1, 2: 2, 3: 3} for index in range(3)}


def test_an_object_is_made_from_the_view_that_shows_most_of_it() -> None:
    areas = [{1: 100, 2: 100, 3: 100}, {1: 120, 2: 200, 3: 400}, {4: 9}]
    cut = [{1: False, 2: False, 3: False}, {1: False, 2: False, 3: True}, {4: True}]
    assert best_views(areas, cut) == {1: 0, 2: 1, 3: 1, 4: 2}


SAME = {number: number for number in (1, 2, 3)}


def median_ratio(view: Masks, index: int, number: int) -> float:
    """Of the depth of an object over the true one."""
    here = photos()[index].ids == number
    return float(np.median(view.z[here] / photos()[index].depth[here]))


@pytest.mark.parametrize("error", [0.85, 1.15])
def test_objects_come_to_the_distance_at_which_all_photos_show_them(error: float) -> None:
    views = [
        masks(0, error=error, uncertainty=0.1),
        masks(1, shuffled=False, uncertainty=0.1),
        masks(2, shuffled=False),
    ]
    (first, second, third), apart = aligned(views, dict.fromkeys(range(3), SAME), [])
    for number in SAME:
        assert median_ratio(first, 0, number) == pytest.approx(1, abs=0.05)
    assert first.uncertainty < 0.06
    assert second.uncertainty < 0.06
    assert np.array_equal(third.z, views[2].z)
    assert apart == 1  # measured depth is surer than the middles of masks


def test_objects_that_photos_put_too_far_each_in_its_own_way_come_together() -> None:
    factors = {0: {1: 1.0, 2: 1.35, 3: 0.8}, 1: {1: 1.5, 2: 1.0, 3: 1.0}, 2: {1: 0.9, 2: 0.75, 3: 1.3}}
    views = []
    for index, mine in factors.items():
        view = masks(index, shuffled=False, uncertainty=0.1)
        for number, factor in mine.items():
            view.z[view.ids == number] *= factor
        views.append(view)
    placed, apart = aligned(views, dict.fromkeys(range(3), SAME), [])
    for index, view in enumerate(placed):
        for number in SAME:
            assert median_ratio(view, index, number) == pytest.approx(apart, rel=0.06)


def test_an_object_that_something_hides_is_not_put_where_the_rest_of_it_is() -> None:
    views = [masks(index, shuffled=False, uncertainty=0.1) for index in range(3)]
    views[1].ids[:, : photos()[1].ids.shape[1] // 2][views[1].ids[:, : photos()[1].ids.shape[1] // 2] == 1] = 9
    views[1].z[views[1].ids == 9] *= 0.8
    placed, apart = aligned(views, dict.fromkeys(range(3), SAME), [])
    assert apart == pytest.approx(1, abs=0.06)
    for number in SAME:
        assert median_ratio(placed[0], 0, number) == pytest.approx(apart, rel=0.06)


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.5])
def test_where_photos_look_at_objects_tells_the_unit_of_their_cameras(scale: float) -> None:
    views = []
    for index in range(3):
        whole = masks(index, shuffled=False, uncertainty=0.1)
        pose = whole.world_from_camera.copy()
        pose[:3, 3] /= scale
        views.append(replace(whole, world_from_camera=pose))
    placed, apart = aligned(views, dict.fromkeys(range(3), SAME), [])
    assert apart == pytest.approx(scale, rel=0.06)
    assert placed[1].world_from_camera[:3, 3] == pytest.approx(apart * views[1].world_from_camera[:3, 3])
    assert aligned(views[:1], {0: SAME}, [])[1] == 1
    measured = [replace(view, uncertainty=0.01) for view in views]
    assert aligned(measured, dict.fromkeys(range(3), SAME), [])[1] == 1


def test_shared_points_of_the_floor_put_it_where_it_is() -> None:
    large = photograph([looking(angle) for angle in (0, 18)])
    seen = [SeenFrom(photo.image, photo.camera, photo.world_from_camera) for photo in large]
    views = [
        Masks(photo.image, photo.ids, photo.depth.astype(float), 0.1, photo.camera, photo.world_from_camera, True)
        for photo in large
    ]
    floor = (views[0].ids == 0) & (views[0].z > 0)
    views[0].z[floor] *= 1.3
    ties = [tie_points(each, seen) for each in find_matches([photo.image for photo in large])]
    (first, _), apart = aligned(views, dict.fromkeys(range(2), SAME), ties)
    assert apart == pytest.approx(1, abs=0.03)
    assert np.median(first.z[floor] / large[0].depth[floor]) == pytest.approx(apart, rel=0.03)
