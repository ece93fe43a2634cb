"""Which objects are partly hidden: those behind nearer neighbours or cut by the border, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from scenegen.completion.hidden import completed_depth, hidden_part

SIDE = 60


def scene(**boxes: tuple[int, int, int, int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Ids and depth of boxes (x0, y0, x1, y1, depth), numbered in their order, the last on top."""
    ids, z = np.zeros((SIDE, SIDE), np.uint16), np.full((SIDE, SIDE), 5.0)
    for number, (x0, y0, x1, y1, depth) in enumerate(boxes.values(), start=1):
        ids[y0:y1, x0:x1], z[y0:y1, x0:x1] = number, depth
    return ids, z


def test_what_stands_behind_is_partly_hidden_and_what_stands_before_is_whole() -> None:
    ids, z = scene(vase=(10, 10, 40, 40, 2.0), mug=(30, 20, 50, 45, 1.5))
    part = hidden_part(ids, z, 1)
    assert part is not None
    assert 0.1 < part.share < 0.5
    np.testing.assert_array_equal(part.behind, ids == 2)
    assert part.sides == (False, False, False, False)
    assert hidden_part(ids, z, 2) is None


def test_neighbours_that_are_as_near_hide_nothing() -> None:
    ids, z = scene(one=(10, 10, 30, 40, 2.0), other=(30, 10, 50, 40, 1.995))
    assert hidden_part(ids, z, 1) is None


def test_a_neighbour_that_hardly_touches_hides_nothing() -> None:
    ids, z = scene(table=(5, 20, 55, 55, 2.0), speck=(30, 17, 32, 20, 1.0))
    assert hidden_part(ids, z, 1) is None


def test_things_that_stand_apart_are_whole() -> None:
    ids, z = scene(one=(5, 10, 20, 40, 2.0), other=(35, 10, 50, 40, 1.0))
    assert hidden_part(ids, z, 1) is hidden_part(ids, z, 2) is None


@pytest.mark.parametrize(
    ("box", "sides"),
    [
        ((0, 10, 20, 40), (True, False, False, False)),
        ((10, 0, 40, 20), (False, True, False, False)),
        ((40, 30, 60, 60), (False, False, True, True)),
    ],
)
def test_the_border_cuts(box: tuple[int, int, int, int], sides: tuple[bool, ...]) -> None:
    ids, z = scene(chair=(*box, 2.0))
    part = hidden_part(ids, z, 1)
    assert part is not None
    assert part.sides == sides
    assert not part.behind.any()


def test_without_depth_nothing_is_known_to_be_hidden() -> None:
    ids, z = scene(vase=(10, 10, 40, 40, 0.0), mug=(30, 20, 50, 45, 0.0))
    assert hidden_part(ids, z, 1) is None
    assert hidden_part(ids, z, 7) is None


def test_the_depth_of_what_hides_an_object_is_not_the_objects() -> None:
    ids, z = scene(vase=(10, 10, 40, 40, 2.0), mug=(30, 20, 50, 45, 1.5))
    whole = np.zeros((SIDE + 8, SIDE + 8), bool)
    whole[14:44, 14:44] = True
    depth = completed_depth(z, ids == 1, whole, 4)
    assert depth.shape == whole.shape
    assert set(np.unique(depth[whole])) == {0.0, 2.0}
    assert depth[30, 50] == 1.5
