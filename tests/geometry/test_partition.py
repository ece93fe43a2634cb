"""The labels of a grid share it exactly: every point of it belongs to one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from scenegen.geometry.partition import Pieces, grid_triangles, pieces_of

ROWS, COLUMNS = 9, 12


def areas(pieces: Pieces, places: np.ndarray) -> np.ndarray:
    a, b, c = (pieces.at(places)[pieces.faces[:, corner]] for corner in range(3))
    (x1, y1), (x2, y2) = (b - a).T, (c - a).T
    return np.asarray(x1 * y2 - y1 * x2) / 2


def places() -> np.ndarray:
    v, u = np.meshgrid(np.arange(ROWS, dtype=float), np.arange(COLUMNS, dtype=float), indexing="ij")
    return np.stack([u, v], axis=-1).reshape(-1, 2)


def scores(seed: int, count: int) -> np.ndarray:
    noise = np.random.default_rng(seed).random((count, ROWS, COLUMNS))
    return np.stack([ndimage.gaussian_filter(part, 1.0) for part in noise]).reshape(count, -1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_the_pieces_cover_the_grid_once(seed: int, count: int) -> None:
    score = scores(seed, count)
    labels, triangles = score.argmax(axis=0), grid_triangles(ROWS, COLUMNS)
    nowhere = np.zeros(len(labels), dtype=bool)
    made = [areas(pieces_of(index, labels, score, nowhere, triangles), places()) for index in range(count)]
    # All turn the same way, so they cannot overlap if their areas add up.
    assert all((part < 0).all() for part in made)
    np.testing.assert_allclose(sum(-part.sum() for part in made), (ROWS - 1) * (COLUMNS - 1))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_neighbours_cut_an_edge_at_the_same_point(seed: int) -> None:
    score = scores(seed, 3)
    labels, triangles = score.argmax(axis=0), grid_triangles(ROWS, COLUMNS)
    nowhere = np.zeros(len(labels), dtype=bool)
    cuts: dict[tuple[float, ...], int] = {}
    for index in range(3):
        for point in np.unique(pieces_of(index, labels, score, nowhere, triangles).at(places()).round(9), axis=0):
            cuts[tuple(point)] = cuts.get(tuple(point), 0) + 1
    on_nodes = {point for point in cuts if all(value == round(value) for value in point)}
    assert all(cuts[point] == 1 for point in on_nodes)
    assert all(cuts[point] >= 2 for point in cuts.keys() - on_nodes)


def test_a_surface_is_whole_where_it_is_everywhere() -> None:
    score = scores(1, 2)
    labels, triangles = score.argmax(axis=0), grid_triangles(ROWS, COLUMNS)
    whole = pieces_of(1, labels, score, np.ones(len(labels), dtype=bool), triangles)
    assert len(whole.faces) == len(triangles)
    assert len(whole.nodes) == ROWS * COLUMNS
    assert len(pieces_of(0, np.full(len(labels), -1), score, labels < 0, triangles).faces) == 0


def test_what_is_linear_on_the_grid_is_linear_on_the_pieces() -> None:
    score = scores(2, 3)
    pieces = pieces_of(
        0, score.argmax(axis=0), score, np.zeros(ROWS * COLUMNS, dtype=bool), grid_triangles(ROWS, COLUMNS)
    )
    at = pieces.at(places())
    np.testing.assert_allclose(pieces.at(3 * places()[:, 0] - places()[:, 1] + 2), 3 * at[:, 0] - at[:, 1] + 2)
