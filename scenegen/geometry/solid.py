"""A triangle mesh as the boundary of a solid: whether it is closed, how many pieces it has, and how touching parts are separated.

Here vertices at the same place are one, whatever their indices: that is how a reader welds a file, and UV seams double vertices.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int32

from scenegen.compute.recent import OF_OBJECTS, reused
from scenegen.geometry.topology import components, half_edges, mates, split_vertices
from scenegen.records import Topology

HAIR = 0.01
"""How far parts that touch in a vertex are drawn apart: the share of the way from it to the middle of each part's faces."""
CRUMB = 0.003
"""Pieces with a smaller share of the surface are not missed."""


def welded(vertices: Float[np.ndarray, "v 3"]) -> tuple[Float[np.ndarray, "w 3"], Int32[np.ndarray, "v"]]:
    """The places where there are vertices, once each in their order, and which of them each vertex is at."""
    order = np.lexsort(vertices.T)  # three times as fast as `np.unique` of rows
    ordered = vertices[order]
    begins = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))[: len(order)]
    first = order[begins]  # the sort is stable
    by_index = np.argsort(first)
    rank = np.empty(len(first), dtype=np.int32)
    rank[by_index] = np.arange(len(first))
    place = np.empty(len(order), dtype=np.int32)
    place[order] = rank[np.cumsum(begins) - 1]
    return vertices[first[by_index]], place


def connected(faces: Int32[np.ndarray, "f 3"]) -> tuple[int, Int32[np.ndarray, "f"]]:
    """How many pieces hang together by their vertices (at least one face), and which each face belongs to."""
    used, compact = np.unique(faces, return_inverse=True)
    compact = compact.reshape(faces.shape)
    count, piece = components(compact[:, [0, 1]].ravel(), compact[:, [1, 2]].ravel(), len(used))
    return count, piece[compact[:, 0]]


def is_closed(faces: Int32[np.ndarray, "f 3"]) -> bool:
    """Whether each edge is run along as often one way as the other, by 2, 4, ... faces: the surface has no boundary."""
    if len(faces) == 0:
        return False
    start, end = half_edges(faces)
    stride = int(faces.max()) + 1
    return np.array_equal(np.sort(start * stride + end), np.sort(end * stride + start))


def volume(vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"]) -> float:
    """Signed volume of a closed mesh; positive if the faces are counter-clockwise seen from outside."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    return float(np.einsum("nd,nd->", a, np.cross(b, c)) / 6)


@reused(OF_OBJECTS)
def topology(vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"]) -> Topology:
    """How a mesh hangs together once solids that only touch in a vertex or an edge are taken apart."""
    points, place = welded(vertices)
    faces = _without_flaps(place[faces])
    points, faces = split_vertices(points, faces, mates(points, faces))
    closed = is_closed(faces)
    count, _ = connected(faces)
    start, end = half_edges(faces)
    edges = len(np.unique(np.minimum(start, end) * len(points) + np.maximum(start, end)))
    euler = len(points) - edges + len(faces)
    return Topology(closed=closed, pieces=count, genus=count - euler // 2 if closed else None)


def untouching(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"]
) -> tuple[Float[np.ndarray, "w 3"], Int32[np.ndarray, "g 3"]]:
    """A closed mesh whose welded surface is a manifold: two faces at every edge, one fan of faces around every vertex.

    Parts that touch in a vertex or an edge get vertices of their own there, drawn towards their own faces by `HAIR`. A mesh
    without such places comes back as it is.
    """
    points, place = welded(vertices)
    merged = _without_flaps(place[faces])
    split, apart = split_vertices(points, merged, mates(points, merged))
    if len(vertices) == len(points) == len(split) and len(faces) == len(apart):
        return vertices, faces
    _, place = welded(split)
    touching = np.bincount(place)[place] > 1
    middles = np.zeros(split.shape)
    for corner in range(3):
        np.add.at(middles, apart[:, corner], split[apart].mean(axis=1))
    middles /= np.bincount(apart.ravel(), minlength=len(split))[:, None]
    return np.where(touching[:, None], split + HAIR * (middles - split), split).astype(vertices.dtype), apart


def without_crumbs(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], count: int
) -> tuple[Float[np.ndarray, "w 3"], Int32[np.ndarray, "g 3"]]:
    """The `count` pieces with the largest surface, and all others that are larger than crumbs, in their order. A mesh with no
    more comes back as it is.
    """
    found, piece = connected(faces)
    if found <= count:
        return vertices, faces
    corners = vertices[faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    areas = np.bincount(piece, area)
    large = areas >= CRUMB * areas.sum()
    large[np.argsort(-areas, kind="stable")[:count]] = True
    used, compact = np.unique(faces[large[piece]], return_inverse=True)
    return vertices[used], compact.reshape(-1, 3).astype(np.int32)


def _without_flaps(faces: Int32[np.ndarray, "f 3"]) -> Int32[np.ndarray, "g 3"]:
    """Without faces that have two corners at one place, and without pairs of faces that are each other's back."""
    faces = faces[(faces != faces[:, [1, 2, 0]]).all(axis=1)]
    _, same, sizes = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True, return_counts=True)
    if (sizes == 1).all():
        return faces
    same = same.reshape(-1)
    # Along the corners and back to the first, numbers fall once where they turn upwards, twice where they turn back.
    way = np.where((faces > faces[:, [1, 2, 0]]).sum(axis=1) == 1, 1, -1)
    left = np.bincount(same, way).astype(int)[same] * way  # of the faces that turn as this one does
    order = np.lexsort((way, same))
    begin = np.flatnonzero(np.diff(2 * same[order] + (way[order] > 0), prepend=-1))
    rank = np.empty(len(faces), dtype=int)
    rank[order] = np.arange(len(faces)) - np.repeat(begin, np.diff(begin, append=len(faces)))
    return faces[rank < left]
