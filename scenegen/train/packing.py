"""Many meshes in one small file, each of which can be read alone.

Positions are rounded to a grid. Triangles are ordered from neighbour to neighbour, and vertices numbered as they occur, so
that differences are small. The file begins with `MAGIC`, the length of its index (8 bytes, little-endian) and the index as JSON;
the meshes follow.
"""

from __future__ import annotations

import json
import lzma
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Integer, UInt8

from scenegen.errors import InputError

MAGIC = b"scenegen meshes 1\n"
STEPS = 4095
"""Steps of the grid along the longest side of a mesh."""
FILTERS = ({"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 2**20, "lc": 0, "lp": 0, "pb": 0},)
PLANES = 3
"""Bytes of an integer; first bytes, second bytes and third bytes are stored apart."""


@dataclass(frozen=True, eq=False)
class Triangles:
    """Triangles with a colour per vertex."""

    vertices: Float32[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    colors: UInt8[np.ndarray, "v 3"]


def packed(mesh: Triangles) -> bytes:
    """The mesh as bytes. Positions are rounded, triangles lose their order, and unused vertices are left out.

    Raises:
        InputError: if there are no triangles, or positions are not finite.
    """
    if not len(mesh.faces) or not np.isfinite(mesh.vertices).all():
        raise InputError(
            f"a mesh of {len(mesh.faces)} triangles cannot be packed; it must have at least one, all finite."
        )
    faces, used = _renumbered(_walk(mesh.faces))
    points = mesh.vertices[used].astype(np.float64)
    low = points.min(axis=0)
    step = max(float(np.ptp(points, axis=0).max()) / STEPS, 1e-30)
    grid = np.round((points - low) / step).astype(np.int64)
    corners = faces.ravel()
    met = np.concatenate([[0], np.maximum.accumulate(corners)[:-1] + 1])
    content = [
        *map(_planes, (met - corners).reshape(-1, 3).T),
        *map(_planes, np.diff(grid, axis=0, prepend=0).T),
        np.diff(mesh.colors[used], axis=0, prepend=np.zeros((1, 3), np.uint8)).T.tobytes(),
    ]
    head = np.array([len(used), len(faces)], "<i8").tobytes() + np.array([*low, step], "<f8").tobytes()
    return head + lzma.compress(b"".join(content), lzma.FORMAT_RAW, filters=FILTERS)


def unpacked(data: bytes) -> Triangles:
    """The inverse of `packed`.

    Raises:
        InputError: if the bytes are not a packed mesh.
    """
    try:
        count, triangles = np.frombuffer(data[:16], "<i8").tolist()
        *low, step = np.frombuffer(data[16:48], "<f8").tolist()
        content = np.frombuffer(lzma.decompress(data[48:], lzma.FORMAT_RAW, filters=FILTERS), np.uint8)
        split = 3 * PLANES * triangles
        news = _integers(content[:split], triangles)
        grid = _integers(content[split : split + 3 * PLANES * count], count).cumsum(axis=0)
        changes = content[split + 3 * PLANES * count :].reshape(3, count).T
    except (ValueError, lzma.LZMAError) as error:
        raise InputError(f"a packed mesh is damaged ({error}); pack the meshes again.") from error
    codes = news.ravel()
    new = codes == 0
    return Triangles(
        vertices=(np.array(low) + step * grid).astype(np.float32),
        faces=(new.cumsum() - new - codes).reshape(-1, 3).astype(np.int32),
        colors=changes.cumsum(axis=0, dtype=np.uint8),
    )


def write_pack(path: Path, meshes: Iterable[tuple[Mapping[str, Any], Triangles]]) -> None:
    """Writes meshes, each with its entry for the index. The file appears whole or not at all."""
    rows, blobs, start = [], [], 0
    for entry, mesh in meshes:
        blobs.append(packed(mesh))
        rows.append({**entry, "start": start, "bytes": len(blobs[-1])})
        start += len(blobs[-1])
    index = json.dumps(rows, separators=(",", ":")).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(path.name + ".partial")
    with whole.open("wb") as file:
        file.writelines([MAGIC, len(index).to_bytes(8, "little"), index, *blobs])
    whole.replace(path)


def read_index(path: Path) -> list[dict[str, Any]]:
    """The index of the file: one entry per mesh, whose `start` is its place in the file.

    Raises:
        InputError: if it is not a file of packed meshes.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise InputError(
                    f"`{path}` is not a file of packed meshes; give one that `pack-meshes` made, or a folder."
                )
            length = int.from_bytes(file.read(8), "little")
            rows: list[dict[str, Any]] = json.loads(file.read(length))
            return [{**row, "start": row["start"] + file.tell()} for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"`{path}` cannot be read as packed meshes ({error}); pack them again.") from error


def read_packed(path: Path, start: int, length: int) -> Triangles:
    """One mesh of the file, by `start` and `bytes` of its index.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            return unpacked(file.read(length))
    except OSError as error:
        raise InputError(f"`{path}` cannot be read as packed meshes ({error}); pack them again.") from error


def _walk(faces: Int32[np.ndarray, "f 3"]) -> Integer[np.ndarray, "f 3"]:
    """The triangles, from neighbour to neighbour as far as possible; each begins with the edge it was reached over."""
    corners = faces.tolist()
    sides: dict[frozenset[int], list[tuple[int, int]]] = defaultdict(list)
    for face, triangle in enumerate(corners):
        for side in range(3):
            sides[frozenset((triangle[side], triangle[side - 2]))].append((face, side))
    done = [False] * len(corners)
    walked: list[list[int]] = []
    for first in range(len(corners)):
        stack = [(first, 0)]
        while stack:
            face, side = stack.pop()
            if done[face]:
                continue
            done[face] = True
            triangle = corners[face][side:] + corners[face][:side]
            walked.append(triangle)
            for k in range(3):
                stack += [near for near in sides[frozenset((triangle[k], triangle[k - 2]))] if not done[near[0]]]
    return np.array(walked)


def _renumbered(faces: Integer[np.ndarray, "f 3"]) -> tuple[Integer[np.ndarray, "f 3"], Integer[np.ndarray, "v"]]:
    """The triangles with vertices numbered as they occur, and the old number of each."""
    old, first, inverse = np.unique(faces, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return np.argsort(order)[inverse].reshape(-1, 3), old[order]


def _planes(values: Integer[np.ndarray, "n"]) -> bytes:
    """Integers as planes of bytes; small ones of either sign stay small."""
    zigzag = np.where(values >= 0, 2 * values, -2 * values - 1)
    return b"".join((zigzag >> 8 * plane & 255).astype(np.uint8).tobytes() for plane in range(PLANES))


def _integers(content: UInt8[np.ndarray, "m"], count: int) -> Integer[np.ndarray, "n 3"]:
    """The inverse of `_planes`, of three columns."""
    planes = content.reshape(3, PLANES, count).astype(np.int64)
    zigzag = sum(planes[:, plane] << 8 * plane for plane in range(PLANES))
    return np.where(zigzag % 2 == 0, zigzag // 2, -(zigzag + 1) // 2).T
