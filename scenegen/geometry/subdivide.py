"""Faces divided where a mesh is too coarse for what is to be done with it, without opening it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.solid import welded

# Corners 0..2 and middles 3..5 (of the edges 0-1, 1-2, 2-0) of the triangles a face becomes, by its divided edges.
_PATTERNS = {
    0b000: [(0, 1, 2)],
    0b001: [(0, 3, 2), (3, 1, 2)],
    0b010: [(0, 1, 4), (0, 4, 2)],
    0b100: [(0, 1, 5), (5, 1, 2)],
    0b011: [(3, 1, 4), (0, 3, 2), (3, 4, 2)],
    0b110: [(4, 2, 5), (0, 1, 5), (1, 4, 5)],
    0b101: [(0, 3, 5), (3, 1, 2), (3, 2, 5)],
    0b111: [(0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5)],
}


def halved(mesh: TexturedMesh, chosen: Bool[np.ndarray, "f"], longest: float) -> TexturedMesh:
    """The mesh with those edges of the chosen faces that are longer than `longest` divided in the middle.

    All faces at a divided edge are divided with it, across seams too, so that a closed mesh stays closed.
    """
    sides = mesh.vertices[mesh.faces[chosen]].astype(np.float64)
    if not (np.linalg.norm(sides - sides[:, [1, 2, 0]], axis=2) > longest).any():
        return mesh
    points, place = welded(mesh.vertices)
    faces = mesh.faces
    starts, ends = faces, faces[:, [1, 2, 0]]
    low, high = np.minimum(place[starts], place[ends]), np.maximum(place[starts], place[ends])
    edge = low.astype(np.int64) * len(points) + high
    long = np.linalg.norm(points[high].astype(np.float64) - points[low], axis=2) > longest
    divided = np.isin(edge, np.unique(edge[long & chosen[:, None]]))
    # One new vertex for each pair of corners: on both sides of a seam the middle is at the same place.
    pair = np.stack([np.minimum(starts, ends), np.maximum(starts, ends)], axis=2)[divided]
    pairs, middle = np.unique(pair, axis=0, return_inverse=True)
    middles = np.zeros(faces.shape, dtype=np.int64)
    middles[divided] = len(mesh.vertices) + middle.reshape(-1)
    corners = np.concatenate([faces, middles], axis=1)
    code = divided @ np.array([1, 2, 4])
    made = [corners[code == number][:, triangle] for number, pattern in _PATTERNS.items() for triangle in pattern]
    # In the order of their places, so that copies of one middle are rounded alike.
    by_place = np.sort(place[pairs], axis=1)
    ends_of = points[by_place].astype(np.float64)
    return replace(
        mesh,
        vertices=np.concatenate([mesh.vertices, ends_of.mean(axis=1).astype(np.float32)]),
        uv=np.concatenate([mesh.uv, mesh.uv[pairs].mean(axis=1).astype(np.float32)]),
        faces=np.concatenate(made).astype(np.int32),
    )
