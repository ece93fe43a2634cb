"""Metres from known sizes: closed forms, robustness, and what is seen of an object."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import exponnorm, norm

from scenegen.camera import intrinsics_from_fov
from scenegen.perception.nouns import NOUNS, noun_of
from scenegen.scene.metres import (
    ASSUMED_SPREAD,
    FOUND_SPREAD,
    UNSEEN,
    Evidence,
    Kind,
    density,
    extent,
    fit_metres,
    size_evidence,
)
from scenegen.scene.sizes import SIZES, SOURCES

CAMERA = intrinsics_from_fov(160, 120, 60.0)
UP = np.array([0.0, -1.0, 0.0])


def one(
    number: int, noun: str, ratio: float, probability: float = 1.0, spread: float = 1.2, whole: bool = True
) -> Evidence:
    """An object that is `ratio` times as large as it comes out, if it is the noun."""
    kind = Kind(noun, probability, "length", known=ratio, spread=spread, found=1.0)
    return Evidence(number, (kind,), length=1.0, whole=whole)


def variance(spread: float) -> float:
    return float(np.log(spread) ** 2 + FOUND_SPREAD**2)


@given(said=st.floats(-3, 3), spread=st.floats(0.05, 1.5))
def test_densities_are_those_of_the_library(said: float, spread: float) -> None:
    scales = np.linspace(-4, 4, 33)
    np.testing.assert_allclose(
        density(said, spread, True, scales), norm.pdf(scales, said, spread), rtol=1e-9, atol=1e-300
    )
    partly = exponnorm.pdf(-scales, UNSEEN / spread, loc=-said, scale=spread)
    np.testing.assert_allclose(density(said, spread, False, scales), partly, rtol=1e-7, atol=1e-300)


@pytest.mark.parametrize("ratio", [0.2, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("spread", [1.05, 1.5])
def test_one_sure_object_is_weighed_with_what_is_assumed(ratio: float, spread: float) -> None:
    fit = fit_metres([one(1, "cup", ratio, spread=spread)])
    precision = 1 / variance(spread) + 1 / ASSUMED_SPREAD**2
    assert fit is not None
    assert np.log(fit.scale) == pytest.approx(np.log(ratio) / variance(spread) / precision, abs=1e-6)
    assert np.log(fit.spread) == pytest.approx(precision**-0.5, rel=1e-3)
    (belief,) = fit.beliefs
    assert (belief.object_id, belief.kind.noun, belief.trust) == (1, "cup", pytest.approx(1))


def test_kinds_are_weighed_by_their_spread_and_count_once_each() -> None:
    cup, chair = one(1, "cup", 2.0, spread=1.4), one(2, "chair", 3.0, spread=1.1)
    weights = np.array([1 / variance(1.4), 1 / variance(1.1), ASSUMED_SPREAD**-2])
    expected = weights @ np.log([2.0, 3.0, 1.0]) / weights.sum()
    for evidence in ([cup, chair], [chair, cup], [cup, one(3, "cup", 2.0, spread=1.4), chair]):
        fit = fit_metres(evidence)
        assert fit is not None
        assert np.log(fit.scale) == pytest.approx(expected, abs=1e-6)
        assert np.log(fit.spread) == pytest.approx(weights.sum() ** -0.5, rel=1e-3)


def test_a_wrong_name_does_little_harm() -> None:
    right = [one(1, "cup", 2.0, 0.9), one(2, "chair", 2.2, 0.8), one(3, "book", 1.9, 0.7)]
    alone = fit_metres(right)
    fit = fit_metres([*right, one(4, "elephant", 60.0, 0.9)])
    assert alone is not None
    assert fit is not None
    assert fit.scale == pytest.approx(alone.scale, rel=0.1)
    assert [each.trust > 0.9 for each in fit.beliefs] == [True, True, True, False]


def test_of_two_names_the_one_that_fits_the_others_is_believed() -> None:
    kinds = (Kind("bus", 0.6, "height", 3.1, 1.1, 0.1), Kind("toaster", 0.4, "height", 0.2, 1.2, 0.1))
    fit = fit_metres([one(1, "cup", 2.0), Evidence(2, kinds, 0.1, whole=True)])
    assert fit is not None
    assert fit.beliefs[1].kind.noun == "toaster"
    assert fit.beliefs[1].trust > 0.9


def test_nothing_known_says_nothing() -> None:
    assert fit_metres([]) is None
    assert fit_metres([Evidence(1, (), 0.5, whole=True)] * 3) is None
    assert fit_metres([one(1, "cup", 2.0, 0.1)]) is None


def test_what_is_cut_off_is_mostly_larger() -> None:
    whole, cut = fit_metres([one(1, "cup", 4.0)]), fit_metres([one(1, "cup", 4.0, whole=False)])
    assert whole is not None
    assert cut is not None
    assert np.log(4.0) - 2 * UNSEEN < np.log(cut.scale) < np.log(whole.scale)
    assert cut.spread > whole.spread


objects = st.builds(
    one,
    st.integers(1, 9),
    st.sampled_from(["cup", "chair", "book"]),
    st.floats(0.02, 50),
    st.floats(0.25, 1),
    st.floats(1.05, 1.9),
    st.booleans(),
)


@given(st.lists(objects, min_size=1, max_size=5), st.data())
def test_the_order_of_the_objects_does_not_matter(evidence: list[Evidence], data: st.DataObject) -> None:
    fit, again = fit_metres(evidence), fit_metres(data.draw(st.permutations(evidence)))
    assert fit is not None
    assert again is not None
    assert again.scale == pytest.approx(fit.scale, rel=1e-9)
    assert again.spread == pytest.approx(fit.spread, rel=1e-9)
    assert fit.spread > 1
    assert all(0 <= each.trust <= 1 + 1e-9 for each in fit.beliefs)


@given(st.floats(0.05, 20), st.floats(1.01, 3), st.booleans())
def test_what_comes_out_larger_makes_the_scale_smaller(ratio: float, larger: float, whole: bool) -> None:
    small, large = (
        fit_metres([one(1, "cup", ratio, whole=whole)]),
        fit_metres([one(1, "cup", ratio / larger, whole=whole)]),
    )
    assert small is not None
    assert large is not None
    assert large.scale < small.scale


# What is found of an object --------------------------------------------------------------------------------------------


@given(st.floats(0, np.pi), st.floats(-1.2, 1.2))
def test_the_longer_side_of_a_plate_is_found_however_it_lies(turn: float, tilt: float) -> None:
    rng = np.random.default_rng(0)
    flat = rng.uniform(-0.5, 0.5, (1000, 3)) * (0.4, 0.25, 0.01)
    turned = flat @ np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    tilted = turned @ np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
    assert extent(tilted + np.array([1, 2, 3]), "length", UP) == pytest.approx(0.4, rel=0.06)


def test_heights_are_along_the_vertical() -> None:
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (3000, 3)) * (0.4, 0.9, 0.2)
    assert extent(points, "height", UP) == pytest.approx(0.9, rel=0.02)
    assert extent(points, "height", np.array([1.0, 0, 0])) == pytest.approx(0.4, rel=0.02)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A board of 40 by 30 pixels, 2 units away, before a wall."""
    ids, z = np.zeros((120, 160), np.uint16), np.full((120, 160), 5.0)
    ids[40:70, 60:100] = 3
    z[ids == 3] = 2.0
    return ids, z


