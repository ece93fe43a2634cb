"""Triangle meshes made consistent: faces turned alike, edges of more than two faces resolved, holes closed.

A half-edge is a directed edge of a face: half-edge 3 f + k of face f runs from its corner k to the next. Two half-edges are
mates where the faces are joined there; every function takes or gives that pairing instead of guessing it from indices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32, Int64
from scipy import sparse
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True, eq=False)
class Loops:
    """The boundary of a mesh, as closed loops of half-edges without mate."""

    half_edges: Int64[np.ndarray, "b"]
    loop: Int32[np.ndarray, "b"]
    """Which loop each belongs to."""
    count: int


def proper_faces(faces: Int32[np.ndarray, "f 3"]) -> Int32[np.ndarray, "g 3"]:
    """`faces` in their order, without those that name a vertex twice, and each set of three vertices only once."""
    corners = np.sort(faces, axis=1)
    proper = (corners[:, 0] < corners[:, 1]) & (corners[:, 1] < corners[:, 2])
    if not proper.all():
        faces, corners = faces.compress(proper, axis=0), corners.compress(proper, axis=0)
    # Two keys are sorted several times as fast as rows.
    pair = corners[:, 0].astype(np.int64) * (int(corners.max(initial=0)) + 1) + corners[:, 1]
    order = np.lexsort((corners[:, 2], pair))
    again = (np.diff(pair[order]) == 0) & (np.diff(corners[order, 2]) == 0)
    if not again.any():
        return faces
    once = np.ones(len(faces), dtype=bool)
    once[order[1:][again]] = False  # the sort is stable: the first of each stays
    return faces.compress(once, axis=0)


def turned_alike(
    faces: Int32[np.ndarray, "f 3"],
) -> tuple[Int32[np.ndarray, "f 3"], Int32[np.ndarray, "f"], int]:
    """Turns faces around so that neighbours run along their common edge in opposite directions.

    Neighbours are joined across edges of exactly two faces; faces so connected are a patch. Each face stands twice in a graph,
    as it is and turned, linked to its neighbours as they then agree: a patch falls apart into two mirrored halves, of which one
    is taken. A patch that does not (a Moebius strip) cannot be turned alike and stays as it is.

    Returns:
        - **faces**: turned.
        - **patch**: of each face, numbered from 0.
        - **one_sided**: patches that stay as they are.
    """
    count = len(faces)
    start, end = half_edges(faces)
    order, group = _grouped(start, end)
    single = np.flatnonzero(np.diff(group, append=len(order)) == 2)
    a, b = order[group[single]], order[group[single] + 1]
    same_way = start[a] == start[b]
    rows = np.concatenate([a // 3, a // 3 + count])
    columns = np.concatenate([b // 3 + count * same_way, b // 3 + count * ~same_way])
    _, half = components(rows, columns, 2 * count)
    upright, turned = half[:count], half[count:]
    faces = np.where((turned < upright)[:, None], faces[:, ::-1], faces)
    _, patch = np.unique(np.minimum(upright, turned), return_inverse=True)
    return faces, patch.astype(np.int32), len(np.unique(patch[upright == turned]))


def mates(vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"]) -> Int64[np.ndarray, "h"]:
    """The mate of each half-edge, -1 on the boundary.

    Mates run in opposite directions. Where more than two faces meet at an edge, those are joined that have solid between them: of
    the faces in their order around the edge, each whose normal looks back with the next one if its normal looks on.
    """
    start, end = half_edges(faces)
    order, group = _grouped(start, end)
    size = np.diff(group, append=len(order))
    crowd = np.repeat(size > 2, size)  # of the half-edges in `order`
    if crowd.any():
        angle = np.zeros(len(order))
        angle[crowd] = _angles(vertices, faces, order[crowd])
        order = order[np.lexsort((angle, np.repeat(np.arange(len(group)), size)))]
    following = np.arange(1, len(order) + 1)
    following[group + size - 1] = group
    upwards = (start < end)[order]
    first = np.flatnonzero(~upwards & upwards[following])
    result = np.full(len(order), -1, dtype=np.int64)
    result[order[first]] = order[following[first]]
    result[order[following[first]]] = order[first]
    return result


def split_vertices(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], mate: Int64[np.ndarray, "h"]
) -> tuple[Float[np.ndarray, "w 3"], Int32[np.ndarray, "g 3"]]:
    """Gives each fan of joined faces around a vertex a vertex of its own, and drops vertices without faces.

    After it the faces around each vertex are one fan, open or closed. Where a fan still comes by the same edge twice, its faces
    there are divided about their centre, each pair with a middle of the edge of its own. So the surface is a manifold with
    boundary, and the corners of its faces alone tell its mates.
    """
    a = np.flatnonzero(mate >= 0)
    # A half-edge starts at its own corner; its mate starts at the other end, where the next corner of its face is.
    count, fan = components(a, _next(mate[a]), 3 * len(faces))
    position = np.zeros(count, dtype=np.int64)
    position[fan] = faces.ravel()
    return _divided(vertices[position], fan.astype(np.int32).reshape(-1, 3), mate)


def pieces(mate: Int64[np.ndarray, "h"]) -> tuple[int, Int32[np.ndarray, "f"]]:
    """How many pieces of joined faces there are, and which each face belongs to."""
    a = np.flatnonzero(mate >= 0)
    return components(a // 3, mate[a] // 3, len(mate) // 3)


def boundary_loops(faces: Int32[np.ndarray, "f 3"], mate: Int64[np.ndarray, "h"]) -> Loops:
    """The boundary of a manifold: each of its vertices begins exactly one half-edge without mate."""
    free = np.flatnonzero(mate < 0)
    start, end = (part[free] for part in half_edges(faces))
    _, local = np.unique(np.concatenate([start, end]), return_inverse=True)
    begins, ends = local[: len(start)], local[len(start) :]
    count, loop = components(begins, ends, int(local.max(initial=-1)) + 1)
    return Loops(free, loop[begins], count)


def perimeters(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], loops: Loops
) -> Float[np.ndarray, "loops"]:
    """Length of each loop."""
    start, end = (part[loops.half_edges] for part in half_edges(faces))
    length = np.linalg.norm(vertices[end] - vertices[start], axis=1).astype(np.float64)
    result = np.zeros(loops.count)
    np.add.at(result, loops.loop, length)
    return result


def capped(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    loops: Loops,
    chosen: Bool[np.ndarray, "loops"],
) -> tuple[Float32[np.ndarray, "w 3"], Int32[np.ndarray, "g 3"]]:
    """The mesh with the chosen loops closed by fans about their centroids; vertices and faces added come last."""
    length = np.bincount(loops.loop, minlength=loops.count)
    mine = chosen[loops.loop]
    start, end = (part[loops.half_edges[mine]] for part in half_edges(faces))
    loop = loops.loop[mine]
    centroid = np.stack([np.bincount(loop, vertices[start, axis], minlength=loops.count) for axis in range(3)], axis=1)
    centroid = centroid[chosen] / length[chosen, None]
    centre = len(vertices) + np.cumsum(chosen)[loop] - 1
    fan = np.stack([end, start, centre], axis=1).astype(np.int32)
    return np.concatenate([vertices, centroid]).astype(np.float32), np.concatenate([faces, fan])


def _divided(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], mate: Int64[np.ndarray, "h"]
) -> tuple[Float[np.ndarray, "w 3"], Int32[np.ndarray, "g 3"]]:
    """Divides the faces at edges of more than two faces; the new faces come last."""
    start, end = half_edges(faces)
    order, group = _grouped(start, end)
    size = np.diff(group, append=len(order))
    crowded = np.zeros(len(mate), dtype=bool)
    crowded[order] = np.repeat(size > 2, size)
    if not crowded.any():
        return vertices, faces
    # A pair shares the middle that is numbered by the lower of its half-edges.
    owner = np.where(mate >= 0, np.minimum(mate, np.arange(len(mate))), np.arange(len(mate)))
    owners, which = np.unique(owner[crowded], return_inverse=True)
    middle = np.full(len(mate), -1)
    middle[crowded] = len(vertices) + which
    affected = crowded.reshape(-1, 3).any(axis=1)
    centre = np.full(len(faces), -1)
    centre[affected] = len(vertices) + len(owners) + np.arange(np.count_nonzero(affected))
    hub, whole = np.repeat(centre, 3), np.repeat(affected, 3) & ~crowded
    fans = [
        np.stack([start[whole], end[whole], hub[whole]], axis=1),
        np.stack([start[crowded], middle[crowded], hub[crowded]], axis=1),
        np.stack([middle[crowded], end[crowded], hub[crowded]], axis=1),
    ]
    middles = (vertices[start[owners]] + vertices[end[owners]]) / 2
    centres = vertices[faces[affected]].mean(axis=1)
    return (
        np.concatenate([vertices, middles, centres]).astype(vertices.dtype),
        np.concatenate([faces[~affected], *fans]).astype(np.int32),
    )


def half_edges(faces: Int32[np.ndarray, "f 3"]) -> tuple[Int64[np.ndarray, "h"], Int64[np.ndarray, "h"]]:
    """Start and end vertex of each half-edge."""
    return faces.ravel().astype(np.int64), faces[:, [1, 2, 0]].ravel().astype(np.int64)


def _next(half_edge: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
    """The half-edge after it in the same face."""
    return half_edge - half_edge % 3 + (half_edge + 1) % 3


def _grouped(
    start: Int64[np.ndarray, "h"], end: Int64[np.ndarray, "h"]
) -> tuple[Int64[np.ndarray, "h"], Int64[np.ndarray, "e"]]:
    """Half-edges sorted by the edge they lie on, and where in that order each edge begins."""
    key = np.minimum(start, end) * (int(end.max(initial=0)) + 1) + np.maximum(start, end)
    order = np.argsort(key, kind="stable")
    sorted_key = key[order]
    return order, np.flatnonzero(np.diff(sorted_key, prepend=-1))


def components(
    rows: Int[np.ndarray, "n"], columns: Int[np.ndarray, "n"], count: int
) -> tuple[int, Int32[np.ndarray, "count"]]:
    """Connected components of a graph, numbered in the order of their first nodes."""
    # In the types that it is searched in, which saves copies.
    edges = np.ones(len(rows)), (rows.astype(np.int32), columns.astype(np.int32))
    return connected_components(sparse.csr_array(edges, shape=(count, count)), directed=False)


def _angles(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], half_edges: Int64[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """Angle of each half-edge's face about its edge, seen along the edge from the lower vertex to the higher."""
    flat = faces.ravel()
    start, end, tip = (flat[at] for at in (half_edges, _next(half_edges), _next(_next(half_edges))))
    low, high = (vertices[end_].astype(np.float64) for end_ in (np.minimum(start, end), np.maximum(start, end)))
    axis = _unit(high - low)
    # Any direction across the edge serves as zero, as long as all faces at the edge share it.
    across = np.eye(3)[np.abs(axis).argmin(axis=1)]
    first = _unit(np.cross(axis, across))
    second = np.cross(axis, first)
    arm = vertices[tip] - low
    return np.arctan2((arm * second).sum(axis=1), (arm * first).sum(axis=1))


def _unit(vectors: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
