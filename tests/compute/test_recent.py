from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from scenegen.compute.recent import Recent, digest_of_image, reused


def test_the_last_used_answers_stay() -> None:
    recent: Recent[int] = Recent(2)
    computed: list[int] = []
    for key in (1, 2, 1, 3, 1, 2):
        assert recent.of(key, lambda key=key: computed.append(key) or key) == key
    assert computed == [1, 2, 3, 2]
    assert len(recent) == 2
    recent.forget()
    assert len(recent) == 0


def test_a_failure_leaves_nothing() -> None:
    recent: Recent[int] = Recent(2)
    with pytest.raises(ZeroDivisionError):
        recent.of("a", lambda: 1 // 0)
    assert recent.of("a", lambda: 7) == 7


@dataclass(frozen=True, eq=False)
class Box:
    size: np.ndarray
    colour: np.ndarray | None = None


def test_a_function_is_asked_again_only_if_the_content_of_an_argument_changed() -> None:
    asked: list[float] = []

    @reused(8)
    def grown(box: Box, by: float) -> Box:
        asked.append(by)
        return Box(box.size * by)

    first = grown(Box(np.ones(3)), 2.0)
    assert grown(Box(np.ones(3)), 2.0) is first
    others = [(Box(np.ones(3, np.float32)), 2.0), (Box(np.ones((3, 1))), 2.0), (Box(np.ones(3), np.ones(1)), 2.0)]
    assert all(grown(*other) is not first for other in [*others, (Box(np.ones(3)), 3.0)])
    assert len(asked) == 5
    with pytest.raises(TypeError, match="list"):
        grown(Box(np.ones(3)), [])


def test_what_is_kept_is_nobodys_to_change() -> None:
    same = reused(1)(lambda values: values)
    values = np.zeros(2)
    same(values)
    values[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        same(np.zeros(2))[0] = 5
    assert same(np.zeros(2)).tolist() == [0, 0]


def test_pictures_of_the_same_bytes_and_another_shape_differ() -> None:
    assert digest_of_image(np.zeros((2, 3, 3), np.uint8)) != digest_of_image(np.zeros((3, 2, 3), np.uint8))
