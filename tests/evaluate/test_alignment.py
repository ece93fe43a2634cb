from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from scenegen.evaluate.alignment import IDENTITY, Similarity, robust_similarity, umeyama


def similarity(seed: int, scale: float) -> Similarity:
    rng = np.random.default_rng(seed)
    return Similarity(scale, Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 20))
def test_umeyama_finds_the_similarity(seed: int, scale: float) -> None:
    wanted = similarity(seed, scale)
    points = np.random.default_rng(seed).normal(size=(20, 3))
    found = umeyama(points, wanted.apply(points), np.ones(20))
    np.testing.assert_allclose(found.apply(points), wanted.apply(points), atol=1e-9 * max(1, scale))
    np.testing.assert_allclose(found.undo(found.apply(points)), points, atol=1e-9)
    assert np.linalg.det(found.rotation) == pytest.approx(1)


def test_it_never_mirrors() -> None:
    points = np.random.default_rng(0).normal(size=(50, 3))
    assert np.linalg.det(umeyama(points, points * (1, 1, -1), np.ones(50)).rotation) == pytest.approx(1)


def test_weights_count_as_repetitions() -> None:
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    times = np.array([1, 2, 3, 1, 1, 2])
    weighted = umeyama(source, target, times.astype(float))
    repeated = umeyama(np.repeat(source, times, axis=0), np.repeat(target, times, axis=0), np.ones(times.sum()))
    np.testing.assert_allclose(weighted.apply(source), repeated.apply(source), atol=1e-12)


def test_a_third_of_outliers_does_not_move_it() -> None:
    wanted = similarity(7, 1.5)
    rng = np.random.default_rng(2)
    source = rng.normal(size=(600, 3))
    target = wanted.apply(source)
    target[:200] += rng.normal(size=(200, 3)) * 5 + 3
    plain = umeyama(source, target, np.ones(600))
    robust = robust_similarity(source, target, np.ones(600))
    assert robust.scale == pytest.approx(1.5, rel=1e-3)
    assert np.linalg.norm(plain.apply(source[200:]) - target[200:], axis=1).mean() > 0.5
    np.testing.assert_allclose(robust.apply(source[200:]), target[200:], atol=5e-3)


@pytest.mark.parametrize("degrees", [0.0, 1e-4, 30, 179.9])
def test_the_angle_of_the_rotation(degrees: float) -> None:
    turned = Similarity(1.0, Rotation.from_rotvec([0, np.radians(degrees), 0]).as_matrix(), np.zeros(3))
    assert turned.angle_deg == pytest.approx(degrees, abs=1e-9)
    assert IDENTITY.angle_deg == 0


def test_a_single_point_is_refused() -> None:
    with pytest.raises(ValueError, match="coincide"):
        umeyama(np.ones((4, 3)), np.random.default_rng(0).normal(size=(4, 3)), np.ones(4))
