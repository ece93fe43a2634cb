"""Faces and graphs are made simple the same way, however they are sorted."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scenegen.geometry.topology import components, proper_faces

corners = st.integers(0, 5)


@given(arrays(np.int32, st.tuples(st.integers(0, 30), st.just(3)), elements=corners))
def test_each_triangle_stays_once_where_it_is_first(faces: np.ndarray) -> None:
    seen: set[frozenset[int]] = set()
    expected = []
    for face in faces.tolist():
        if len(set(face)) == 3 and frozenset(face) not in seen:
            seen.add(frozenset(face))
            expected.append(face)
    assert proper_faces(faces).tolist() == expected


@given(arrays(np.int64, st.tuples(st.integers(0, 12), st.just(2)), elements=st.integers(0, 7)))
def test_components_are_numbered_by_their_first_nodes(edges: np.ndarray) -> None:
    count, found = components(edges[:, 0], edges[:, 1], 8)
    lowest = np.arange(8)
    for _ in range(8):
        for a, b in edges:
            lowest[[a, b]] = min(lowest[a], lowest[b])
    expected = np.unique(lowest, return_inverse=True)[1]
    assert count == len(np.unique(lowest))
    np.testing.assert_array_equal(found, expected)