def evidence_of(ids: np.ndarray, z: np.ndarray, *guesses: tuple[str, float]) -> list[Evidence]:
    return size_evidence({3: guesses}, ids, z, CAMERA, UP)


def test_an_object_is_as_large_as_its_pixels_say() -> None:
    (found,) = evidence_of(*scene(), ("book", 0.5), ("airplane", 0.2), ("person", 0.1))
    unit = 2.0 / CAMERA.fx
    assert found.length == pytest.approx(40 * unit, rel=0.06)
    assert [(kind.noun, kind.probability) for kind in found.kinds] == [("book", 0.5), ("person", 0.1)]
    assert found.kinds[0].found == found.length
    assert found.kinds[1].found == pytest.approx(30 * unit, rel=0.06)
    assert found.whole


def test_what_the_border_or_something_nearer_cuts_is_not_whole() -> None:
    ids, z = scene()
    ids[40:70, 100:] = 3
    assert not evidence_of(ids, z, ("book", 0.5))[0].whole
    ids, z = scene()
    ids[30:80, 50:60] = 4
    for depth, whole in ((1.5, False), (1.99, True), (2.5, True)):
        z[ids == 4] = depth
        assert evidence_of(ids, z, ("book", 0.5))[0].whole is whole


def test_what_has_no_depth_says_nothing() -> None:
    ids, z = scene()
    z[ids == 3] = 0
    assert evidence_of(ids, z, ("book", 0.5)) == []
    assert size_evidence({9: (("book", 0.5),)}, *scene(), CAMERA, UP) == []


# The table of sizes -----------------------------------------------------------------------------------------------------


def test_every_size_is_of_a_noun_and_has_a_source() -> None:
    assert set(SIZES) <= set(NOUNS)
    assert {size.source for size in SIZES.values()} == set(SOURCES)
    assert all(1 < size.spread < 2 and 0.05 < size.metres < 6 for size in SIZES.values())


@pytest.mark.parametrize(
    ("label", "noun"),
    [
        ("bottle", "bottle"),
        ("Coffee Mug", "cup"),
        ("red wine glass", "wine glass"),
        ("office_chair", "chair"),
        ("gizmo", None),
        ("object", None),
        ("", None),
    ],
)
def test_given_names_mean_nouns(label: str, noun: str | None) -> None:
    assert noun_of(label) == noun
