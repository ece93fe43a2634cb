"""Cuts a grid whose nodes carry labels into one set of triangles for each label, along smooth lines and without gaps.

The triangles of a label end where another label begins, halfway or wherever the scores of the two are equal. All labels cut an
edge at the same point, so that together they cover the grid exactly, whatever depth each of them is then lifted to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

LEAST = 0.02
"""Share of an edge between a node and a cut: shorter pieces would have no area."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """Triangles over a grid."""

    weights: Float[np.ndarray, "v 3"]
    """Of the grid's nodes in each vertex."""
    nodes: Int[np.ndarray, "v 3"]
    """Which nodes they belong to."""
    faces: Int[np.ndarray, "f 3"]

    def at(self, values: Float[np.ndarray, "n *c"]) -> Float[np.ndarray, "v *c"]:
        """`values` of the nodes at every vertex, linear within the grid's triangles."""
        weights = self.weights.reshape(self.weights.shape + (1,) * (values.ndim - 1))
        return np.asarray((values[self.nodes] * weights).sum(axis=1))


def grid_triangles(rows: int, columns: int) -> Int[np.ndarray, "t 3"]:
    """The nodes (row by row) of two triangles for each cell of a grid of `rows` x `columns` nodes."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    return np.concatenate([np.stack([a, d, c], -1), np.stack([a, c, b], -1)])


def pieces_of(
    label: int,
    labels: Integer[np.ndarray, "n"],
    scores: Float[np.ndarray, "l n"],
    everywhere: Bool[np.ndarray, "n"],
    triangles: Int[np.ndarray, "t 3"],
) -> Pieces:
    """The part of the grid that belongs to `label`, and the triangles between the nodes of `everywhere`.

    Args:
        label: which one.
        labels: of the nodes: those with the highest score, or -1.
        scores: of each label at each node.
        everywhere: nodes between which the label's surface is whole, whatever label they have.
        triangles: of the grid.
    """
    own = labels == label
    inside = (own | everywhere)[triangles].all(axis=1)
    count = own[triangles].sum(axis=1)
    known = (labels[triangles] >= 0).all(axis=1)
    one, two = (triangles[~inside & known & (count == number)] for number in (1, 2))
    # Turned so that the odd corner comes first; the sense of rotation stays.
    one, two = _turned(one, own[one].argmax(axis=1)), _turned(two, (~own[two]).argmax(axis=1))
    left, right = (_crossing(one[:, 0], one[:, corner], labels, scores) for corner in (1, 2))
    same = labels[one[:, 1]] == labels[one[:, 2]]
    middle = np.full((len(one), 3), 1 / 3)
    first, second = (_crossing(two[:, corner], two[:, 0], labels, scores) for corner in (1, 2))
    corners = [
        _corners(triangles[inside], np.broadcast_to(np.eye(3), (int(inside.sum()), 3, 3))),
        _fan(one[same], [_node(0), _on_edge(left[same], 0, 1), _on_edge(right[same], 0, 2)]),
        _fan(one[~same], [_node(0), _on_edge(left[~same], 0, 1), middle[~same], _on_edge(right[~same], 0, 2)]),
        _fan(two, [_on_edge(first, 1, 0), _node(1), _node(2), _on_edge(second, 2, 0)]),
    ]
    nodes = np.concatenate([part[0] for part in corners])
    weights = np.concatenate([part[1] for part in corners])
    return _shared(nodes, weights)


def _turned(triangles: Int[np.ndarray, "t 3"], first: Int[np.ndarray, "t"]) -> Int[np.ndarray, "t 3"]:
    order = (first[:, None] + np.arange(3)) % 3
    return np.take_along_axis(triangles, order, axis=1)


def _crossing(
    start: Int[np.ndarray, "e"],
    end: Int[np.ndarray, "e"],
    labels: Integer[np.ndarray, "n"],
    scores: Float[np.ndarray, "l n"],
) -> Float[np.ndarray, "e"]:
    """How far from `start` to `end` the scores of their labels are equal, the same from both sides."""
    here, there = labels[start], labels[end]
    ahead = scores[here, start] - scores[there, start]
    behind = scores[there, end] - scores[here, end]
    return np.clip(ahead / np.maximum(ahead + behind, 1e-9), LEAST, 1 - LEAST)


def _node(corner: int) -> Float[np.ndarray, "1 3"]:
    return np.eye(3)[None, corner]


def _on_edge(share: Float[np.ndarray, "e"], start: int, end: int) -> Float[np.ndarray, "e 3"]:
    unit = np.eye(3)
    return (1 - share)[:, None] * unit[start] + share[:, None] * unit[end]


def _fan(
    triangles: Int[np.ndarray, "t 3"], polygon: list[Float[np.ndarray, "_ 3"]]
) -> tuple[Int[np.ndarray, "f 3 3"], Float[np.ndarray, "f 3 3"]]:
    """The triangles of a polygon within each triangle, given by the weights of its corners."""
    points = np.stack([np.broadcast_to(corner, (len(triangles), 3)) for corner in polygon], axis=1)
    fans = [points[:, [0, corner, corner + 1]] for corner in range(1, len(polygon) - 1)]
    return _corners(np.concatenate([triangles] * len(fans)), np.concatenate(fans))


def _corners(
    triangles: Int[np.ndarray, "f 3"], weights: Float[np.ndarray, "f 3 3"]
) -> tuple[Int[np.ndarray, "f 3 3"], Float[np.ndarray, "f 3 3"]]:
    return np.broadcast_to(triangles[:, None], (len(triangles), 3, 3)), weights


def _shared(nodes: Int[np.ndarray, "f 3 3"], weights: Float[np.ndarray, "f 3 3"]) -> Pieces:
    """With one vertex for the corners at one place."""
    flat, share = nodes.reshape(-1, 3), weights.reshape(-1, 3)
    # The same nodes in the same order, those without weight counting for nothing.
    key = np.where(share > 0, flat, -1)
    order = np.argsort(key, axis=1, kind="stable")
    key = np.take_along_axis(key, order, axis=1)
    _, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
    return Pieces(share[first], flat[first], inverse.reshape(-1, 3))
