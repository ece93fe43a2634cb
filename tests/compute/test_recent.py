from __future__ import annotations

import numpy as np
import pytest

from scenegen.compute.recent import Recent, digest_of_image


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


def test_pictures_of_the_same_bytes_and_another_shape_differ() -> None:
    assert digest_of_image(np.zeros((2, 3, 3), np.uint8)) != digest_of_image(np.zeros((3, 2, 3), np.uint8))
